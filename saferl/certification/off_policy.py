"""The cost of a policy from episodes that another one recorded, by importance sampling.

With the behaviour's density b and the policy's p, the weight of the first t steps of an episode is
w_t = prod_{k <= t} p(a_k | s_k) / b(a_k | s_k), and E_b[w_t f(s_t, a_t)] = E_p[f(s_t, a_t)] where b > 0 wherever p > 0.

What is a bound and what is only an estimate:

- ``ordinary`` and ``per_decision`` are unbiased if b is exact, but a few large weights may carry them: no bound.
- ``weighted`` divides by the sum of the weights: consistent, biased for finite data: no bound.
- ``safe_scores`` is what the bound is made of. Weights have no upper limit, and clipping them lowers the mean of what
  is >= 0, so that a bound on the clipped cost would be too low. What is clipped is the cost that was *saved*, the
  greatest possible one less the incurred: its clipped mean is at most the true one, hence its lower bound holds, and
  gives an upper bound on the cost. It holds wherever b is the true density of the recorded actions, and even where b
  lacks support, which lowers the mean too.

Sources: Precup, Sutton and Singh, Eligibility Traces for Off-Policy Policy Evaluation (ICML 2000), for the estimators;
Thomas, Theocharous and Ghavamzadeh, High-Confidence Off-Policy Evaluation (AAAI 2015), for bounds by clipped weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saferl.certification.bounds import Moments, lower_bound
from saferl.evaluation.statistics import interval

Array = NDArray[np.float64]
CLIPS = (1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)  # of the weights; one is chosen on the candidate half
LOWER_BOUNDS = ("empirical_bernstein", "hoeffding", "hoeffding_bentkus")  # among which it is chosen too
_RESAMPLES = 1_000
_MOST = 500.0  # of a log-weight: beyond, a float64 would overflow in sums


@dataclass(frozen=True)
class WeightedEpisodes:
    """E recorded episodes of at most H steps and the weights of their beginnings.

    Attributes:
        log_weights: (E, H) log of w_t; behind an episode's end that of its last step.
        costs: (E, H) of each step; 0 behind the end.
    """

    log_weights: Array
    costs: Array

    @property
    def totals(self) -> Array:
        """Undiscounted cost (E,) of each episode."""
        return self.costs.sum(axis=1)

    @property
    def weights(self) -> Array:
        """w_t, (E, H)."""
        return np.exp(np.minimum(self.log_weights, _MOST))

    @property
    def effective_episodes(self) -> float:
        """(sum w)^2 / sum w^2 of the whole episodes: how many unweighted ones would be worth as much."""
        final = self.log_weights[:, -1]
        if np.isneginf(final).all():
            return 0.0
        scaled = np.exp(final - final.max())
        return float(scaled.sum() ** 2 / (scaled**2).sum())


def weighted_episodes(
    log_ratios: ArrayLike, costs: ArrayLike, lengths: Sequence[int] | NDArray[np.int64], horizon: int | None = None
) -> WeightedEpisodes:
    """From rows as a dataset holds them, one episode after the other.

    Args:
        log_ratios: (N,) log p(a|s) - log b(a|s); -inf where the policy never takes the action.
        costs: (N,) of each step, >= 0.
        lengths: (E,) steps of each episode; they add up to N.
        horizon: H; None takes the longest episode.
    Raises: ValueError if they don't fit each other, a ratio is NaN or +inf, or an episode is longer than H.
    """
    ratios, values, steps = np.asarray(log_ratios, np.float64), np.asarray(costs, np.float64), np.asarray(lengths)
    if ratios.shape != values.shape or ratios.ndim != 1 or steps.sum() != len(ratios) or not len(steps):
        raise ValueError(f"{ratios.shape} ratios, {values.shape} costs and {steps.sum()} steps don't fit each other.")
    if np.isnan(ratios).any() or np.isposinf(ratios).any():
        row = int(np.flatnonzero(np.isnan(ratios) | np.isposinf(ratios))[0])
        raise ValueError(f"row {row}: the behaviour's density is 0 or NaN at an action that was recorded.")
    longest = int(steps.max()) if horizon is None else horizon
    if steps.max() > longest:
        raise ValueError(f"an episode has {steps.max()} steps, more than the horizon of {longest}.")
    position = np.arange(longest)[None, :]  # (1, H)
    inside = position < steps[:, None]  # (E, H)
    padded_costs, padded_ratios = np.zeros(inside.shape), np.zeros(inside.shape)
    padded_costs[inside], padded_ratios[inside] = values, ratios
    return WeightedEpisodes(np.cumsum(padded_ratios, axis=1), padded_costs)


def ordinary(episodes: WeightedEpisodes) -> Array:
    """w of the whole episode times its cost, (E,): their mean is the estimate."""
    return episodes.weights[:, -1] * episodes.totals


def per_decision(episodes: WeightedEpisodes) -> Array:
    """sum_t w_t c_t, (E,): their mean is the estimate."""
    return (episodes.weights * episodes.costs).sum(axis=1)


def weighted(episodes: WeightedEpisodes, counts: ArrayLike | None = None) -> Array:
    """sum_t (sum_i w_ti c_ti) / (sum_i w_ti).

    Args:
        episodes: E of them.
        counts: (B, E) how often each episode is in each of B resamples; None: each once.
    Returns: (B,) estimates, (1,) without counts.
    """
    multiples = np.ones((1, len(episodes.costs))) if counts is None else np.asarray(counts, np.float64)
    logs = episodes.log_weights
    weights = np.exp(logs - np.maximum(logs.max(axis=0), -_MOST))  # scaled alike within a step, which cancels
    below = multiples @ weights  # (B, H)
    shares = np.divide(multiples @ (weights * episodes.costs), below, out=np.zeros_like(below), where=below > 0)
    return shares.sum(axis=1)


def resampled_interval(estimate: Callable[[Array], Array], episodes: int, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval (95 %, approximate) of an estimate over episodes.

    Args:
        estimate: (B,) of counts (B, E).
        episodes: E.
        seed: of the resampling.
    """
    counts = np.random.default_rng(seed).multinomial(episodes, np.full(episodes, 1 / episodes), size=_RESAMPLES)
    return interval(estimate(counts.astype(np.float64)))


