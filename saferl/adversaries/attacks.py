"""Attacks as objects: perturbations for a batch of observations, and the attacked victim as a Policy.

    attacked = AttackedPolicy(victim, threat, GradientAttack(victim, threat, ascent, deviation))
    rollout(attacked, "point_robot", seeds)

An attack gives perturbations in normalised units; ``Threat.seen`` cuts them and makes observations of them.
"""

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saferl.adversaries.ascent import Ascent
from saferl.adversaries.objectives import Objective, Situation
from saferl.adversaries.threat import Threat
from saferl.adversaries.victim import Victim
from saferl.policy import FeedbackPolicy

Floats = NDArray[np.float32]


class Attack(Protocol):
    """Chooses what the victim is to see."""

    def perturbations(self, observations: Floats) -> Floats:
        """Perturbations (B, obs_dim) in normalised units for true observations (B, obs_dim)."""
        ...

    def reset(self, mask: NDArray[np.bool_] | None = None, seed: int | None = None) -> None:
        """New episodes where ``mask`` (B,) is true (all if None); ``seed`` restarts the noise."""
        ...


class RandomAttack:
    """s + U(-eps, eps)^d, or uniform over the l2 ball: what a sensor's noise of this size would do."""

    def __init__(self, threat: Threat) -> None:
        self._threat, self._generator = threat, torch.Generator()

    def perturbations(self, observations: Floats) -> Floats:
        """As ``Attack``."""
        return self._threat.random(len(observations), self._generator).cpu().numpy()

    def reset(self, mask: NDArray[np.bool_] | None = None, seed: int | None = None) -> None:
        """As ``Attack``."""
        if seed is not None:
            self._generator.manual_seed(seed)


class GradientAttack:
    """Climbs an objective anew for each batch of observations; nothing but the noise's stream survives a call.

    Args:
        victim: under attack.
        threat: the ball.
        ascent: how to climb.
        objective: what to climb.
        where: ``where(situation) -> (B,)``, the rows worth an attack; None: all (adaptive MAD chooses by Q_c).
    """

    def __init__(
        self,
        victim: Victim,
        threat: Threat,
        ascent: Ascent,
        objective: Objective,
        where: Callable[[Situation], Tensor] | None = None,
    ) -> None:
        self._victim, self._threat = victim, threat
        self._ascent, self._objective, self._where = ascent, objective, where
        self._generator = torch.Generator()

    def perturbations(self, observations: Floats) -> Floats:
        """As ``Attack``."""
        situation = situation_of(self._victim, self._threat, observations, self._generator)
        rows = None if self._where is None else self._where(situation)
        if rows is not None and not rows.any():
            return np.zeros_like(observations)
        deltas = self._ascent.best(self._objective, situation, self._generator)
        if rows is not None:
            deltas = deltas * rows[:, None]
        return deltas.cpu().numpy()

    def reset(self, mask: NDArray[np.bool_] | None = None, seed: int | None = None) -> None:
        """As ``Attack``."""
        if seed is not None:
            self._generator.manual_seed(seed)


def situation_of(victim: Victim, threat: Threat, observations: Floats, generator: torch.Generator) -> Situation:
    """The rows and the victim's answer to the truth; a random victim's noise stays the same until the next call."""
    victim.fix_noise(int(torch.randint(2**31, (), generator=generator)))
    true = torch.as_tensor(observations, dtype=torch.float32, device=threat.device)
    with torch.no_grad():
        return Situation(true, victim.response(true).mapped(Tensor.detach))


class AttackedPolicy:
    """The victim behind an adversary, as a Policy (rollouts, figures and defences take it like any other).

    With eps 0 the adversary isn't asked, and the victim sees the observations themselves.

    Attributes:
        attacked: observations that passed.
        seconds: spent by the adversary.
    """

    def __init__(self, victim: Victim, threat: Threat, attack: Attack) -> None:
        self.victim, self.threat, self.attack = victim, threat, attack
        self.attacked, self.seconds = 0, 0.0

    def act(self, observations: Floats) -> Floats:
        """The victim's actions (B, act_dim) at what it sees of ``observations`` (B, obs_dim)."""
        if self.threat.eps == 0:
            return self.victim.policy.act(observations)
        start = time.perf_counter()
        seen = self.threat.seen(observations, self.attack.perturbations(observations))
        self.seconds += time.perf_counter() - start
        self.attacked += len(observations)
        return self.victim.policy.act(seen)

    def reset(self, mask: NDArray[np.bool_] | None = None, seed: int | None = None) -> None:
        """New episodes where ``mask`` (B,) is true (all if None), for victim and adversary."""
        self.victim.policy.reset(mask, seed)
        self.attack.reset(mask, seed)

    def observe(self, rewards: NDArray[np.float64], costs: NDArray[np.float64]) -> None:
        """Rewards and costs (B,) of the step, for a victim that wants to see them; they are true."""
        if isinstance(self.victim.policy, FeedbackPolicy):
            self.victim.policy.observe(rewards, costs)
