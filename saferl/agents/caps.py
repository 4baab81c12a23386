"""CAPS: several policies between reward and cost, trained once; the one that acts is chosen by the cost still allowed.

Paper: Chemingui et al., Constraint-Adaptive Policy Switching for Offline Safe Reinforcement Learning, AAAI 2025; here
in its form on implicit Q-learning.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saferl.agents.feasibility import expectile_loss, reversed_expectile_loss
from saferl.agents.implicit import (
    COST,
    COST_TWINS,
    REWARD,
    REWARD_TWINS,
    ImplicitAgent,
    ImplicitConfig,
    advantage_weights,
    check_expectile,
)
from saferl.agents.settings import LimitUse, check_at_least, check_positive
from saferl.policy import Policy, TorchPolicy


@dataclass(frozen=True, kw_only=True)
class CAPSConfig(ImplicitConfig):
    """Settings of CAPS; the defaults are the paper's for DSRL, where MetaDrive has expectiles of 0.5."""

    hidden: int = 512
    heads: int = 2  # K; the paper also has 4 and 8
    cost_expectile: float = 0.7  # of V_c: the greater, the cheaper the behaviour that V_c takes for granted
    cost_temperature: float = 3.0

    @property
    def limit_use(self) -> LimitUse:
        """Where the cost limit enters: the policy when it acts."""
        return "acting"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 2, "heads")
        check_positive(self, "cost_temperature")
        check_expectile(self, "cost_expectile")


class CAPS(ImplicitAgent):
    """Head 0 imitates with the weights e^(beta A_r) of IQL, head K - 1 with e^(beta A_c), A_c = V_c - Q_c.

    Head k between them has e^(beta A_r) + 2 k / (K - 1) e^(beta A_c). V_c is an expectile towards cheap actions:
    Q_c(s, a) is what a costs if cheap actions follow. So a head is allowed where the limit can still be kept after its
    action, not only if it goes on by itself, and the question is asked again at every step.
    """

    def __init__(self, config: CAPSConfig, obs_dim: int, act_dim: int, device: torch.device | str = "cpu") -> None:
        super().__init__(config, obs_dim, act_dim, device, config.heads)
        self.config: CAPSConfig = config
        self.shares = head_shares(config.heads).to(self.device)

    def policy_weights(self, residuals: Tensor) -> Tensor:
        """Weight (B, K) of each recorded action for each head, from residuals Q - V (2, B)."""
        config = self.config
        gain = advantage_weights(residuals[REWARD], config.temperature, config.weight_clip)
        saving = advantage_weights(-residuals[COST], config.cost_temperature, config.weight_clip)
        return torch.stack([gain, saving], dim=1) @ self.shares

    def value_losses(self, residuals: Tensor, weights: Tensor) -> Tensor:
        """Losses (2,) for residuals Q - V (2, B): V_r leans towards good actions, V_c towards cheap ones."""
        reward = expectile_loss(residuals[REWARD], self.config.expectile)
        return torch.stack([reward, reversed_expectile_loss(residuals[COST], self.config.cost_expectile)])

    def act(self, observations: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Actions (B, act_dim) for observations (B, obs_dim) with the whole limit left; draws no noise."""
        whole = torch.full((len(observations),), self.config.threshold, device=self.device)
        return self.actions_within(observations, whole)

    def actions_within(self, observations: Tensor, thresholds: Tensor) -> Tensor:
        """The head's action (B, act_dim) with the greatest Q_r of those with Q_c < ``thresholds`` (B,), else least Q_c.

        ``observations``: (B, obs_dim).
        """
        actions = self.actor(observations)  # (B, K, act_dim)
        q = self.target_critics.over_candidates(observations, actions)  # (4, B, K)
        reward, cost = q[REWARD_TWINS].amin(0), q[COST_TWINS].amax(0)
        allowed = cost < thresholds.unsqueeze(1)
        best = torch.where(allowed, reward, -torch.inf).argmax(1)
        head = torch.where(allowed.any(1), best, cost.argmin(1))
        return actions[torch.arange(len(head), device=head.device), head]

    def policy(self, low: Any = None, high: Any = None, cost_limit: float | None = None) -> Policy:
        """The agent as a policy that spends ``cost_limit``; bounds as in ``Agent.policy``.

        Raises: ValueError if neither the argument nor the settings have a limit, or it is negative.
        """
        return BudgetPolicy(self, low, high, self.config.cost_limit if cost_limit is None else cost_limit)


def head_shares(heads: int) -> Tensor:
    """(2, K): how much of e^(beta A_r) and of e^(beta A_c) is in the weight of each head."""
    reward, cost = torch.ones(heads), 2 * torch.arange(heads) / (heads - 1)
    reward[-1], cost[-1] = 0, 1
    return torch.stack([reward, cost])


class BudgetPolicy(TorchPolicy):
    """CAPS with the cost that each of B episodes has spent, and the steps it has made.

    The threshold of Q_c at step t is kappa_t = [L - spent]_+ (1 - gamma^(T - t)) / ((1 - gamma) (T - t)): what is left,
    spread evenly over the steps that are left, as a discounted sum.

    Args:
        agent: the heads and their critics.
        low, high: as in ``TorchPolicy``.
        cost_limit: L, of an episode's undiscounted cost.
    """

    def __init__(self, agent: CAPS, low: Any, high: Any, cost_limit: float | None) -> None:
        super().__init__(self._act_within, agent.device, low, high)
        length = agent.config.episode_length
        if cost_limit is None or length is None:
            raise ValueError("agent.cost_limit and agent.episode_length have no value; CAPS needs both to act.")
        if not cost_limit >= 0:
            raise ValueError(f"cost_limit must be >= 0; got {cost_limit}.")
        self._agent, self._limit, self._length = agent, cost_limit, length
        self._start(0)

    def thresholds(self) -> NDArray[np.float64]:
        """kappa_t (B,); behind the end of an episode, that of its last step."""
        discount = self._agent.config.discount
        ahead = np.maximum(self._length - self._steps, 1)
        return np.maximum(self._limit - self._spent, 0) * (1 - discount**ahead) / (1 - discount) / ahead

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Actions (B, act_dim) for observations (B, obs_dim); another B begins B new episodes."""
        if len(observations) != len(self._spent):
            self._start(len(observations))
        return super().act(observations)

    def observe(self, rewards: NDArray[np.float64], costs: NDArray[np.float64]) -> None:
        """Spend ``costs`` (B,) of the step that was just made; the rewards have no influence."""
        self._spent += costs
        self._steps += 1

    def reset(self, mask: NDArray[np.bool_] | None = None, seed: int | None = None) -> None:
        """Give the episodes where ``mask`` (B,) is true (all if None) their whole limit again."""
        super().reset(mask, seed)
        if mask is None:
            self._start(0)
        else:
            self._spent[mask], self._steps[mask] = 0, 0

    def _start(self, count: int) -> None:
        self._spent, self._steps = np.zeros(count), np.zeros(count, np.int64)

    def _act_within(self, observations: Tensor, generator: torch.Generator) -> Tensor:
        thresholds = torch.as_tensor(self.thresholds(), dtype=torch.float32, device=observations.device)
        return self._agent.actions_within(observations, thresholds)
