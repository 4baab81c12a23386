"""SequenceSampler: stretches of recorded episodes, for agents that learn from what came before; data held once."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from saferl.offline_data.dataset import DatasetError, OfflineDataset
from saferl.offline_data.frontier import Labels
from saferl.offline_data.sampler import ActionScale, RowStream

_BLOCK = 1 << 16  # rows that are copied at a time


@dataclass(frozen=True)
class SequenceBatch:
    """B stretches of K steps on the training device, float32; behind an episode's end its last row is repeated."""

    observations: Tensor  # (B, K, obs_dim)
    actions: Tensor  # (B, K, act_dim), scaled to [-1, 1]
    returns_to_go: Tensor  # (B, K), sum of rewards from this step to the end
    costs_to_go: Tensor  # (B, K), sum of costs from this step to the end
    costs: Tensor  # (B, K), of the step itself
    steps: Tensor  # (B, K) int64, steps since the episode began
    mask: Tensor  # (B, K), 1 inside of the episode, 0 behind its end

    def split(self, rows: int) -> Iterator[Self]:
        """Parts of at most ``rows`` stretches."""
        parts = {key: value.split(rows) for key, value in vars(self).items()}
        return (type(self)(**dict(zip(parts, each, strict=True))) for each in zip(*parts.values(), strict=True))


