"""Learned models of the process: nearest recorded transitions, or an ensemble of networks that predict a density.

Both are fitted to a data set once and lie in buffers and parameters, so that a run's checkpoint holds them.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saferl.nn.mlp import MLP
from saferl.offline_data.batch import Batch

_BLOCK = 1 << 24  # distances that are held at a time (64 MB)
LOG_VARIANCE_LIMITS = (-10.0, 2.0)
BATCH = 256


class Transition(NamedTuple):
    """What follows B pairs of observation and action."""

    next_observations: Tensor  # (B, obs_dim)
    rewards: Tensor  # (B,)
    costs: Tensor  # (B,)
    terminals: Tensor  # (B,), 1 where the task ends


class Fitted(nn.Module):
    """A module whose buffers take the shapes of the data that it is fitted to, or of a saved state."""

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name, buffer in self._buffers.items():
            saved = state_dict.get(prefix + name)
            if buffer is not None and saved is not None and saved.shape != buffer.shape:
                self._buffers[name] = torch.zeros_like(saved, device=buffer.device)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class NearestModel(Fitted):
    """One of the k recorded transitions nearest to (s, a), drawn evenly.

    Distances are Euclidean after each column was scaled to [-1, 1] by its least and greatest recorded value.

    Args:
        obs_dim, act_dim: sizes of an observation and an action.
        neighbours: k.
    """

    rows: Tensor
    outcomes: Tensor
    low: Tensor
    span: Tensor

    def __init__(self, obs_dim: int, act_dim: int, neighbours: int) -> None:
        super().__init__()
        self.obs_dim, self.neighbours = obs_dim, neighbours
        width = obs_dim + act_dim
        self.register_buffer("rows", torch.zeros(1, width))  # (N, obs_dim + act_dim), scaled
        self.register_buffer("outcomes", torch.zeros(1, obs_dim + 3))  # (N, ...): s', r, c, terminal
        self.register_buffer("low", torch.zeros(width))
        self.register_buffer("span", torch.ones(width))

    def fit(self, data: Batch, generator: torch.Generator) -> None:
        """Keep the transitions of ``data``."""
        pairs = torch.cat([data.observations, data.actions], dim=1)
        self.low.copy_(pairs.amin(0))
        span = pairs.amax(0) - self.low
        self.span.copy_(torch.where(span > 0, span, 1.0))
        self.rows = self._scaled(pairs)
        ends = [each.unsqueeze(1) for each in (data.rewards, data.costs, data.terminals)]
        self.outcomes = torch.cat([data.next_observations, *ends], dim=1)

    def step(self, observations: Tensor, actions: Tensor) -> Transition:
        """A draw of what follows observations (B, obs_dim) and actions (B, act_dim)."""
        nearest = self.nearest(observations, actions)
        choice = torch.randint(nearest.shape[1], (len(nearest), 1), device=nearest.device)
        drawn = self.outcomes[nearest.gather(1, choice).squeeze(1)]
        return Transition(drawn[:, : self.obs_dim], *drawn[:, self.obs_dim :].unbind(1))

    def nearest(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Numbers (B, k) of the nearest rows, nearest first; all rows if there are fewer than k."""
        queries = self._scaled(torch.cat([observations, actions], dim=1))
        count, size = min(self.neighbours, len(self.rows)), max(1, _BLOCK // len(self.rows))
        return torch.cat([_nearest(block, self.rows, count) for block in queries.split(size)])

    def _scaled(self, pairs: Tensor) -> Tensor:
        return (pairs - self.low) / self.span * 2 - 1


def _nearest(queries: Tensor, rows: Tensor, count: int) -> Tensor:
    """Exact distances only for the candidates of a product whose rounding may swap close ones."""
    candidates = torch.cdist(queries, rows).topk(min(2 * count, len(rows)), largest=False).indices  # (B, 2 k)
    distances = (rows[candidates] - queries.unsqueeze(1)).square().sum(2)
    return candidates.gather(1, distances.topk(count, largest=False).indices)


class EnsembleModel(nn.Module):
    """Networks that each predict a Gaussian of (s' - s, r, c) and the chance of the end; a step asks one, drawn evenly.

    Source: Chua et al., Deep Reinforcement Learning in a Handful of Trials (PETS), NeurIPS 2018, with trajectory
    sampling "TS1"; costs below 0 count as 0.

    Args:
        obs_dim, act_dim: sizes of an observation and an action.
        members, hidden: networks, and the width of their two layers.
        updates: training steps of all members, with Adam and batches of 256 rows each.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, obs_dim: int, act_dim: int, members: int, hidden: int, updates: int) -> None:
        super().__init__()
        self.obs_dim, self.updates = obs_dim, updates
        width = obs_dim + act_dim + obs_dim + 2  # inputs, then the targets s' - s, r, c
        self.members = nn.ModuleList(
            MLP(obs_dim + act_dim, 2 * (obs_dim + 2) + 1, (hidden, hidden)) for _ in range(members)
        )
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))

    def fit(self, data: Batch, generator: torch.Generator) -> None:
        """Train on the transitions of ``data``; batches are drawn by ``generator``."""
        gains = torch.stack([data.rewards, data.costs], dim=1)
        changes = torch.cat([data.next_observations - data.observations, gains], dim=1)
        values = torch.cat([data.observations, data.actions, changes], dim=1)
        self.centre.copy_(values.mean(0))
        self.spread.copy_(values.std(0, correction=0).clamp(min=1e-6))
        values = (values - self.centre) / self.spread
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-3)
        for _ in range(self.updates):
            rows = torch.randint(len(values), (len(self.members), BATCH), generator=generator, device=values.device)
            loss = sum(
                self.loss(member, values[index], data.terminals[index]) for member, index in zip(self.members, rows)
            )
            assert isinstance(loss, Tensor)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    def loss(self, member: nn.Module, values: Tensor, terminals: Tensor) -> Tensor:
        """-ln of the density of standardised targets, and the cross entropy of the end; mean over rows.

        What follows a row that ends the task is not asked for.
        """
        inputs, targets = values.split([len(self.centre) - self.obs_dim - 2, self.obs_dim + 2], dim=1)
        mean, log_variance, end = self._predicted(member, inputs)
        errors = 0.5 * ((targets - mean).square() * (-log_variance).exp() + log_variance)
        goes_on = (1 - terminals).unsqueeze(1)
        state = (errors[:, :-2] * goes_on).sum(1)
        return (state + errors[:, -2:].sum(1)).mean() + F.binary_cross_entropy_with_logits(end, terminals)

    def _predicted(self, member: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance, end = member(inputs).split([self.obs_dim + 2, self.obs_dim + 2, 1], dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCE_LIMITS), end.squeeze(1)

    @torch.no_grad()
    def step(self, observations: Tensor, actions: Tensor) -> Transition:
        """A draw of what follows observations (B, obs_dim) and actions (B, act_dim); rewards and costs are means."""
        pairs = torch.cat([observations, actions], dim=1)
        size = pairs.shape[1]
        inputs = (pairs - self.centre[:size]) / self.spread[:size]
        predicted = [torch.stack(each) for each in zip(*(self._predicted(m, inputs) for m in self.members))]
        each_row = torch.arange(len(pairs), device=pairs.device)
        chosen = torch.randint(len(self.members), (len(pairs),), device=pairs.device), each_row
        mean, log_variance, end = (each[chosen] for each in predicted)  # of each row, one member's
        noise = torch.randn_like(mean) * (0.5 * log_variance).exp()
        noise[:, -2:] = 0
        values = (mean + noise) * self.spread[size:] + self.centre[size:]
        ended = (torch.rand_like(end) < end.sigmoid()).float()
        return Transition(observations + values[:, :-2], values[:, -2], values[:, -1].clamp(min=0), ended)


def gaussian_log_prob(actions: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log-density (...) of a diagonal Gaussian at actions (..., act_dim)."""
    standardised = (actions - mean) * (-log_std).exp()
    return -(0.5 * standardised.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)
