"""The rows of a safety case from recorded episodes: estimates and bounds, and what each is worth."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saferl.certification import off_policy
from saferl.certification.bounds import BOUNDS
from saferl.certification.densities import FITTED, actions_of
from saferl.certification.fitted_q import Features, fitted_q, unexplained_share
from saferl.certification.gate import Check, Constraint
from saferl.certification.off_policy import WeightedEpisodes
from saferl.certification.settings import CertifyConfig
from saferl.offline_data import OfflineDataset
from saferl.policy import Policy

_ROWS = 40_000  # transitions of the candidate half that the fitted Q uses at most
_DRAWS = 8  # actions for each start state
Facts = dict[str, Any]
Estimate = Callable[[NDArray[np.float64]], NDArray[np.float64]]  # counts (B, E) to values (B,)


@dataclass(frozen=True)
class Half:
    """One half of the data under the policy that is certified.

    Attributes:
        data: its episodes; horizon: steps after which an episode is cut.
        weights: None where no density of the behaviour is known.
        unfinished: episodes whose recording stopped before they ended.
    """

    data: OfflineDataset
    horizon: int
    weights: WeightedEpisodes | None
    unfinished: int

    @property
    def starts(self) -> NDArray[np.float32]:
        """First observations (E, obs_dim)."""
        return self.data.observations[self.data.episode_starts]


def self_normalised(constraint: Constraint, weights: WeightedEpisodes) -> Estimate:
    """The self-normalised estimate (B,) of counts (B, E)."""
    if constraint.kind == "mean":
        return lambda counts: off_policy.weighted(weights, counts)
    final = WeightedEpisodes(weights.log_weights[:, -1:], constraint.sample(weights.totals)[:, None])
    return lambda counts: off_policy.weighted(final, counts)


def _mean_of(values: NDArray[np.float64]) -> Estimate:
    """The mean (B,) of values (E,) under counts (B, E)."""
    return lambda counts: counts @ values / len(values)


def weighted_estimates(
    config: CertifyConfig,
    constraints: Sequence[Constraint],
    chosen: Sequence[tuple[Constraint, float]],
    checks: Sequence[Check],
    half: Half,
    faults: Sequence[str],
) -> list[Facts]:
    """A row for each estimate and bound by importance sampling."""
    rows: list[Facts] = []
    if half.weights is None:
        return rows
    weights, n = half.weights, half.data.n_episodes
    exact = config.behaviour != FITTED
    unbiased = "unbiased, but a few large weights may carry it" if exact else "biased: the density is fitted"
    for constraint, (bounded, clip), check in zip(constraints, chosen, checks):
        of = "cost of an episode" if constraint.kind == "mean" else "share of events"
        samples = {"importance sampling": weights.weights[:, -1] * constraint.sample(weights.totals)}
        if constraint.kind == "mean":
            samples["per-decision importance sampling"] = off_policy.per_decision(weights)
        for name, values in samples.items():
            ends = off_policy.resampled_interval(_mean_of(values), n)
            rows.append(_row(name, of, float(values.mean()), ends, False, unbiased))
        ends = off_policy.resampled_interval(self_normalised(constraint, weights), n)
        words = "consistent, but biased for a finite number of episodes"
        rows.append(_row("weighted importance sampling", of, check.mean, ends, False, words))
        if check.upper is not None:
            label = f"upper bound, weights clipped at {clip:g}, {BOUNDS[bounded.bound].label}"
            held = (
                "Student's t: approximate" if BOUNDS[bounded.bound].approximate else "holds if the assumptions below do"
            )
            rows.append(_row(label, of, check.upper, None, not BOUNDS[bounded.bound].approximate, held))
        else:
            rows.append(_row("upper bound", of, None, None, False, f"none: {'; '.join(faults)}"))
    return rows


def _row(
    method: str, of: str, estimate: float | None, ends: tuple[float, float] | None, is_bound: bool, validity: str
) -> Facts:
    return {
        "method": method,
        "of": of,
        "estimate": estimate,
        "interval": None if ends is None else list(ends),
        "is_bound": is_bound,
        "validity": validity,
    }


def fitted_estimate(config: CertifyConfig, candidate: Half, test: Half, policy: Policy) -> Facts:
    """The fitted-Q estimate: fitted on the candidate half, averaged over the starts of the test half."""
    data, generator = candidate.data, np.random.default_rng(0)
    rows = generator.choice(len(data), min(_ROWS, len(data)), replace=False)
    pairs = np.concatenate([data.observations[rows], data.actions[rows]], axis=1)
    features = Features.fitted(pairs, seed=0)
    ahead = np.concatenate([data.next_observations[rows], actions_of(policy, data.next_observations[rows])], axis=1)
    matrix, following = features(pairs), features(ahead)
    costs, top = data.costs[rows].astype(np.float64), config.step_cost_max
    weights = fitted_q(matrix, following, costs, data.terminals[rows], candidate.horizon, top)
    later = (following @ weights) * ~data.terminals[rows]
    left = unexplained_share(matrix, costs + later, weights)
    starts = np.repeat(test.starts, _DRAWS, axis=0)
    values = features(np.concatenate([starts, actions_of(policy, starts)], axis=1)) @ weights
    per_episode = values.reshape(-1, _DRAWS).mean(axis=1)
    ends = off_policy.resampled_interval(_mean_of(per_episode), len(per_episode))
    words = (
        "nothing bounds its error; the interval is over starts only; the fit leaves "
        f"{100 * left:.1f} % of the targets' variance"
    )
    return _row("fitted-Q evaluation", "cost of an episode", max(float(per_episode.mean()), 0.0), ends, False, words)


def weight_facts(half: Half, chosen: Sequence[tuple[Constraint, float]], name: str) -> Facts:
    """What tells how far weights can be trusted."""
    returns, costs = half.data.episode_returns()
    facts: Facts = {
        f"episodes of the {name} half": half.data.n_episodes,
        "their mean return and cost, of the behaviour": f"{returns.mean():.4g} and {costs.mean():.4g}",
    }
    if half.weights is not None:
        final = half.weights.weights[:, -1]
        clip = max(clip for _, clip in chosen)
        facts |= {
            "effective episodes, (sum w)^2 / sum w^2": f"{half.weights.effective_episodes:.1f}",
            "mean weight of an episode (1 if the density is right)": f"{final.mean():.4g}",
            "greatest weight": f"{final.max():.4g}",
            f"weights above the clip of {clip:g}": f"{100 * float((final > clip).mean()):.1f} %",
        }
    return facts
