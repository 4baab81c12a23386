"""Thresholds from rows whose whole episode is left out, against plain rewrites in float64, and what that brings."""

import sys

import numpy as np
import pytest

from saferl.guardians import GuardianConfig, episode_numbers, fit_guardian, load_guardian
from saferl.guardians.density import held_out_bandwidth
from saferl.guardians.guardian import quantile_threshold
from saferl.guardians.neighbours import Neighbours
from tests.guardians.clouds import cloud, scaled

LENGTHS = [7, 1, 30, 12, 25, 3, 22]
EPISODES = np.repeat(np.arange(7), LENGTHS)
DATA = cloud(100)
ROWS = scaled(*DATA)
AMONG = np.where(EPISODES[:, None] == EPISODES, np.inf, np.linalg.norm(ROWS[:, None] - ROWS[None], axis=2))


def walks(episodes, length, seed=0):
    """Slow random walks: rows of one episode are near each other. (N, 3), (N, 1), (N,)."""
    rng = np.random.default_rng(seed)
    starts = rng.normal(size=(episodes, 1, 3))
    seen = starts + 0.03 * rng.normal(size=(episodes, length, 3)).cumsum(1)
    return seen.reshape(-1, 3), seen.reshape(-1, 3)[:, :1] / 3, np.repeat(np.arange(episodes), length)


@pytest.mark.parametrize(
    ("settings", "score"),
    [
        ({"bandwidth": 0.4}, lambda far, sigma=0.4: np.log(np.exp(-(far**2) / (2 * sigma**2)).mean())),
        ({"kind": "knn", "neighbours": 4}, lambda far: -np.sort(far)[3]),
        (
            {"bandwidth": 0.4, "neighbours": 6},
            lambda far, sigma=0.4: np.log(np.exp(-(np.sort(far)[:6] ** 2) / (2 * sigma**2)).sum() / len(far)),
        ),
    ],
)
def test_the_threshold_leaves_each_row_s_episode_out(settings, score):
    guardian = fit_guardian(*DATA, GuardianConfig(alpha=0.2, **settings), episodes=EPISODES)
    expected = [score(row[np.isfinite(row)]) for row in AMONG]
    np.testing.assert_allclose(guardian.left_out_scores(), expected, rtol=1e-3, atol=1e-3)
    assert guardian.threshold == pytest.approx(np.sort(expected)[20], rel=1e-3)
    alone = fit_guardian(*DATA, GuardianConfig(alpha=0.2, **settings))
    assert np.abs(guardian.left_out_scores() - alone.left_out_scores()).max() > 1e-2


def test_counts_leave_the_episode_out():
    rng = np.random.default_rng(0)
    states, actions, episodes = rng.integers(0, 5, 200), rng.integers(0, 3, 200), rng.integers(0, 9, 200)
    guardian = fit_guardian(states, actions, GuardianConfig(kind="counts"), episodes=episodes)
    everything = list(zip(states.tolist(), actions.tolist(), episodes.tolist()))
    expected = [sum((s, a) == (t, b) and e != f for t, b, f in everything) for s, a, e in everything]
    assert guardian.left_out_scores().tolist() == expected
    assert guardian.score(states[:1], actions[:1])[0] == sum((t, b) == everything[0][:2] for t, b, _ in everything)


@pytest.mark.parametrize("kind", ["kde", "knn", "counts", "density_ratio"])
def test_a_saved_guardian_knows_the_scores_again(kind, tmp_path):
    data = [np.random.default_rng(0).integers(0, 4, (100, 1)) for _ in range(2)] if kind == "counts" else DATA
    guardian = fit_guardian(*data, GuardianConfig(kind=kind, updates=10), episodes=EPISODES)
    again = load_guardian(guardian.save(tmp_path / kind))
    np.testing.assert_allclose(again.left_out_scores(), guardian.left_out_scores(), rtol=1e-6)
    assert again.threshold == guardian.threshold


@pytest.mark.parametrize("kind", ["kde", "knn"])
def test_new_episodes_are_covered_as_promised(kind):
    """Which a threshold from single rows does not do where rows of an episode are near each other."""
    config = GuardianConfig(kind=kind, alpha=0.1)
    shares = np.zeros(2)
    for seed in range(3):
        seen, done, episodes = walks(60, 20, seed)
        new_seen, new_done, _ = walks(100, 20, 100 + seed)
        for place, given in enumerate((None, episodes)):
            guardian = fit_guardian(seen, done, config, seed, episodes=given)
            shares[place] += guardian.supported(new_seen, new_done).mean() / 3
    assert shares[1] == pytest.approx(0.9, abs=0.06)
    assert shares[0] < shares[1] - 0.05


