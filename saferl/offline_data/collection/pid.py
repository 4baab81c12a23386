"""PIDMultiplier: the Lagrange multiplier of a cost limit, driven by a PID controller; CostLimit: that limit over time.

Stooke, Achiam and Abbeel, "Responsive Safety in Reinforcement Learning by PID Lagrangian Methods" (ICML 2020), in the
variant of OmniSafe, which smooths the proportional part and takes the derivative over several updates.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class PIDConfig:
    """Gains and smoothing of the multiplier; one update is made after each rollout.

    Per update, with e = J_c - d, the mean undiscounted episode cost above its limit::

        I <- max(0, I + ki e)                 P <- smooth P + (1 - smooth) e
        C <- smooth C + (1 - smooth) J_c      D = max(0, C - C of `delay` updates ago)
        multiplier = max(0, kp P + I + kd D)

    Neither the multiplier nor I exceeds ``most``: a sum that grew while the policy was still learning what is costly
    would otherwise outlast the training.
    """

    kp: float = 0.1
    ki: float = 0.01
    kd: float = 0.01
    initial: float = 0.001  # I before the first update
    smooth: float = 0.95  # share of the old value in P and C
    delay: int = 10  # updates between the two costs of the derivative
    most: float = 100.0

    def __post_init__(self) -> None:
        for key in ("kp", "ki", "kd", "initial"):
            value = getattr(self, key)
            if not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"pid.{key} must be a finite number >= 0; got {value}.")
        if not 0 <= self.smooth < 1:
            raise ValueError(f"pid.smooth must be at least 0 and below 1; got {self.smooth}.")
        if self.delay < 1:
            raise ValueError(f"pid.delay must be a whole number >= 1; got {self.delay}.")
        if not self.most > 0:
            raise ValueError(f"pid.most must be > 0; got {self.most}.")


class PIDMultiplier:
    """The multiplier lambda >= 0 that weighs cost against reward; ``value`` is its present value."""

    def __init__(self, config: PIDConfig) -> None:
        self.config = config
        self.value = config.initial
        self._integral = config.initial
        self._error = 0.0
        self._cost = 0.0
        self._past_costs: deque[float] = deque([0.0], maxlen=config.delay)

    def update(self, cost: float, limit: float) -> float:
        """Lambda after one more measurement.

        Args:
            cost: J_c, the mean undiscounted cost of the episodes since the last update.
            limit: d, in the same unit.
        Raises: ValueError if ``cost`` or ``limit`` is not finite.
        """
        if not (math.isfinite(cost) and math.isfinite(limit)):
            raise ValueError(f"cost and limit must be finite; got {cost} and {limit}.")
        gains, error = self.config, cost - limit
        self._integral = min(gains.most, max(0.0, self._integral + gains.ki * error))
        self._error = gains.smooth * self._error + (1 - gains.smooth) * error
        self._cost = gains.smooth * self._cost + (1 - gains.smooth) * cost
        derivative = max(0.0, self._cost - self._past_costs[0])
        self._past_costs.append(self._cost)  # drops the oldest once `delay` are held
        self.value = min(gains.most, max(0.0, gains.kp * self._error + self._integral + gains.kd * derivative))
        return self.value

    def state_dict(self) -> dict[str, Any]:
        """Everything an update depends on, as JSON takes it."""
        return {
            "value": self.value,
            "integral": self._integral,
            "error": self._error,
            "cost": self._cost,
            "past_costs": list(self._past_costs),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` gave."""
        self.value, self._integral = float(state["value"]), float(state["integral"])
        self._error, self._cost = float(state["error"]), float(state["cost"])
        self._past_costs = deque((float(cost) for cost in state["past_costs"]), maxlen=self.config.delay)


@dataclass(frozen=True)
class CostLimit:
    """A cost limit d(t) that goes straight from ``start`` to ``end`` over a run; infinite means unconstrained."""

    start: float
    end: float

    @classmethod
    def parse(cls, value: Any) -> "CostLimit":
        """A limit from the settings: a number, ``[start, end]``, or None for no limit.

        Raises: ValueError in one line for anything else.
        """
        if value is None:
            return cls(math.inf, math.inf)
        pair = list(value) if isinstance(value, list | tuple) else [value, value]
        numbers = [float(x) for x in pair if isinstance(x, int | float) and not isinstance(x, bool)]
        if len(pair) != 2 or len(numbers) != 2 or not all(x >= 0 and math.isfinite(x) for x in numbers):
            raise ValueError(
                f"limits: {value!r} is not a cost limit; allowed: a number >= 0, a pair [start, end], or null for none."
            )
        return cls(*numbers)

    @property
    def constrained(self) -> bool:
        """Whether there is a limit at all."""
        return math.isfinite(self.start)

    def at(self, progress: float) -> float:
        """The limit after the share ``progress`` (0 to 1) of the run."""
        return self.start if self.start == self.end else self.start + (self.end - self.start) * progress

    def __str__(self) -> str:
        if not self.constrained:
            return "none"
        return f"{self.start:g}" if self.start == self.end else f"{self.start:g} to {self.end:g}"
