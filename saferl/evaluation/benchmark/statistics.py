"""Statistics over the runs of several tasks: interquartile means, probability of improvement, performance profiles.

Source: Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, NeurIPS 2021. A stratum is
what is comparable: one task at one limit. Bootstrap samples draw each stratum's runs with replacement, so that every
task keeps its weight. With three seeds intervals are wide and still too narrow: they can't know of a fourth.
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
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


def stratified_iqm(strata: Strata, seed: int = 0) -> Span:
    """Interquartile mean over all runs of all strata."""
    drawn = np.concatenate(_resamples(strata, np.random.default_rng(seed)), axis=1)  # (R, runs)
    value = interquartile_mean(np.concatenate([np.asarray(each, np.float64) for each in strata]))
    return Span(float(value), *interval(interquartile_mean(drawn)))


def probability_of_improvement(first: Strata, second: Strata, seed: int = 0) -> Span:
    """P(a run of ``first`` scores above one of ``second``), ties half, averaged over the strata (Mann-Whitney).

    Args:
        first, second: for the same strata in the same order.
        seed: of the resampling.
    """
    generator = np.random.default_rng(seed)
    ours, theirs = _resamples(first, generator), _resamples(second, generator)
    shares = np.mean([_above(a, b) for a, b in zip(ours, theirs, strict=True)], axis=0)  # (R,)
    value = np.mean([_above(np.array([a]), np.array([b]))[0] for a, b in zip(first, second, strict=True)])
    return Span(float(value), *interval(shares))


def performance_profile(strata: Strata, levels: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """Share of runs that score above each of ``levels`` (T,): value, low and high of its 95 % band, (3, T)."""
    drawn = np.concatenate(_resamples(strata, np.random.default_rng(seed)), axis=1)  # (R, runs)
    runs = np.concatenate([np.asarray(each, np.float64) for each in strata])
    shares = np.stack([(drawn > level).mean(axis=1) for level in levels])  # (T, R)
    low, high = np.quantile(shares, [0.025, 0.975], axis=1)
    return np.stack([(runs[:, None] > levels).mean(axis=0), low, high])


def _resamples(strata: Strata, generator: np.random.Generator) -> list[NDArray[np.float64]]:
    """For each stratum of n runs an array (R, n)."""
    arrays = [np.asarray(each, np.float64) for each in strata]
    if not arrays or not all(len(each) for each in arrays):
        raise ValueError("statistics need at least one stratum and at least one run in each.")
    return [each[generator.integers(len(each), size=(RESAMPLES, len(each)))] for each in arrays]


def _above(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R,) share of pairs with first > second, ties half; first (R, n), second (R, m)."""
    difference = first[:, :, None] - second[:, None, :]
    return ((difference > 0) + 0.5 * (difference == 0)).mean(axis=(1, 2))
