"""A road of ten steps: a constrained MDP whose optimum is known exactly, on which every offline agent is checked.

Twelve states, seen one-hot; a 1-D action in [-1, 1] that means useless, careful or risky (``action_index``). The stage
(time) is part of the state, so a stationary policy is enough. Rewards, and costs where they are not 0:

| stage | state | useless | careful | risky | after it |
|---|---|---|---|---|---|
| 0 | start | 0 | 0.4 | 0.6, cost 1 | early |
| 1 | early | 0 | 0.4 | 1.2, cost 1 | gate |
| 2 | gate | 0 | 0.3 | 1.0 | careful: meadow; risky: swamp with 0.8; useless: swamp with 0.5 |
| 3 | meadow | 0 | 0.4 | 2.2, cost 1 | dry with 0.9 (risky: 0.7), else wet |
| 3 | swamp | 0, cost 1 | 0.3, cost 1 | 0.4, cost 1 | wet with 0.9, else dry |
| 4 | dry | 0 | 0.7 | 0.9, cost 1 | fifth |
| 4 | wet | 0 | 0.1 | 0.3, cost 1 | fifth |
| 5 | fifth | 0 | 0.4 | 0.6, cost 1 | sixth |
| 6 | sixth | 0 | 0.4 | 2.0, cost 1 | seventh |
| 7 | seventh | 0 | 0.4 | 0.6, cost 1 | late |
| 8 | late | 0 | 0.4 | 1.1, cost 1 | last |
| 9 | last | 0 | 0.3 | 0.8 | the end (``ROAD``), or start and, if risky, swamp (``RING``) |

What fails here: greed for rewards takes "risky" at the gate, where the meadow beyond it is worth more; a cost critic
that only sees the next step takes it too, as its cost comes later, in the swamp.

The optimum at limit 2 is risky in meadow and sixth; at limit 4 also in early and late; at limit 0 nowhere but in last.
All three are deterministic and start from one state. Stages 3 and 6, like 1 and 8, lie evenly about the middle, so
their discounted cost falls short of the threshold L (1 - g^T) / ((1 - g) T) by less than 0.001: the discounted and the
undiscounted limit have the same optimum, up to a policy that is mixed with probability < 0.001 in one state.

``ROAD`` and ``RING`` give the same data but for the flags of each episode's last row. In ``ROAD`` they are terminals,
and code that looks beyond them is wrong (their ``next_observations`` go on). In ``RING`` they are timeouts: the process
goes on for ever, and code that stops there takes "risky" in last and pays in the swamp.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog

from saferl.offline_data import OfflineDataset

Array = NDArray[np.float64]

STATES = ("start", "early", "gate", "meadow", "swamp", "dry", "wet", "fifth", "sixth", "seventh", "late", "last")
ACTIONS = USELESS, CAREFUL, RISKY = 0, 1, 2
ACTION_NAMES = ("useless", "careful", "risky")
CENTRES = np.array([-0.7, 0.0, 0.7])  # recorded actions lie within SPREAD of one of these, evenly
SPREAD = 0.25
EDGES = np.array([-0.35, 0.35])  # between two meanings
# Probabilities of useless, careful, risky in every state.
BEHAVIOURS = {"uniform": (1 / 3, 1 / 3, 1 / 3), "careful": (0.1, 0.8, 0.1), "risky": (0.1, 0.1, 0.8)}
LIMITS = (0.0, 2.0, 4.0)  # each has a deterministic optimum; 0 is the hard one


@dataclass(frozen=True)
class Value:
    """What a policy is worth: expected sums over an episode from the start, and discounted.

    In an endless process ``reward`` and ``cost`` are the discounted sums times (1 - discount) horizon: per ``horizon``
    steps.
    """

    reward: float
    cost: float
    discounted_reward: float
    discounted_cost: float


@dataclass(frozen=True)
class Optimum:
    """Solution of the linear programme; ``reward`` and ``cost`` are discounted if the limit was."""

    reward: float
    cost: float
    policy: Array  # (S, A); in a state that is never reached, the best action at this multiplier
    multiplier: float  # reward per unit of cost that the limit is worth (where it jumps, either end)


@dataclass(frozen=True, eq=False)
class CMDP:
    """Finite constrained MDP, seen one-hot. ``ends`` says what the last row of an episode is.

    Args:
        transitions: (S, A, S) probabilities; from the last state, those of the endless process.
        rewards, costs: (S, A).
        start: (S,) probabilities.
        horizon: steps T of an episode.
        discount: g.
        ends: "terminal": nothing comes after T steps; "timeout": only the recording stops.
    """

    transitions: Array
    rewards: Array
    costs: Array
    start: Array
    horizon: int
    discount: float
    ends: str

    @cached_property
    def flow(self) -> Array:
        """(S, A, S) transitions that carry value: none from the last state if the task ends there."""
        flow = self.transitions.copy()
        if self.ends == "terminal":
            flow[-1] = 0
        return flow

    @property
    def per_episode(self) -> float:
        """Factor from a discounted sum of an endless process to ``horizon`` steps of it."""
        return (1 - self.discount) * self.horizon

    def threshold(self, limit: float) -> float:
        """``limit`` on an episode's undiscounted cost as one on the discounted cost; inf: no limit."""
        limit = min(limit, float(self.horizon))  # a step costs 1 at most
        share = 1 - self.discount**self.horizon if self.ends == "terminal" else 1.0
        return limit * share / self.per_episode

    def limit_settings(self, limit: float) -> dict[str, Any]:
        """Settings of an agent whose discounted threshold is then ``threshold(limit)``.

        An endless process has no L (1 - g^T) / ((1 - g) T); the same limit for 1,000 steps comes within 5e-5 of it.
        """
        length = self.horizon if self.ends == "terminal" else 1000
        return {
            "cost_limit": limit * length / self.horizon,
            "episode_length": length,
            "discount": self.discount,
        }

    def value(self, policy: Array) -> Value:
        """Exact value of a stationary policy (S, A), by linear solve."""
        discounted = self._sums(policy, self.discount)
        plain = self._sums(policy, 1.0) if self.ends == "terminal" else discounted * self.per_episode
        return Value(*map(float, (*plain, *discounted)))

    def _sums(self, policy: Array, discount: float) -> Array:
        """(2,) expected sums of reward and of cost from the start."""
        flow = np.einsum("sa,sap->sp", policy, self.flow)
        gains = np.stack([(policy * self.rewards).sum(1), (policy * self.costs).sum(1)], axis=1)  # (S, 2)
        return self.start @ np.linalg.solve(np.eye(len(flow)) - discount * flow, gains)

    def optimum(self, limit: float = math.inf, discounted: bool = True) -> Optimum:
        """Best value among all policies whose cost keeps to ``limit``, by the occupancy linear programme.

        max <x, r> with sum_a x(s', a) - g sum_{s, a} P(s' | s, a) x(s, a) = start(s'), <x, c> <= threshold, x >= 0
        (Altman, Constrained Markov Decision Processes, 1999, chapters 3 and 9).

        Args:
            limit: on the undiscounted cost of an episode.
            discounted: with discount g and ``threshold(limit)``; else with g = 1 and ``limit``. In an endless process
                the second is the first in units of an episode.

        Raises: ValueError if no policy keeps to the limit.
        """
        endless = self.ends == "timeout"
        discount = self.discount if discounted or endless else 1.0
        threshold = self.threshold(limit) if discounted or endless else min(limit, float(self.horizon))
        n, m = self.rewards.shape
        balance = np.repeat(np.eye(n), m, axis=1) - discount * self.flow.reshape(n * m, n).T  # (S, S A)
        costs, rewards = self.costs.ravel(), self.rewards.ravel()
        found = linprog(-rewards, costs[None], [threshold], balance, self.start, bounds=(0, None), method="highs")
        if found.status != 0:
            raise ValueError(f"limit {limit}: {found.message}")
        multiplier, values = -float(found.ineqlin.marginals[0]), -found.eqlin.marginals  # (S,) of r - multiplier c
        best = (self.rewards - multiplier * self.costs + discount * self.flow @ values).argmax(1)
        occupancy = found.x.reshape(n, m).clip(0)
        visits = occupancy.sum(1, keepdims=True)
        policy = np.where(visits > 1e-9, occupancy / visits.clip(1e-9), np.eye(m)[best])
        scale = self.per_episode if endless and not discounted else 1.0
        return Optimum(scale * float(rewards @ found.x), scale * float(costs @ found.x), policy, multiplier)

    @cached_property
    def worst(self) -> float:
        """Least reward of an episode (as in ``Value.reward``) among all policies."""
        opposite = CMDP(self.transitions, -self.rewards, self.costs, self.start, self.horizon, self.discount, self.ends)
        return -opposite.optimum(discounted=False).reward

    def dataset(self, n_episodes: int = 2000, behaviour: Any = "mixed", seed: int = 0) -> OfflineDataset:
        """Recorded episodes of ``horizon`` steps from the start.

        Args:
            n_episodes: how many.
            behaviour: a name in BEHAVIOURS; "mixed": each episode follows one of them, drawn evenly; or (S, A)
                probabilities.
            seed: of all draws.
        """
        rng = np.random.default_rng(seed)
        n = len(self.start)
        plans = {name: np.tile(shares, (n, 1)) for name, shares in BEHAVIOURS.items()}
        if isinstance(behaviour, str):
            choices = np.stack(list(plans.values()) if behaviour == "mixed" else [plans[behaviour]])
        else:
            choices = np.asarray(behaviour, np.float64)[None]
        kind = rng.integers(len(choices), size=n_episodes)
        state = _drawn(np.tile(self.start, (n_episodes, 1)), rng)
        columns: list[tuple[NDArray[Any], ...]] = []
        for _ in range(self.horizon):
            index = _drawn(choices[kind, state], rng)
            action = CENTRES[index] + rng.uniform(-SPREAD, SPREAD, n_episodes)
            following = _drawn(self.transitions[state, index], rng)
            columns.append((state, following, action, self.rewards[state, index], self.costs[state, index]))
            state = following
        states, followers, actions, rewards, costs = (np.stack(column, axis=1).ravel() for column in zip(*columns))
        last = np.tile(np.arange(self.horizon) == self.horizon - 1, n_episodes)
        terminal = self.ends == "terminal"
        return OfflineDataset(
            observations=np.eye(n)[states],
            next_observations=np.eye(n)[followers],
            actions=actions[:, None],
            rewards=rewards,
            costs=costs,
            terminals=last & terminal,
            timeouts=last & (not terminal),
            source="road",
        )

    def policy_matrix(self, agent: Any, samples: int = 256, generator: torch.Generator | None = None) -> Array:
        """(S, A) shares of each action's meaning among ``samples`` calls of ``agent.act`` in every state."""
        n, m = self.rewards.shape
        observations = torch.eye(n, device=agent.device).repeat_interleave(samples, dim=0)
        with torch.no_grad():
            actions = agent.act(observations, generator).float().cpu().numpy()
        return np.eye(m)[action_index(actions)].reshape(n, samples, m).mean(1)

    def gap(self, agent: Any, limit: float, samples: int = 256) -> tuple[float, float]:
        """How far an agent is from the optimum at ``limit``: (reward shortfall, excess cost) of an episode.

        The shortfall is a share of (optimum - worst), negative where the agent earns more than the limit allows; the
        excess is in units of cost, negative where some of the limit is left.
        """
        value = self.value(self.policy_matrix(agent, samples))
        return self.shortfall(value.reward, limit), value.cost - limit

    def shortfall(self, reward: float, limit: float) -> float:
        """(optimum - reward) / (optimum - worst) of an episode's undiscounted ``reward``."""
        best = self.optimum(limit, discounted=False).reward
        return (best - reward) / (best - self.worst)

    def rollout_value(self, policy: Any, n: int = 2000, seed: int = 0) -> tuple[float, float]:
        """Mean undiscounted reward and cost of n parallel episodes of a Policy, which may have memory and feedback.

        Standard error of the reward for n = 2000: below 0.05.
        """
        rng = np.random.default_rng(seed)
        policy.reset(seed=seed)
        state = _drawn(np.tile(self.start, (n, 1)), rng)
        sums = np.zeros(2)
        for _ in range(self.horizon):
            index = action_index(policy.act(np.eye(len(self.start), dtype=np.float32)[state]))
            rewards, costs = self.rewards[state, index], self.costs[state, index]
            if hasattr(policy, "observe"):
                policy.observe(rewards, costs)
            sums += rewards.sum(), costs.sum()
            state = _drawn(self.transitions[state, index], rng)
        return float(sums[0] / n), float(sums[1] / n)


