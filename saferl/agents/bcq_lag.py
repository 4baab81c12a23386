"""BCQ-Lag: the best of a few actions that the data make likely, slightly perturbed, under a PID multiplier.

Papers: Fujimoto et al., Off-Policy Deep Reinforcement Learning without Exploration, ICML 2019 (BCQ); Stooke et al.,
Responsive Safety in Reinforcement Learning by PID Lagrangian Methods, ICML 2020 (the multiplier).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saferl.agents.double_critics import DoubleCriticAgent, DoubleCriticConfig
from saferl.agents.guarding import GuardedAgent, GuardedConfig
from saferl.agents.settings import check_at_least
from saferl.nn.mlp import MLP
from saferl.offline_data.batch import Batch


@dataclass(frozen=True, kw_only=True)
class BCQLagConfig(DoubleCriticConfig, GuardedConfig):
    """Settings of BCQ-Lag; the defaults are those usual for DSRL."""

    perturbation: float = 0.05  # phi: how far the actor may move an action of the VAE

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 0, "perturbation")
        if self.guardian is not None and self.form != "corrected":
            raise ValueError(f"agent.guardian={self.guardian} needs agent.form=corrected: published takes one draw.")


class BCQLag(DoubleCriticAgent, GuardedAgent):
    """a = clip(g + phi tanh xi(s, g)), g drawn by the VAE; xi climbs E[min Q_r - m (max Q_c - kappa)].

    The policy takes the best of N such actions by min Q_r - m max Q_c, as BCQ does by Q, and so do the targets: the
    cost critic values the action that the policy would pick, not the costliest one. The published form takes a single
    draw: no choice, and a new action at every step. See ``DoubleCriticAgent`` for what else differs. Guarded, neither
    takes a candidate that the data do not support, but the best supported one where there is no other.
    """

    config: BCQLagConfig

    def __init__(self, config: BCQLagConfig, obs_dim: int, act_dim: int, device: torch.device | str = "cpu") -> None:
        actor = MLP(obs_dim + act_dim, act_dim, (config.hidden, config.hidden), config.dtype)
        super().__init__(config, obs_dim, act_dim, device, actor)
        self.make_guard()
        self.to(self.device)

    def candidates(
        self, actor: nn.Module, observations: Tensor, count: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """Perturbed draws (B, count, act_dim) for observations (B, obs_dim); the gradient reaches ``actor`` alone."""
        assert isinstance(actor, MLP)
        with torch.no_grad():
            likely = self.vae.draw(observations, count, generator).tanh()
        moves = self.config.perturbation * actor.over_candidates(observations, likely).tanh()
        return (likely + moves).clamp(-1, 1)

    def actor_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """-E[min Q_r - m (max Q_c - kappa)] () at one perturbed draw for each observation; metrics."""
        value, metrics = self.lagrangian(batch, self.candidates(self.actor, batch.observations, 1)[:, 0])
        return -value, metrics

    def choice(self, observations: Tensor, actions: Tensor, values: Tensor) -> Tensor:
        """The greatest value among the candidates that the guard allows, (B,)."""
        if self.guard is not None:
            values = values.masked_fill(~self.guard.allowed(observations, actions), -torch.inf)
        return values.argmax(1)

    def published_action(self, observations: Tensor, generator: torch.Generator | None) -> Tensor:
        """One draw (B, act_dim) for observations (B, obs_dim)."""
        return self.candidates(self.actor, observations, 1, generator)[:, 0]
