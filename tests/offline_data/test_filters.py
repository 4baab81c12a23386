"""DSRL's data filters against slow plain rewrites, the published presets, and what they must leave alone."""

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from saferl.offline_data import DatasetError, OfflineDataset, load_hdf5, save_hdf5
from saferl.offline_data.filters import (
    FILTERS,
    Grid,
    density,
    epsilon,
    filtered,
    filtered_episodes,
    inpaint,
    noise,
    outlier,
)
from tests.offline_data.arrays import CAR, assert_same, cloud, episodes, numbers

ORACLES = Path(__file__).resolve().parents[3] / "shared" / "oracles" / "dsrl"
EVERYTHING = {
    "noise": 0.05,  # not in the order of application
    "danger": {"noise": "fp", "p": 0.3},
    "epsilon": 1.0,
    "outlier": 0.05,
    "inpaint": [[0.2, 0.4, 0.5, 0.8], [0.9, 1, 0, 1]],
    "density": {"cbins": 6, "rbins": 6, "max_npb": 9, "min_npb": 1},
    "cost_limit": 6,
}


# ---- density


def slow_cells(dataset, grid):
    """Lists of the episodes in each cell, by walking along the edges of the grid."""
    returns, costs = dataset.episode_returns()

    def part(value, values, bins):
        width = (max(values) - min(values)) / bins
        return next((k for k in range(bins - 1) if value < min(values) + (k + 1) * width), bins - 1)

    cells: dict = {}
    for number, (cost, reward) in enumerate(zip(costs, returns)):
        cell = part(cost, costs, grid.cbins), part(reward, returns, grid.rbins)
        cells.setdefault(cell, []).append(number)
    return cells


@pytest.mark.parametrize("grid", [Grid(cbins=4, rbins=7, max_npb=9, min_npb=4), Grid(), Grid(max_npb=2, min_npb=0)])
def test_each_cell_keeps_what_the_slow_count_says(grid):
    dataset = cloud()
    kept = numbers(density(dataset, grid, seed=3))
    assert kept == sorted(kept)
    sizes = []
    for members in slow_cells(dataset, grid).values():
        left = len(set(members) & set(kept))
        sizes.append(len(members))
        assert left == (0 if len(members) <= grid.min_npb else min(len(members), grid.max_npb))
    assert max(sizes) > grid.max_npb  # the case is not an easy one


def test_all_episodes_of_a_crowded_cell_have_the_same_chance():
    dataset = episodes([0] * 10 + [9] * 3, [1.0] * 10 + [5.0] * 3)
    grid, trials = Grid(cbins=2, rbins=2, max_npb=4, min_npb=1), 2_000
    stayed = np.zeros(13)
    for seed in range(trials):
        stayed[numbers(density(dataset, grid, seed))] += 1 / trials
    assert stayed[10:].tolist() == pytest.approx([1, 1, 1])
    assert np.abs(stayed[:10] - 0.4).max() < 4.5 * math.sqrt(0.4 * 0.6 / trials)


def test_episodes_at_the_upper_edges_belong_to_the_last_cell():  # DSRL puts the best one alone behind the grid
    dataset = episodes([0, 0, 0, 9, 9, 10], [0, 0, 0, 9, 9.5, 10])
    assert numbers(density(dataset, Grid(cbins=2, rbins=2, max_npb=9, min_npb=2), seed=0)) == [0, 1, 2, 3, 4, 5]


def test_data_without_any_spread_are_one_cell():
    dataset = episodes([2] * 8, [1.0] * 8)
    assert density(dataset, Grid(max_npb=5, min_npb=2), seed=0).n_episodes == 5


# ---- inpaint


def slow_inpaint(dataset, ranges):
    returns, costs = dataset.episode_returns()
    least, greatest = min(costs), max(costs)
    left = list(range(len(costs)))
    for c0, c1, r0, r1 in ranges:
        band = [e for e in left if least + c0 * (greatest - least) <= costs[e] <= least + c1 * (greatest - least)]
        low, high = min(returns[e] for e in band), max(returns[e] for e in band)
        gone = [e for e in band if low + r0 * (high - low) <= returns[e] <= low + r1 * (high - low)]
        assert gone
        left = [e for e in left if e not in gone]
    return left


@pytest.mark.parametrize(
    "ranges",
    [
        [(0.2, 0.4, 0.5, 0.8)],
        [(0, 1, 0.75, 1)],
        [(0.5, 1, 0, 0.5), (0.4, 0.6, 0.25, 0.75), (0, 0, 0, 0.3)],
        [(0.7, 1, 0, 1), (0.6, 0.6, 0, 0.5)],
    ],
)
def test_ranges_are_cut_out_as_the_slow_rewrite_does(ranges):
    dataset = cloud()
    assert numbers(inpaint(dataset, ranges)) == slow_inpaint(dataset, ranges)


def test_a_range_where_there_is_nothing_removes_nothing():
    dataset = episodes([0, 0, 10, 10], [1, 2, 3, 4])
    assert numbers(inpaint(dataset, [(0.4, 0.6, 0, 1)])) == [0, 1, 2, 3]