def test_networks_hold_out_whole_episodes():
    episodes = np.repeat(np.arange(20), 5)
    guardian = fit_guardian(*DATA, GuardianConfig(kind="density_ratio", updates=30), episodes=episodes)
    held = np.isin(guardian.score(*DATA), guardian.left_out_scores()).reshape(20, 5)
    assert held.all(axis=1).sum() == 4  # a fifth
    assert held.sum() == 20 == len(guardian.left_out_scores())


def test_the_bandwidth_holds_out_episodes():
    rows = scaled(*walks(40, 30)[:2]).astype(np.float32)
    episodes = np.repeat(np.arange(40), 30)
    rng = np.random.default_rng(0)
    shuffled, numbers = rng.permutation(1200), rng.permutation(40)[:4]
    apart = np.isin(episodes[shuffled], numbers)
    held, kept = rows[shuffled[apart]].astype(float), rows[shuffled[~apart]].astype(float)
    squares = np.square(held[:, None] - kept).sum(2)

    def likelihood(sigma):
        return np.log(np.exp(-squares / (2 * sigma**2)).mean(1)).mean() - 4 * np.log(sigma)

    best = held_out_bandwidth(rows, episodes=episodes)
    assert likelihood(best) >= max(likelihood(best * 1.13), likelihood(best / 1.13))
    assert best > 1.5 * held_out_bandwidth(rows)  # rows of its own episode would make it narrow


def test_an_approximate_search_leaves_episodes_out(tmp_path):
    if "faiss" not in sys.modules:
        pytest.importorskip("faiss")
    rows = ROWS.astype(np.float32)
    distances, elsewhere = Neighbours(rows, "faiss").query_left_out(3, EPISODES)
    np.testing.assert_allclose(distances, np.sort(AMONG, axis=1)[:, :3], rtol=1e-5)  # its lists are all looked into
    assert elsewhere.tolist() == [100 - LENGTHS[episode] for episode in EPISODES]


def test_a_row_s_own_episode_may_fill_the_lists_that_are_looked_into():
    if "faiss" not in sys.modules:
        pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    places, episodes = rng.normal(size=(2000, 3)), np.repeat(np.arange(2), 1000)
    rows = (places + 100 * np.eye(2, 3)[episodes]).astype(np.float32)  # two episodes, far apart
    distances, _ = Neighbours(rows, "faiss").query_left_out(3, episodes)
    among = np.linalg.norm(rows[:, None, :].astype(float) - rows[None], axis=2)
    among[episodes[:, None] == episodes] = np.inf
    np.testing.assert_allclose(distances, np.sort(among, axis=1)[:, :3], rtol=1e-4)


def test_where_other_episodes_have_fewer_rows_than_k_the_farthest_counts():
    rows, episodes = np.arange(12.0)[:, None], np.repeat([0, 1], [10, 2])
    guardian = fit_guardian(rows, rows, GuardianConfig(kind="knn", neighbours=5, alpha=0.1), episodes=episodes)
    scaled_gap = 2 * np.sqrt(2) / 11  # of neighbours, in both columns
    assert guardian.left_out_scores()[0] == pytest.approx(-11 * scaled_gap, rel=1e-5)  # two others: 10 and 11
    assert guardian.left_out_scores()[11] == pytest.approx(-6 * scaled_gap, rel=1e-5)  # 9, 8, 7, 6, 5
    assert np.isfinite(guardian.threshold)


def test_a_threshold_that_tells_nothing_apart_is_refused():
    with pytest.raises(ValueError, match=r"threshold is -inf.*give it more rows"):
        quantile_threshold(np.array([-np.inf, -np.inf, 1.0], np.float32), 0.4)


def test_episodes_are_checked():
    with pytest.raises(ValueError, match=r"episodes must be 100 whole numbers, one a row; got int64 \(99,\)"):
        fit_guardian(*DATA, GuardianConfig(), episodes=EPISODES[:-1])
    with pytest.raises(ValueError, match="all rows are of one episode"):
        fit_guardian(*DATA, GuardianConfig(), episodes=np.zeros(100, int))
    assert episode_numbers([2, 1]).tolist() == [0, 0, 1]
    assert episode_numbers([4]) is None
