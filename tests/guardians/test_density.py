"""Kernel density, nearest neighbours and their search, against plain numpy in float64."""

import sys

import numpy as np
import pytest
from scipy.stats import norm

from saferl.guardians import GuardianConfig, fit_guardian
from saferl.guardians.density import held_out_bandwidth
from saferl.guardians.neighbours import Neighbours
from tests.guardians.clouds import cloud, scaled

DATA, QUERIES = cloud(300), cloud(50, seed=7)
ROWS, POINTS = scaled(*DATA), scaled(*QUERIES, reference=DATA)
DISTANCES = np.linalg.norm(POINTS[:, None] - ROWS[None], axis=2)  # (50, 300)
AMONG = np.linalg.norm(ROWS[:, None] - ROWS[None], axis=2)  # (300, 300)


@pytest.mark.parametrize("sigma", [0.3, 0.02])
def test_kernel_density_is_the_mean_of_the_kernels(sigma):
    guardian = fit_guardian(*DATA, GuardianConfig(bandwidth=sigma))
    expected = np.logaddexp.reduce(-(DISTANCES**2) / (2 * sigma**2), axis=1) - np.log(300)
    np.testing.assert_allclose(guardian.score(*QUERIES), expected, rtol=1e-5, atol=1e-5)


def test_close_pairs_keep_their_distances():
    observations, actions = (np.repeat(each, 2, axis=0) for each in cloud(50))
    observations[::2, 0] += 1e-4  # pairs, some 1e-5 apart once they are scaled: float32 products would lose that
    guardian = fit_guardian(observations, actions, GuardianConfig(bandwidth=1e-4))
    gap = np.linalg.norm(np.diff(scaled(observations, actions), axis=0)[::2], axis=1)
    expected = np.log(np.exp(-(gap**2) / (2 * 1e-4**2)) / 99)
    np.testing.assert_allclose(guardian.left_out_scores()[::2], expected, atol=0.01)


def test_the_threshold_leaves_each_row_out_of_its_own_density():
    guardian = fit_guardian(*DATA, GuardianConfig(bandwidth=0.1, alpha=0.2))
    kernels = np.exp(-(AMONG**2) / (2 * 0.1**2))
    np.fill_diagonal(kernels, 0)
    without_itself = np.log(kernels.sum(1) / 299)
    np.testing.assert_allclose(guardian.left_out_scores(), without_itself, rtol=1e-3, atol=1e-3)
    assert guardian.threshold == pytest.approx(np.sort(without_itself)[60], rel=1e-3)
    biased = np.quantile(np.log((kernels.sum(1) + 1) / 300), 0.2)  # with its own kernel: nothing is below ln(1 / N)
    assert guardian.threshold < biased - 0.1


def test_kernels_of_the_nearest_rows_bound_the_density_from_below():
    guardian = fit_guardian(*DATA, GuardianConfig(bandwidth=0.3, neighbours=30))
    nearest = np.sort(DISTANCES, axis=1)[:, :30]
    expected = np.log(np.exp(-(nearest**2) / (2 * 0.3**2)).sum(1) / 300)
    np.testing.assert_allclose(guardian.score(*QUERIES), expected, rtol=1e-5)
    assert (expected < np.log(np.exp(-(DISTANCES**2) / (2 * 0.3**2)).mean(1))).all()
    others = np.sort(AMONG, axis=1)[:, 1:31]
    left_out = np.log(np.exp(-(others**2) / (2 * 0.3**2)).sum(1) / 299)
    np.testing.assert_allclose(guardian.left_out_scores(), left_out, rtol=1e-5)


def test_nearest_neighbours_are_the_sorted_distances():
    guardian = fit_guardian(*DATA, GuardianConfig(kind="knn", neighbours=4))
    np.testing.assert_allclose(guardian.score(*QUERIES), -np.sort(DISTANCES, axis=1)[:, 3], rtol=1e-5)
    np.testing.assert_allclose(guardian.left_out_scores(), -np.sort(AMONG, axis=1)[:, 4], rtol=1e-5)


