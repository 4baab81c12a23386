"""IQL-Lag: implicit Q-learning of the reward, less a PID multiplier times the cost.

Papers: Kostrikov et al., Offline Reinforcement Learning with Implicit Q-Learning, ICLR 2022; Stooke et al., Responsive
Safety in Reinforcement Learning by PID Lagrangian Methods, ICML 2020 (the multiplier). Their coupling is ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from saferl.agents.implicit import COST, REWARD, ImplicitAgent, ImplicitConfig, advantage_weights
from saferl.agents.settings import check_at_least
from saferl.agents.start_mean import StartMean, starts
from saferl.nn.multipliers import PIDMultiplier
from saferl.offline_data.batch import Batch
from saferl.offline_data.dataset import OfflineDataset


@dataclass(frozen=True, kw_only=True)
class IQLLagConfig(ImplicitConfig):
    """Settings of IQL-Lag; those of IQL are its paper's."""

    batch_size: int = 256
    proportional: float = 0.1  # gains of the multiplier
    integral: float = 1e-4  # the critics follow the policy slowly; a faster multiplier runs away meanwhile
    derivative: float = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 0, "proportional", "integral", "derivative")


class IQLLag(ImplicitAgent):
    """With A = (Q_r - V_r) - m (Q_c - V_c), a recorded action weighs w = min(e^(beta A), 100) for the policy.

    V_r is IQL's: an expectile, in which actions with A >= 0 count ``expectile`` and the others the rest. V_c is the
    policy's own cost: the mean of Q_c under the policy's weights. A second expectile in its place, high for cheap
    actions as for good ones, would be the cost of the cheapest behaviour in the data, whatever the policy does; the
    multiplier, which follows V_c at the starts of episodes less kappa, would then stay at 0. Nor would an expectile
    towards dear actions do: it bounds the policy's cost, but stays above the limit however safe the policy becomes.
    Pessimism is in the twins alone: the greater Q_c counts.
    """

    def __init__(self, config: IQLLagConfig, obs_dim: int, act_dim: int, device: torch.device | str = "cpu") -> None:
        super().__init__(config, obs_dim, act_dim, device)
        self.multiplier = PIDMultiplier(config.proportional, config.integral, config.derivative).to(self.device)
        self.start_cost = StartMean().to(self.device)
        self.threshold = config.threshold

    def training_rows(self, dataset: OfflineDataset) -> tuple[OfflineDataset, Mapping[str, ArrayLike]]:
        """All rows, and which of them begin an episode."""
        return dataset, {"starts": starts(dataset)}

    def constrain(self, values: Tensor, batch: Batch) -> dict[str, Tensor]:
        """One step of the multiplier on V_c of ``values`` (2, B), where episodes begin, less kappa."""
        cost = self.start_cost.update(values[COST], batch.starts)
        multiplier = self.multiplier.update(cost - self.threshold)
        return {"multiplier/value": multiplier, "multiplier/start_cost": cost}

    def advantages(self, residuals: Tensor) -> Tensor:
        """A (B,) from residuals Q - V (2, B)."""
        return residuals[REWARD] - self.multiplier.value * residuals[COST]

    def policy_weights(self, residuals: Tensor) -> Tensor:
        """w (B, 1) from residuals Q - V (2, B)."""
        weights = advantage_weights(self.advantages(residuals), self.config.temperature, self.config.weight_clip)
        return weights.unsqueeze(1)

    def value_losses(self, residuals: Tensor, weights: Tensor) -> Tensor:
        """Losses (2,) for residuals Q - V (2, B): |expectile - 1[A < 0]| for V_r, w (B, 1) over its mean for V_c."""
        expectile = self.config.expectile
        share = torch.where(self.advantages(residuals.detach()) < 0, 1 - expectile, expectile)
        own = weights[:, 0] / weights.mean()
        return (torch.stack([share, own]) * residuals.square()).mean(1)

    def act(self, observations: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The likeliest actions (B, act_dim) in [-1, 1] for observations (B, obs_dim); draws no noise."""
        return self.actor(observations)[:, 0]
