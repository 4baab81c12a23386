"""CQL and CQL-Lagrangian: conservative values, low for rewards and high for costs of actions that nobody recorded.

Paper: Kumar et al., Conservative Q-Learning for Offline Reinforcement Learning, NeurIPS 2020, CQL(H) on soft
actor-critic. The cost critic, which mirrors the reward's, and the multiplier (Stooke et al. 2020) are not in it.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from saferl.agents.bellman import bellman_target, ends
from saferl.agents.guarding import GuardedAgent, GuardedConfig
from saferl.agents.settings import LimitUse, check_at_least, check_positive
from saferl.agents.start_mean import StartMean, starts
from saferl.nn.averaging import average_into
from saferl.nn.gaussian import SquashedGaussian
from saferl.nn.mlp import EnsembleMLP
from saferl.nn.multipliers import PIDMultiplier
from saferl.offline_data.batch import Batch
from saferl.offline_data.dataset import OfflineDataset

REWARD_TWINS, COST_TWINS = slice(0, 2), slice(2, 4)  # members of the critic ensemble; without limit the first two only


@dataclass(frozen=True, kw_only=True)
class CQLConfig(GuardedConfig):
    """Settings of CQL; the defaults are d3rlpy's. Without ``lagrangian`` costs are ignored."""

    lagrangian: bool = False  # a cost critic and a multiplier keep the policy to the limit
    batch_size: int = 256
    actor_lr: float = 1e-4
    critic_lr: float = 3e-4
    temperature_lr: float = 1e-4
    conservative_weight: float = 5.0  # w
    candidates: int = 10  # N actions of each of the three kinds
    proportional_gain: float = 0.1  # of the multiplier's PID law
    integral_gain: float = 0.003
    derivative_gain: float = 0.001

    @property
    def limit_use(self) -> LimitUse:
        """Where the cost limit enters."""
        return "training" if self.lagrangian else "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 1, "candidates")
        check_positive(self, "actor_lr", "critic_lr", "temperature_lr")
        check_at_least(self, 0, "conservative_weight", "proportional_gain", "integral_gain", "derivative_gain")


