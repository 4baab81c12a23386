"""The test itself: constraints that share delta, the bound of each, and one of two verdicts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saferl.certification.bounds import BOUNDS, Moments, bound_named, upper_bound

RELEASE, REFUSED = "release", "no solution found"


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """One thing that must hold of a policy's episodes.

    Attributes:
        kind: "mean": the mean cost of an episode is at most ``limit``; "event": the share of episodes that cost more
            than ``event_limit`` is.
        limit: cost, or share in (0, 1).
        delta: its part of the confidence, in (0, 1).
        bound: a key of BOUNDS; one for events only goes with "event".
        greatest: of an episode's cost, for "mean"; the least is 0.
        event_limit: cost above which an episode is an event.
    """

    kind: Literal["mean", "event"]
    limit: float
    delta: float
    bound: str
    greatest: float = 1.0
    event_limit: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.delta < 1:
            raise ValueError(f"delta must be in (0, 1); got {self.delta}.")
        if bound_named(self.bound).events_only and self.kind != "event":
            allowed = ", ".join(name for name, each in BOUNDS.items() if not each.events_only)
            raise ValueError(f"bound={self.bound} is for events; for the mean cost (cost_limit=): {allowed}.")

    @property
    def high(self) -> float:
        """Greatest value of its sample."""
        return self.greatest if self.kind == "mean" else 1.0

    @property
    def words(self) -> str:
        """What must hold, for people."""
        if self.kind == "mean":
            return f"mean cost of an episode at most {self.limit:g}"
        costing = "that cost anything" if self.event_limit == 0 else f"that cost more than {self.event_limit:g}"
        return f"at most {100 * self.limit:g} % of episodes {costing}"

    def sample(self, costs: ArrayLike) -> NDArray[np.float64]:
        """What is averaged, (E,), of episodes' costs (E,)."""
        values = np.asarray(costs, np.float64)
        return values if self.kind == "mean" else (values > self.event_limit).astype(np.float64)


@dataclass(frozen=True)
class Check:
    """What a test said of one constraint."""

    constraint: Constraint
    mean: float
    variance: float
    n: int
    upper: float | None  # the bound; None where it does not hold
    fault: str | None = None  # why it does not hold

    @property
    def passed(self) -> bool:
        """Whether the bound keeps the limit."""
        return self.upper is not None and self.upper <= self.constraint.limit

    def as_facts(self) -> dict[str, Any]:
        """Plain values for JSON."""
        bound = BOUNDS[self.constraint.bound]
        return {
            "constraint": self.constraint.words,
            **asdict(self.constraint),
            "approximate": bound.approximate,
            "episodes": self.n,
            "mean": self.mean,
            "variance": self.variance,
            "upper_bound": self.upper,
            "fault": self.fault,
            "passed": self.passed,
        }


@dataclass(frozen=True)
class Decision:
    """The verdict, and the check of each constraint."""

    checks: tuple[Check, ...]

    @property
    def release(self) -> bool:
        """Whether every constraint holds."""
        return all(check.passed for check in self.checks)

    @property
    def verdict(self) -> str:
        """ "release" or "no solution found"."""
        return RELEASE if self.release else REFUSED

    @property
    def reasons(self) -> list[str]:
        """Why it is refused, a line for each constraint that does not hold."""
        lines = []
        for check in self.checks:
            if check.fault is not None:
                lines.append(f"{check.constraint.words}: {check.fault}")
            elif not check.passed:
                lines.append(
                    f"{check.constraint.words}: {check.mean:.4g} observed in {check.n:,} episodes, which may come from "
                    f"{check.upper:.4g}"
                )
        return lines


def decide(constraints: Sequence[Constraint], costs: ArrayLike) -> Decision:
    """The test, on episodes that had no part in making or choosing the policy.

    P(release although some constraint does not hold) is at most the sum of the constraints' deltas, if the episodes
    are independent and equally distributed and no bound is approximate.

    Args:
        constraints: at least one; the sum of their deltas is the test's own (``shared_delta``).
        costs: (E,) of whole episodes, E >= 1.
    Raises: ValueError for no constraint, no episode, or costs that are negative or not finite.
    """
    if not constraints:
        raise ValueError("a test needs at least one constraint.")
    values = np.asarray(costs, np.float64)
    if values.ndim != 1 or not len(values) or not (values >= 0).all():
        raise ValueError("costs must be (E,) numbers >= 0 with E >= 1.")
    return Decision(tuple(_check(constraint, values) for constraint in constraints))


def shared_delta(delta: float, constraints: int) -> float:
    """The part of each of several constraints: delta / k.

    The union bound (Bonferroni): whatever the constraints have to do with each other, the probability that any of the
    k bounds fails is at most the sum of the parts.
    """
    return delta / constraints


def _check(constraint: Constraint, costs: NDArray[np.float64]) -> Check:
    moments = Moments.of(constraint.sample(costs))
    fault = None
    if constraint.kind == "mean" and costs.max() > constraint.greatest:
        fault = (
            f"an episode cost {costs.max():g}, more than cost_max={constraint.greatest:g}, so that the bound does not "
            "hold; state the greatest cost that an episode can have by cost_max="
        )
        return Check(constraint, moments.mean, moments.variance, moments.n, None, fault)
    upper = upper_bound(constraint.bound, moments, constraint.delta, 0.0, constraint.high)
    return Check(constraint, moments.mean, moments.variance, moments.n, upper, fault)