def test_the_full_range_leaves_nothing_and_says_so():
    with pytest.raises(DatasetError, match=r"filters: inpaint\(\[\[0, 1, 0, 1\]\]\) leaves none of 400 episodes\.$"):
        inpaint(cloud(), [(0, 1, 0, 1)])


# ---- outlier


def changed_episodes(before: OfflineDataset, after: OfflineDataset) -> list[int]:
    return [n for n, rows in enumerate(before.episode_slices) if (before.rewards[rows] != after.rewards[rows]).any()]


def test_outliers_look_safe_and_pay_half_as_much_again():
    dataset = cloud(margins=True)
    poisoned = outlier(dataset, share=0.06, cost_limit=4.9, seed=5)
    chosen = changed_episodes(dataset, poisoned)
    assert len(chosen) == 24  # 6 % of 400
    returns, costs = dataset.episode_returns()
    new_returns, new_costs = poisoned.episode_returns()
    for number, rows in enumerate(dataset.episode_slices):
        if number in chosen:
            assert costs[number] >= max(costs) / 2
            assert returns[number] >= max(returns) / 2
            assert new_returns[number] == pytest.approx(1.5 * returns[number])
            assert new_costs[number] in (0, 1, 2, 3)
            assert set(poisoned.costs[rows]) <= {0, 1}
        else:
            for key in ("rewards", "costs", "margins"):
                np.testing.assert_array_equal(poisoned.arrays()[key][rows], dataset.arrays()[key][rows])
    for key in ("observations", "next_observations", "actions", "terminals", "timeouts"):
        np.testing.assert_array_equal(poisoned.arrays()[key], dataset.arrays()[key])


def test_margins_of_outliers_agree_with_their_costs():
    dataset = cloud(margins=True)
    dataset.margins[::7] = 0  # neither side
    poisoned = outlier(dataset, share=0.06, cost_limit=9, seed=5)
    rows = np.concatenate([np.r_[dataset.episode_slices[n]] for n in changed_episodes(dataset, poisoned)])
    assert poisoned.margins is not None
    np.testing.assert_array_equal(poisoned.margins[rows] > 0, poisoned.costs[rows] == 1)
    np.testing.assert_allclose(np.abs(poisoned.margins), np.abs(dataset.margins), atol=1e-30)


def test_costs_of_outliers_are_uniform_below_the_limit_and_so_are_their_places():
    dataset = episodes([10] * 3_000, [1.0] * 3_000)
    poisoned = outlier(dataset, share=1, cost_limit=5, seed=0)
    counts = np.bincount(poisoned.episode_returns()[1].astype(int), minlength=10)
    assert counts[5:].sum() == 0
    assert np.abs(counts[:5] / 3_000 - 1 / 5).max() < 4.5 * math.sqrt(1 / 5 * 4 / 5 / 3_000)
    places = poisoned.costs.reshape(3_000, 10).mean(0)  # mean cost 2 over 10 places
    assert np.abs(places - 0.2).max() < 4.5 * math.sqrt(0.2 * 0.8 / 3_000)


def test_an_outlier_shorter_than_its_cost_is_full_of_it():
    poisoned = outlier(episodes([2] * 50, [1.0] * 50, length=2), share=1, cost_limit=1_000, seed=0)
    assert poisoned.episode_returns()[1].tolist() == pytest.approx([2] * 50, abs=1)  # 0 or 1 in 0.2 % of the draws


def test_at_least_one_outlier_and_no_more_than_there_are_candidates():
    dataset = cloud()
    assert len(changed_episodes(dataset, outlier(dataset, 1e-6, 5, seed=0))) == 1
    returns, costs = dataset.episode_returns()
    candidates = sum(c >= max(costs) / 2 and r >= max(returns) / 2 for c, r in zip(costs, returns))
    outlier(dataset, candidates / 400, 5, seed=0)
    with pytest.raises(DatasetError, match=f"asks for {candidates + 1} of 400 episodes, but {candidates} have half"):
        outlier(dataset, (candidates + 1) / 400, 5, seed=0)


# ---- epsilon


@pytest.mark.parametrize("width", [0.5, 3.0, -0.5, -6])
def test_epsilon_takes_the_best_of_one_side(width):
    dataset = cloud()
    returns, costs = dataset.episode_returns()
    side = [e for e in range(400) if (costs[e] <= 6 if width > 0 else costs[e] > 6)]
    best = max(returns[e] for e in side)
    gone = [e for e in side if best - abs(width) <= returns[e] <= best]
    left = numbers(epsilon(dataset, width, cost_limit=6))
    assert 0 < len(gone) < len(side)
    assert left == [e for e in range(400) if e not in gone]


def test_epsilon_without_an_episode_on_its_side_removes_nothing():
    assert epsilon(cloud(), -3, cost_limit=10).n_episodes == 400


# ---- noise


def test_noise_of_each_dimension_is_a_share_of_its_own_spread():
    dataset = cloud(2_000)
    for key in ("observations", "next_observations"):
        added = noise(dataset, 0.3, seed=1).arrays()[key] - dataset.arrays()[key]
        assert added.mean(0) == pytest.approx([0, 0, 0, 0], abs=4.5 * 0.3 * 600 / math.sqrt(20_000))
        # standard deviations: a uniform number below 2,000, 1, 100, none
        assert added.std(0) == pytest.approx([0.3 * 2_000 / math.sqrt(12), 0.3, 30, 0], rel=0.03)


