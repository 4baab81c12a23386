"""Critics of the victim's policy: Q_r, Q_c, V and robust Sarsa's Q, fitted off-policy to rollouts of that policy.

Rollouts add noise to the victim's actions, or Q would know nothing about any other action; the targets take the action
that the victim itself chose at the next state, so that what is valued is the policy that is attacked. A victim that
recovers from any single action has a flat Q_c, which shows an attack no way up; a learned adversary sees further.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from saferl.adversaries.threat import Units
from saferl.adversaries.trajectories import Trajectory, returns_to_go
from saferl.adversaries.victim import Victim
from saferl.nn.averaging import average_into
from saferl.nn.mlp import EnsembleMLP
from saferl.policy import FeedbackPolicy

Critic = Callable[[Tensor, Tensor], Tensor]  # observations (B, obs_dim), actions (B, act_dim) in [-1, 1] -> (B,)
REWARD, COST = slice(0, 2), slice(2, 4)  # members of the ensemble
STEPS = 10_000  # that critics are fitted to, about
ROWS = 1 << 14  # pairs that are asked about at a time; a data set may have millions


@dataclass(frozen=True, kw_only=True)
class OnlineCriticConfig:
    """How the critics of a policy that is learning follow it."""

    updates: int = 100  # behind each rollout
    batch: int = 256
    hidden: int = 64
    lr: float = 1e-3
    discount: float = 0.99
    target_rate: float = 0.05  # of the target copies

    def __post_init__(self) -> None:
        for key in ("updates", "batch", "hidden"):
            if getattr(self, key) < 1:
                raise ValueError(f"critics.{key} must be >= 1; got {getattr(self, key)}.")
        for key in ("lr", "target_rate"):
            if not 0 < getattr(self, key) < float("inf"):
                raise ValueError(f"critics.{key} must be > 0; got {getattr(self, key)}.")
        if not 0 <= self.discount < 1:
            raise ValueError(f"critics.discount must be in [0, 1); got {self.discount}.")


@dataclass(frozen=True, kw_only=True)
class CriticConfig(OnlineCriticConfig):
    """How critics of a policy that stands still are fitted; the target copies therefore follow fast."""

    source: str = "auto"  # auto: the victim's own Q_r and Q_c where it brings them; fit: always fitted
    episodes: int | None = None  # rolled out with noise; None: about 10,000 steps, in 20 to 200 episodes
    noise: float = 0.3  # mean of the noise's standard deviation, in [-1, 1] units; see NoisyPolicy
    updates: int = 2_000
    hidden: int = 128
    lr: float = 3e-4
    robust_radius: float = 0.2  # robust Sarsa: change of the action, in [-1, 1] units, that Q should not notice
    robust_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source not in ("auto", "fit"):
            raise ValueError(f"critics.source must be auto or fit; got {self.source!r}.")
        if self.episodes is not None and self.episodes < 1:
            raise ValueError(f"critics.episodes must be >= 1; got {self.episodes}.")
        for key in ("noise", "robust_radius"):
            if not 0 < getattr(self, key) < float("inf"):
                raise ValueError(f"critics.{key} must be > 0; got {getattr(self, key)}.")
        if not self.robust_weight >= 0:
            raise ValueError(f"critics.robust_weight must be >= 0; got {self.robust_weight}.")

    def episodes_of(self, length: float) -> int:
        """How many episodes to roll out if one has ``length`` steps on average."""
        return self.episodes if self.episodes is not None else int(min(max(round(STEPS / length), 20), 200))


@dataclass(frozen=True)
class Critics:
    """What attacks ask; units don't matter, only where it is large."""

    reward: Critic  # Q_r
    cost: Critic  # Q_c
    value: Critic  # V_r, whether or not it looks at the action
    robust: Critic
    source: str  # for people


