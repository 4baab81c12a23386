"""TD3+BC: the learner that CARL and O3SRL put their constraint on, with a cost critic beside the reward critic.

Paper: Fujimoto and Gu, A Minimalist Approach to Offline Reinforcement Learning, NeurIPS 2021. The observations are not
standardised, as in all our agents; the paper standardises them.
"""

import copy
from abc import ABC
from dataclasses import dataclass

import torch
from torch import Tensor

from saferl.agents.agent import Agent
from saferl.agents.bellman import bellman_target, ends
from saferl.agents.settings import ConstrainedConfig, check_at_least, check_positive
from saferl.nn.averaging import average_into
from saferl.nn.mlp import MLP, EnsembleMLP
from saferl.offline_data.batch import Batch

REWARD_TWINS, COST_TWINS = slice(0, 2), slice(2, 4)  # members of the critic ensemble
ACTOR_REWARD = slice(1, 2)  # the twin that the actor climbs; TD3 takes one of the two, and either will do


@dataclass(frozen=True, kw_only=True)
class TD3BCConfig(ConstrainedConfig):
    """Settings of TD3+BC; the defaults are its paper's."""

    batch_size: int = 512  # rows per update; each of ``policy_delay`` parts of them trains the critics once
    actor_lr: float = 3e-4
    critic_lr: float = 3e-4
    policy_delay: int = 2  # steps of the critics for one of the actor and of the target copies
    value_weight: float = 2.5  # alpha, of the values against imitation
    target_noise: float = 0.2  # standard deviation of the noise on the action in the reward's target
    target_noise_clip: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 1, "policy_delay")
        check_positive(self, "actor_lr", "critic_lr", "value_weight")
        check_at_least(self, 0, "target_noise", "target_noise_clip")
        if self.batch_size % self.policy_delay:
            raise ValueError(
                f"agent.batch_size must be a multiple of agent.policy_delay={self.policy_delay}; got {self.batch_size}."
            )


class TD3BC(Agent, ABC):
    """Networks and equations of TD3+BC; what the critics are taught and what the actor climbs, a subclass says.

    ``critics`` holds the twins of Q_r, which values the target policy with smoothing noise, and the twins of Q_c, which
    values the target policy as it acts, without noise. The pessimistic twin counts: the least Q_r, the greatest Q_c.
    """

    def __init__(self, config: TD3BCConfig, obs_dim: int, act_dim: int, device: torch.device | str = "cpu") -> None:
        super().__init__(config, obs_dim, act_dim, device)
        widths = (config.hidden, config.hidden)
        self.actor = MLP(obs_dim, act_dim, widths, config.dtype)
        self.critics = EnsembleMLP(4, obs_dim + act_dim, widths, config.dtype)
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.to(self.device)
        self.optimizers = {
            "actor": torch.optim.Adam(self.actor.parameters(), lr=config.actor_lr, fused=True),
            "critics": torch.optim.Adam(self.critics.parameters(), lr=config.critic_lr, fused=True),
        }

    def parts(self, batch: Batch) -> list[Batch]:
        """The batch in ``policy_delay`` equal parts, one for each step of the critics."""
        rows = self.config.batch_size // self.config.policy_delay
        fields = {key: value.split(rows) for key, value in vars(batch).items() if value is not None}
        return [
            Batch(**{key: values[part] for key, values in fields.items()}) for part in range(self.config.policy_delay)
        ]

    def q(self, batch: Batch) -> Tensor:
        """Q (4, B) of the recorded actions, twins of the reward and of the cost."""
        return self.critics(torch.cat([batch.observations, batch.actions], dim=1))

    @torch.no_grad()
    def critic_targets(self, batch: Batch, rewards: Tensor) -> Tensor:
        """Targets (2, B): rewards (B,) + gamma (1 - d) min Q_r'(s', a~'), costs + gamma (1 - d) max Q_c'(s', a').

        a' is the target policy's action and a~' = clip(a' + clip(noise)).
        """
        config, following = self.config, batch.next_observations
        actions = self.target_actor(following).tanh()
        noise = (config.target_noise * torch.randn_like(actions)).clamp(
            -config.target_noise_clip, config.target_noise_clip
        )
        smoothed = torch.cat([following, (actions + noise).clamp(-1, 1)], dim=1)
        next_reward = self.target_critics(smoothed, REWARD_TWINS).amin(0)
        next_cost = self.target_critics(torch.cat([following, actions], dim=1), COST_TWINS).amax(0)
        reward_ends, cost_ends = ends(batch)
        return torch.stack(
            [
                bellman_target(rewards, reward_ends, next_reward, config.discount),
                bellman_target(batch.costs, cost_ends, next_cost, config.discount),
            ]
        )

    def average_targets(self) -> None:
        """Let the target copies follow."""
        average_into(self.target_critics, self.critics, self.config.target_rate)
        average_into(self.target_actor, self.actor, self.config.target_rate)

    def act(self, observations: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Actions (B, act_dim) in [-1, 1] for observations (B, obs_dim); draws no noise."""
        return self.actor(observations).tanh()


def critic_loss(q: Tensor, targets: Tensor) -> Tensor:
    """Sum over the four members of the mean squared error; q (4, B), targets (2, B)."""
    return (q.unflatten(0, (2, 2)) - targets.unsqueeze(1)).square().mean(-1).sum()


def policy_loss(values: Tensor, actions: Tensor, recorded: Tensor, value_weight: float) -> Tensor:
    """-alpha mean(Q) / mean|Q| + mean (pi(s) - a)^2, no gradient through mean|Q|.

    Args:
        values: (B,) Q(s, pi(s)).
        actions, recorded: (B, act_dim), pi(s) and a.
        value_weight: alpha.
    """
    scale = values.detach().abs().mean().clamp(min=1e-6)  # 0 where all rewards are
    return (actions - recorded).square().mean() - value_weight * values.mean() / scale
