"""What BCQ-Lag and BEAR-Lag share: two groups of critics for reward and for cost, the data's VAE, a PID multiplier."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from saferl.agents.agent import Agent
from saferl.agents.bellman import FORMS, bellman_target, ends
from saferl.agents.settings import ConstrainedConfig, check_at_least, check_choice, check_positive
from saferl.agents.start_mean import StartMean, starts
from saferl.nn.averaging import average_into
from saferl.nn.mlp import EnsembleMLP
from saferl.nn.multipliers import PIDMultiplier
from saferl.nn.vae import ActionVAE
from saferl.offline_data.batch import Batch
from saferl.offline_data.dataset import OfflineDataset

START_ROWS = 6  # rows of a batch, starts first, at which the acting policy's cost is looked up


@dataclass(frozen=True, kw_only=True)
class DoubleCriticConfig(ConstrainedConfig):
    """Settings of BCQ-Lag and BEAR-Lag; the defaults are those usual for DSRL."""

    actor_lr: float = 1e-3
    critic_lr: float = 1e-3
    vae_lr: float = 1e-3
    vae_hidden: int = 400
    vae_divergence_weight: float = 0.5  # beta
    members: int = 2  # critics of a group; there are two groups for the reward and two for the cost
    mixture: float = 0.75  # lambda: weight of the pessimistic group in a target
    candidates: int = 10  # N actions of which a target, and the policy, takes the best
    proportional: float = 0.1  # gains of the multiplier on Q_c - kappa
    integral: float = 3e-4  # a tenth of the usual: the multiplier must not outrun the critics, see docs/agents.md
    derivative: float = 0.001
    form: str = "corrected"  # or "published": with the faults of the reference code, see ``DoubleCriticAgent``

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "actor_lr", "critic_lr", "vae_lr")
        check_at_least(self, 1, "vae_hidden", "members", "candidates")
        check_at_least(self, 0, "vae_divergence_weight", "proportional", "integral", "derivative")
        if not 0 <= self.mixture <= 1:
            raise ValueError(f"agent.mixture must be in [0, 1]; got {self.mixture}.")
        check_choice(self, "form", FORMS)


def reward_mixture(q: Tensor, weight: float) -> Tensor:
    """lambda min(Q_1, Q_2) + (1 - lambda) max(Q_1, Q_2) (...), Q_g the least member of group g; q (2 n, ...)."""
    groups = q.unflatten(0, (2, -1)).amin(1)  # (2, ...)
    return weight * groups.amin(0) + (1 - weight) * groups.amax(0)


def cost_mixture(q: Tensor, weight: float) -> Tensor:
    """The mirror image for a cost, whose pessimistic value is the greatest: q (2 n, ...) to (...)."""
    return -reward_mixture(-q, weight)


def _picked(options: Tensor, index: Tensor) -> Tensor:
    """options[b, index[b]] (B, ...) of options (B, N, ...)."""
    return options[torch.arange(len(index), device=index.device), index]


class DoubleCriticAgent(Agent, ABC):
    """Critics, VAE, actor and multiplier m; how actions are drawn, and the actor's loss, a subclass says.

    Corrected: the policy takes the best of N actions by min Q_r - m max Q_c. A target takes one of N actions at s', for
    the reward and for the cost alike, so that both critics value one policy: the one that acts. One critic of each kind
    chooses, by Q_r - m Q_c, and all of them value the choice. That lessens the upward bias of a maximum over noisy
    values (double Q-learning, van Hasselt 2010), and it takes a third off the time of an update. A cost's mixture is
    pessimistic: the greatest member of a group, more weight on the greater group. m follows the excess of max Q_c over
    kappa at the acting policy's actions where episodes begin, which is where the limit holds.

    Published: each target has a best action of its own, for the cost the one that costs most of all, valued by a
    mixture that is pessimistic for rewards, so optimistic for costs; the actor and m see the least cost critic, and m
    its mean over all rows; the reward's target ends where only the time ran out, the cost's never ends.
    """

    def __init__(
        self, config: DoubleCriticConfig, obs_dim: int, act_dim: int, device: torch.device | str, actor: nn.Module
    ) -> None:
        super().__init__(config, obs_dim, act_dim, device)
        self.config: DoubleCriticConfig = config
        self.of_reward, self.of_cost = slice(0, 2 * config.members), slice(2 * config.members, 4 * config.members)
        self.choosing = slice(0, 4 * config.members, 2 * config.members)  # the first critic of each
        widths = (config.hidden, config.hidden)
        self.critics = EnsembleMLP(4 * config.members, obs_dim + act_dim, widths, config.dtype)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.actor = actor
        self.target_actor = copy.deepcopy(actor).requires_grad_(False)
        self.vae = ActionVAE(obs_dim, act_dim, config.vae_hidden, config.dtype)
        self.multiplier = PIDMultiplier(config.proportional, config.integral, config.derivative)
        self.start_cost = StartMean()
        self.to(self.device)
        self.threshold, self.published = config.threshold, config.form == "published"
        self.optimizers = {
            "critics": torch.optim.Adam(self.critics.parameters(), lr=config.critic_lr, fused=True),
            "vae": torch.optim.Adam(self.vae.parameters(), lr=config.vae_lr, fused=True),
            "actor": torch.optim.Adam(self.actor.parameters(), lr=config.actor_lr, fused=True),
        }

    @abstractmethod
    def candidates(
        self, actor: nn.Module, observations: Tensor, count: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """Actions (B, count, act_dim) of an actor (``actor`` or ``target_actor``) for observations (B, obs_dim)."""

    @abstractmethod
    def actor_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The actor's loss () and metrics; updates the multiplier on the way."""

    @abstractmethod
    def published_action(self, observations: Tensor, generator: torch.Generator | None) -> Tensor:
        """How the published form acts: (B, act_dim) for observations (B, obs_dim)."""

    def training_rows(self, dataset: OfflineDataset) -> tuple[OfflineDataset, Mapping[str, ArrayLike]]:
        """All rows, and which of them begin an episode."""
        return dataset, {"starts": starts(dataset)}

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the VAE, of all critics and of the actor."""
        config = self.config
        vae_loss = self.vae.loss(batch.observations, batch.actions, config.vae_divergence_weight)
        self.step("vae", vae_loss)
        critic_losses, metrics = self.critic_losses(batch)
        self.step("critics", critic_losses.sum())
        actor_loss, policy_metrics = self.actor_loss(batch)
        self.step("actor", actor_loss)
        average_into(self.target_critics, self.critics, config.target_rate)
        average_into(self.target_actor, self.actor, config.target_rate)
        return {"vae/loss": vae_loss.detach(), "actor/loss": actor_loss.detach(), **metrics, **policy_metrics}

    def critic_losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Losses (2,) of reward and cost critics, sums of the members' mean squared errors; metrics."""
        q = self.critics(torch.cat([batch.observations, batch.actions], dim=1)).unflatten(0, (2, -1))  # (2, 2 n, B)
        losses = (q - self.critic_targets(batch).unsqueeze(1)).square().mean(2).sum(1)
        metrics = {
            "critics/reward_loss": losses[0].detach(),
            "critics/cost_loss": losses[1].detach(),
            "critics/reward_q": q[0].detach().mean(),
            "critics/cost_q": q[1].detach().mean(),
        }
        return losses, metrics

    @torch.no_grad()
    def critic_targets(self, batch: Batch) -> Tensor:
        """Bellman targets (2, B) of reward and cost; one set of N actions at s' serves both."""
        config, following = self.config, batch.next_observations
        actions = self.candidates(self.target_actor, following, config.candidates)
        if self.published:
            q = self.target_critics.over_candidates(following, actions)  # (4 n, B, N)
            next_reward = reward_mixture(q[self.of_reward], config.mixture).amax(1)
            next_cost = reward_mixture(q[self.of_cost], config.mixture).amax(1)
        else:
            reward, cost = self.target_critics.over_candidates(following, actions, self.choosing)  # (B, N)
            chosen = _picked(actions, self.choice(following, actions, reward - self.multiplier.value * cost))
            q = self.target_critics(torch.cat([following, chosen], dim=1))  # (4 n, B)
            next_reward = reward_mixture(q[self.of_reward], config.mixture)
            next_cost = cost_mixture(q[self.of_cost], config.mixture)
        reward_ends, cost_ends = ends(batch, config.form)
        return torch.stack(
            [
                bellman_target(batch.rewards, reward_ends, next_reward, config.discount),
                bellman_target(batch.costs, cost_ends, next_cost, config.discount),
            ]
        )

    def lagrangian(self, batch: Batch, actions: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """E[min Q_r - m (max Q_c - kappa)] () with the gradient of ``actions`` (B, act_dim); metrics. Updates m."""
        q = self.critics(torch.cat([batch.observations, actions], dim=1), frozen=True)  # (4 n, B)
        cost = (q[self.of_cost].amin(0) if self.published else q[self.of_cost].amax(0)).mean()
        value = q[self.of_reward].amin(0).mean()
        limited = cost.detach() if self.published else self.acting_cost(batch)
        multiplier = self.multiplier.update(limited - self.threshold)
        metrics = {
            "policy/reward_q": value.detach(),
            "policy/cost_q": cost.detach(),
            "multiplier/limited_cost": limited,
            "multiplier/value": multiplier,
        }
        return value - multiplier * (cost - self.threshold), metrics

    @torch.no_grad()
    def acting_cost(self, batch: Batch) -> Tensor:
        """Running mean () of max Q_c at the acting policy's actions where episodes begin."""
        starts = torch.ones_like(batch.rewards) if batch.starts is None else batch.starts
        weights, rows = starts.topk(min(START_ROWS, len(starts)))
        observations = batch.observations[rows]
        _, cost = self.best(observations, self.candidates(self.actor, observations, self.config.candidates))
        return self.start_cost.update(cost, weights)

    def best(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Of actions (B, N, act_dim) the one with the greatest min Q_r - m max Q_c (B, act_dim), its max Q_c (B,)."""
        q = self.critics.over_candidates(observations, actions)  # (4 n, B, N)
        cost = q[self.of_cost].amax(0)
        chosen = self.choice(observations, actions, q[self.of_reward].amin(0) - self.multiplier.value * cost)
        return _picked(actions, chosen), _picked(cost, chosen)

    def choice(self, observations: Tensor, actions: Tensor, values: Tensor) -> Tensor:
        """Index (B,) of the greatest of ``values`` (B, N) of ``actions`` (B, N, act_dim) at (B, obs_dim)."""
        return values.argmax(1)

    def act(self, observations: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Actions (B, act_dim) in [-1, 1] for observations (B, obs_dim)."""
        if self.published:
            return self.published_action(observations, generator)
        return self.best(observations, self.candidates(self.actor, observations, self.config.candidates, generator))[0]
