"""The frontier of offline data: the episodes that no other beats in return and cost, and labels beyond them.

Sources: Liu et al., Constrained Decision Transformer for Offline Safe Reinforcement Learning, ICML 2023, section 3.2;
Liu et al., Datasets and Benchmarks for Offline Safe Reinforcement Learning (DSRL), 2023, for BC on the frontier.
"""

from typing import NamedTuple

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

Array = NDArray[np.float64]

HIGHEST_DEGREE = 2  # of a curve whose degree is not given
GOOD_FIT = 0.9  # share of the frontier's variance from which a lower degree is enough
WIDTH = 0.2  # of the band about the frontier, as a share of the span of returns
COST_BINS, RETURN_BINS = 10, 50  # of the grid in which episodes are thinned
MOST_IN_BIN, FEWEST_IN_BIN = 10, 3


class Labels(NamedTuple):
    """A copies of recorded episodes under other labels."""

    episodes: NDArray[np.int64]  # (A,) which episode is copied
    returns: Array  # (A,) the return that it is said to have
    costs: Array  # (A,) and the cost, not less than its own


def pareto_set(returns: Array, costs: Array) -> NDArray[np.int64]:
    """Indices (P,), by rising cost, of the episodes whose return no episode reaches that costs as much or less.

    Args:
        returns, costs: (E,) undiscounted sums of each episode; of equal episodes the first is taken.
    """
    order = np.lexsort((-returns, costs))  # by cost, and by falling return where costs are equal
    best = np.maximum.accumulate(returns[order])
    return order[np.concatenate([[True], best[1:] > best[:-1]])]


def frontier_curve(returns: Array, costs: Array, degree: int | None = None) -> Polynomial:
    """Least-squares polynomial p(cost) through the Pareto set of (returns, costs), each (E,).

    Args:
        degree: None takes the lowest of 0, 1, 2 that explains nine tenths of the variance, else 2. As many points as
            there are limit it in both cases.
    """
    frontier = pareto_set(returns, costs)
    x, y = costs[frontier], returns[frontier]
    most = min(HIGHEST_DEGREE if degree is None else degree, len(x) - 1)
    curve = Polynomial([y.mean()])
    for each in range(most + 1) if degree is None else [most]:
        curve = Polynomial.fit(x, y, each)
        if degree is None and np.square(y - curve(x)).sum() <= (1 - GOOD_FIT) * np.square(y - y.mean()).sum():
            break
    return curve


def near_frontier(returns: Array, costs: Array) -> NDArray[np.bool_]:
    """(E,) whether |R - p(C)| <= (R_max - R_min) / 5, with the ``frontier_curve`` p."""
    return np.abs(returns - frontier_curve(returns, costs)(costs)) <= WIDTH * np.ptp(returns)


def labels_beyond(
    returns: Array,
    costs: Array,
    share: float,
    rng: np.random.Generator,
    degree: int | None = None,
    max_return: float | None = None,
    max_decrease: float | None = None,
) -> Labels:
    """Copies of episodes under returns beyond the frontier, so that a policy that is asked for too much keeps the cost.

    The episodes are thinned in a grid. Labelled costs C* lie evenly between the least and the greatest cost, labelled
    returns R* evenly at random between the frontier p(C*) and ``max_return``. To each label belongs the nearest episode
    that costs C* or less; of several labels with the same one, all but the first take one of its neighbours that are no
    dearer and earn at most ``max_decrease`` less, in proportion to 1 / (1 + distance). Distances are in percent of the
    spans of cost and return.

    Args:
        returns, costs: (E,) undiscounted sums of each episode.
        share: number of copies as a share of the thinned episodes.
        rng: of all draws.
        degree: of p; None as in ``frontier_curve``.
        max_return: None takes the best return and a tenth of the span of returns.
        max_decrease: None takes a fifth of that span.
    """
    spans = np.maximum([np.ptp(costs), np.ptp(returns)], 1e-12)
    pool = thinned(returns, costs, rng)
    curve = frontier_curve(returns[pool], costs[pool], degree)
    highest = returns.max() + spans[1] / 10 if max_return is None else max_return
    decrease = spans[1] / 5 if max_decrease is None else max_decrease

    count = int(share * len(pool))
    label_costs = np.linspace(costs[pool].min(), costs[pool].max(), count)
    lowest = np.minimum(curve(label_costs), highest)
    label_returns = lowest + (highest - lowest) * rng.random(count)

    scaled = (np.stack([costs, returns], axis=1)[pool] / spans * 100).astype(np.float32)  # (M, 2)
    labels = (np.stack([label_costs, label_returns], axis=1) / spans * 100).astype(np.float32)  # (A, 2)
    dearer = costs[pool] > label_costs[:, None]  # (A, M)
    nearest = np.where(dearer, np.inf, _distances(labels, scaled)).argmin(1)  # (A,)

    first = np.zeros(count, bool)
    first[np.unique(nearest, return_index=True)[1]] = True
    again = nearest[~first]  # (D,)
    allowed = (costs[pool] <= costs[pool][again, None]) & (returns[pool] >= returns[pool][again, None] - decrease)
    weights = np.where(allowed, 1 / (1 + _distances(scaled[again], scaled)), 0).cumsum(1)  # (D, M)
    drawn = rng.random((len(again), 1)) * weights[:, -1:]
    nearest[~first] = (weights <= drawn).sum(1)  # an episode is always its own neighbour, so the last weight is > 0
    return Labels(pool[nearest], label_returns, label_costs)


def thinned(returns: Array, costs: Array, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices (M,) of the episodes left when each cell of a 10 x 50 grid of (cost, return) keeps ten at random.

    Cells with one or two episodes count as outliers and keep none; if there are no others, all episodes stay.
    """
    cells = _bins(costs, COST_BINS) * RETURN_BINS + _bins(returns, RETURN_BINS)  # (E,)
    shuffled = rng.permutation(len(cells))
    order = shuffled[np.argsort(cells[shuffled], kind="stable")]  # by cell, at random inside of one
    _, starts, counts = np.unique(cells[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(starts, counts)
    kept = (rank < MOST_IN_BIN) & (np.repeat(counts, counts) >= FEWEST_IN_BIN)
    return np.sort(order[kept]) if kept.any() else np.arange(len(cells))


def _bins(values: Array, count: int) -> NDArray[np.int64]:
    """(E,) which of ``count`` equal parts of their range each value lies in."""
    span = np.ptp(values)
    if span == 0:
        return np.zeros(len(values), np.int64)
    return np.minimum((values - values.min()) / span * count, count - 1).astype(np.int64)


def _distances(points: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """(A, M) Euclidean distances of (A, 2) and (M, 2)."""
    return np.hypot(points[:, None, 0] - others[:, 0], points[:, None, 1] - others[:, 1])