class CQL(GuardedAgent):
    """A squashed Gaussian actor, twins of Q_r and, with ``lagrangian``, twins of Q_c in one ensemble.

    The pessimistic twin counts: the least Q_r, the greatest Q_c. Guarded, the target of Q_r is the worst value there is
    where (s', a') is not supported by the data (arXiv 2505.16242); Q_c is left to its own penalty off the data.
    """

    signs: Tensor

    def __init__(self, config: CQLConfig, obs_dim: int, act_dim: int, device: torch.device | str = "cpu") -> None:
        super().__init__(config, obs_dim, act_dim, device)
        widths = (config.hidden, config.hidden)
        kinds = 2 if config.lagrangian else 1
        self.actor = SquashedGaussian(obs_dim, act_dim, widths, config.dtype)
        self.critics = EnsembleMLP(2 * kinds, obs_dim + act_dim, widths, config.dtype)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.log_temperature = nn.Parameter(torch.zeros(()))  # ln eta
        self.multiplier = PIDMultiplier(config.proportional_gain, config.integral_gain, config.derivative_gain)
        self.start_cost = StartMean()
        # What the penalty pushes down off the data: rewards, and the negative of costs.
        self.register_buffer("signs", torch.tensor([1.0, 1.0, -1.0, -1.0][: 2 * kinds]), persistent=False)
        self.make_guard()
        self.to(self.device)
        self.threshold = config.threshold if config.lagrangian else 0.0
        self.optimizers = {
            "actor": torch.optim.Adam(self.actor.parameters(), lr=config.actor_lr, fused=True),
            "critics": torch.optim.Adam(self.critics.parameters(), lr=config.critic_lr, fused=True),
            "temperature": torch.optim.Adam([self.log_temperature], lr=config.temperature_lr, fused=True),
        }

    def training_rows(self, dataset: OfflineDataset) -> tuple[OfflineDataset, Mapping[str, ArrayLike]]:
        """All rows, and which of them begin an episode."""
        return dataset, {"starts": starts(dataset)}

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the critics, of the actor and of the temperature."""
        critic_loss, metrics = self.critic_loss(batch)
        self.step("critics", critic_loss)
        actor_loss, log_probs, actor_metrics = self.actor_loss(batch)
        self.step("actor", actor_loss)
        self.step("temperature", self.temperature_loss(log_probs))
        average_into(self.target_critics, self.critics, self.config.target_rate)
        return metrics | actor_metrics

    def critic_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum over the members of (Q - y)^2 / 2 + w penalty, means over the batch, and metrics.

        Recorded and drawn actions of all members go through the critics together.
        """
        drawn, log_densities = self.draw_candidates(batch)
        candidates = torch.cat([drawn, batch.actions.unsqueeze(1)], dim=1)  # (B, 3 N + 1, act_dim)
        q = self.critics.over_candidates(batch.observations, candidates)  # (K, B, 3 N + 1)
        recorded, off_data = q[..., -1], q[..., :-1]
        errors = 0.5 * (recorded - self.critic_targets(batch)).square().mean(1)  # (K,)
        penalties = conservative_penalty(recorded, off_data, log_densities, self.signs)  # (K,)
        loss = errors.sum() + self.config.conservative_weight * penalties.sum()
        off, on = off_data.detach().mean((1, 2)), recorded.detach().mean(1)
        metrics = {
            "critics/loss": loss.detach(),
            "critics/error": errors.detach().sum(),
            "critics/reward_q": on[REWARD_TWINS].mean(),
            "critics/reward_q_off_data": off[REWARD_TWINS].mean(),
        }
        if self.config.lagrangian:
            metrics["critics/cost_q"] = on[COST_TWINS].mean()
            metrics["critics/cost_q_off_data"] = off[COST_TWINS].mean()
        return loss, metrics

    @torch.no_grad()
    def draw_candidates(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """N actions each from U, pi(s) and pi(s'), (B, 3 N, act_dim), and their log-densities (B, 3 N)."""
        here, following = (
            self.actor.sample(observations, self.config.candidates)
            for observations in (batch.observations, batch.next_observations)
        )
        uniform = torch.empty_like(here.actions).uniform_(-1, 1)
        density = torch.full_like(here.log_probs, -self.act_dim * math.log(2))
        return (
            torch.cat([uniform, here.actions, following.actions], dim=1),
            torch.cat([density, here.log_probs, following.log_probs], dim=1),
        )

    @torch.no_grad()
    def critic_targets(self, batch: Batch) -> Tensor:
        """Bellman targets (K, B) of every member with a' ~ pi(s'), without entropy; one action serves all."""
        actions = self.actor.sample(batch.next_observations).actions
        following = self.target_critics(torch.cat([batch.next_observations, actions], dim=1))
        reward_ends, cost_ends = ends(batch)
        discount = self.config.discount
        reward = bellman_target(batch.rewards, reward_ends, following[REWARD_TWINS].amin(0), discount)
        if self.guard is not None:
            inside = self.guard.network.inside(batch.next_observations, actions)
            reward = self.guard.guarded_target(reward, inside, reward_ends)
        targets = [reward]
        if self.config.lagrangian:
            targets.append(bellman_target(batch.costs, cost_ends, following[COST_TWINS].amax(0), discount))
        return torch.stack(targets).repeat_interleave(2, dim=0)

    def actor_loss(self, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """E[eta ln pi(a|s) - min Q_r(s, a) + m (max Q_c(s, a) - kappa)], a ~ pi(s); ln pi (B,); metrics.

        The multiplier m moves first, by the excess of Q_c where episodes begin.
        """
        sample = self.actor.sample(batch.observations)
        q = self.critics(torch.cat([batch.observations, sample.actions], dim=1), frozen=True)
        temperature = self.log_temperature.detach().exp()
        loss = (temperature * sample.log_probs - q[REWARD_TWINS].amin(0)).mean()
        metrics = {"actor/entropy": -sample.log_probs.detach().mean(), "actor/temperature": temperature}
        if self.config.lagrangian:
            cost = q[COST_TWINS].amax(0)
            at_start = self.start_cost.update(cost, batch.starts)
            multiplier = self.multiplier.update(at_start - self.threshold)
            loss = loss + multiplier * (cost.mean() - self.threshold)
            metrics |= {"multiplier/value": multiplier, "multiplier/start_cost": at_start}
        return loss, sample.log_probs.detach(), {"actor/loss": loss.detach(), **metrics}

    def temperature_loss(self, log_probs: Tensor) -> Tensor:
        """-ln eta (E[ln pi] + H), with the target entropy H = -act_dim; eta grows while the entropy is below it."""
        return -self.log_temperature * (log_probs.mean() - self.act_dim)

    def act(self, observations: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The policy's mode, (B, act_dim) in [-1, 1], for observations (B, obs_dim); draws no noise."""
        return self.actor.mode(observations)


def conservative_penalty(recorded: Tensor, off_data: Tensor, log_densities: Tensor, signs: Tensor) -> Tensor:
    """ln of the integral of e^{s Q(s, a)} over all actions, less s Q(s, a_D); mean over the batch, (K,).

    The integral is estimated from M drawn actions, each divided by the density it was drawn with (equation 4 and
    appendix F of the paper). With s = 1 the gradient lowers Q off the data and raises it on them; with s = -1, for
    costs, it does the reverse.

    Args:
        recorded: (K, B) Q of the recorded actions, with gradient.
        off_data: (K, B, M) Q of the drawn ones, with gradient.
        log_densities: (B, M) of the drawn actions.
        signs: (K,) s of each member.
    """
    weighted = signs[:, None, None] * off_data - log_densities
    integral = weighted.logsumexp(dim=-1) - math.log(weighted.shape[-1])  # (K, B)
    return (integral - signs[:, None] * recorded).mean(1)
