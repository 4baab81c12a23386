"""What IQL-Lag and CAPS share: critics that learn from recorded actions alone, and policies cloned with weights.

Paper: Kostrikov et al., Offline Reinforcement Learning with Implicit Q-Learning, ICLR 2022.
"""

import copy
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saferl.agents.agent import Agent
from saferl.agents.bellman import bellman_target, ends
from saferl.agents.feasibility import cosine_rate
from saferl.agents.settings import ConstrainedConfig, check_at_least, check_positive
from saferl.nn.averaging import average_into
from saferl.nn.mlp import MLP, EnsembleMLP
from saferl.offline_data.batch import Batch

REWARD, COST = 0, 1  # members of the value ensemble, rows of residuals
REWARD_TWINS, COST_TWINS = slice(0, 2), slice(2, 4)  # members of the critic ensemble
LOG_STD_LIMITS = (-5.0, 2.0)


@dataclass(frozen=True, kw_only=True)
class ImplicitConfig(ConstrainedConfig):
    """Settings of IQL-Lag and CAPS."""

    actor_lr: float = 3e-4
    critic_lr: float = 3e-4
    lr_decay: int = 100_000  # updates of the cosine decay of the actor's rate to 0: those of the run; 0: constant
    expectile: float = 0.7  # of the reward's value
    temperature: float = 3.0  # beta
    weight_clip: float = 100.0  # greatest weight of a recorded action

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "actor_lr", "critic_lr", "temperature", "weight_clip")
        check_at_least(self, 0, "lr_decay")
        check_expectile(self, "expectile")


def check_expectile(config: ImplicitConfig, key: str) -> None:
    """Raise ValueError unless it is in (0, 1)."""
    if not 0 < getattr(config, key) < 1:
        raise ValueError(f"agent.{key} must be in (0, 1); got {getattr(config, key)}.")


def advantage_weights(advantages: Tensor, temperature: float, clip: float) -> Tensor:
    """min(exp(beta A), clip), of any shape."""
    return (temperature * advantages).exp().clamp(max=clip)


