"""Climbing an objective inside the ball: sign steps (FGSM, PGD, MAD's Langevin steps) or Adam, batched over rows.

Slopes come from the victim's gradient (``Autograd``) or, for a black box, from its answers (``Evolution``). Every call
starts anew: no perturbation is carried from one step of an episode to the next.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Protocol

import torch
from torch import Tensor

from saferl.adversaries.objectives import Objective, Situation
from saferl.adversaries.threat import Threat
from saferl.adversaries.victim import Victim

Inside = Callable[[Tensor], Tensor]  # deltas (B, obs_dim) cut to what is allowed

OPTIMIZERS = ("sign", "adam")
TINY = 1e-3  # of eps: where a single step starts, as some objectives are flat at the true observation
STILL = 1e-4  # Adam stops when neither objective nor perturbation changes by more


@dataclass(frozen=True, kw_only=True)
class AscentConfig:
    """How an objective is climbed.

    With ``optimizer`` "sign", ``steps`` moves of ``stride`` eps / steps each. A stride of 2 reaches every point of the
    ball from every other one; the published 1 does not reach a corner from a start on its far side. With "adam", at
    most ``steps`` steps of Adam on the perturbation with rate ``lr`` in normalised units (Liu et al. 2023), cut to the
    ball.
    """

    optimizer: str = "sign"
    steps: int | None = None  # None: 10 of "sign", 60 of "adam"
    stride: float = 2.0
    restarts: int = 1  # starts in all; the first is next to the true observation, the others anywhere in the ball
    lr: float = 0.1

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"ascent.optimizer must be one of {', '.join(OPTIMIZERS)}; got {self.optimizer!r}.")
        for key in ("steps", "restarts"):
            if getattr(self, key) is not None and getattr(self, key) < 1:
                raise ValueError(f"ascent.{key} must be >= 1; got {getattr(self, key)}.")
        for key in ("stride", "lr"):
            if not 0 < getattr(self, key) < float("inf"):
                raise ValueError(f"ascent.{key} must be > 0; got {getattr(self, key)}.")

    @property
    def count(self) -> int:
        """Steps of one start."""
        return self.steps if self.steps is not None else {"sign": 10, "adam": 60}[self.optimizer]


class Slopes(Protocol):
    """Where values and gradients of an objective come from."""

    def values(self, objective: Objective, situation: Situation, deltas: Tensor) -> Tensor:
        """The objective (B,) at deltas (B, obs_dim)."""
        ...

    def slopes(
        self, objective: Objective, situation: Situation, deltas: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The objective (B,) and its gradient (B, obs_dim) at deltas (B, obs_dim)."""
        ...


