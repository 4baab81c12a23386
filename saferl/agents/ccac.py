"""CCAC: actor and critics see the cost that may still be spent, so that one training serves every limit.

Paper: Guo et al., Constraint-Conditioned Actor-Critic for Offline Safe Reinforcement Learning, ICLR 2025. A generator
and a classifier of pairs (s, a), given the budget b, say where the cost critic must not be trusted.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from saferl.agents.agent import Agent
from saferl.agents.bellman import FORMS, bellman_target
from saferl.agents.settings import ConstrainedConfig, LimitUse, check_at_least, check_choice, check_positive
from saferl.nn.averaging import average_into
from saferl.nn.gaussian import SquashedGaussian
from saferl.nn.mlp import MLP, EnsembleMLP
from saferl.offline_data.batch import Batch
from saferl.offline_data.dataset import OfflineDataset
from saferl.offline_data.sequences import sums_to_go
from saferl.policy import Policy, TorchPolicy

MEMBERS = 4  # critics of each kind
REWARD, COST = slice(0, MEMBERS), slice(MEMBERS, 2 * MEMBERS)  # members of the ensemble
_LOG_STD_LIMITS = (-4.0, 15.0)  # of the generator's latents
_LOG_MULTIPLIER_LEAST = -20.0


@dataclass(frozen=True, kw_only=True)
class CCACConfig(ConstrainedConfig):
    """Settings of CCAC; the defaults are its code's."""

    form: str = "corrected"  # or "published", see the class
    actor_lr: float = 1e-4  # and of the multipliers
    critic_lr: float = 1e-3
    vae_lr: float = 1e-3  # and of the classifier
    vae_hidden: int = 512  # width of generator, classifier and multipliers
    vae_latent_dim: int = 64
    vae_divergence_weight: float = 0.5  # of the generator's prior
    warm_up: int = 200_000  # updates in which only generator and classifier learn
    unsafe_share: float = 0.5  # the classifier's probability from which a generated pair counts as above its budget
    log_multiplier_limit: float = 5.0
    multiplier_decay: float = 0.01  # of the squared weights of the multipliers' networks

    @property
    def limit_use(self) -> LimitUse:
        """Where the cost limit enters: the policy when it acts."""
        return "acting"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "form", FORMS)
        check_positive(self, "actor_lr", "critic_lr", "vae_lr", "vae_divergence_weight")
        check_at_least(self, 1, "vae_hidden", "vae_latent_dim")
        check_at_least(self, 0, "warm_up", "multiplier_decay")
        if not 0 < self.unsafe_share < 1:
            raise ValueError(f"agent.unsafe_share must be in (0, 1); got {self.unsafe_share}.")