class GaussianHeads(nn.Module):
    """K policies on one trunk: a ~ N(tanh(mean_k(s)), diag(std_k^2)), std_k the same in all states.

    The tanh bounds the mean, not the density: the likeliest action is the one that acts, also at the edge of the box.

    Args:
        obs_dim, act_dim: sizes of an observation and an action.
        heads: K.
        hidden: width of the two layers.
        dtype: precision of the products.
    """

    def __init__(self, obs_dim: int, act_dim: int, heads: int, hidden: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.shape = (heads, act_dim)
        self.trunk = MLP(obs_dim, heads * act_dim, (hidden, hidden), dtype)
        self.log_std = nn.Parameter(torch.zeros(self.shape))

    def forward(self, observations: Tensor) -> Tensor:
        """Each head's action (B, K, act_dim) for observations (B, obs_dim)."""
        return self.trunk(observations).tanh().unflatten(1, self.shape)

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Log-density (B, K) of actions (B, act_dim) under each head."""
        log_std = self.log_std.clamp(*LOG_STD_LIMITS)
        errors = (actions.unsqueeze(1) - self(observations)) * (-log_std).exp()  # (B, K, act_dim)
        return -(0.5 * errors.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)


class ImplicitAgent(Agent, ABC):
    """V_r and V_c are regressed on the target copies' Q, Q on rewards or costs plus gamma V: no action is invented.

    Networks: ``values`` (V_r, V_c), ``critics`` (twins of Q_r, twins of Q_c) with a target copy, ``actor``. Both kinds
    are pessimistic: the least Q_r and the greatest Q_c of the twins count. What V is in between, and how much each
    recorded action weighs for each head of the actor, a subclass says.
    """

    updates: Tensor

    def __init__(
        self,
        config: ImplicitConfig,
        obs_dim: int,
        act_dim: int,
        device: torch.device | str = "cpu",
        heads: int = 1,
    ) -> None:
        super().__init__(config, obs_dim, act_dim, device)
        self.config: ImplicitConfig = config
        widths = (config.hidden, config.hidden)
        self.values = EnsembleMLP(2, obs_dim, widths, config.dtype)
        self.critics = EnsembleMLP(4, obs_dim + act_dim, widths, config.dtype)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.actor = GaussianHeads(obs_dim, act_dim, heads, config.hidden, config.dtype)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.to(self.device)
        critic_parameters = [*self.values.parameters(), *self.critics.parameters()]
        rate = torch.zeros((), dtype=torch.float64, device=self.device)  # set before every step
        on_gpu = self.device.type == "cuda"
        self.optimizers = {
            "critics": torch.optim.Adam(critic_parameters, lr=config.critic_lr, fused=True),
            "actor": torch.optim.Adam(self.actor.parameters(), lr=rate, fused=True, capturable=on_gpu),
        }

    def constrain(self, values: Tensor, batch: Batch) -> dict[str, Tensor]:
        """What a multiplier learns from V_r and V_c (2, B) of the batch; its metrics. Without one, nothing."""
        return {}

    @abstractmethod
    def policy_weights(self, residuals: Tensor) -> Tensor:
        """Weight (B, K) of each recorded action for each head, from residuals Q - V (2, B) of reward and cost."""

    @abstractmethod
    def value_losses(self, residuals: Tensor, weights: Tensor) -> Tensor:
        """Losses (2,) of V_r and V_c, whose gradient passes through residuals Q - V (2, B); weights (B, K)."""

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step of V and Q, then one of the actor on the advantages from before that step."""
        pairs = torch.cat([batch.observations, batch.actions], dim=1)
        targets = self.critic_targets(batch)
        values = self.values(batch.observations)  # (2, B)
        constraint = self.constrain(values.detach(), batch)
        residuals = self.target_q(pairs) - values
        weights = self.policy_weights(residuals.detach())
        value_losses = self.value_losses(residuals, weights)
        q = self.critics(pairs).unflatten(0, (2, 2))  # (kind, twin, B)
        critic_losses = (q - targets.unsqueeze(1)).square().mean(2).sum(1)  # (2,)
        self.step("critics", value_losses.sum() + critic_losses.sum())
        average_into(self.target_critics, self.critics, self.config.target_rate)

        for group in self.optimizers["actor"].param_groups:
            group["lr"].copy_(cosine_rate(self.config.actor_lr, self.updates, self.config.lr_decay))
        actor_loss = self.actor_loss(batch, weights)
        self.step("actor", actor_loss)
        self.updates += 1
        return {
            "values/reward_loss": value_losses[REWARD].detach(),
            "values/cost_loss": value_losses[COST].detach(),
            "critics/reward_loss": critic_losses[REWARD].detach(),
            "critics/cost_loss": critic_losses[COST].detach(),
            "critics/reward_q": q[REWARD].detach().mean(),
            "critics/cost_q": q[COST].detach().mean(),
            "actor/loss": actor_loss.detach(),
            "actor/mean_weight": weights.mean(),
            **constraint,
        }

    @torch.no_grad()
    def target_q(self, pairs: Tensor) -> Tensor:
        """The target copies' least Q_r and greatest Q_c, (2, B), for rows [s, a] (B, obs_dim + act_dim)."""
        q = self.target_critics(pairs)
        return torch.stack([q[REWARD_TWINS].amin(0), q[COST_TWINS].amax(0)])

    @torch.no_grad()
    def critic_targets(self, batch: Batch) -> Tensor:
        """Bellman targets (2, B) of Q_r and Q_c."""
        discount, following = self.config.discount, self.values(batch.next_observations)
        reward_ends, cost_ends = ends(batch)
        reward = bellman_target(batch.rewards, reward_ends, following[REWARD], discount)
        return torch.stack([reward, bellman_target(batch.costs, cost_ends, following[COST], discount)])

    def actor_loss(self, batch: Batch, weights: Tensor) -> Tensor:
        """- E[w_k ln pi_k(a | s)] (), mean over the heads; weights (B, K)."""
        return -(weights * self.actor.log_prob(batch.observations, batch.actions)).mean()