class Autograd:
    """The exact gradient, through the victim's network."""

    def __init__(self, victim: Victim, threat: Threat) -> None:
        self.victim, self.threat = victim, threat

    @torch.no_grad()
    def values(self, objective: Objective, situation: Situation, deltas: Tensor) -> Tensor:
        """As ``Slopes``."""
        seen = self.threat.shifted(situation.observations, deltas)
        return objective(situation, seen, self.victim.response(seen))

    def slopes(
        self, objective: Objective, situation: Situation, deltas: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """As ``Slopes``; rows don't influence each other, so the gradient of the sum holds each row's own."""
        point = deltas.detach().requires_grad_(True)
        with torch.enable_grad():
            seen = self.threat.shifted(situation.observations, point)
            values = objective(situation, seen, self.victim.response(seen))
            (gradients,) = torch.autograd.grad(values.sum(), point)
        return values.detach(), gradients


class Evolution:
    """The gradient of the objective's mean over a small cloud, from 2 M answers a row (antithetic NES).

    g = mean over M directions u ~ N(0, 1) of (f(delta + c u) - f(delta - c u)) u / (2 c). The questions may lie a
    little outside the ball: what the victim is asked in the laboratory is not what it sees when it acts.

    Args:
        victim: a black box; a white box may be asked too.
        threat: the ball.
        directions: M.
        smoothing: c as a share of eps.
    Source: Salimans et al. 2017; Ilyas et al. 2018 for attacks.
    """

    def __init__(self, victim: Victim, threat: Threat, directions: int = 16, smoothing: float = 0.25) -> None:
        self.victim, self.threat = victim, threat
        self.directions, self.smoothing = directions, smoothing

    @torch.no_grad()
    def values(self, objective: Objective, situation: Situation, deltas: Tensor) -> Tensor:
        """As ``Slopes``; one question a row."""
        seen = self.threat.shifted(situation.observations, deltas)
        return objective(situation, seen, self.victim.response(seen))

    @torch.no_grad()
    def slopes(
        self, objective: Objective, situation: Situation, deltas: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """As ``Slopes``; 2 M + 1 questions a row, all in one batch if the victim has no memory."""
        shape = (self.directions, *deltas.shape)
        cloud = torch.randn(shape, generator=generator).to(deltas.device)
        reach = self.smoothing * self.threat.eps
        points = torch.cat([deltas[None], deltas + reach * cloud, deltas - reach * cloud])  # (2 M + 1, B, obs_dim)
        seen = self.threat.shifted(situation.observations, points)
        answers = self.victim.responses(seen)
        values = torch.stack(
            [objective(situation, rows, answers.mapped(itemgetter(index))) for index, rows in enumerate(seen)]
        )
        above, below = values[1:].chunk(2)
        return values[0], ((above - below)[..., None] * cloud).mean(0) / (2 * reach)


class Ascent:
    """Climbs objectives, K steps from each start.

    Args:
        slopes: of the objectives.
        threat: the ball; eps > 0.
        config: steps and starts.
        langevin: adds noise of deviation sqrt(2 eps / K) / (k + 2) to the gradient of step k before its sign is taken
            (MAD; only with "sign").
    """

    def __init__(self, slopes: Slopes, threat: Threat, config: AscentConfig, langevin: bool = False) -> None:
        self.slopes, self.threat, self.config, self.langevin = slopes, threat, config, langevin

    def best(self, objective: Objective, situation: Situation, generator: torch.Generator) -> Tensor:
        """The best perturbations (B, obs_dim) on the way up, of all starts.

        Args:
            objective: to climb.
            situation: the rows.
            generator: of starts and noise, on the CPU; nothing else is random.
        """
        climb = self._adam if self.config.optimizer == "adam" else self._signs
        record = _Record(situation.observations)
        limits = self.threat.limits(situation.observations)

        def inside(deltas: Tensor) -> Tensor:
            return self.threat.cut(deltas, limits)

        for start in range(self.config.restarts):
            first = inside(self._start(situation, generator, start > 0))
            deltas = climb(objective, situation, generator, record, first, inside)
            record.note(deltas, self.slopes.values(objective, situation, deltas))
        return record.deltas

    def _start(self, situation: Situation, generator: torch.Generator, anywhere: bool) -> Tensor:
        """Next to the true observation, since the deviation's gradient is 0 there, or anywhere in the ball."""
        rows = situation.observations
        if anywhere:
            return self.threat.random(len(rows), generator)
        noise = torch.randn(rows.shape, generator=generator).to(rows.device)
        length = TINY if self.config.count == 1 else 1 / self.config.count
        return length * self.threat.eps * self.threat.steepest(noise)

    def _signs(
        self,
        objective: Objective,
        situation: Situation,
        generator: torch.Generator,
        record: "_Record",
        deltas: Tensor,
        inside: Inside,
    ) -> Tensor:
        eps, count = self.threat.eps, self.config.count
        for k in range(count):
            values, gradients = self.slopes.slopes(objective, situation, deltas, generator)
            record.note(deltas, values)
            if self.langevin:
                noise = torch.randn(deltas.shape, generator=generator).to(deltas.device)
                gradients = gradients + math.sqrt(2 * eps / count) / (k + 2) * noise
            move = self.config.stride * eps / count * self.threat.steepest(gradients)
            deltas = inside(deltas + move)
        return deltas

    def _adam(
        self,
        objective: Objective,
        situation: Situation,
        generator: torch.Generator,
        record: "_Record",
        deltas: Tensor,
        inside: Inside,
    ) -> Tensor:
        point = deltas.clone()
        optimizer = torch.optim.Adam([point], lr=self.config.lr, maximize=True)
        before: Tensor | None = None
        for _ in range(self.config.count):
            values, point.grad = self.slopes.slopes(objective, situation, point, generator)
            old = point.clone()
            record.note(old, values)
            optimizer.step()
            point.copy_(inside(point))
            if before is not None and max((values - before).abs().max(), (point - old).abs().max()) < STILL:
                break
            before = values
        return point


class _Record:
    """The best perturbation of each row so far; 0 before any."""

    def __init__(self, observations: Tensor) -> None:
        self.deltas = torch.zeros_like(observations)
        self._values = torch.full((len(observations),), -torch.inf, device=observations.device)

    def note(self, deltas: Tensor, values: Tensor) -> None:
        """Take in values (B,) at deltas (B, obs_dim)."""
        better = values > self._values
        self.deltas = torch.where(better[:, None], deltas, self.deltas)
        self._values = torch.where(better, values, self._values)