class CCAC(Agent):
    """pi(a | s, b), Q_r(s, a, b) and Q_c(s, a, b), where b is the undiscounted cost that may still come.

    Corrected: critics and actor see each row with the budget of another row. Q_c is not discounted and ends with the
    recording, as b does; the greatest of its members counts. Q_r may be negative and goes on where only time ran out.

    Published: b is what the row's own episode went on to cost. A costly action under a small budget then never occurs,
    and its Q_c is left to chance. Q_c is discounted and yet held against the undiscounted b, the least of its members
    counts, Q_r is squeezed above 0, and both end at time limits.
    """

    updates: Tensor

    def __init__(self, config: CCACConfig, obs_dim: int, act_dim: int, device: torch.device | str = "cpu") -> None:
        super().__init__(config, obs_dim, act_dim, device)
        widths, wide = (config.hidden, config.hidden), (config.vae_hidden, config.vae_hidden)
        pair = obs_dim + act_dim
        self.actor = SquashedGaussian(obs_dim + 1, act_dim, widths, config.dtype)
        self.critics = EnsembleMLP(2 * MEMBERS, pair + 1, widths, config.dtype)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.encoder = MLP(pair + 1, 2 * config.vae_latent_dim, wide, config.dtype)
        self.decoder = MLP(config.vae_latent_dim + 1, pair, wide, config.dtype)
        self.classifier = MLP(pair + 1, 1, wide, config.dtype)
        self.multipliers = torch.nn.ModuleDict({name: MLP(1, 1, wide) for name in ("critics", "actor")})
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.to(self.device)
        generating = [*self.encoder.parameters(), *self.decoder.parameters()]
        self.optimizers = {
            "actor": torch.optim.Adam(self.actor.parameters(), lr=config.actor_lr, fused=True),
            "critics": torch.optim.Adam(self.critics.parameters(), lr=config.critic_lr, fused=True),
            "generator": torch.optim.Adam(generating, lr=config.vae_lr, fused=True),
            "classifier": torch.optim.Adam(self.classifier.parameters(), lr=config.vae_lr, fused=True),
            "multipliers": torch.optim.Adam(self.multipliers.parameters(), lr=config.actor_lr, fused=True),
        }

    def training_rows(self, dataset: OfflineDataset) -> tuple[OfflineDataset, Mapping[str, ArrayLike]]:
        """All rows, with the cost from each to the end of its episode."""
        return dataset, {"costs_to_go": sums_to_go(dataset, dataset.costs)}

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One step of generator and classifier; behind the warm-up, of critics, actor and multipliers too.

        In the warm-up their losses are multiplied by 0: a tensor decides, so that no update waits for the device. Their
        weights stay, but Adam counts the steps, which makes its first ones behind the warm-up up to three times longer.
        """
        assert batch.costs_to_go is not None, "CCAC's batches come from its own sampler"
        active = (self.updates >= self.config.warm_up).float()
        pairs, budgets = torch.cat([batch.observations, batch.actions], dim=1), batch.costs_to_go
        generator_loss, generated = self.generator_loss(pairs, budgets)
        self.step("generator", generator_loss)
        classifier_loss = self.classifier_loss(torch.cat([pairs, generated]), budgets)
        self.step("classifier", classifier_loss)
        if self.config.form == "corrected":
            budgets = budgets[torch.randperm(len(budgets), device=self.device)]
        critic_loss, excess, metrics = self.critic_loss(batch, budgets)
        self.step("critics", active * critic_loss)
        actor_loss, spent, actor_metrics = self.actor_loss(batch.observations, budgets)
        self.step("actor", active * actor_loss)
        self.step("multipliers", active * self.multiplier_loss(budgets, excess, spent))
        average_into(self.target_critics, self.critics, self.config.target_rate)
        self.updates += 1
        losses = {"generator/loss": generator_loss.detach(), "classifier/loss": classifier_loss.detach()}
        return losses | metrics | actor_metrics

    def generator_loss(self, pairs: Tensor, budgets: Tensor) -> tuple[Tensor, Tensor]:
        """Squared error of the pairs (B, S + A) decoded from latents and budgets (B,), plus the divergence; the pairs.

        Both are means over rows and dimensions.
        """
        mean, log_std = self.encoder(torch.cat([pairs, budgets[:, None]], dim=1)).chunk(2, dim=1)
        log_std = log_std.clamp(*_LOG_STD_LIMITS)
        decoded = self.decoded(mean + log_std.exp() * torch.randn_like(mean), budgets)
        divergence = (0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std).mean()
        loss = (decoded - pairs).square().mean() + self.config.vae_divergence_weight * divergence
        return loss, decoded.detach()

    def decoded(self, latents: Tensor, budgets: Tensor) -> Tensor:
        """Pairs (B, S + A) for latents (B, L) and budgets (B,); the actions in [-1, 1]."""
        raw = self.decoder(torch.cat([latents, budgets[:, None]], dim=1))
        return torch.cat([raw[:, : self.obs_dim], raw[:, self.obs_dim :].tanh()], dim=1)

    def classifier_loss(self, pairs: Tensor, budgets: Tensor) -> Tensor:
        """Cross-entropy of "costs more than b_ref" for pairs (2 B, S + A), recorded and decoded, with budgets (B,).

        b_ref is the budget of the batch's first row, which is as good as random.
        """
        reference = budgets[:1].expand(len(pairs), 1)
        logits = self.classifier(torch.cat([pairs, reference], dim=1)).squeeze(1)
        labels = (budgets > budgets[0]).float().repeat(2)
        return F.binary_cross_entropy_with_logits(logits, labels)

    def q(self, critics: EnsembleMLP, observations: Tensor, actions: Tensor, budgets: Tensor, **how: Any) -> Tensor:
        """Q (2 MEMBERS, B): rewards, then costs; costs are squeezed above 0, published rewards too."""
        raw = critics(torch.cat([observations, budgets[:, None], actions], dim=1), **how)
        rewards = F.softplus(raw[REWARD]) if self.config.form == "published" else raw[REWARD]
        return torch.cat([rewards, F.softplus(raw[COST])])

    def pessimistic(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Q_r and Q_c (B,) of members (2 MEMBERS, B)."""
        cost = q[COST].amin(0) if self.config.form == "published" else q[COST].amax(0)
        return q[REWARD].amin(0), cost

    @torch.no_grad()
    def critic_targets(self, batch: Batch, budgets: Tensor) -> Tensor:
        """Targets (2, B) with a' ~ pi(s', b'), b' = b - c."""
        following = (budgets - batch.costs).clamp(min=0)
        states = batch.next_observations
        actions = self.actor.sample(torch.cat([states, following[:, None]], dim=1)).actions
        reward, cost = self.pessimistic(self.q(self.target_critics, states, actions, following))
        over = torch.maximum(batch.terminals, batch.timeouts)
        published, discount = self.config.form == "published", self.config.discount
        return torch.stack(
            [
                bellman_target(batch.rewards, over if published else batch.terminals, reward, discount),
                bellman_target(batch.costs, over, cost, discount if published else 1.0),
            ]
        )

    def critic_loss(self, batch: Batch, budgets: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Sum of the members' squared errors - E[lambda_1(b) (Q_c(s^, a^, b) - b)] over generated pairs above budget.

        Also ``excess`` (B,): Q_c - b of those pairs over their share, 0 elsewhere; and metrics.
        """
        q = self.q(self.critics, batch.observations, batch.actions, budgets)
        errors = (q.unflatten(0, (2, MEMBERS)) - self.critic_targets(batch, budgets)[:, None]).square().mean(-1).sum()
        with torch.no_grad():
            latents = torch.randn(len(budgets), self.config.vae_latent_dim, device=self.device).clamp_(-1, 1)
            pairs = self.decoded(latents, budgets)
            logits = self.classifier(torch.cat([pairs, budgets[:, None]], dim=1)).squeeze(1)
            above = (logits.sigmoid() > self.config.unsafe_share).float()
            weights = above / above.mean().clamp(min=1 / len(above))  # mean over the chosen rows, none is allowed
        states, actions = pairs.split([self.obs_dim, self.act_dim], dim=1)
        cost = self.pessimistic(self.q(self.critics, states, actions, budgets))[1]
        excess = weights * (cost - budgets)
        loss = errors - (self.multiplier("critics", budgets) * excess).mean()
        metrics = {
            "critics/loss": loss.detach(),
            "critics/error": errors.detach(),
            "critics/reward_q": q[REWARD].detach().mean(),
            "critics/cost_q": q[COST].detach().mean(),
            "critics/above_budget_share": above.mean(),
        }
        return loss, excess.detach(), metrics

    def actor_loss(self, observations: Tensor, budgets: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """E[-Q_r(s, a, b) + lambda_2(b) (Q_c(s, a, b) - b)], a ~ pi(s, b); Q_c - b (B,); metrics."""
        actions = self.actor.sample(torch.cat([observations, budgets[:, None]], dim=1)).actions
        reward, cost = self.pessimistic(self.q(self.critics, observations, actions, budgets, frozen=True))
        multiplier = self.multiplier("actor", budgets)
        loss = (multiplier * (cost - budgets) - reward).mean()
        metrics = {"actor/loss": loss.detach(), "multiplier/mean": multiplier.mean()}
        return loss, (cost - budgets).detach(), metrics

    def multiplier_loss(self, budgets: Tensor, excess: Tensor, spent: Tensor) -> Tensor:
        """E[lambda_1(b) excess - lambda_2(b) spent] + decay |theta|^2: Q_c >= b is wanted off the data, <= b of pi.

        The gradient passes the clip of ln lambda, and what lies beyond it is drawn back by its square: without the
        first a multiplier at its limit would stay there, without the second it would run far beyond.
        """
        size = torch.stack([each.square().sum() for each in self.multipliers.parameters()]).sum()
        loss = self.config.multiplier_decay * size
        for name, gain in (("critics", excess), ("actor", -spent)):
            raw = self.multipliers[name](budgets[:, None]).squeeze(1)
            beyond = raw - self.clipped(raw).detach()
            loss = loss + ((raw - beyond.detach()).exp() * gain + beyond.square()).mean()
        return loss

    @torch.no_grad()
    def multiplier(self, name: str, budgets: Tensor) -> Tensor:
        """lambda(b) (B,) > 0 of the "critics" or the "actor"."""
        return self.clipped(self.multipliers[name](budgets[:, None]).squeeze(1)).exp()

    def clipped(self, log_multipliers: Tensor) -> Tensor:
        """ln lambda (B,) within its limits."""
        return log_multipliers.clamp(_LOG_MULTIPLIER_LEAST, self.config.log_multiplier_limit)

    def act(self, observations: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The mode (B, act_dim) for observations (B, obs_dim) with the whole limit left; draws no noise."""
        whole = torch.full((len(observations),), float(self.config.cost_limit or 0), device=self.device)
        return self.actions_within(observations, whole)

    def actions_within(self, observations: Tensor, budgets: Tensor) -> Tensor:
        """The mode (B, act_dim) of pi(s, b) for observations (B, obs_dim) and budgets (B,)."""
        return self.actor.mode(torch.cat([observations, budgets[:, None]], dim=1))

    def policy(self, low: Any = None, high: Any = None, cost_limit: float | None = None) -> Policy:
        """The agent as a policy that spends ``cost_limit``; bounds as in ``Agent.policy``.

        Raises: ValueError if neither the argument nor the settings have a limit, or it is negative.
        """
        return BudgetPolicy(self, low, high, self.config.cost_limit if cost_limit is None else cost_limit)


class BudgetPolicy(TorchPolicy):
    """CCAC with what each of B episodes may still spend: b <- max(0, b - c) after every step.

    Args:
        agent: the conditioned policy.
        low, high: as in ``TorchPolicy``.
        cost_limit: b at an episode's start.
    """

    def __init__(self, agent: CCAC, low: Any, high: Any, cost_limit: float | None) -> None:
        super().__init__(self._act_within, agent.device, low, high)
        if cost_limit is None:
            raise ValueError("agent.cost_limit has no value; CCAC needs one to act.")
        if not cost_limit >= 0:
            raise ValueError(f"cost_limit must be >= 0; got {cost_limit}.")
        self._agent, self._limit = agent, cost_limit
        self.budgets = np.zeros(0)  # (B,)

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Actions (B, act_dim) for observations (B, obs_dim); another B begins B new episodes."""
        if len(observations) != len(self.budgets):
            self.budgets = np.full(len(observations), float(self._limit))
        return super().act(observations)

    def observe(self, rewards: NDArray[np.float64], costs: NDArray[np.float64]) -> None:
        """Spend ``costs`` (B,) of the step that was just made; the rewards have no influence."""
        self.budgets = np.maximum(self.budgets - costs, 0)

    def reset(self, mask: NDArray[np.bool_] | None = None, seed: int | None = None) -> None:
        """Give the episodes where ``mask`` (B,) is true (all if None) their whole limit again."""
        super().reset(mask, seed)
        self.budgets = np.zeros(0) if mask is None else np.where(mask, self._limit, self.budgets)

    def _act_within(self, observations: Tensor, generator: torch.Generator) -> Tensor:
        budgets = torch.as_tensor(self.budgets, dtype=torch.float32, device=observations.device)
        return self._agent.actions_within(observations, budgets)
