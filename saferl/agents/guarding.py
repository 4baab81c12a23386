"""Guarded training: a guardian inside an agent, fitted to its data when the sampler is made, saved with its weights."""

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from saferl.agents.agent import Agent, BatchSource
from saferl.agents.settings import ConstrainedConfig
from saferl.guardians.fitting import episode_numbers, fit_guardian
from saferl.guardians.guardian import GuardianConfig
from saferl.guardians.networks import NETWORKS, NetworkGuardian, SupportNetwork
from saferl.offline_data.dataset import OfflineDataset
from saferl.offline_data.sampler import ActionScale


@dataclass(frozen=True, kw_only=True)
class GuardedConfig(ConstrainedConfig):
    """Settings of every agent that may be guarded."""

    guardian: str | None = None  # kind of the guardian that training and acting heed; None: unguarded
    guardian_alpha: float = 0.05  # share of the data that counts as outside

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.guardian is not None and self.guardian not in NETWORKS:
            raise ValueError(
                f"agent.guardian must be null, {', '.join(NETWORKS)}; got {self.guardian!r}. An update asks about "
                "hundreds or thousands of pairs, for which kinds that search the data (kde, knn) are too slow and what "
                "they keep too large for a checkpoint; use those at run time: python -m saferl.guard."
            )
        if not 0 < self.guardian_alpha < 1:
            raise ValueError(f"agent.guardian_alpha must be in (0, 1); got {self.guardian_alpha}.")


class Guard(nn.Module):
    """A support network and the worst value of a policy; both are an agent's buffers, so checkpoints keep them.

    Attributes:
        settings: of the guardian.
        network: untrained until ``fit``.
        worst_value: min(0, r_min) / (1 - gamma), the value of the data's least reward for ever, or of an early end.
    """

    worst_value: Tensor

    def __init__(self, config: GuardedConfig, obs_dim: int, act_dim: int) -> None:
        super().__init__()
        assert config.guardian is not None
        self.settings = GuardianConfig(kind=config.guardian, alpha=config.guardian_alpha)
        self._discount = config.discount
        with torch.random.fork_rng(devices=[]):  # what a guard draws must not change the agent's own numbers
            self.network: SupportNetwork = NETWORKS[config.guardian](obs_dim, act_dim, self.settings)
        self.network.requires_grad_(False)
        self.register_buffer("worst_value", torch.zeros(()))

    def fit(self, dataset: OfflineDataset, actions: Any, reward_scale: float, seed: int) -> None:
        """Fit to the data's observations with ``actions`` (N, act_dim) as the agent sees them, in [-1, 1]."""
        guardian = fit_guardian(
            dataset.observations,
            actions,
            self.settings,
            seed,
            next_observations=dataset.next_observations,
            episodes=episode_numbers(dataset.episode_lengths),
        )
        assert isinstance(guardian, NetworkGuardian)
        self.network.load_state_dict(guardian.network.state_dict())
        least = min(reward_scale * float(dataset.rewards.min()), reward_scale * float(dataset.rewards.max()))
        # Where every step earns something an episode that ends early is worth less than the least reward for ever.
        self.worst_value.fill_(min(0.0, least) / (1 - self._discount))

    def guarded_target(self, target: Tensor, inside: Tensor, ends: Tensor) -> Tensor:
        """Equation of guarded CQL: y where (s', a') is inside or nothing follows, else ``worst_value``; all (B,).

        No policy's value is below that constant, so no action whose target has it looks better than a supported one;
        and it is in the units of the data's rewards, so that it does not swamp the other rows' errors.
        """
        return torch.where(inside | (ends > 0), target, self.worst_value)

    def allowed(self, observations: Tensor, candidates: Tensor) -> Tensor:
        """Which candidates may be taken, (B, N) bool: those inside, where there is none the best supported one.

        Args:
            observations: (B, obs_dim).
            candidates: (B, N, act_dim).
        """
        scores = self.network.score(observations, candidates)  # (B, N)
        inside = scores >= self.network.threshold
        best = torch.zeros_like(inside).scatter_(1, scores.argmax(1, keepdim=True), True)
        return torch.where(inside.any(1, keepdim=True), inside, best)


class GuardedAgent(Agent):
    """An agent with a ``guard``, None where ``config.guardian`` is; a subclass says where it heeds it."""

    guard: Guard | None  # no value here: a module's attributes are looked up behind its class's

    def make_guard(self) -> None:
        """Add the guard that the settings ask for; a constructor calls this before it moves to its device."""
        self.guard = None if self.config.guardian is None else Guard(self.config, self.obs_dim, self.act_dim)

    def sampler(
        self,
        dataset: OfflineDataset,
        seed: int = 0,
        action_low: ArrayLike | None = None,
        action_high: ArrayLike | None = None,
        reward_scale: float = 1.0,
    ) -> BatchSource:
        """As of ``Agent``; first fits the guard. A checkpoint that is loaded afterwards replaces what was fitted."""
        if self.guard is not None:
            scale = ActionScale(action_low, action_high, dataset.act_dim)
            self.guard.fit(dataset, scale(dataset.actions), reward_scale, seed)
        return super().sampler(dataset, seed, action_low, action_high, reward_scale)
