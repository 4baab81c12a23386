"""Statistics of a few episodes or seeds: mean, interquartile mean, bootstrap and exact intervals.

Source: Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, NeurIPS 2021, which
argues for the interquartile mean and for percentile bootstrap intervals where runs are few.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 5_000
_BLOCK = 1 << 22  # values that one block of resamples holds: 32 MB


@dataclass(frozen=True)
class Estimate:
    """What a sample says about a quantity; intervals hold with confidence 0.95."""

    mean: float
    low: float  # of the mean
    high: float
    iqm: float
    iqm_low: float
    iqm_high: float

    def as_dict(self) -> dict[str, float]:
        """Plain values for JSON."""
        return asdict(self)


def interquartile_mean(values: ArrayLike) -> NDArray[np.float64]:
    """Mean along the last axis of what is left when a quarter (rounded down) of the values is cut off at each end.

    Args:
        values: (..., n), n >= 1.
    Returns: (...).
    """
    return np.asarray(stats.trim_mean(np.asarray(values, np.float64), 0.25, axis=-1))


def estimate(groups: ArrayLike | Sequence[ArrayLike], seed: int = 0) -> Estimate:
    """Mean and interquartile mean with percentile bootstrap intervals.

    Args:
        groups: one sample (n,), or a list of samples (one per training seed). Of a list, seeds are drawn with
            replacement and then episodes within each: an interval over training seeds, not only over episodes.
        seed: of the resampling.
    Returns: means of all values; a list's groups weigh the same.
    Raises: ValueError for an empty sample or a value that is not finite.
    """
    samples = _samples(groups)
    generator = np.random.default_rng(seed)
    means, iqms = [], []
    size = sum(len(sample) for sample in samples)
    for start in range(0, RESAMPLES, block := max(1, _BLOCK // size)):
        count = min(block, RESAMPLES - start)
        drawn = _resampled(samples, count, generator)
        means.append(np.stack([part.mean(axis=1) for part in drawn]).mean(axis=0))
        iqms.append(interquartile_mean(np.concatenate(drawn, axis=1)))
    mean_low, mean_high = interval(np.concatenate(means))
    iqm_low, iqm_high = interval(np.concatenate(iqms))
    mean = float(np.mean([sample.mean() for sample in samples]))
    iqm = float(interquartile_mean(np.concatenate(samples)))
    return Estimate(mean, mean_low, mean_high, iqm, iqm_low, iqm_high)


def interval(replicates: ArrayLike) -> tuple[float, float]:
    """The central 95 % of bootstrap replicates (n,)."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.asarray(replicates, np.float64), [tail, 1 - tail])
    return float(low), float(high)


def paired_difference(values: ArrayLike, baseline: ArrayLike, seed: int = 0) -> Estimate:
    """``values`` minus ``baseline`` (both (n,)), episode by episode: equal starts cancel, the interval gets shorter.

    Raises: ValueError if the two are not of one length.
    """
    first, second = np.asarray(values, np.float64), np.asarray(baseline, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"paired samples must have one length; got {first.shape} and {second.shape}.")
    return estimate(first - second, seed)


def rate_of_groups(groups: Sequence[ArrayLike], seed: int = 0) -> tuple[float, float, float]:
    """Share of episodes that are true, of one sample (n,) for each training seed, and its interval.

    The wider end each of the exact interval over all episodes, which takes seeds as alike, and, of several seeds, of
    ``estimate``'s over seeds, which says nothing where no episode of any seed is true.
    """
    flags = [np.asarray(group, np.float64) for group in groups]
    every = np.concatenate(flags)
    low, high = rate_interval(int(every.sum()), len(every))
    if len(flags) > 1:
        over_seeds = estimate(flags, seed)
        low, high = min(low, over_seeds.low), max(high, over_seeds.high)
    return float(every.mean()), low, high


def rate_interval(count: int, total: int) -> tuple[float, float]:
    """Exact (Clopper-Pearson) interval of a share: 0 of 100 gives [0, 0.036], where a bootstrap gives [0, 0].

    Raises: ValueError unless 0 <= count <= total and total >= 1.
    """
    result = stats.binomtest(count, total).proportion_ci(CONFIDENCE, "exact")
    return float(result.low), float(result.high)


def _samples(groups: Any) -> list[NDArray[np.float64]]:
    nested = isinstance(groups, (list, tuple)) and len(groups) > 0 and not np.isscalar(groups[0])
    samples = [np.asarray(group, np.float64) for group in (groups if nested else [groups])]
    for sample in samples:
        if sample.ndim != 1 or not len(sample):
            raise ValueError(f"a sample must have shape (n,) with n >= 1; got {sample.shape}.")
        if not np.isfinite(sample).all():
            raise ValueError("a sample must be finite.")
    return samples


def _resampled(
    samples: list[NDArray[np.float64]], count: int, generator: np.random.Generator
) -> list[NDArray[np.float64]]:
    """``count`` resamples: for each of the G groups an array (count, n)."""
    if len(samples) == 1:
        sample = samples[0]
        return [sample[generator.integers(len(sample), size=(count, len(sample)))]]
    shortest = min(len(sample) for sample in samples)
    table = np.stack([sample[:shortest] for sample in samples])  # (G, n)
    drawn = []
    for _ in samples:
        group = generator.integers(len(samples), size=(count, 1))
        drawn.append(table[group, generator.integers(shortest, size=(count, shortest))])
    return drawn
