"""Learned models of the process: nearest recorded transitions, or an ensemble of networks that predict a density.

Both are fitted to a data set once and lie in buffers and parameters, so that a run's checkpoint holds them.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saferl.nn.mlp import MLP
from saferl.offline_data.batch import Batch

Values = Callable[[Tensor], Tensor]  # (V, B) of observations (B, obs_dim)

_BLOCK = 1 << 24  # distances that are held at a time (64 MB)
_REPEATED = 8  # where a distinct observation has fewer rows than so many, all rows are compared
LOG_VARIANCE_LIMITS = (-10.0, 2.0)
BATCH = 256


class Transition(NamedTuple):
    """What follows B pairs of observation and action: a draw of the next observation, and means over all draws.

    Means have the same expectation as what was drawn, and less noise.
    """

    next_observations: Tensor  # (B, obs_dim), drawn
    rewards: Tensor  # (B,), mean
    costs: Tensor  # (B,), mean
    terminals: Tensor  # (B,), drawn: 1 where the task ends
    ahead: Tensor  # (V, B), mean of each value of the next observation, 0 where the task ends


class Fitted(nn.Module):
    """A module whose buffers take the shapes of the data that it is fitted to, or of a saved state."""

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name, buffer in self._buffers.items():
            saved = state_dict.get(prefix + name)
            if buffer is not None and saved is not None and saved.shape != buffer.shape:
                self._buffers[name] = torch.zeros_like(saved, device=buffer.device)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class Candidates(NamedTuple):
    """Rows among which the nearest to some observation and any action are looked for."""

    rows: Tensor  # (M,)
    squares: Tensor  # (M,) squared distances of their observations
    actions: Tensor  # (M, act_dim), scaled
    reach: float  # squared distance of the nearest observation of another row


class NearestModel(Fitted):
    """One of the k recorded transitions nearest to (s, a), drawn evenly.

    Distances are Euclidean after each column was scaled to [-1, 1] by its least and greatest recorded value. A
    transition is kept as numbers of distinct observations: those of a finite process are few, and then neither search
    nor values need go through every row.

    Args:
        obs_dim, act_dim: sizes of an observation and an action.
        neighbours: k.
    """

    states: Tensor
    first: Tensor
    after: Tensor
    actions: Tensor
    gains: Tensor
    low: Tensor
    span: Tensor

    def __init__(self, obs_dim: int, act_dim: int, neighbours: int) -> None:
        super().__init__()
        self.obs_dim, self.neighbours = obs_dim, neighbours
        self.register_buffer("states", torch.zeros(1, obs_dim))  # (U, obs_dim), distinct
        self.register_buffer("first", torch.arange(2))  # (U + 1,) rows first[i] to first[i + 1] have s = states[i]
        self.register_buffer("after", torch.zeros(1, dtype=torch.int32))  # (N,) which of them is s'
        self.register_buffer("actions", torch.zeros(1, act_dim))  # (N, act_dim), scaled
        self.register_buffer("gains", torch.zeros(1, 3))  # (N, 3): r, c, terminal
        self.register_buffer("low", torch.zeros(obs_dim + act_dim))
        self.register_buffer("span", torch.ones(obs_dim + act_dim))
        self._searched: dict[tuple[int, int], Candidates] = {}
        self._rows: Tensor | None = None  # (N, obs_dim + act_dim), scaled; where all are compared

    def fit(self, data: Batch, generator: torch.Generator) -> None:
        """Keep the transitions of ``data``."""
        pairs = torch.cat([data.observations, data.actions], dim=1)
        self.low.copy_(pairs.amin(0))
        span = pairs.amax(0) - self.low
        self.span.copy_(torch.where(span > 0, span, 1.0))
        self.states, numbers, _ = distinct(torch.cat([data.observations, data.next_observations]))
        before, after = numbers.split(len(pairs))
        order = before.argsort(stable=True)
        self.first = F.pad(before.bincount(minlength=len(self.states)).cumsum(0), (1, 0))
        self.after = after[order].to(torch.int32)
        self.actions = self._scaled(data.actions[order], self.obs_dim)
        self.gains = torch.stack([data.rewards, data.costs, data.terminals], dim=1)[order]
        self._forget()

    @torch.no_grad()
    def step(self, observations: Tensor, actions: Tensor, values: Values) -> Transition:
        """A draw of what follows observations (B, obs_dim) and actions (B, act_dim), and means over all k."""
        nearest = self.nearest(observations, actions)
        choice = torch.randint(nearest.shape[1], (len(nearest), 1), device=nearest.device)
        drawn = nearest.gather(1, choice).squeeze(1)
        gains = self.gains[nearest]  # (B, k, 3)
        met, place = self.after[nearest].unique(return_inverse=True)
        ahead = (values(self.states[met])[:, place] * (1 - gains[..., 2])).mean(2)
        means = gains.mean(1)
        return Transition(self.states[self.after[drawn]], means[:, 0], means[:, 1], self.gains[drawn, 2], ahead)

    def nearest(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Numbers (B, k) of the nearest rows, nearest first; all rows if there are fewer than k."""
        seen, done = self._scaled(observations, 0), self._scaled(actions, self.obs_dim)
        count = min(self.neighbours, len(self.after))
        if _REPEATED * len(self.states) > len(self.after):
            queries, size = torch.cat([seen, done], dim=1), max(1, _BLOCK // len(self.after))
            return torch.cat([_nearest(block, self._all_rows(), count) for block in queries.split(size)])
        found = torch.empty(len(seen), count, dtype=torch.int64, device=seen.device)
        asked, place, keys = distinct(seen)
        for key, state, members in zip(keys.tolist(), asked, _members(place, len(asked))):
            level, pending = 0, members
            while len(pending):
                among = self._candidates(key, state, level)
                near, order = _squares(done[pending], among).topk(count, largest=False)
                found[pending] = among.rows[order]  # for good if nothing beyond the candidates can be nearer
                level, pending = level + 1, pending[near[:, -1] > among.reach]
        return found

    def _candidates(self, key: int, state: Tensor, level: int) -> Candidates:
        """Rows of the observations nearest to a scaled one, 2 k 4^level of them or more; kept for the next time."""
        if (key, level) not in self._searched:
            squares, order = (self._scaled(self.states, 0) - state).square().sum(1).sort()
            counts = self.first.diff()[order]
            enough = counts.cumsum(0) >= min(2 * self.neighbours * 4**level, len(self.after))
            taken = int(enough.int().argmax()) + 1
            reach = float(squares[taken]) if counts[taken:].any() else math.inf
            squares, counts, order = squares[:taken], counts[:taken], order[:taken]
            skipped = self.first[order] - (counts.cumsum(0) - counts)  # between a place in the result and its row
            rows = torch.arange(int(counts.sum()), device=state.device) + skipped.repeat_interleave(counts)
            among = Candidates(rows, squares.repeat_interleave(counts), self.actions[rows], reach)
            self._searched[key, level] = among
        return self._searched[key, level]

    def _all_rows(self) -> Tensor:
        if self._rows is None:
            states = self._scaled(self.states, 0).repeat_interleave(self.first.diff(), dim=0)
            self._rows = torch.cat([states, self.actions], dim=1)
        return self._rows

    def _scaled(self, values: Tensor, first: int) -> Tensor:
        """Columns ``first`` and on of (s, a), to [-1, 1]."""
        columns = slice(first, first + values.shape[1])
        return (values - self.low[columns]) / self.span[columns] * 2 - 1

    def _forget(self) -> None:
        self._searched, self._rows = {}, None

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._forget()


def distinct(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct rows (U, d) float32, the place of each row among them (N,), and their keys (U,), ascending.

    Rows are told apart by 64-bit keys; two of a million different ones share a key with a chance of 1e-7. Sorting the
    rows themselves takes ten times as long.
    """
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**62), 2**62, (rows.shape[1],), generator=generator).to(rows.device) | 1
    keys = torch.cat([(part.view(torch.int32) * factors).sum(1) for part in rows.contiguous().split(1 << 16)])
    found, place = keys.unique(return_inverse=True)
    example = torch.empty_like(found).scatter_(0, place, torch.arange(len(rows), device=rows.device))
    return rows[example], place, found


def _members(place: Tensor, groups: int) -> tuple[Tensor, ...]:
    """Numbers of the entries of ``place`` (B,) that are 0, 1, ... groups - 1."""
    return place.argsort(stable=True).split(place.bincount(minlength=groups).tolist())


def _squares(actions: Tensor, among: Candidates) -> Tensor:
    """Squared distances (Q, M) of one observation with actions (Q, act_dim), scaled, from candidates."""
    squares = among.squares.expand(len(actions), -1)
    for mine, theirs in zip(actions.unbind(1), among.actions.unbind(1)):  # few columns: faster than all in one
        squares = squares + (mine.unsqueeze(1) - theirs).square()
    return squares


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
    def step(self, observations: Tensor, actions: Tensor, values: Values) -> Transition:
        """A draw of what follows observations (B, obs_dim) and actions (B, act_dim), and means over the members.

        Of each member's next observation one draw is valued.
        """
        pairs = torch.cat([observations, actions], dim=1)
        size = pairs.shape[1]
        inputs = (pairs - self.centre[:size]) / self.spread[:size]
        predicted = [torch.stack(each) for each in zip(*(self._predicted(m, inputs) for m in self.members))]
        mean, log_variance, end = predicted  # (members, B, ...)
        noise = torch.randn_like(mean) * (0.5 * log_variance).exp()
        noise[..., -2:] = 0
        changes = (mean + noise) * self.spread[size:] + self.centre[size:]
        following, ending = observations + changes[..., :-2], end.sigmoid()
        ahead = torch.stack([values(each) for each in following]) * (1 - ending).unsqueeze(1)  # (members, V, B)
        each_row = torch.arange(len(pairs), device=pairs.device)
        chosen = torch.randint(len(following), (len(pairs),), device=pairs.device), each_row  # of each, one member's
        ended = (torch.rand_like(ending[0]) < ending[chosen]).float()
        rewards, costs = changes[..., -2].mean(0), changes[..., -1].clamp(min=0).mean(0)
        return Transition(following[chosen], rewards, costs, ended, ahead.mean(0))


def gaussian_log_prob(actions: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log-density (...) of a diagonal Gaussian at actions (..., act_dim)."""
    standardised = (actions - mean) * (-log_std).exp()
    return -(0.5 * standardised.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)
