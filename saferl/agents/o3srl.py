"""O3SRL: TD3+BC on r - lambda c, where a bandit plays the multiplier lambda against the policy.

Paper: Chemingui et al., Online Optimization for Offline Safe Reinforcement Learning, NeurIPS 2025: the game
min over lambda, max over pi of V_r - lambda (V_c - kappa), EXP3 on a grid of multipliers, a few steps of an offline
learner for each draw, and the last policy in place of the mean of all.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from saferl.agents.settings import check_at_least, check_positive
from saferl.agents.start_mean import StartMean, starts
from saferl.agents.td3_bc import TD3BC, TD3BCConfig, critic_loss, policy_loss
from saferl.nn.exp3 import EXP3
from saferl.offline_data.batch import Batch
from saferl.offline_data.dataset import OfflineDataset

ACTOR_CRITICS = slice(1, 4)  # one of the twins of Q_r and both of Q_c, side by side in the ensemble


@dataclass(frozen=True, kw_only=True)
class O3SRLConfig(TD3BCConfig):
    """Settings of O3SRL."""

    arms: int = 5  # K, multipliers evenly from 0 to the greatest
    greatest_multiplier: float = 5.0
    arm_updates: int = 5  # updates for which a multiplier stays; the paper's M = 10 steps of the critics

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 2, "arms")
        check_at_least(self, 1, "arm_updates")
        check_positive(self, "greatest_multiplier")


class O3SRL(TD3BC):
    """Q is linear in the reward, so Q_r and Q_c are learned apart and Q of r - lambda c is Q_r - lambda Q_c.

    A new multiplier then counts at once, where a critic of r - lambda c would first have to be taught anew.
    """

    multipliers: Tensor
    updates: Tensor

    def __init__(self, config: O3SRLConfig, obs_dim: int, act_dim: int, device: torch.device | str = "cpu") -> None:
        super().__init__(config, obs_dim, act_dim, device)
        self.bandit = EXP3(config.arms)
        self.start_cost = StartMean()
        grid = torch.linspace(0, config.greatest_multiplier, config.arms)
        self.register_buffer("multipliers", grid, persistent=False)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.to(self.device)
        self.threshold = config.threshold

    def training_rows(self, dataset: OfflineDataset) -> tuple[OfflineDataset, Mapping[str, ArrayLike]]:
        """All rows, and which of them begin an episode."""
        return dataset, {"starts": starts(dataset)}

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the critics on each part of the batch, one of the actor on the last, then the bandit's."""
        for part in self.parts(batch):
            loss_of_critics = critic_loss(self.q(part), self.critic_targets(part, part.rewards))
            self.step("critics", loss_of_critics)
        multiplier = self.multipliers[self.bandit.arm]
        actions = self.act(part.observations)
        q = self.critics(torch.cat([part.observations, actions], dim=1), ACTOR_CRITICS, frozen=True)  # (3, B)
        reward_q, cost_q = q[0], q[1:].amax(0)
        loss_of_policy = policy_loss(reward_q - multiplier * cost_q, actions, part.actions, self.config.value_weight)
        self.step("actor", loss_of_policy)
        self.average_targets()
        cost = self.start_cost.update(cost_q, part.starts)
        self.updates += 1
        self.bandit.update(self.multiplier_loss(multiplier, cost), self.updates % self.config.arm_updates == 0)
        return {
            "critics/loss": loss_of_critics.detach(),
            "critics/reward_q": reward_q.detach().mean(),
            "critics/cost_q": cost_q.detach().mean(),
            "policy/loss": loss_of_policy.detach(),
            "multiplier/played": multiplier,
            "multiplier/mean": self.bandit.probabilities() @ self.multipliers,
            "multiplier/start_cost": cost,
        }

    def multiplier_loss(self, multiplier: Tensor, cost: Tensor) -> Tensor:
        """The bandit's loss () in [0, 1] of playing ``multiplier`` () when episodes cost ``cost`` () = V_c.

        The multiplier's player loses V_r - lambda (V_c - kappa). V_r is the same for all arms, so it is left out, which
        leaves the regret as it is; and the excess V_c - kappa is divided by max(V_c, kappa): that brings it to [-1, 1]
        without a bound on the values. With the multiplier's share of the greatest: (1 - share * excess) / 2.
        """
        cost = cost.clamp(min=0)  # costs are >= 0, the critics need not be
        excess = (cost - self.threshold) / cost.clamp(min=max(self.threshold, 1e-6))
        return (1 - multiplier / self.config.greatest_multiplier * excess) / 2