def test_noise_with_one_std_is_that_of_all_values_together():
    dataset = cloud(2_000)
    added = noise(dataset, 0.3, seed=1, one_std=True).observations - dataset.observations
    assert added.std(0) == pytest.approx([0.3 * np.std(dataset.observations, dtype=np.float64)] * 4, rel=0.03)


def test_one_reading_gets_one_noise_and_other_readings_get_others():
    noisy = noise(cloud(), 0.3, seed=1)
    for rows in noisy.episode_slices:
        np.testing.assert_array_equal(noisy.next_observations[rows][:-1], noisy.observations[rows][1:])
    changing = noisy.observations[:, 1:3]
    assert len(np.unique(changing, axis=0)) == len(changing)
    last, first = noisy.episode_ends[:-1] - 1, noisy.episode_starts[1:]
    assert abs(np.corrcoef(noisy.next_observations[last, 1], noisy.observations[first, 1])[0, 1]) < 0.25


def test_noise_leaves_everything_but_the_observations():
    dataset = cloud(margins=True)
    noisy = noise(dataset, 0.3, seed=1)
    for key in dataset.arrays().keys() - {"observations", "next_observations"}:
        np.testing.assert_array_equal(noisy.arrays()[key], dataset.arrays()[key])


# ---- several at once


def test_several_filters_are_applied_in_the_stated_order():
    dataset = cloud()
    step = density(dataset, Grid(cbins=6, rbins=6, max_npb=9, min_npb=1), seed=2)
    step = inpaint(step, [(0.2, 0.4, 0.5, 0.8), (0.9, 1, 0, 1)])
    step = outlier(step, 0.05, 6, seed=2)
    step = epsilon(step, 1.0, 6)
    step = filtered(noise(step, 0.05, seed=2), {"danger": EVERYTHING["danger"]}, seed=2)
    together, numbers_left = filtered_episodes(dataset, EVERYTHING, seed=2)
    assert_same(together, step)
    assert together.metadata == step.metadata
    np.testing.assert_array_equal(together.actions, dataset.select(numbers_left).actions)
    assert FILTERS == ("density", "inpaint", "outlier", "epsilon", "noise", "danger")


def test_what_a_filter_draws_does_not_depend_on_the_others():
    dataset = cloud()
    alone = filtered(dataset, {"density": EVERYTHING["density"]}, seed=4)
    with_noise = filtered(dataset, {"density": EVERYTHING["density"], "noise": 0.1, "outlier": None}, seed=4)
    np.testing.assert_array_equal(alone.actions, with_noise.actions)


def test_no_filter_gives_the_dataset_itself():
    dataset = cloud()
    assert filtered(dataset, None, seed=0) is dataset
    assert filtered(dataset, {"noise": None}, seed=0) is dataset
    assert "filters" not in dataset.metadata


@pytest.mark.parametrize("name", [name for name in FILTERS if name not in ("inpaint", "epsilon")])
def test_a_seed_repeats_its_dataset_and_another_gives_another(name):
    spec = {name: EVERYTHING[name]} | ({"cost_limit": 6} if name == "outlier" else {})
    first, again, other = (filtered(cloud(), spec, seed=seed) for seed in (1, 1, 2))
    assert_same(first, again)
    assert any(
        left.shape != right.shape or (left != right).any()
        for left, right in zip(first.arrays().values(), other.arrays().values())
    )


def test_input_random_states_and_folder_stay_as_they_were(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = cloud(margins=True)
    before, metadata = {key: array.copy() for key, array in dataset.arrays().items()}, dict(dataset.metadata)
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    for array in dataset.arrays().values():
        array.setflags(write=False)  # a filter that writes into its input fails here
    filtered(dataset, EVERYTHING, seed=0)
    for key, array in dataset.arrays().items():
        np.testing.assert_array_equal(array, before[key])
    assert dataset.metadata == metadata
    assert random.getstate() == states[0]
    assert all(np.array_equal(old, new) for old, new in zip(states[1], np.random.get_state()))  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
    assert list(tmp_path.iterdir()) == []


def test_the_file_of_a_filtered_dataset_says_what_was_done(tmp_path):
    dataset = filtered(cloud(), {"density": 0.5, "noise": 0.05}, seed=1234)
    save_hdf5(filtered(dataset, {"epsilon": 1}, seed=0), tmp_path / "a.hdf5")
    kept, left = dataset.n_episodes, load_hdf5(tmp_path / "a.hdf5").n_episodes
    assert load_hdf5(tmp_path / "a.hdf5").metadata == {
        "env": CAR,
        "filters": f"density(cbins=10, rbins=50, max_npb=5, min_npb=2, seed=1234): 400 -> {kept} episodes; "
        f"noise(scale=0.05, one_std=False, seed=1234); epsilon(width=1, cost_limit=10.0): {kept} -> {left} episodes",
    }