class NoisyPolicy:
    """The victim with Gaussian noise on its actions.

    Its deviation is uniform from 0 to twice a mean at each step, and that mean from 0 to twice ``noise`` for each
    episode: calm episodes go where the victim goes by itself, wild ones know other actions. With one mean for all, a
    fast robot never got as fast as it drives without noise, and the cost of doing so was never seen.

    Attributes:
        own: (B, act_dim) what the victim chose at the last call, in the environment's units.
    """

    def __init__(self, victim: Victim, noise: float) -> None:
        self._victim, self._noise = victim, noise
        self._generator = np.random.default_rng(0)
        self._means = np.zeros(0)  # (B,) of each row's episode
        self.own = np.zeros((0, victim.act_dim), np.float32)

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Noisy actions (B, act_dim) for observations (B, obs_dim)."""
        self.own = np.asarray(self._victim.policy.act(observations), np.float32)
        if len(self._means) != len(self.own):
            self._means = self._drawn(len(self.own))
        deviation = 2 * self._means[:, None] * self._generator.uniform(size=(len(self.own), 1))
        noise = deviation * self._generator.standard_normal(self.own.shape)
        box = self._victim.box
        unit = box.to_unit(torch.as_tensor(self.own, device=box.half.device)).cpu() + torch.as_tensor(noise)
        return box.from_unit(unit.clamp(-1, 1).to(box.half)).cpu().numpy()

    def reset(self, mask: NDArray[np.bool_] | None = None, seed: int | None = None) -> None:
        """Restart the noise from ``seed``, and the victim's episodes."""
        if seed is not None:
            self._generator = np.random.default_rng(seed)
        if mask is None or len(mask) != len(self._means):
            self._means = np.zeros(0)
        else:
            self._means[mask] = self._drawn(int(mask.sum()))
        self._victim.policy.reset(mask, seed)

    def _drawn(self, count: int) -> NDArray[np.float64]:
        return self._generator.uniform(0, 2 * self._noise, count)

    def observe(self, rewards: NDArray[np.float64], costs: NDArray[np.float64]) -> None:
        """Pass rewards and costs (B,) on to a victim that wants to see them."""
        if isinstance(self._victim.policy, FeedbackPolicy):
            self._victim.policy.observe(rewards, costs)


class Transitions(NamedTuple):
    """N steps for fitting; actions in [-1, 1] units."""

    observations: Tensor  # (N, obs_dim)
    actions: Tensor  # (N, act_dim), carried out
    own_actions: Tensor  # (N, act_dim), the victim's at the same observation
    gains: Tensor  # (2, N), reward and cost
    next_observations: Tensor  # (N, obs_dim)
    next_actions: Tensor  # (N, act_dim), the victim's at the next observation
    terminals: Tensor  # (N,) 1 where nothing follows
    sizes: Tensor  # (2,) root mean square of the discounted sums of reward and cost from each step on; 1 for 0


def transitions(episodes: list[Trajectory], victim: Victim, discount: float) -> Transitions:
    """Steps of episodes; where time ran out, the last step is left out, as nobody knows the action behind it.

    Args:
        episodes: rolled out with noise.
        victim: whose actions they are.
        discount: of the sums that ``sizes`` measures.
    Raises: ValueError if no step is left.
    """
    parts: list[list[NDArray[Any]]] = [[] for _ in range(7)]
    for each in episodes:
        count = len(each) if each.terminated else len(each) - 1
        following = np.concatenate([each.own_actions[1:], each.own_actions[-1:]])
        terminals = np.zeros(len(each), np.float32)
        terminals[-1] = each.terminated
        columns: list[NDArray[Any]] = [
            each.observations[:-1], each.actions, each.own_actions, np.stack([each.rewards, each.costs], axis=1),
            each.observations[1:], following, terminals,
        ]  # fmt: skip
        for part, column in zip(parts, columns):
            part.append(column[:count])
    tensors = [torch.as_tensor(np.concatenate(part), dtype=torch.float32, device=victim.device) for part in parts]
    if not len(tensors[0]):
        raise ValueError("the victim's episodes have no two steps in a row; critics can't be fitted to them.")
    states, acted, own, gains, after, following_actions, ends = tensors
    unit = [victim.box.to_unit(each).clamp(-1, 1) for each in (acted, own, following_actions)]
    sums = [
        np.concatenate([returns_to_go(getattr(each, key), discount) for each in episodes])
        for key in ("rewards", "costs")
    ]
    sizes = torch.tensor([float(np.sqrt(np.square(each).mean())) or 1.0 for each in sums], device=victim.device)
    return Transitions(states, unit[0], unit[1], gains.T.contiguous(), after, unit[2], ends, sizes)


