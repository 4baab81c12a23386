"""CARL: TD3+BC on rewards that are replaced by a penalty where the cost critic says that the limit will be broken.

Paper: Constraint-Aware Reward Relabeling for Offline Safe Reinforcement Learning, 2025 (submission to ICLR 2026),
equation 5 and algorithm 1 with M = K = 1: one step of the cost critic, one of the reward critic, for each batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from saferl.agents.td3_bc import ACTOR_REWARD, COST_TWINS, TD3BC, TD3BCConfig, critic_loss, policy_loss
from saferl.offline_data.batch import Batch


@dataclass(frozen=True, kw_only=True)
class CARLConfig(TD3BCConfig):
    """Settings of CARL: those of TD3+BC, it adds none."""


class CARL(TD3BC):
    """A wrapper that changes nothing of TD3+BC but the rewards its critic learns from.

    The constraint is for every state: Q_c(s, pi(s)) <= kappa wherever the policy may be, not for the start alone. That
    is stricter than the limit on an episode early on, and late in an episode it leaves the policy free to spend kappa
    whatever it has spent before.
    """

    largest_reward: Tensor

    def __init__(self, config: CARLConfig, obs_dim: int, act_dim: int, device: torch.device | str = "cpu") -> None:
        super().__init__(config, obs_dim, act_dim, device)
        self.register_buffer("largest_reward", torch.zeros((), device=self.device))
        self.threshold = config.threshold

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the critics on each part of the batch, then one of the actor on the last."""
        for part in self.parts(batch):
            q = self.q(part)
            unsafe = self.unsafe(q)
            rewards = self.relabelled(part.rewards, unsafe)
            loss_of_critics = critic_loss(q, self.critic_targets(part, rewards))
            self.step("critics", loss_of_critics)
        actions = self.act(part.observations)
        values = self.critics(torch.cat([part.observations, actions], dim=1), ACTOR_REWARD, frozen=True)[0]
        loss_of_policy = policy_loss(values, actions, part.actions, self.config.value_weight)
        self.step("actor", loss_of_policy)
        self.average_targets()
        return {
            "critics/loss": loss_of_critics.detach(),
            "critics/reward_q": values.detach().mean(),
            "critics/cost_q": q[COST_TWINS].detach().amax(0).mean(),
            "critics/relabelled_share": unsafe.float().mean(),
            "policy/loss": loss_of_policy.detach(),
        }

    def unsafe(self, q: Tensor) -> Tensor:
        """Where (B,) the greater Q_c of the recorded actions exceeds kappa; q (4, B), as it is before this step."""
        return q[COST_TWINS].detach().amax(0) > self.threshold

    @torch.no_grad()
    def relabelled(self, rewards: Tensor, unsafe: Tensor) -> Tensor:
        """The rewards (B,), -R_max where ``unsafe`` (B,); R_max is the greatest |reward| seen so far.

        The paper's R_max is the data's greatest reward. Where all rewards are negative that would reward what is
        unsafe; with the modulus no recorded reward is below the penalty.
        """
        self.largest_reward.copy_(torch.maximum(self.largest_reward, rewards.abs().max()))
        return torch.where(unsafe, -self.largest_reward, rewards)
