"""Every adversary by name: what it does, what it needs, and how it is put together."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from saferl.adversaries.ascent import Ascent, AscentConfig, Autograd, Evolution, Slopes
from saferl.adversaries.attacks import Attack, GradientAttack, RandomAttack
from saferl.adversaries.critics import Critics
from saferl.adversaries.learned import Direction, Shift, Turn
from saferl.adversaries.objectives import OBJECTIVES, Objective, Situation, deviation
from saferl.adversaries.threat import Threat
from saferl.adversaries.victim import Victim

FITTED = ("value", "rs", "rs_mad")  # objectives whose critic no victim brings


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One adversary of the catalogue."""

    about: str
    objective: str | None = None  # of OBJECTIVES, or "deviation"; None: random, or learned
    goal: str | None = None  # of a learned one: "reward", "cost" or "target"

    @property
    def learned(self) -> bool:
        """Whether it has to be trained."""
        return self.goal is not None


ADVERSARIES = {
    "random": Kind(about="uniform noise in the ball"),
    "fgsm": Kind(about="one step up the objective= (deviation of the policy's output)", objective="deviation"),
    "pgd": Kind(about="several steps up the objective=, projected", objective="deviation"),
    "mad": Kind(about="greatest divergence of the policy's output, Langevin steps", objective="deviation"),
    "amad": Kind(about="MAD, only where Q_c is among the dearest tenth of clean states", objective="deviation"),
    "value": Kind(about="what is seen has the least V", objective="value"),
    "q": Kind(about="the action has the least Q_r at the true state", objective="q"),
    "rs": Kind(about="the same with robust Sarsa's smooth Q", objective="rs"),
    "rs_mad": Kind(about="half RS, half MAD", objective="rs_mad"),
    "mr": Kind(about="the action has the greatest Q_r: stealthy", objective="mr"),
    "mc": Kind(about="the action has the greatest Q_c", objective="mc"),
    "sa_rl": Kind(about="PPO learns the perturbation that costs most reward", goal="reward"),
    "sa_rl_cost": Kind(about="PPO learns the perturbation that brings most cost", goal="cost"),
    "pa_ad": Kind(about="PPO learns where the action should go, to cost most reward", goal="reward"),
    "pa_ad_cost": Kind(about="PPO learns where the action should go, to bring most cost", goal="cost"),
    "sa_rl_target": Kind(about="PPO learns the perturbation that scores most towards target=", goal="target"),
    "pa_ad_target": Kind(about="PPO learns where the action should go, towards target=", goal="target"),
    "rat": Kind(about="imitates a policy for target= that was learned from preferences", goal="target"),
}


@dataclass(frozen=True, kw_only=True)
class EvolutionConfig:
    """How a black box's slopes are estimated, see ``Evolution``."""

    directions: int = 16
    smoothing: float = 0.25

    def __post_init__(self) -> None:
        if self.directions < 1:
            raise ValueError(f"queries.directions must be >= 1; got {self.directions}.")
        if not 0 < self.smoothing < float("inf"):
            raise ValueError(f"queries.smoothing must be > 0; got {self.smoothing}.")


@dataclass(frozen=True, kw_only=True)
class Means:
    """What attacks on one victim are made of."""

    victim: Victim
    critics: Critics | None = None  # None where no adversary in question needs one
    threshold: float = float("inf")  # Q_c above which adaptive MAD attacks
    objective: str = "deviation"  # of FGSM and PGD
    ascent: AscentConfig = field(default_factory=AscentConfig)
    queries: EvolutionConfig = field(default_factory=EvolutionConfig)

    def slopes(self, threat: Threat) -> Slopes:
        """Gradients of a white box, estimates for a black one."""
        if self.victim.white_box:
            return Autograd(self.victim, threat)
        return Evolution(self.victim, threat, self.queries.directions, self.queries.smoothing)


def objective_of(name: str, chosen: str = "deviation") -> str | None:
    """The objective of an adversary, None if it has none; ``chosen`` is that of FGSM and PGD."""
    return chosen if name in ("fgsm", "pgd") else ADVERSARIES[name].objective


def needs_critics(name: str, chosen: str = "deviation") -> bool:
    """Whether an adversary asks a critic."""
    return objective_of(name, chosen) in OBJECTIVES or name == "amad"


def needs_fit(name: str, chosen: str = "deviation") -> bool:
    """Whether it asks one that no victim brings."""
    return objective_of(name, chosen) in FITTED


def needs_robust(name: str, chosen: str = "deviation") -> bool:
    """Whether it asks robust Sarsa's critic."""
    return objective_of(name, chosen) in ("rs", "rs_mad")


def make_attack(name: str, threat: Threat, means: Means) -> Attack:
    """An adversary that needs no training.

    Args:
        name: of ``ADVERSARIES``.
        threat: the ball.
        means: with critics if it needs them.
    """
    if name == "random":
        return RandomAttack(threat)
    slopes, config = means.slopes(threat), means.ascent
    if name == "fgsm":
        config = AscentConfig(steps=1)
    elif name in ("pgd", "mad", "amad"):
        config = replace(config, optimizer="sign")
    word = objective_of(name, means.objective)
    assert word is not None
    ascent = Ascent(slopes, threat, config, langevin=name in ("mad", "amad"))
    where = _dear_states(means) if name == "amad" else None
    return GradientAttack(means.victim, threat, ascent, _objective(word, means.critics), where)


def make_turn(name: str, threat: Threat, means: Means) -> Turn:
    """What makes perturbations of a learned adversary's actions."""
    return Direction(means.victim, threat, means.slopes(threat)) if name.startswith("pa_ad") else Shift(threat)


def _objective(word: str, critics: Critics | None) -> Objective:
    if word == "deviation":
        return deviation
    assert critics is not None
    return OBJECTIVES[word](critics)


def _dear_states(means: Means) -> Callable[[Situation], Tensor]:
    critics = means.critics
    assert critics is not None

    @torch.no_grad()
    def where(situation: Situation) -> Tensor:
        return critics.cost(situation.observations, situation.clean.actions) >= means.threshold

    return where
