"""BC: behaviour cloning, the first comparison of every offline result: imitate the actions of all or some episodes.

Source of the choices of episodes: DSRL (Liu et al., Datasets and Benchmarks for Offline Safe Reinforcement Learning,
2023).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from saferl.agents.agent import Agent
from saferl.agents.settings import LimitedConfig, LimitUse, check_choice, check_positive
from saferl.nn.mlp import MLP
from saferl.offline_data.batch import Batch
from saferl.offline_data.dataset import DatasetError, OfflineDataset
from saferl.offline_data.frontier import near_frontier
from saferl.policy import Policy, TorchPolicy

EPISODES = ("all", "safe", "risky", "boundary", "frontier", "conditioned")


@dataclass(frozen=True, kw_only=True)
class BCConfig(LimitedConfig):
    """Settings of BC; the values are those usual for DSRL.

    With C the undiscounted cost of an episode and L the limit, ``episodes`` imitates: "all"; "safe": C <= L; "risky":
    C >= 2 L; "boundary": 0.5 L < C <= 1.5 L; "frontier": those near the best return for their cost, see
    ``near_frontier``; "conditioned": all, and the network sees C too; acting, it sees L in its place.
    """

    episodes: str = "all"
    lr: float = 1e-3
    hidden: int = 256
    batch_size: int = 512

    @property
    def limit_use(self) -> LimitUse:
        """Where the cost limit enters."""
        if self.episodes in ("safe", "risky", "boundary"):
            return "training"
        return "acting" if self.episodes == "conditioned" else "none"

    @property
    def limit(self) -> float:
        """L. Raises: ValueError if the settings have none."""
        if self.cost_limit is None:
            raise ValueError(
                "agent.cost_limit has no value; saferl.train takes it from the task, elsewhere give it for "
                f"agent.episodes={self.episodes}."
            )
        return self.cost_limit

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "episodes", EPISODES)
        check_positive(self, "lr", "hidden", "batch_size")


class BC(Agent):
    """A two-layer network with a tanh head, fitted to the data's actions by mean squared error.

    "conditioned" appends ln(1 + C / c) to the observation, with the greatest cost c of a step: limits are small against
    most episodes' costs, and the logarithm tells them apart.
    """

    greatest_cost: Tensor

    def __init__(self, config: BCConfig, obs_dim: int, act_dim: int, device: torch.device | str = "cpu") -> None:
        super().__init__(config, obs_dim, act_dim, device)
        self.config: BCConfig = config
        self.conditioned = config.episodes == "conditioned"
        self.actor = MLP(obs_dim + self.conditioned, act_dim, (config.hidden, config.hidden), config.dtype)
        if self.conditioned:
            self.register_buffer("greatest_cost", torch.ones(()))  # from the data, see ``training_rows``
        self.to(self.device)
        self.optimizers = {"actor": torch.optim.Adam(self.actor.parameters(), lr=config.lr, fused=True)}

    def training_rows(self, dataset: OfflineDataset) -> tuple[OfflineDataset, Mapping[str, ArrayLike]]:
        """The episodes that the settings choose; "conditioned": all, with the cost of their episode.

        Raises: DatasetError if no episode is left.
        """
        if self.conditioned:
            self.greatest_cost.fill_(float(dataset.costs.max()) or 1.0)
            return dataset, {"episode_costs": np.repeat(dataset.episode_returns()[1], dataset.episode_lengths)}
        if self.config.episodes != "all":
            dataset = dataset.select(self._chosen(dataset))
        return dataset, {}

    def _chosen(self, dataset: OfflineDataset) -> NDArray[np.bool_]:
        """(E,) which episodes are imitated. Raises: DatasetError if none is."""
        returns, costs = dataset.episode_returns()
        choice = self.config.episodes
        if choice == "frontier":
            return near_frontier(returns, costs)
        limit = self.config.limit
        chosen, words = {
            "safe": (costs <= limit, f"costs {limit:g} or less"),
            "risky": (costs >= 2 * limit, f"costs {2 * limit:g} or more"),
            "boundary": (
                (0.5 * limit < costs) & (costs <= 1.5 * limit),
                f"costs more than {0.5 * limit:g} and at most {1.5 * limit:g}",
            ),
        }[choice]
        if not chosen.any():
            raise DatasetError(
                f"{dataset.source}: agent.episodes={choice} at agent.cost_limit={limit:g} leaves nothing: none of "
                f"{len(costs)} episodes {words}, they cost {costs.min():g} to {costs.max():g}; change the limit or "
                "take agent.episodes=all."
            )
        return chosen

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One step of Adam on the mean squared error over rows and action dimensions."""
        loss = (self.actions(batch.observations, batch.episode_costs) - batch.actions).square().mean()
        self.step("actor", loss)
        return {"actor/loss": loss.detach()}

    def actions(self, observations: Tensor, costs: Tensor | None) -> Tensor:
        """Actions (B, act_dim) in [-1, 1] for observations (B, obs_dim), if "conditioned" for episodes' costs (B,)."""
        if self.conditioned:
            assert costs is not None
            observations = torch.cat([observations, (costs / self.greatest_cost).log1p()[:, None]], dim=1)
        return self.actor(observations).tanh()

    def act(self, observations: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Actions (B, act_dim) in [-1, 1] for observations (B, obs_dim), at the settings' limit; draws no noise."""
        return self._act_at(observations, self.config.limit if self.conditioned else None)

    def _act_at(self, observations: Tensor, limit: float | None) -> Tensor:
        costs = None if limit is None else observations.new_full((len(observations),), limit)
        return self.actions(observations, costs)

    def policy(self, low: Any = None, high: Any = None, cost_limit: float | None = None) -> Policy:
        """The agent as a Policy; only "conditioned" has a use for ``cost_limit``, None takes that of the settings."""
        if not self.conditioned or cost_limit is None:
            return super().policy(low, high)
        return TorchPolicy(lambda observations, _: self._act_at(observations, cost_limit), self.device, low, high)
