"""Upper confidence bounds on the mean of independent costs: exact for events, distribution-free, and Student's t.

Each is a function of what a sample of n costs in [0, 1] shows: its mean m, its variance v and n, arrays of one shape,
so that thousands of samples are judged at once. ``upper_bound`` scales to a range [low, high]; a lower bound on the
mean is one minus the upper bound of what is mirrored.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from saferl.command_line import unknown

Array = NDArray[np.float64]
_HALVINGS = 44  # of [0, 1]: the ends then differ by 6e-14
_ROUNDING = 1e-9  # of the range: by so much may a mean of rounded sums lie outside of it


def hoeffding(mean: Array, variance: Array, n: Array, delta: Array) -> Array:
    """m + sqrt(ln(1 / delta) / 2n); ``variance`` is not used.

    Args:
        mean, variance, n, delta: as of ``Bound.unit``.
    Source: Hoeffding, Probability Inequalities for Sums of Bounded Random Variables (1963), theorem 1.
    """
    return np.minimum(mean + np.sqrt(-np.log(delta) / (2 * n)), 1.0)


def empirical_bernstein(mean: Array, variance: Array, n: Array, delta: Array) -> Array:
    """m + sqrt(2 v ln(2 / delta) / n) + 7 ln(2 / delta) / (3 (n - 1)); 1 for n = 1.

    Args:
        mean, variance, n, delta: as of ``Bound.unit``.
    Source: Maurer and Pontil, Empirical Bernstein Bounds and Sample Variance Penalization (COLT 2009), theorem 4.
    """
    logarithm = np.log(2 / delta)
    slack = 7 * logarithm / (3 * np.maximum(n - 1, 1e-300))
    return np.minimum(mean + np.sqrt(2 * variance * logarithm / n) + slack, 1.0)


def clopper_pearson(mean: Array, variance: Array, n: Array, delta: Array) -> Array:
    """The exact bound of events (costs 0 or 1): the rate at which so few of them have probability delta.

    With k = m n events it is the (1 - delta)-quantile of the Beta(k + 1, n - k) distribution. ``variance`` is not used.

    Args:
        mean, variance, n, delta: as of ``Bound.unit``; m n may be a fraction in predictions for another n.
    Source: Clopper and Pearson, The Use of Confidence or Fiducial Limits (Biometrika 1934).
    """
    count = mean * n
    rounded = np.rint(count)
    count = np.where(np.abs(count - rounded) < 1e-6, rounded, count)  # k / n * n is not always k
    all_happened = count >= n
    quantile = stats.beta.ppf(1 - delta, np.where(all_happened, 1.0, count + 1), np.where(all_happened, 1.0, n - count))
    return np.where(all_happened, 1.0, quantile)


def hoeffding_bentkus(mean: Array, variance: Array, n: Array, delta: Array) -> Array:
    """The greatest a with min(exp(-n kl(min(m, a), a)), e P(Bin(n, a) <= ceil(n m))) >= delta.

    ``variance`` is not used. Close to the exact bound of events, and valid for every cost in [0, 1].

    Args:
        mean, variance, n, delta: as of ``Bound.unit``.
    Source: Bates, Angelopoulos, Lei, Malik and Jordan, Distribution-Free, Risk-Controlling Prediction Sets (2021),
        theorem 3; Bentkus, On Hoeffding's Inequalities (2004).
    """
    count = np.ceil(np.round(mean * n, 9))
    others = np.maximum(n - count, 1e-300)  # none: then the cdf is 1

    def probable(rate: Array) -> Array:
        cdf = special.betainc(others, count + 1, 1 - rate)  # of Bin(n, a) at ceil(n m), as an incomplete Beta integral
        return np.minimum(np.exp(-n * _divergence(mean, rate)), np.e * cdf) >= delta

    return _greatest(probable, mean)


def chernoff(mean: Array, variance: Array, n: Array, delta: Array) -> Array:
    """The greatest a with exp(-n kl(m, a)) >= delta: Hoeffding's bound before it is made explicit.

    ``variance`` is not used.

    Args:
        mean, variance, n, delta: as of ``Bound.unit``.
    Source: Hoeffding (1963), theorem 1, first inequality.
    """
    return _greatest(lambda rate: np.exp(-n * _divergence(mean, rate)) >= delta, mean)


def student_t(mean: Array, variance: Array, n: Array, delta: Array) -> Array:
    """m + sqrt(v / n) t, with the (1 - delta)-quantile t of Student's distribution with n - 1 degrees of freedom.

    Approximate: it holds for normally distributed costs, and in the limit of many. Where costs are rare it fails:
    a sample without any gives 0.

    Args:
        mean, variance, n, delta: as of ``Bound.unit``.
    """
    quantile = stats.t.ppf(1 - delta, np.maximum(n - 1, 1))
    return np.where(n > 1, mean + np.sqrt(variance / n) * quantile, np.inf)


@dataclass(frozen=True)
class Bound:
    """A bound, and what it needs to hold.

    Attributes:
        label: its name for people.
        formula: of mean, variance, n and delta, arrays of one shape, see ``unit``.
        assumption: what must be true beside the costs being independent and equally distributed.
        events_only: whether costs must be 0 or 1.
        approximate: whether it may be exceeded more often than in a share delta of all samples.
    """

    label: str
    formula: Callable[[Array, Array, Array, Array], Array]
    assumption: str
    events_only: bool = False
    approximate: bool = False

    def unit(self, mean: ArrayLike, variance: ArrayLike, n: ArrayLike, delta: ArrayLike) -> Array:
        """Upper bounds (...) on the means of costs in [0, 1], of samples that broadcast.

        Args:
            mean: (...) in [0, 1].
            variance: (...) with n - 1 in the denominator.
            n: (...) costs in a sample, >= 1.
            delta: (...) in (0, 1).
        """
        given = (np.asarray(value, np.float64) for value in (mean, variance, n, delta))
        return self.formula(*np.broadcast_arrays(*given))


_IN_RANGE = "no cost is outside of the stated range"
BOUNDS: dict[str, Bound] = {
    "clopper_pearson": Bound("Clopper-Pearson", clopper_pearson, "exact, nothing else is assumed", events_only=True),
    "hoeffding_bentkus": Bound("Hoeffding-Bentkus", hoeffding_bentkus, _IN_RANGE),
    "empirical_bernstein": Bound("empirical Bernstein (Maurer-Pontil)", empirical_bernstein, _IN_RANGE),
    "hoeffding": Bound("Hoeffding", hoeffding, _IN_RANGE),
    "chernoff": Bound("Chernoff-Hoeffding (KL)", chernoff, _IN_RANGE),
    "student_t": Bound(
        "Student's t (approximate)", student_t, "means of this size are normally distributed", approximate=True
    ),
}


def bound_named(name: str) -> Bound:
    """The bound of this name. Raises: ValueError with the close match."""
    if name not in BOUNDS:
        raise ValueError(unknown("bound", name, BOUNDS, "bound={}"))
    return BOUNDS[name]


@dataclass(frozen=True)
class Moments:
    """What a bound needs of a sample: mean and variance (n - 1 in the denominator), in the unit of the costs, and n."""

    mean: float
    variance: float
    n: int

    @classmethod
    def of(cls, sample: ArrayLike) -> "Moments":
        """Of a sample (n,). Raises: ValueError unless n >= 1 and all values are finite."""
        values = np.asarray(sample, np.float64)
        if values.ndim != 1 or not len(values):
            raise ValueError(f"a sample must have shape (n,) with n >= 1; got {values.shape}.")
        if not np.isfinite(values).all():
            raise ValueError("a sample must be finite.")
        return cls(float(values.mean()), float(values.var(ddof=1)) if len(values) > 1 else 0.0, len(values))


def upper_bound(
    name: str, moments: Moments, delta: float, low: float = 0.0, high: float = 1.0, n: float | None = None
) -> float:
    """The upper bound on the mean that fails with probability delta at most (``student_t``: about delta).

    Args:
        name: a key of BOUNDS.
        moments: of the sample.
        delta: in (0, 1).
        low, high: ends of the range of one cost.
        n: size of the sample that is predicted: the bound that it would give, had it these moments; None: the sample's.
    Raises: ValueError for an unknown bound, a range without length, a mean outside of it, or a delta not in (0, 1).
    """
    bound = bound_named(name)
    if not 0 < delta < 1:
        raise ValueError(f"delta must be in (0, 1); got {delta}.")
    if not low < high:
        raise ValueError(f"the range of a cost must have low < high; got [{low}, {high}].")
    length = high - low
    share = (moments.mean - low) / length
    if not -_ROUNDING <= share <= 1 + _ROUNDING:
        raise ValueError(f"the mean {moments.mean:g} is outside of the stated range [{low:g}, {high:g}] of a cost.")
    size = moments.n if n is None else n
    unit = bound.unit(min(max(share, 0.0), 1.0), moments.variance / length**2, size, delta)
    return float(low + length * unit)


def lower_bound(
    name: str, moments: Moments, delta: float, low: float = 0.0, high: float = 1.0, n: float | None = None
) -> float:
    """The lower bound on the mean: the upper bound of high + low - X, mirrored. Arguments as of ``upper_bound``."""
    mirrored = Moments(high + low - moments.mean, moments.variance, moments.n)
    return high + low - upper_bound(name, mirrored, delta, low, high, n)


def _divergence(mean: Array, rate: Array) -> Array:
    """kl(min(m, a), a) in nats between two coins, (...); infinite for a = 1 > m."""
    first = np.minimum(mean, rate)
    with np.errstate(divide="ignore", invalid="ignore"):
        happens = np.where(first > 0, first * np.log(first / rate), 0.0)
        rests = np.where(first < 1, (1 - first) * np.log((1 - first) / (1 - rate)), 0.0)
    return happens + rests


def _greatest(probable: Callable[[Array], Any], mean: Array) -> Array:
    """The greatest rate in [m, 1] that is ``probable``, which it is up to there and not beyond, by halving; from above.

    Args:
        probable: rates (...) to truth values (...).
        mean: (...) rates that are probable.
    """
    low, high = mean.astype(np.float64), np.ones(mean.shape)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        inside = probable(middle)
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return high