class SequenceSampler(RowStream):
    """Draws an episode by its weight, then the first step of the stretch evenly among the episode's steps.

    A row of the packed tensor holds a step with its sums to go, so that a batch costs one gather. Episodes under other
    labels are not copied: what their labels add is added to the sums to go.

    Args:
        dataset, batch_size, device, seed, action_low, action_high, reward_scale: as of ``Sampler``.
        steps: K, the length of a stretch.
        labels: A episodes under other labels, drawn beside the E recorded ones.
        weights: (E + A,) how often each is drawn, in proportion, >= 0; None draws all alike.

    Raises: DatasetError for a batch size, bounds or weights that make no sense.
    """

    def __init__(
        self,
        dataset: OfflineDataset,
        batch_size: int,
        device: torch.device | str = "cpu",
        seed: int = 0,
        action_low: ArrayLike | None = None,
        action_high: ArrayLike | None = None,
        reward_scale: float = 1.0,
        *,
        steps: int,
        labels: Labels | None = None,
        weights: ArrayLike | None = None,
    ) -> None:
        if batch_size < 1:
            raise DatasetError(f"batch_size must be >= 1; got {batch_size}.")
        if not np.isfinite(reward_scale):
            raise DatasetError(f"reward_scale must be finite; got {reward_scale}.")
        super().__init__(seed, torch.device(device))
        self.batch_size, self.steps = batch_size, steps
        self._obs_dim, self._act_dim = dataset.obs_dim, dataset.act_dim
        self._offsets = torch.arange(steps, device=self.device)  # (K,)
        self._starts = torch.from_numpy(dataset.episode_starts).to(self.device)  # (E,)
        self._lengths = torch.from_numpy(dataset.episode_lengths).to(self.device)  # (E,)
        self._rows = self._pack(dataset, ActionScale(action_low, action_high, dataset.act_dim), reward_scale)
        returns, costs = dataset.episode_returns()
        own = np.arange(dataset.n_episodes)
        extra = labels or Labels(own[:0], returns[:0], costs[:0])
        episodes = np.concatenate([own, extra.episodes])  # (E + A,)
        shares = np.ones(len(episodes)) if weights is None else np.asarray(weights, np.float64)
        if shares.shape != episodes.shape or not (shares >= 0).all() or not 0 < shares.sum() < np.inf:
            raise DatasetError(
                f"{dataset.source}: weights must be {len(episodes)} numbers >= 0 with one above 0; "
                f"got shape {shares.shape}, sum {shares.sum()}."
            )
        nothing = np.zeros_like(returns)
        shifts = np.stack(
            [
                np.concatenate([nothing, extra.returns - returns[extra.episodes]]) * reward_scale,
                np.concatenate([nothing, extra.costs - costs[extra.episodes]]),
            ],
            axis=1,
        )
        self._episodes = torch.from_numpy(episodes).to(self.device)  # (E + A,)
        self._shifts = torch.from_numpy(shifts.astype(np.float32)).to(self.device)  # (E + A, 2): of return, of cost
        cumulative = shares.cumsum()
        self._cumulative = torch.from_numpy(cumulative / cumulative[-1]).to(self.device)  # (E + A,)

    def sample(self) -> SequenceBatch:
        """The next ``batch_size`` stretches."""
        shape = (2, self.batch_size)
        draws = torch.rand(shape, generator=self._generator, dtype=torch.float64, device=self.device)
        index = torch.searchsorted(self._cumulative, draws[0], right=True)
        first = (draws[1] * self._lengths[self._episodes[index]]).long()
        return self.batch(index, first)

    def batch(self, index: Tensor, first: Tensor) -> SequenceBatch:
        """Stretches of the episodes ``index`` (B,), labelled ones behind the recorded, from step ``first`` (B,) on."""
        episodes = self._episodes[index]
        steps = first[:, None] + self._offsets  # (B, K)
        last = self._lengths[episodes, None] - 1  # (B, 1)
        places = self._starts[episodes, None] + torch.minimum(steps, last)
        rows = self._rows.index_select(0, places.flatten()).unflatten(0, places.shape)  # (B, K, width)
        actions_end = self._obs_dim + self._act_dim
        to_go = rows[..., actions_end + 1 :] + self._shifts[index, None]  # (B, K, 2)
        return SequenceBatch(
            observations=rows[..., : self._obs_dim],
            actions=rows[..., self._obs_dim : actions_end],
            returns_to_go=to_go[..., 0],
            costs_to_go=to_go[..., 1],
            costs=rows[..., actions_end],
            steps=steps,
            mask=(steps <= last).float(),
        )

    def state_dict(self) -> dict[str, Tensor]:
        """As of ``RowStream``, and what is drawn from."""
        return super().state_dict() | {
            "episodes": self._episodes.cpu(),
            "shifts": self._shifts.cpu(),
            "cumulative": self._cumulative.cpu(),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue where ``state_dict`` was taken. Raises: DatasetError as ``RowStream``."""
        super().load_state_dict(state)
        self._episodes, self._shifts, self._cumulative = (
            state[key].to(self.device) for key in ("episodes", "shifts", "cumulative")
        )

    def _pack(self, dataset: OfflineDataset, scale_actions: ActionScale, reward_scale: float) -> Tensor:
        """All steps as rows (N, obs_dim + act_dim + 3) float32: observation, action, cost, return and cost to go."""
        to_go = [sums_to_go(dataset, dataset.rewards) * reward_scale, sums_to_go(dataset, dataset.costs)]
        packed = torch.empty(len(dataset), self._obs_dim + self._act_dim + 3, device=self.device)
        for start in range(0, len(dataset), _BLOCK):
            rows = slice(start, start + _BLOCK)
            columns = [dataset.costs[rows], *(each[rows] for each in to_go)]
            block = [dataset.observations[rows], scale_actions(dataset.actions[rows]), np.stack(columns, axis=1)]
            packed[rows] = torch.from_numpy(np.concatenate(block, axis=1, dtype=np.float32))
        return packed


def sums_to_go(dataset: OfflineDataset, values: ArrayLike) -> np.ndarray:
    """(N,) float64: the sum of ``values`` (N,) from each row to the end of its episode, added up from the end."""
    given = np.asarray(values, np.float64)
    behind = given[::-1].cumsum()[::-1]  # (N,) to the end of the data
    after = np.append(behind, 0)[dataset.episode_ends]  # (E,)
    return behind - np.repeat(after, dataset.episode_lengths)
