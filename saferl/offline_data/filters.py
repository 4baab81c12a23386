"""DSRL's data filters, as seeded pure functions: sparser, gappy, poisoned or noisy versions of a dataset.

Source: DSRL (Liu et al., 2023, "Datasets and Benchmarks for Offline Safe Reinforcement Learning") and its published
implementation. Where a function differs from that, its docstring says how and why.

A filter never changes its input, draws from nothing but its own seed and writes no file; arrays that it leaves as they
are may be shared with the input. Each adds its name, settings and counts to ``metadata["filters"]``.
C and R are the undiscounted cost and reward return of an episode.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saferl.offline_data.dataset import DatasetError, OfflineDataset
from saferl.offline_data.filter_settings import (
    DENSITY_PRESETS,
    FILTERS,
    Grid,
    InpaintRange,
    Noise,
    check_epsilon,
    check_inpaint,
    check_outlier,
    parse_filters,
)

if TYPE_CHECKING:
    from saferl.danger.relabelling import DangerLabels

__all__ = [
    "DENSITY_PRESETS",
    "FILTERS",
    "Grid",
    "Noise",
    "density",
    "epsilon",
    "filtered",
    "filtered_episodes",
    "inpaint",
    "noise",
    "outlier",
    "parse_filters",
]

Episodes = NDArray[np.intp]  # numbers of episodes, ascending

OUTLIER_REWARD = 1.5  # factor on an outlier's rewards, DSRL's


def filtered(dataset: OfflineDataset, spec: Any, seed: int, env_id: str | None = None) -> OfflineDataset:
    """The dataset under several filters by name: density, inpaint, outlier, epsilon, noise, danger, in this order.

    Each filter measures its ranges on what the one before it left. Inpainting comes before the outliers so that it
    removes none of them; DSRL draws the outliers first and spares them. Epsilon takes outliers for safe episodes,
    as a learner would.

    Args:
        dataset: stays as it is.
        spec: None or a mapping of names to values, as ``{"density": 0.5, "noise": 0.05}``; see ``parse_filters``.
        seed: >= 0; a filter's random numbers depend on it and on the filter's name, not on the other filters.
        env_id: environment whose presets and cost limit count; None takes ``metadata["env"]``.
    Returns: the same dataset if the spec is None or empty.
    Raises: DatasetError, one line that names the filter.
    """
    return filtered_episodes(dataset, spec, seed, env_id)[0]


def filtered_episodes(
    dataset: OfflineDataset, spec: Any, seed: int, env_id: str | None = None
) -> tuple[OfflineDataset, Episodes]:
    """``filtered``, and (K,) the number that each of its episodes has in ``dataset``, ascending."""
    env = env_id if env_id is not None else dataset.metadata.get("env")
    filters = parse_filters(spec, None if env is None else str(env))
    episodes = np.arange(dataset.n_episodes)
    if filters.density is not None:
        dataset, stay = _density(dataset, filters.density, seed)
        episodes = episodes[stay]
    if filters.inpaint is not None:
        dataset, stay = _inpaint(dataset, filters.inpaint)
        episodes = episodes[stay]
    if filters.outlier is not None and filters.cost_limit is not None:
        dataset = outlier(dataset, filters.outlier, filters.cost_limit, seed)
    if filters.epsilon is not None and filters.cost_limit is not None:
        dataset, stay = _epsilon(dataset, filters.epsilon, filters.cost_limit)
        episodes = episodes[stay]
    if filters.noise is not None:
        dataset = noise(dataset, filters.noise.scale, seed, filters.noise.one_std)
    if filters.danger is not None:
        dataset = _danger(dataset, filters.danger, seed, None if env is None else str(env))
    return dataset, episodes


def density(dataset: OfflineDataset, grid: Grid, seed: int) -> OfflineDataset:
    """The dataset with crowded cells of the (C, R) plane thinned and sparse ones emptied.

    The rectangle from the least to the greatest C and R of the data is cut into cbins x rbins equal cells. A cell with
    min_npb episodes or fewer is emptied; one with more than max_npb keeps a random choice of max_npb.

    A cell holds its lower edge, the last cell of a row or column both. DSRL puts episodes exactly at the greatest C or
    R into further cells behind the grid, and so drops the best episode where no others pay as much. It also draws from
    Python's global generator without a seed: its choices can't be repeated.

    Raises: DatasetError if no episode is left.
    """
    return _density(dataset, grid, seed)[0]


def inpaint(dataset: OfflineDataset, ranges: Sequence[InpaintRange]) -> OfflineDataset:
    """The dataset with rectangles of the (C, R) plane cut out.

    For each (c0, c1, r0, r1), one after the other: episodes with C between the shares c0 and c1 of the way from the
    data's least to its greatest C form a band; of the episodes left in the band, those with R between the shares r0 and
    r1 of the way from their least to their greatest R are removed. All edges belong to the rectangle. The range of C is
    that of the whole dataset, as DSRL has it.

    Raises: DatasetError for shares that make no sense, or if no episode is left.
    """
    return _inpaint(dataset, ranges)[0]


def outlier(dataset: OfflineDataset, share: float, cost_limit: float, seed: int) -> OfflineDataset:
    """The dataset with some risky, well-paid episodes disguised as safe and even better paid ones.

    max(1, floor(share * E)) of the E episodes are drawn among those with C >= max C / 2 and R >= max R / 2. The costs
    of each become ones at n random steps and zeros elsewhere, n ~ U{0, ..., floor(cost_limit) - 1} but at most its
    length; its rewards are multiplied by 1.5. Margins, where there are some, take the sign of the new cost and keep
    their size.

    Args:
        dataset: stays as it is; the result shares its observations, actions and flags.
        share: of all episodes, > 0 and <= 1.
        cost_limit: >= 1; every outlier's C is below it.
        seed: of the drawn episodes, costs and steps.
    Raises: DatasetError for values that make no sense, or with fewer candidates than wanted.
    """
    check_outlier(share, cost_limit)
    returns, costs = dataset.episode_returns()
    candidates = np.flatnonzero((costs >= costs.max() / 2) & (returns >= returns.max() / 2))
    wanted = max(1, int(share * dataset.n_episodes))
    if wanted > len(candidates):
        raise DatasetError(
            f"{dataset.source}: filters.outlier={share:g} asks for {wanted} of {dataset.n_episodes} episodes, but "
            f"{len(candidates)} have half the greatest cost and half the greatest reward return or more; ask for less."
        )
    generator = _generator("outlier", seed)
    rewards, new_costs = dataset.rewards.copy(), dataset.costs.copy()
    chosen = np.zeros(len(dataset), bool)  # rows
    for episode in np.sort(generator.choice(candidates, wanted, replace=False)):
        start, length = int(dataset.episode_starts[episode]), int(dataset.episode_lengths[episode])
        chosen[start : start + length] = True
        ones = min(int(generator.integers(int(cost_limit))), length)
        new_costs[start : start + length] = 0
        new_costs[start + generator.choice(length, ones, replace=False)] = 1
    rewards[chosen] *= OUTLIER_REWARD
    margins = dataset.margins
    if margins is not None:
        size = np.maximum(np.abs(margins), np.finfo(np.float32).tiny)  # h > 0 is a violation, h = 0 is none
        margins = np.where(chosen, np.where(new_costs > 0, size, -size), margins)
    note = f"outlier(share={share}, cost_limit={cost_limit}, seed={seed}): {wanted} of {dataset.n_episodes} episodes"
    return replace(dataset, rewards=rewards, costs=new_costs, margins=margins, metadata=_noted(dataset, note))


def epsilon(dataset: OfflineDataset, width: float, cost_limit: float) -> OfflineDataset:
    """The dataset without the best episodes on one side of the cost limit.

    width > 0, a harder task: of the safe episodes (C <= cost_limit) those with R >= (their greatest R) - width go.
    width < 0, an easier one: of the unsafe episodes (C > cost_limit) those with R >= (their greatest R) - |width| go.

    Args:
        dataset: stays as it is.
        width: in units of the reward return, not 0.
        cost_limit: on the undiscounted cost of an episode, >= 0.
    Raises: DatasetError for values that make no sense, or if no episode is left.
    """
    return _epsilon(dataset, width, cost_limit)[0]


def noise(dataset: OfflineDataset, scale: float, seed: int, one_std: bool = False) -> OfflineDataset:
    """The dataset with Gaussian sensor noise on its observations; actions stay exact, as in DSRL.

    o'_j = o_j + scale * std_j * n_j with n_j ~ N(0, 1), where std_j is the standard deviation of dimension j over all
    observations. What is seen after a step and before the next one is one reading and gets one noise.

    DSRL uses a single standard deviation over all dimensions and rows together: one large dimension then drowns the
    small ones. ``one_std=True`` does so too. It also draws the noise of ``next_observations`` anew, so that the two
    records of one reading differ; this function never does.

    Args:
        dataset: stays as it is; the result shares everything but the observations.
        scale: > 0.
        seed: of the noise.
        one_std: use the one standard deviation of DSRL.
    Raises: DatasetError for a scale that makes no sense.
    """
    Noise(scale=scale, one_std=one_std)  # checks them
    generator = _generator("noise", seed)
    size = (scale * _standard_deviations(dataset.observations, one_std)).astype(np.float32)  # (obs_dim,)
    last = dataset.episode_ends - 1  # (E,)
    drawn = generator.standard_normal(dataset.observations.shape, np.float32) * size  # (N, obs_dim)
    after_last = generator.standard_normal((len(last), dataset.obs_dim), np.float32) * size
    next_observations = dataset.next_observations.copy()
    next_observations[:-1] += drawn[1:]
    next_observations[last] = dataset.next_observations[last] + after_last
    drawn += dataset.observations
    metadata = _noted(dataset, f"noise(scale={scale}, one_std={one_std}, seed={seed})")
    return replace(dataset, observations=drawn, next_observations=next_observations, metadata=metadata)


def _density(dataset: OfflineDataset, grid: Grid, seed: int) -> tuple[OfflineDataset, Episodes]:
    returns, costs = dataset.episode_returns()
    cells = _cells(costs, grid.cbins) * grid.rbins + _cells(returns, grid.rbins)  # (E,)
    _, cell, size = np.unique(cells, return_inverse=True, return_counts=True)
    order = _generator("density", seed).permutation(len(cell))
    order = order[np.argsort(cell[order], kind="stable")]  # cell by cell, at random within each
    rank = np.arange(len(cell)) - np.repeat(np.cumsum(size) - size, size)  # place within the cell
    stay = np.sort(order[(size[cell[order]] > grid.min_npb) & (rank < grid.max_npb)])
    settings = ", ".join(f"{key}={value}" for key, value in asdict(grid).items())
    return _selected(dataset, stay, f"density({settings}, seed={seed})")


def _inpaint(dataset: OfflineDataset, ranges: Sequence[InpaintRange]) -> tuple[OfflineDataset, Episodes]:
    check_inpaint(ranges)
    returns, costs = dataset.episode_returns()
    left = np.ones(len(costs), bool)
    for least_cost, greatest_cost, least_return, greatest_return in ranges:
        band = left & _within(costs, costs, least_cost, greatest_cost)
        if band.any():
            left &= ~(band & _within(returns, returns[band], least_return, greatest_return))
    return _selected(dataset, np.flatnonzero(left), f"inpaint({[list(each) for each in ranges]})")


def _epsilon(dataset: OfflineDataset, width: float, cost_limit: float) -> tuple[OfflineDataset, Episodes]:
    check_epsilon(width, cost_limit)
    returns, costs = dataset.episode_returns()
    side = costs <= cost_limit if width > 0 else costs > cost_limit
    best = returns[side].max(initial=-np.inf)
    stay = np.flatnonzero(~(side & (returns >= best - abs(width))))
    return _selected(dataset, stay, f"epsilon(width={width}, cost_limit={cost_limit})")


def _danger(dataset: OfflineDataset, labels: "DangerLabels", seed: int, env_id: str | None) -> OfflineDataset:
    """Danger bits for costs, and no margins: see ``saferl.danger.relabelling``."""
    from saferl.danger.relabelling import relabelled

    try:
        new = relabelled(dataset, labels.make_oracle(env_id), labels.noise_model(), seed)
    except ValueError as error:
        raise DatasetError(str(error)) from None
    warned = int(new.costs.sum())
    note = f"danger({labels}, seed={seed}): {warned} of {len(new)} steps warned"
    return replace(new, metadata=_noted(dataset, note))


def _cells(values: NDArray[np.float64], bins: int) -> NDArray[np.intp]:
    """(E,) which of ``bins`` equal parts of their range each value lies in; all 0 where there is no range."""
    span = values.max() - values.min()
    if span == 0:
        return np.zeros(len(values), np.intp)
    return np.minimum((values - values.min()) / span * bins, bins - 1).astype(np.intp)


def _within(values: NDArray[np.float64], range_of: NDArray[np.float64], low: float, high: float) -> NDArray[np.bool_]:
    """Which values lie between two shares of the range of others; exact at the shares 0 and 1."""
    least, greatest = range_of.min(), range_of.max()
    return ((1 - low) * least + low * greatest <= values) & (values <= (1 - high) * least + high * greatest)


def _standard_deviations(observations: NDArray[np.float32], one_std: bool) -> NDArray[np.float64]:
    """(obs_dim,) of each dimension, or the one over all of them repeated."""
    means = observations.mean(0, dtype=np.float64)
    variances = np.array([column.var(dtype=np.float64) for column in observations.T])  # one at a time saves memory
    if one_std:  # law of total variance
        variances = np.full_like(variances, variances.mean() + means.var())
    return np.sqrt(variances)


def _selected(dataset: OfflineDataset, stay: Episodes, note: str) -> tuple[OfflineDataset, Episodes]:
    """The episodes (K,) that stay, with a note of how many they are; and ``stay`` again."""
    if not len(stay):
        raise DatasetError(f"{dataset.source}: filters: {note} leaves none of {dataset.n_episodes} episodes.")
    metadata = _noted(dataset, f"{note}: {dataset.n_episodes} -> {len(stay)} episodes")
    return replace(dataset.select(stay), metadata=metadata), stay


def _noted(dataset: OfflineDataset, note: str) -> dict[str, str | int | float]:
    """The dataset's metadata with one more filter."""
    before = dataset.metadata.get("filters")
    return {**dataset.metadata, "filters": f"{before}; {note}" if before else note}


def _generator(name: str, seed: int) -> np.random.Generator:
    """The filter's own random numbers."""
    if seed < 0:
        raise DatasetError(f"filters: the seed must be >= 0; got {seed}.")
    return np.random.default_rng([seed, FILTERS.index(name)])