def safe_scores(episodes: WeightedEpisodes, clip: float, greatest: float) -> Array:
    """sum_{t < H} min(w_t, clip) (greatest - c_t), (E,), each in [0, clip H greatest].

    The mean is at most H greatest - E_p[cost]. Costs behind an episode's end are 0.

    Args:
        episodes: of horizon H.
        clip: > 0.
        greatest: cost of one step.
    Raises: ValueError if a step costs more.
    """
    if episodes.costs.max() > greatest:
        raise ValueError(
            f"a step cost {episodes.costs.max():g}, more than step_cost_max={greatest:g}; state the greatest cost that "
            "a step can have by step_cost_max=."
        )
    return (np.minimum(episodes.weights, clip) * (greatest - episodes.costs)).sum(axis=1)


def safe_events(episodes: WeightedEpisodes, clip: float, limit: float) -> Array:
    """min(w, clip) of the episodes that cost at most ``limit``, 0 of the others; (E,), each in [0, clip].

    The mean is at most the policy's probability of such an episode.
    """
    return np.minimum(episodes.weights[:, -1], clip) * (episodes.totals <= limit)


def upper_from_saved(
    bound: str, scores: ArrayLike, delta: float, top: float, clip: float, n: float | None = None
) -> float:
    """top - L: the upper bound on a cost (or a share of events) from what was saved of ``top``.

    Args:
        bound: a key of BOUNDS.
        scores: (E,) in [0, clip top].
        delta: with which it may fail.
        top: greatest cost of an episode, H times that of a step; 1 for events.
        clip: of the weights.
        n: episodes of another half that is predicted; None: E.
    """
    return top - lower_bound(bound, Moments.of(scores), delta, 0.0, clip * top, n)
