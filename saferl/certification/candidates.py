"""The candidate half: the value of one conservative parameter with the greatest return that is predicted to pass.

The test half will fluctuate as the candidate half did, so that a bound that only just keeps the limit here is broken
there every other time. The prediction therefore takes twice the distance between the mean and its bound, at the size of
the test half. Where a value is predicted to fail, its objective is a barrier below every return.

Source: Thomas et al., Preventing Undesirable Behavior of Intelligent Machines (Science 2019), and their tutorial's
code: twice Student's distance and the barrier -100,000 - U.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from saferl.certification.bounds import BOUNDS, Moments, upper_bound
from saferl.certification.gate import Constraint
from saferl.certification.subjects import Value
from saferl.evaluation.rollout import Episodes

INFLATION = 2.0  # of the distance between mean and bound
BARRIER = -1e5
AUTOMATIC = ("hoeffding_bentkus", "empirical_bernstein", "hoeffding")  # bounds of a mean among which bound=auto chooses


@dataclass(frozen=True)
class Candidate:
    """What the candidate half says of one value.

    Attributes:
        value: of the parameter, None where nothing is tuned.
        episodes: of the candidate half.
        constraints: with the bounds that are predicted to be tightest, where they are free.
        predicted: upper bounds expected of the test half, inflated, one for each constraint.
    """

    value: Value
    episodes: Episodes
    constraints: tuple[Constraint, ...]
    predicted: tuple[float, ...]

    @property
    def observed(self) -> tuple[float, ...]:
        """Mean of each constraint's sample."""
        return tuple(float(each.sample(self.episodes.costs).mean()) for each in self.constraints)

    @property
    def passes(self) -> bool:
        """Whether every constraint is predicted to hold."""
        return all(upper <= each.limit for upper, each in zip(self.predicted, self.constraints))

    @property
    def objective(self) -> float:
        """Mean return, or the barrier less the greatest excess over a limit, in units of that limit."""
        if self.passes:
            return float(self.episodes.returns.mean())
        return BARRIER - max(upper / each.limit for upper, each in zip(self.predicted, self.constraints))

    def as_facts(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "value": self.value,
            "mean_return": float(self.episodes.returns.mean()),
            "mean_cost": float(self.episodes.costs.mean()),
            "observed": list(self.observed),
            "predicted_bounds": list(self.predicted),
            "bounds": [each.bound for each in self.constraints],
            "predicted_to_pass": self.passes,
        }


def predicted_bound(constraint: Constraint, moments: Moments, n: int, inflation: float = INFLATION) -> float:
    """m + ``inflation`` (U - m), with the bound U that n episodes of the test half would give at these moments.

    Args:
        constraint: its bound, delta and range.
        moments: of the candidate half.
        n: episodes of the test half.
        inflation: 1 for the plain bound.
    Returns: at most the greatest value that a cost can have, except for Student's t.
    """
    upper = upper_bound(constraint.bound, moments, constraint.delta, 0.0, constraint.high, n)
    inflated = moments.mean + inflation * (upper - moments.mean)
    return inflated if BOUNDS[constraint.bound].approximate else min(inflated, constraint.high)


def tightest(constraint: Constraint, moments: Moments, n: int) -> Constraint:
    """The constraint with that bound of AUTOMATIC which is predicted to be least on the test half.

    The choice is made before the test half is seen, and therefore costs no confidence.
    """
    choices = [replace(constraint, bound=name) for name in AUTOMATIC]
    return min(choices, key=lambda each: predicted_bound(each, moments, n))


def judged(
    value: Value, episodes: Episodes, constraints: Sequence[Constraint], free: Sequence[bool], n: int
) -> Candidate:
    """What the candidate half predicts for a test half of ``n`` episodes.

    Args:
        value: of the parameter.
        episodes: of the candidate half.
        constraints: of the test.
        free: whether the bound of each may be chosen.
        n: episodes of the test half.
    Raises: ValueError if an episode costs more than its constraint's greatest cost.
    """
    chosen, predicted = [], []
    for constraint, choosable in zip(constraints, free):
        if constraint.kind == "mean" and episodes.costs.max() > constraint.greatest:
            raise ValueError(
                f"an episode cost {episodes.costs.max():g}, more than cost_max={constraint.greatest:g}; state the "
                "greatest cost that an episode can have by cost_max=."
            )
        moments = Moments.of(constraint.sample(episodes.costs))
        chosen.append(tightest(constraint, moments, n) if choosable else constraint)
        predicted.append(predicted_bound(chosen[-1], moments, n))
    return Candidate(value, episodes, tuple(chosen), tuple(predicted))


def best(candidates: Sequence[Candidate]) -> Candidate:
    """The one of the greatest objective, the first among equals."""
    return candidates[int(np.argmax([each.objective for each in candidates]))]
