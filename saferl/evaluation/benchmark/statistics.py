"""Statistics over the runs of several tasks: means, interquartile means, probability of improvement, profiles.

Source: Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, NeurIPS 2021. A stratum is
one task, and has a score for each training seed. Bootstrap samples draw each stratum's runs with replacement, so that
every task keeps its weight. With three seeds intervals are wide and still too narrow: they can't know of a fourth. With
one seed everywhere there is nothing to draw from, and the interval is (nan, nan).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saferl.evaluation.statistics import interquartile_mean, interval

RESAMPLES = 2_000
Strata = Sequence[Sequence[float]]  # for each stratum the scores of its runs


@dataclass(frozen=True)
class Span:
    """An estimate with its 95 % interval; its ends are nan where there is one run for each task."""

    value: float
    low: float
    high: float

    @property
    def complement(self) -> "Span":
        """1 minus the quantity: of a probability, that of the opposite."""
        return Span(1 - self.value, 1 - self.high, 1 - self.low)


def stratified_mean(strata: Strata, seed: int = 0) -> Span:
    """Mean of the strata's means, so that each task weighs the same."""
    arrays = _arrays(strata)
    drawn = np.mean([each.mean(axis=1) for each in _resamples(arrays, seed)], axis=0)  # (R,)
    return _span(float(np.mean([each.mean() for each in arrays])), drawn, arrays)


def stratified_iqm(strata: Strata, seed: int = 0) -> Span:
    """Interquartile mean over all runs of all strata."""
    arrays = _arrays(strata)
    drawn = np.concatenate(_resamples(arrays, seed), axis=1)  # (R, runs)
    return _span(float(interquartile_mean(np.concatenate(arrays))), interquartile_mean(drawn), arrays)


def probability_of_improvement(first: Strata, second: Strata, seed: int = 0) -> Span:
    """P(a run of ``first`` scores above one of ``second``), ties half, averaged over the strata (Mann-Whitney).

    Args:
        first, second: for the same strata in the same order.
        seed: of the resampling.
    """
    ours, theirs = _arrays(first), _arrays(second)
    generator = np.random.default_rng(seed)
    values, drawn = [], []
    for a, b in zip(ours, theirs, strict=True):
        wins = (a[:, None] > b) + 0.5 * (a[:, None] == b)  # (n, m)
        values.append(wins.mean())
        # A resample is how often it holds each run: (R, n) and (R, m).
        drawn.append(((_counts(len(a), generator) @ wins) * _counts(len(b), generator)).sum(axis=1) / wins.size)
    return _span(float(np.mean(values)), np.mean(drawn, axis=0), ours + theirs)


def performance_profile(strata: Strata, levels: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """Share of runs that score above each of ``levels`` (T,): value, low and high of its 95 % band, (3, T)."""
    arrays = _arrays(strata)
    generator = np.random.default_rng(seed)
    above = np.concatenate(arrays)[:, None] > levels  # (runs, T)
    counts = np.concatenate([_counts(len(each), generator) for each in arrays], axis=1)  # (R, runs)
    if _single(arrays):
        low = high = np.full(len(levels), np.nan)
    else:
        low, high = np.quantile(counts @ above.astype(np.float64) / len(above), [0.025, 0.975], axis=0)
    return np.stack([above.mean(axis=0), low, high])


def _arrays(strata: Strata) -> list[NDArray[np.float64]]:
    arrays = [np.asarray(each, np.float64) for each in strata]
    if not arrays or not all(len(each) for each in arrays):
        raise ValueError("statistics need at least one stratum and at least one run in each.")
    if not all(np.isfinite(each).all() for each in arrays):
        raise ValueError("scores of runs must be finite.")
    return arrays


def _single(arrays: list[NDArray[np.float64]]) -> bool:
    return all(len(each) == 1 for each in arrays)


def _span(value: float, drawn: NDArray[np.float64], arrays: list[NDArray[np.float64]]) -> Span:
    return Span(value, float("nan"), float("nan")) if _single(arrays) else Span(value, *interval(drawn))


def _resamples(arrays: list[NDArray[np.float64]], seed: int) -> list[NDArray[np.float64]]:
    """For each stratum of n runs an array (R, n)."""
    generator = np.random.default_rng(seed)
    return [each[generator.integers(len(each), size=(RESAMPLES, len(each)))] for each in arrays]


def _counts(size: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """How often each of ``size`` runs is in each resample, (R, size)."""
    drawn = generator.integers(size, size=(RESAMPLES, size))
    places = drawn + size * np.arange(RESAMPLES)[:, None]  # each resample counts in its own row
    return np.bincount(places.ravel(), minlength=RESAMPLES * size).reshape(RESAMPLES, size).astype(np.float64)