class FittedCritics(nn.Module):
    """Twins of Q_r and Q_c, V_r, and robust Sarsa's Q, on normalised observations and [-1, 1] actions.

    Each is a discounted sum divided by the root mean square of such sums: numbers of order 1, whatever the environment.
    """

    def __init__(self, units: Units, act_dim: int, hidden: int) -> None:
        super().__init__()
        self.units = units
        widths, pair = (hidden, hidden), units.obs_dim + act_dim
        self.twins = EnsembleMLP(4, pair, widths)
        self.robust = EnsembleMLP(1, pair, widths)
        self.value = EnsembleMLP(1, units.obs_dim, widths)
        self.to(units.device)

    def pairs(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Rows (B, obs_dim + act_dim) that the networks read."""
        return torch.cat([self.units.features(observations), actions], dim=-1)

    def as_critics(self, source: str) -> Critics:
        """The critics; gradients reach their inputs only."""
        return Critics(
            reward=lambda states, actions: self.twins(self.pairs(states, actions), REWARD, frozen=True).mean(0),
            cost=lambda states, actions: self.twins(self.pairs(states, actions), COST, frozen=True).mean(0),
            value=lambda states, actions: self.value(self.units.features(states), frozen=True)[0],
            robust=lambda states, actions: self.robust(self.pairs(states, actions), frozen=True)[0],
            source=source,
        )


def fitted_critics(
    data: Transitions,
    units: Units,
    config: CriticConfig,
    seed: int,
    with_robust: bool = True,
    report: Callable[[float], None] = lambda share: None,
) -> FittedCritics:
    """Critics of the policy that chose ``own_actions``, by fitted Q evaluation.

    Q(s, a) <- g + gamma (1 - d) Q'(s', pi(s')), for reward and cost, the twins' mean as Q'; V(s) <- Q_r'(s, pi(s));
    robust Sarsa the same as Q_r with the penalty max over |a' - a| <= radius of (Q(s, a') - Q(s, a))^2, its maximum by
    one sign step from a random corner.

    Args:
        data: of the victim.
        units: of the observations.
        config: sizes and rates.
        seed: of weights and batches.
        with_robust: whether robust Sarsa's Q is fitted too, which takes as long as the others together; else it stays
            as it began.
        report: called with the share that is done.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        critics = FittedCritics(units, data.actions.shape[1], config.hidden)
    target = copy.deepcopy(critics).requires_grad_(False)
    optimizer = torch.optim.Adam(critics.parameters(), lr=config.lr, fused=True)
    gains = data.gains / data.sizes[:, None]
    for update in range(config.updates):
        rows = torch.randint(len(data.terminals), (config.batch,), generator=generator).to(units.device)
        loss = twin_loss(critics, target, data, gains, rows, config)
        if with_robust:
            loss = loss + _robust_loss(critics, target, data, gains, rows, config, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        average_into(target, critics, config.target_rate)
        if update % 100 == 0:
            report(update / config.updates)
    optimizer.zero_grad(set_to_none=True)
    return critics.requires_grad_(False)


def twin_loss(
    critics: FittedCritics,
    target: FittedCritics,
    data: Transitions,
    gains: Tensor,
    rows: Tensor,
    config: OnlineCriticConfig,
) -> Tensor:
    """Mean squared errors () of the twins and of V on the steps ``rows`` (B,); ``gains`` (2, N) are in their units."""
    states = data.observations[rows]
    with torch.no_grad():
        following = critics.pairs(data.next_observations[rows], data.next_actions[rows])
        ahead = target.twins(following).unflatten(0, (2, 2)).mean(1)  # (2, B)
        onward = config.discount * (1 - data.terminals[rows])
        targets = (gains[:, rows] + onward * ahead).repeat_interleave(2, dim=0)  # (4, B)
        here = target.twins(critics.pairs(states, data.own_actions[rows]), REWARD).mean(0)
    errors = (critics.twins(critics.pairs(states, data.actions[rows])) - targets).square().mean(1).sum()
    return errors + (critics.value(critics.units.features(states))[0] - here).square().mean()


def _robust_loss(
    critics: FittedCritics,
    target: FittedCritics,
    data: Transitions,
    gains: Tensor,
    rows: Tensor,
    config: CriticConfig,
    generator: torch.Generator,
) -> Tensor:
    """Mean squared error () of robust Sarsa's Q, and its penalty."""
    states, actions = data.observations[rows], data.actions[rows]
    with torch.no_grad():
        following = critics.pairs(data.next_observations[rows], data.next_actions[rows])
        onward = config.discount * (1 - data.terminals[rows])
        wanted = gains[0, rows] + onward * target.robust(following)[0]
    values = critics.robust(critics.pairs(states, actions))[0]
    change = _greatest_change(critics, states, actions, values, config.robust_radius, generator)
    return (values - wanted).square().mean() + config.robust_weight * change.square().mean()


def _greatest_change(
    critics: FittedCritics,
    states: Tensor,
    actions: Tensor,
    values: Tensor,
    radius: float,
    generator: torch.Generator,
) -> Tensor:
    """Q(s, a') - Q(s, a) (B,) of the robust critic, a' one sign step from a random corner of the ball around a."""
    corners = torch.randn(actions.shape, generator=generator).to(actions.device).sign()
    start = (actions + radius * corners).requires_grad_(True)
    distance = (critics.robust(critics.pairs(states, start), frozen=True)[0] - values.detach()).square().sum()
    (slope,) = torch.autograd.grad(distance, start)
    worst = actions + radius * torch.where(slope == 0, corners, slope.sign())
    return critics.robust(critics.pairs(states, worst.detach()))[0] - values


def whole_sums(episode: Trajectory, discount: float) -> NDArray[np.bool_]:
    """The steps (T,) whose discounted sum an episode shows: all if it ended by itself.

    Where time ran out, those at least half of whose weight lies before the end: critics look beyond it, and the sums
    of the last steps would say how much time is left and nothing else.
    """
    left = np.arange(len(episode), 0, -1)  # steps to the end
    return (discount**left <= 0.5) | episode.terminated


@torch.no_grad()
def agreement(critics: Critics, episodes: list[Trajectory], victim: Victim, discount: float) -> dict[str, float]:
    """Rank correlation of Q_r and Q_c with what clean episodes brought from each step on; nan where that is constant.

    Args:
        critics: to judge.
        episodes: of the victim, without noise.
        victim: whose actions they are.
        discount: of the sums.
    Returns: "reward" and "cost", Spearman's rho over all steps whose sum is known (``whole_sums``).
    """
    shown = [whole_sums(each, discount) for each in episodes]
    rows = np.concatenate([each.observations[:-1][kept] for each, kept in zip(episodes, shown)])
    acted = np.concatenate([each.actions[kept] for each, kept in zip(episodes, shown)])
    if not len(rows):
        return {"reward": float("nan"), "cost": float("nan")}
    states = torch.as_tensor(rows, device=victim.device)
    actions = victim.box.to_unit(torch.as_tensor(acted, device=victim.device)).clamp(-1, 1)
    result = {}
    for name, critic in (("reward", critics.reward), ("cost", critics.cost)):
        gained = [returns_to_go(getattr(each, f"{name}s"), discount) for each in episodes]
        sums = np.concatenate([each[kept] for each, kept in zip(gained, shown)])
        said = critic(states, actions).cpu().numpy()
        constant = np.ptp(sums) == 0 or np.ptp(said) == 0
        result[name] = float("nan") if constant else float(stats.spearmanr(said, sums).statistic)
    return result


def cost_threshold(critics: Critics, episodes: list[Trajectory], victim: Victim, share: float = 0.1) -> float:
    """The Q_c that the dearest ``share`` of the states of clean episodes exceeds (adaptive MAD)."""
    states = np.concatenate([each.observations[:-1] for each in episodes])
    return dearest(critics, states, np.concatenate([each.actions for each in episodes]), victim, share)


@torch.no_grad()
def dearest(critics: Critics, states: NDArray[Any], acted: NDArray[Any], victim: Victim, share: float = 0.1) -> float:
    """The Q_c that the dearest ``share`` of pairs (N, obs_dim), (N, act_dim) exceeds."""
    values = []
    for rows, actions in zip(torch.as_tensor(states).split(ROWS), torch.as_tensor(acted).split(ROWS)):
        unit = victim.box.to_unit(actions.to(victim.device)).clamp(-1, 1)
        values.append(critics.cost(rows.to(victim.device), unit).double().cpu())
    return float(np.quantile(torch.cat(values).numpy(), 1 - share))
