"""BEAR-Lag: a policy whose samples resemble the data's in maximum mean discrepancy, under a PID multiplier.

Papers: Kumar et al., Stabilizing Off-Policy Q-Learning via Bootstrapping Error Reduction, NeurIPS 2019 (BEAR); Stooke
et al., Responsive Safety in Reinforcement Learning by PID Lagrangian Methods, ICML 2020 (the multiplier).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saferl.agents.double_critics import DoubleCriticAgent, DoubleCriticConfig
from saferl.agents.settings import check_at_least, check_positive
from saferl.nn.gaussian import SquashedGaussian
from saferl.nn.multipliers import LogMultiplier
from saferl.offline_data.batch import Batch


@dataclass(frozen=True, kw_only=True)
class BEARLagConfig(DoubleCriticConfig):
    """Settings of BEAR-Lag; the defaults are those usual for DSRL."""

    kernel_width: float = 50.0  # sigma of exp(-|x - y|^2 / (2 sigma)); the reference code does not square it
    discrepancy: float = 0.05  # epsilon: what the multiplier e^alpha holds the discrepancy to
    discrepancy_samples: int = 10
    alpha_lr: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "kernel_width", "alpha_lr")
        check_at_least(self, 0, "discrepancy")
        check_at_least(self, 1, "discrepancy_samples")


def mean_discrepancy(first: Tensor, second: Tensor, width: float) -> Tensor:
    """sqrt(MMD^2 + 1e-6) (B,) between samples (B, n, d) and (B, m, d) with the kernel exp(-|x - y|^2 / (2 width))."""

    def likeness(x: Tensor, y: Tensor) -> Tensor:
        distance = (x.unsqueeze(2) - y.unsqueeze(1)).square().sum(3)  # (B, n, m)
        return (-distance / (2 * width)).exp().mean(dim=(1, 2))

    squared = likeness(first, first) + likeness(second, second) - 2 * likeness(first, second)
    return (squared + 1e-6).sqrt()


class BEARLag(DoubleCriticAgent):
    """The actor minimises -E[min Q_r - m (max Q_c - kappa)] + e^alpha (E[MMD] - epsilon); alpha climbs the last term.

    The discrepancy is between draws of the VAE and of the policy, both before the tanh. The policy takes the best of N
    draws by min Q_r - m max Q_c, as BEAR does by Q; the published form takes tanh(mean). See ``DoubleCriticAgent`` for
    what else differs.
    """

    config: BEARLagConfig

    def __init__(self, config: BEARLagConfig, obs_dim: int, act_dim: int, device: torch.device | str = "cpu") -> None:
        actor = SquashedGaussian(obs_dim, act_dim, (config.hidden, config.hidden), config.dtype)
        super().__init__(config, obs_dim, act_dim, device, actor)
        self.likeness = LogMultiplier(config.alpha_lr).to(self.device)

    def candidates(
        self, actor: nn.Module, observations: Tensor, count: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws (B, count, act_dim) of the actor's Gaussian for observations (B, obs_dim)."""
        assert isinstance(actor, SquashedGaussian)
        return actor.sample(observations, count, generator).actions

    def actor_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The actor's loss () and metrics; updates m and alpha on the way."""
        config, observations = self.config, batch.observations
        assert isinstance(self.actor, SquashedGaussian)
        drawn = self.actor.sample(observations, config.discrepancy_samples)
        value, metrics = self.lagrangian(batch, drawn.actions[:, 0])
        with torch.no_grad():
            likely = self.vae.draw(observations, config.discrepancy_samples)  # (B, n, act_dim)
        apart = mean_discrepancy(likely, drawn.raw, config.kernel_width).mean()
        weight = self.likeness.value
        self.likeness.update(apart.detach() - config.discrepancy)
        metrics |= {"policy/discrepancy": apart.detach(), "multiplier/likeness": weight}
        return weight * (apart - config.discrepancy) - value, metrics

    def published_action(self, observations: Tensor, generator: torch.Generator | None) -> Tensor:
        """tanh(mean) (B, act_dim) for observations (B, obs_dim)."""
        assert isinstance(self.actor, SquashedGaussian)
        return self.actor.mode(observations)