def action_index(actions: Any) -> NDArray[np.int64]:
    """Meaning (B,) of actions (B, 1) in [-1, 1]: USELESS, CAREFUL or RISKY."""
    return np.searchsorted(EDGES, np.asarray(actions)[:, 0])


def deterministic(actions: Sequence[int]) -> Array:
    """Policy (S, A) that takes these actions, one for each state."""
    return np.eye(len(ACTIONS))[list(actions)]


def train(agent: Any, dataset: OfflineDataset, updates: int, seed: int = 0) -> dict[str, float]:
    """``updates`` of an agent on batches of its own sampler; the last metrics. Seeds torch's global generator."""
    torch.manual_seed(seed)
    sampler = agent.sampler(dataset, seed=seed, action_low=-1, action_high=1, reward_scale=1.0)
    metrics: dict[str, torch.Tensor] = {}
    for _ in range(updates):
        metrics = agent.update(sampler.sample())
    return {key: float(value) for key, value in metrics.items()}


def _drawn(shares: Array, rng: np.random.Generator) -> NDArray[np.int64]:
    """One index (B,) from each row of probabilities (B, K)."""
    below = shares.cumsum(1) < rng.random((len(shares), 1))
    return below.sum(1).clip(max=shares.shape[1] - 1)


def _road(ends: str) -> CMDP:
    """The table at the head of this file."""
    place = {name: index for index, name in enumerate(STATES)}
    rewards = np.zeros((len(STATES), len(ACTIONS)))
    pay = {"early": (0.4, 1.2), "gate": (0.3, 1.0), "meadow": (0.4, 2.2), "swamp": (0.3, 0.4), "dry": (0.7, 0.9)}
    pay |= {"wet": (0.1, 0.3), "sixth": (0.4, 2.0), "late": (0.4, 1.1), "last": (0.3, 0.8)}
    for name, row in place.items():
        rewards[row, CAREFUL:] = pay.get(name, (0.4, 0.6))
    costs = np.zeros_like(rewards)
    costs[:, RISKY] = 1
    costs[[place["gate"], place["last"]]] = 0
    costs[place["swamp"]] = 1

    transitions = np.zeros((len(STATES), len(ACTIONS), len(STATES)))
    fork = {  # the first state's probability under each action
        "gate": ("meadow", "swamp", (0.5, 1.0, 0.2)),
        "meadow": ("dry", "wet", (0.9, 0.9, 0.7)),
        "swamp": ("dry", "wet", (0.1, 0.1, 0.1)),
        "last": ("start", "swamp", (1.0, 1.0, 0.0)),
    }
    for name, row in place.items():
        if name in fork:
            first, second, share = fork[name]
            transitions[row, :, place[first]] = share
            transitions[row, :, place[second]] = 1 - np.array(share)
        else:
            transitions[row, :, place["fifth"] if name in ("dry", "wet") else row + 1] = 1
    return CMDP(transitions, rewards, costs, np.eye(len(STATES))[0], horizon=10, discount=0.99, ends=ends)


ROAD = _road("terminal")
RING = _road("timeout")