@pytest.mark.parametrize("search", ["exact", "faiss"])
def test_a_row_that_is_there_twice_leaves_out_only_itself(search):
    if search == "faiss":
        pytest.importorskip("faiss")
    rows = np.repeat(scaled(*cloud(40)), 2, axis=0).astype(np.float32)
    distances = Neighbours(rows, search).query_left_out(2)[0]
    plain = np.sort(np.linalg.norm(rows[:, None].astype(float) - rows[None], axis=2), axis=1)
    assert (distances[:, 0] == 0).all()  # its double
    np.testing.assert_allclose(distances, plain[:, 1:3], atol=1e-6)


@pytest.mark.parametrize("kind", ["kde", "knn"])
def test_density_grows_where_rows_are_duplicated(kind):
    observations, actions = DATA
    config = GuardianConfig(kind=kind, bandwidth=0.2, neighbours=None if kind == "kde" else 3)
    twice = [np.concatenate([each, each[:30], each[:30]]) for each in (observations, actions)]
    once, more = fit_guardian(*DATA, config), fit_guardian(*twice, config)
    here, there = (observations[:30], actions[:30]), (observations[30:], actions[30:])
    assert (more.score(*here) > once.score(*here)).all()
    if kind == "kde":  # a mean over more rows, so less for rows far from the doubled ones
        assert (more.score(*there) < once.score(*there)).mean() > 0.5


def test_the_bandwidth_is_that_of_the_source():
    """Rows x = c + noise with few centres c, far apart: the likeliest kernel is the noise's own normal density."""
    rng = np.random.default_rng(0)
    centres = rng.uniform(-1, 1, (20, 4))
    rows = (centres[rng.integers(20, size=2000)] + 0.02 * rng.normal(size=(2000, 4))).astype(np.float32)
    # The mean of kernels around noisy rows has the variance sigma^2 + 0.02^2; so sigma is somewhat less than 0.02.
    assert 0.004 < held_out_bandwidth(rows) < 0.02


def test_the_bandwidth_maximises_the_likelihood_of_the_held_out_rows():
    rows = scaled(*cloud(400)).astype(np.float32)
    shuffled = np.random.default_rng(0).permutation(400)
    held, kept = rows[shuffled[:40]].astype(float), rows[shuffled[40:]].astype(float)

    def likelihood(sigma):
        return np.log(norm.pdf(held[:, None], kept[None], sigma).prod(2).mean(1)).mean()

    best = held_out_bandwidth(rows)
    assert likelihood(best) >= max(likelihood(best * 1.13), likelihood(best / 1.13))


def test_at_most_so_many_rows_are_kept():
    guardian = fit_guardian(*DATA, GuardianConfig(kind="knn", rows=100), seed=1)
    assert len(guardian.left_out_scores()) == 100
    np.testing.assert_array_equal(guardian.scale.low, np.hstack(DATA).min(0))  # the scale is that of all rows


def test_many_columns_are_searched_as_exactly():
    rows = scaled(*cloud(400, obs_dim=25)).astype(np.float32)
    rows[200:210] = rows[:10] + np.float32(1e-5)  # closer than float32 products can tell from 0
    search = Neighbours(rows, "exact")
    plain = np.sort(np.linalg.norm(rows[:, None].astype(float) - rows[None], axis=2), axis=1)
    np.testing.assert_allclose(search.query_left_out(4)[0], plain[:, 1:5], rtol=1e-6)
    points = scaled(*cloud(30, seed=3, obs_dim=25)).astype(np.float32)
    expected = np.argsort(np.linalg.norm(points[:, None].astype(float) - rows[None], axis=2), axis=1)[:, :6]
    assert np.array_equal(search.query(points, 6)[1], expected)


def test_faiss_finds_the_nearest_rows():
    pytest.importorskip("faiss")
    rows = scaled(*cloud(3000, obs_dim=10)).astype(np.float32)
    points = rows[:200] + np.float32(0.01)
    exact, approximate = (Neighbours(rows, search).query(points, 5)[0] for search in ("exact", "faiss"))
    assert (approximate >= exact - 1e-6).all()
    assert np.isclose(approximate, exact, atol=1e-6).mean() > 0.9


def test_a_missing_faiss_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ValueError, match=r"pip install 'saferl\[guardian\]', or take guardian.search=exact"):
        fit_guardian(*DATA, GuardianConfig(kind="knn", search="faiss"))
