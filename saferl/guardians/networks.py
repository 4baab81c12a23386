"""Autoencoder, density ratio and ensemble disagreement: support as torch modules, fast enough for every update.

A module holds its scaling and threshold as buffers, so that an agent's checkpoint keeps them bit for bit.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from saferl.guardians.guardian import Guardian, GuardianConfig, Scale, quantile_threshold
from saferl.nn.mlp import MLP

BEYOND_BOX = 100.0  # what the score loses for each unit that a scaled input lies beyond [-1, 1]
HELD_OUT = 0.2  # share of the rows that only the threshold sees
_BATCH, _LR = 256, 1e-3
_BLOCK = 1 << 15  # rows that are scored at a time


class SupportNetwork(nn.Module, ABC):
    """A score of pairs (s, a): a network's on [-1, 1]^d, less a penalty on the way to that box.

    Where no data are, a network's output may be anything; so it sees inputs clipped to the box of the data, and the
    score falls with the distance to it. Pairs far away are outside for that reason alone.

    Args:
        obs_dim, act_dim: columns of an observation and of an action.
    """

    low: Tensor
    high: Tensor
    radius: Tensor
    threshold: Tensor

    def __init__(self, obs_dim: int, act_dim: int) -> None:
        super().__init__()
        self.obs_dim, self.act_dim = obs_dim, act_dim
        for name in ("low", "high", "radius"):
            self.register_buffer(name, torch.ones(obs_dim + act_dim))
        self.register_buffer("threshold", torch.zeros(()))

    def set_scale(self, scale: Scale) -> None:
        """Take the scaling of the training data."""
        for name in ("low", "high", "radius"):
            getattr(self, name).copy_(torch.from_numpy(getattr(scale, name)))

    def score(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Scores (B, ...) of observations (B, obs_dim) and actions (B, ..., act_dim); higher is better supported."""
        middle = actions.shape[1:-1]
        seen = observations.view(-1, *(1 for _ in middle), self.obs_dim).expand(-1, *middle, -1)
        return self._of_rows(torch.cat([seen, actions], dim=-1).flatten(0, -2)).view(actions.shape[:-1])

    def inside(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Whether each pair is supported, bool; shapes as of ``score``."""
        return self.score(observations, actions) >= self.threshold

    @torch.no_grad()
    def _of_rows(self, rows: Tensor) -> Tensor:
        scaled = (rows - (self.low + self.high) / 2) / self.radius
        clipped = scaled.clamp(-1, 1)
        return self.raw_score(clipped) - BEYOND_BOX * (scaled - clipped).abs().sum(1)

    @abstractmethod
    def raw_score(self, inputs: Tensor) -> Tensor:
        """Scores (B,) of scaled inputs (B, d) in [-1, 1]."""

    @abstractmethod
    def loss(self, inputs: Tensor, targets: Tensor | None, generator: torch.Generator) -> Tensor:
        """What training lowers, (), for scaled inputs (B, d) and, of the ensemble, targets (B, obs_dim)."""


class Autoencoder(SupportNetwork):
    """Score: minus the squared error with which half as many numbers give back the input."""

    def __init__(self, obs_dim: int, act_dim: int, config: GuardianConfig) -> None:
        super().__init__(obs_dim, act_dim)
        size, width = obs_dim + act_dim, config.hidden
        self.encoder = MLP(size, (size + 1) // 2, (width, width))
        self.decoder = MLP((size + 1) // 2, size, (width, width))

    def raw_score(self, inputs: Tensor) -> Tensor:
        """Minus the squared error of each row, (B,)."""
        return -(self.decoder(self.encoder(inputs)) - inputs).square().sum(1)

    def loss(self, inputs: Tensor, targets: Tensor | None, generator: torch.Generator) -> Tensor:
        """Mean squared error."""
        return -self.raw_score(inputs).mean()


class DensityRatio(SupportNetwork):
    """Score: the logit of a classifier between data and noise, ln p_data(x) / p_noise(x) where it is exact.

    Of the noise, half are recorded observations with actions drawn uniformly from the data's box, which tells apart
    actions; the other half is uniform in every column.
    """

    def __init__(self, obs_dim: int, act_dim: int, config: GuardianConfig) -> None:
        super().__init__(obs_dim, act_dim)
        self.classifier = MLP(obs_dim + act_dim, 1, (config.hidden, config.hidden))

    def raw_score(self, inputs: Tensor) -> Tensor:
        """Logits (B,)."""
        return self.classifier(inputs)[:, 0]

    def loss(self, inputs: Tensor, targets: Tensor | None, generator: torch.Generator) -> Tensor:
        """Cross entropy, as many rows of noise as of data."""
        noise = torch.rand(inputs.shape, generator=generator) * 2 - 1
        half = len(inputs) // 2
        noise[:half, : self.obs_dim] = inputs[:half, : self.obs_dim]
        logits = self.raw_score(torch.cat([inputs, noise]))
        return nn.functional.softplus(torch.cat([-logits[: len(inputs)], logits[len(inputs) :]])).mean()


class Ensemble(SupportNetwork):
    """Score: minus the greatest distance between two members' predictions of s' - s, in standard deviations of it.

    Source: Kidambi et al., MOReL, NeurIPS 2020, its unknown-state-action detector.
    """

    def __init__(self, obs_dim: int, act_dim: int, config: GuardianConfig) -> None:
        super().__init__(obs_dim, act_dim)
        width = config.hidden
        self.members = nn.ModuleList(MLP(obs_dim + act_dim, obs_dim, (width, width)) for _ in range(config.members))

    def raw_score(self, inputs: Tensor) -> Tensor:
        """Minus the greatest distance, (B,)."""
        predictions = [member(inputs) for member in self.members]
        return -torch.stack([(a - b).norm(dim=1) for a, b in combinations(predictions, 2)]).amax(0)

    def loss(self, inputs: Tensor, targets: Tensor | None, generator: torch.Generator) -> Tensor:
        """Sum over the members of the mean squared error, each on its own draw of the batch's rows."""
        assert targets is not None
        losses = []
        for member in self.members:
            drawn = torch.randint(len(inputs), (len(inputs),), generator=generator)
            losses.append((member(inputs[drawn]) - targets[drawn]).square().mean())
        return torch.stack(losses).sum()


NETWORKS: dict[str, Any] = {"autoencoder": Autoencoder, "density_ratio": DensityRatio, "ensemble": Ensemble}


class NetworkGuardian(Guardian):
    """A guardian whose score is a ``SupportNetwork``'s; it has a threshold from rows that training did not see.

    Leaving out one row at a time would mean as many trainings. Instead a fifth of the rows is held out: of new rows
    from the same source, alpha are outside on average (split conformal prediction).

    Args:
        network: trained.
        left_out: (M,) float32 scores of the held-out rows; None where the threshold is known.
    """

    def __init__(self, config: GuardianConfig, network: SupportNetwork, left_out: NDArray[np.float32]) -> None:
        super().__init__(config, network.obs_dim, network.act_dim)
        self.network, self._left_out, self.reference_rows = network, left_out, len(left_out)
        self.threshold = quantile_threshold(left_out, config.alpha)
        network.threshold.fill_(self.threshold)

    def _score(self, rows: NDArray[np.float64]) -> NDArray[Any]:
        return network_scores(self.network, rows)

    def left_out_scores(self) -> NDArray[np.float32]:
        """Scores of the rows that training did not see."""
        return self._left_out

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Weights, scaling and held-out scores."""
        weights = {f"network.{name}": tensor.cpu().numpy() for name, tensor in self.network.state_dict().items()}
        return {"left_out": self._left_out, **weights}

    def packages(self) -> tuple[str, ...]:
        """numpy and torch."""
        return ("numpy", "torch")

    @classmethod
    def from_tensors(
        cls, config: GuardianConfig, obs_dim: int, act_dim: int, tensors: dict[str, NDArray[Any]]
    ) -> "NetworkGuardian":
        """What ``tensors`` gave."""
        network = NETWORKS[config.kind](obs_dim, act_dim, config)
        weights = {
            name.removeprefix("network."): torch.from_numpy(array)
            for name, array in tensors.items()
            if name.startswith("network.")
        }
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(str(error).splitlines()[-1].strip()) from error
        return cls(config, network, tensors["left_out"])


def network_scores(network: SupportNetwork, rows: NDArray[Any]) -> NDArray[np.float32]:
    """Scores (N,) of unscaled rows [s, a] (N, d)."""
    device = network.low.device
    blocks = [
        torch.from_numpy(rows[start : start + _BLOCK].astype(np.float32)).to(device)
        for start in range(0, len(rows), _BLOCK)
    ]
    scores = [network.score(each[:, : network.obs_dim], each[:, network.obs_dim :]).cpu().numpy() for each in blocks]
    return np.concatenate(scores) if scores else np.zeros(0, np.float32)


def fit_network(
    config: GuardianConfig,
    obs_dim: int,
    rows: NDArray[np.float64],
    scale: Scale,
    following: NDArray[Any] | None,
    seed: int,
    episodes: NDArray[np.int64] | None = None,
) -> NetworkGuardian:
    """Train a network on four fifths of the rows; the others give the threshold. On the CPU.

    Args:
        config: of a kind in NETWORKS.
        obs_dim: columns of an observation.
        rows: (N, d) [s, a], unscaled.
        scale: of the training data.
        following: (N, obs_dim) next observations, for the ensemble.
        seed: of everything random; torch's global generator is left as it is.
        episodes: (N,), two or more; a fifth of the episodes is then held out instead.
    Raises: ValueError where the ensemble has no next observations.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: SupportNetwork = NETWORKS[config.kind](obs_dim, rows.shape[1] - obs_dim, config)
    network.set_scale(scale)
    numbers = torch.arange(len(rows)) if episodes is None else torch.from_numpy(np.unique(episodes))
    shuffled = numbers[torch.randperm(len(numbers), generator=generator)]
    held_out, seen = shuffled.tensor_split([max(1, int(HELD_OUT * len(numbers)))])
    if episodes is not None:
        held_out, seen = (torch.isin(torch.from_numpy(episodes), each).nonzero()[:, 0] for each in (held_out, seen))
    inputs = torch.from_numpy(scale(rows))[seen]
    targets = _changes(rows[:, :obs_dim], following)[seen] if config.kind == "ensemble" else None
    optimizer = torch.optim.Adam(network.parameters(), lr=_LR, fused=True)
    for index in _batches(len(inputs), config.updates, generator):
        loss = network.loss(inputs[index], None if targets is None else targets[index], generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    network.requires_grad_(False)
    return NetworkGuardian(config, network, network_scores(network, rows[held_out.numpy()]))


def _batches(count: int, updates: int, generator: torch.Generator) -> Iterator[Tensor]:
    return (torch.randint(count, (min(_BATCH, count),), generator=generator) for _ in range(updates))


def _changes(observations: NDArray[Any], following: NDArray[Any] | None) -> Tensor:
    """s' - s (N, obs_dim) in standard deviations of each column."""
    if following is None:
        raise ValueError("guardian.kind=ensemble predicts next observations; give next_observations=(N, obs_dim).")
    if np.shape(following) != observations.shape:
        raise ValueError(f"next_observations must be {observations.shape}; got {np.shape(following)}.")
    changes = np.asarray(following, np.float64) - observations
    spread = changes.std(axis=0)
    return torch.from_numpy(((changes - changes.mean(axis=0)) / np.where(spread > 0, spread, 1)).astype(np.float32))
