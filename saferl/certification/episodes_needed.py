"""Episodes that a test needs, computed before any is spent."""

from collections.abc import Callable
from functools import partial

from scipy import stats

from saferl.certification.bounds import Moments, upper_bound

MOST = 10_000_000  # episodes; a test that needs more is told so


def episodes_needed(
    name: str,
    delta: float,
    limit: float,
    expected: float,
    *,
    variance: float | None = None,
    low: float = 0.0,
    high: float = 1.0,
    power: float = 0.8,
    inflation: float | None = None,
) -> int | None:
    """Episodes with which a policy whose true mean is ``expected`` passes a test with probability ``power``.

    For ``clopper_pearson`` exact: the least n at which the binomial distribution gives the test at least that
    probability. For the others the sample is taken to show the mean's own ``power``-quantile, which is normal in the
    limit, and the variance as it is.

    Args:
        name: a key of BOUNDS; delta: of the test, in (0, 1).
        limit: which the upper bound must keep.
        expected: true mean, at least ``low``.
        variance: true variance; None takes the greatest that a mean allows in this range.
        low, high: ends of the range of one cost.
        power: in (0, 1).
        inflation: None, or of the prediction that a candidate half of as many episodes must pass before, see
            ``candidates.predicted_bound``; ``power`` is then the probability of both, and n enough, not the least.
    Returns: None if no number up to ten million is enough, as for a mean that does not keep the limit.
    Raises: ValueError for an unknown bound, a delta or a power that is not in (0, 1), or a mean outside of the range.
    """
    if not 0 < power < 1:
        raise ValueError(f"power must be in (0, 1); got {power}.")
    if not low <= expected <= high:
        raise ValueError(f"the expected mean {expected:g} is outside of the stated range [{low:g}, {high:g}].")
    if expected >= limit:
        return None
    if limit >= high:
        return 1
    if name == "clopper_pearson":
        return _events_needed(delta, limit, expected, power, inflation)
    spread = (expected - low) * (high - expected) if variance is None else variance
    quantile = float(stats.norm.ppf(power if inflation is None else power**0.5))

    def passes(n: int) -> bool:
        mean = min(max(expected + quantile * (spread / n) ** 0.5, low), high)
        upper = upper_bound(name, Moments(mean, spread, n), delta, low, high)
        return mean + (inflation or 1.0) * (upper - mean) <= limit

    return _least(passes)


def _events_needed(delta: float, limit: float, rate: float, power: float, inflation: float | None) -> int | None:
    """The least n for events, by the number k that may happen: a test with n_k episodes or more allows k.

    Between n_k and n_(k+1) the probability to pass falls with n, so that the least n with the power is some n_k. With
    a prediction before the test, n_k allows k events to it, and more to the test.
    """
    least = 1
    for allowed in range(MOST):
        excludes = _excludes if inflation is None else partial(_predicts, inflation)
        needed = _least(partial(excludes, delta, limit, allowed), least)
        if needed is None:
            return None
        passing = float(stats.binom.cdf(allowed, needed, rate))
        if inflation is not None:
            passing *= float(stats.binom.cdf(_most_events(delta, limit, needed), needed, rate))
        if passing >= power:
            return needed
        least = needed
    return None


def _predicts(inflation: float, delta: float, limit: float, allowed: int, n: int) -> bool:
    """Whether so many events in a candidate half of n episodes predict that the test half excludes ``limit``."""
    if allowed >= n:
        return False
    upper, mean = float(stats.beta.ppf(1 - delta, allowed + 1, n - allowed)), allowed / n
    return mean + inflation * (upper - mean) <= limit


def _most_events(delta: float, limit: float, n: int) -> int:
    """The most events with which n episodes exclude a rate of ``limit``; -1 if none do."""
    most = int(stats.binom.ppf(delta, n, limit))  # the least k with P(K <= k) >= delta
    return most if _excludes(delta, limit, most, n) else most - 1


def _excludes(delta: float, limit: float, allowed: int, n: int) -> bool:
    """Whether so many events in n episodes exclude a rate of ``limit``: the bound is then at most that."""
    return bool(stats.binom.cdf(allowed, n, limit) <= delta)


def _least(passes: Callable[[int], bool], least: int = 1) -> int | None:
    """The least n >= ``least`` from which on ``passes(n)`` holds, by doubling and halving; None beyond MOST."""
    if passes(least):
        return least
    low, high = least, 2 * least
    while not passes(high):
        low, high = high, 2 * high
        if high > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if passes(middle):
            high = middle
        else:
            low = middle
    return high
