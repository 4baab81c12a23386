import numpy as np
import pytest

from saferl.offline_data.frontier import frontier_curve, labels_beyond, near_frontier, pareto_set, thinned


def cloud(count, seed=0):
    """Episodes whose best return for a cost C in 0..100 is 10 + C / 2."""
    rng = np.random.default_rng(seed)
    costs = rng.uniform(0, 100, count)
    return (10 + costs / 2) * rng.uniform(0.3, 1, count), costs


def test_the_pareto_set_is_what_no_episode_beats():
    rng = np.random.default_rng(0)
    returns, costs = rng.integers(0, 12, 60).astype(float), rng.integers(0, 12, 60).astype(float)
    slow = {
        (r, c)
        for r, c in zip(returns, costs)
        if not any((s >= r and d <= c and (s, d) != (r, c)) for s, d in zip(returns, costs))
    }
    found = pareto_set(returns, costs)
    assert {(returns[i], costs[i]) for i in found} == slow
    assert len(found) == len(slow)
    assert (np.diff(costs[found]) > 0).all()


@pytest.mark.parametrize(("power", "degree"), [(0, 0), (1, 1), (2, 1), (4, 2)])
def test_the_curve_has_the_lowest_degree_that_explains_nine_tenths(power, degree):
    # On an even grid a line explains 94 % of a square's variance and 75 % of a fourth power's.
    costs = np.arange(101.0)
    found = frontier_curve(costs**power, costs)
    assert found.degree() == degree
    expected = np.polyval(np.polyfit(costs, costs**power, degree), costs)
    np.testing.assert_allclose(found(costs), expected, atol=1e-6 * expected.max())


def test_a_given_degree_is_kept_as_far_as_there_are_points():
    costs = np.arange(6.0)
    assert frontier_curve(costs**4, costs, degree=4)(2.5) == pytest.approx(2.5**4)
    assert frontier_curve(np.array([1.0, 2.0]), np.array([0.0, 1.0]), degree=4)(0.5) == pytest.approx(1.5)


def test_one_episode_alone_is_its_own_frontier():
    assert near_frontier(np.array([3.0]), np.array([5.0])).tolist() == [True]


def test_the_band_about_the_frontier_is_a_fifth_of_the_span_wide():
    costs = np.array([0.0, 5, 10, 5, 5])
    returns = np.array([0.0, 5, 10, 3.1, 2.9])  # the line through the first three; the span is 10
    assert near_frontier(returns, costs).tolist() == [True, True, True, True, False]


def test_a_crowded_cell_keeps_ten_and_a_lonely_one_none():
    # Cells are 10 wide in cost and 2 in return: 30 episodes in the first, two outliers in the last.
    returns = np.array([0.0] * 30 + [100.0] * 2)
    costs = np.array([0.0] * 30 + [100.0] * 2)
    kept = thinned(returns, costs, np.random.default_rng(0))
    assert len(kept) == len(set(kept)) == 10
    assert kept.max() < 30
    others = thinned(returns, costs, np.random.default_rng(1))
    assert set(kept) != set(others)


def test_few_episodes_are_not_thinned():
    assert thinned(np.arange(5.0), np.arange(5.0), np.random.default_rng(0)).tolist() == [0, 1, 2, 3, 4]


def test_labels_lie_beyond_the_frontier_and_never_below_the_cost_of_their_episode():
    returns, costs = cloud(3000)
    labels = labels_beyond(returns, costs, 0.2, np.random.default_rng(0))
    kept = len(thinned(returns, costs, np.random.default_rng(0)))
    assert len(labels.episodes) == int(0.2 * kept)
    assert (costs[labels.episodes] <= labels.costs).all()
    span = np.ptp(returns)
    curve = frontier_curve(returns, costs)
    assert (labels.returns > curve(labels.costs) - 0.1 * span).all()  # it was fitted to fewer episodes
    assert (labels.returns <= returns.max() + 0.1 * span).all()
    assert np.ptp(labels.costs) == pytest.approx(np.ptp(costs), rel=0.05)


def test_the_first_label_of_an_episode_takes_the_nearest_that_is_not_dearer():
    returns, costs = cloud(40)  # too few to be thinned
    labels = labels_beyond(returns, costs, 0.5, np.random.default_rng(3))
    spans = np.ptp(costs), np.ptp(returns)
    seen = set()
    for episode, label_return, label_cost in zip(*labels):
        allowed = np.flatnonzero(costs <= label_cost)
        distance = np.hypot((costs - label_cost) / spans[0], (returns - label_return) / spans[1])
        nearest = allowed[distance[allowed].argmin()]
        if nearest not in seen:
            assert episode == nearest
            seen.add(nearest)
        else:  # one of the nearest's own neighbours, no dearer and not much worse
            assert costs[episode] <= costs[nearest]
            assert returns[episode] >= returns[nearest] - 0.2 * spans[1]
    assert 2 <= len(seen) < len(labels.episodes)


def test_repeated_labels_spread_over_the_neighbours_that_are_good_enough():
    returns = np.tile([10.0, 9.9, 9.8, 5.0], 100)
    costs = np.tile([1.0, 1.0, 1.0, 1.0], 100)
    labels = labels_beyond(returns, costs, 2.0, np.random.default_rng(0), max_decrease=1.0)
    assert set(labels.episodes % 4) == {0, 1, 2}


def test_the_greatest_label_can_be_given():
    returns, costs = cloud(500)
    labels = labels_beyond(returns, costs, 0.5, np.random.default_rng(0), degree=1, max_return=1000.0)
    assert labels.returns.max() == pytest.approx(1000, rel=0.05)


def test_no_share_gives_no_labels():
    returns, costs = cloud(50)
    assert [len(each) for each in labels_beyond(returns, costs, 0.0, np.random.default_rng(0))] == [0, 0, 0]
