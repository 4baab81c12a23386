"""Importance weights against the sum over all trajectories of a small decision process."""

import itertools

import numpy as np
import pytest
from scipy import stats

from saferl.certification.bounds import BOUNDS
from saferl.certification.off_policy import (
    LOWER_BOUNDS,
    WeightedEpisodes,
    ordinary,
    per_decision,
    resampled_interval,
    safe_events,
    safe_scores,
    upper_from_saved,
    weighted,
    weighted_episodes,
)

HORIZON, GREATEST = 3, 2.0
# Two states, two actions; state 1 is entered with these probabilities, and the episode may end there.
ENTERS = np.array([[0.1, 0.6], [0.3, 0.9]])  # [state, action]
ENDS = 0.25  # probability to end behind a step from state 1
COSTS = np.array([[0.0, 1.0], [0.5, 2.0]])
TARGET = np.array([[0.8, 0.2], [0.7, 0.3]])  # [state, action]
BEHAVIOUR = np.array([[0.5, 0.5], [0.4, 0.6]])


def trajectories(policy):
    """Every trajectory: its states, actions, costs and probability under a policy."""

    def grow(state, states, actions, probability):
        for action in (0, 1):
            here = probability * policy[state, action]
            path = (*states, state), (*actions, action)
            if len(path[0]) == HORIZON:
                yield *path, here
                continue
            end = ENDS if state == 1 else 0.0
            if end:
                yield *path, here * end
            for following, chance in ((1, ENTERS[state, action]), (0, 1 - ENTERS[state, action])):
                yield from grow(following, *path, here * (1 - end) * chance)

    return list(grow(0, (), (), 1.0))


def costs_of(paths):
    return [COSTS[list(states), list(actions)] for states, actions, _ in paths]


def weights_of(paths, target=TARGET, behaviour=BEHAVIOUR):
    """All of them as weighted episodes."""
    with np.errstate(divide="ignore"):
        ratios = [np.log(target[list(s), list(a)]) - np.log(behaviour[list(s), list(a)]) for s, a, _ in paths]
    lengths = [len(each) for each in ratios]
    return weighted_episodes(np.concatenate(ratios), np.concatenate(costs_of(paths)), lengths, HORIZON)


PATHS = trajectories(BEHAVIOUR)
CHANCES = np.array([chance for *_, chance in PATHS])
TRUTH = sum(chance * costs.sum() for (*_, chance), costs in zip(trajectories(TARGET), costs_of(trajectories(TARGET))))


def test_the_trajectories_are_all():
    assert CHANCES.sum() == pytest.approx(1)
    assert 0.5 < TRUTH < 1.5


@pytest.mark.parametrize("estimator", [ordinary, per_decision])
def test_the_mean_over_the_behaviour_is_the_policys_cost(estimator):
    assert CHANCES @ estimator(weights_of(PATHS)) == pytest.approx(TRUTH, rel=1e-12)


def test_the_weights_of_whole_episodes_have_mean_one():
    assert CHANCES @ weights_of(PATHS).weights[:, -1] == pytest.approx(1)


@pytest.mark.parametrize("clip", [0.5, 1.0, 2.0, 1e9])
def test_the_clipped_saved_cost_is_at_most_the_saved(clip):
    saved = HORIZON * GREATEST - TRUTH
    scores = safe_scores(weights_of(PATHS), clip, GREATEST)
    assert scores.min() >= 0
    assert scores.max() <= clip * HORIZON * GREATEST
    mean = CHANCES @ scores
    assert mean == pytest.approx(saved) if clip == 1e9 else mean < saved


def test_the_clipped_cost_itself_would_be_too_low():
    # Why it is the saved cost that is clipped.
    episodes = weights_of(PATHS)
    clipped = (np.minimum(episodes.weights, 0.5) * episodes.costs).sum(axis=1)
    assert CHANCES @ clipped < 0.8 * TRUTH


def test_a_behaviour_without_support_still_bounds_from_above():
    never = np.array([[1.0, 0.0], [0.4, 0.6]])  # the behaviour never takes action 1 in state 0
    paths = [path for path in trajectories(never) if path[2] > 0]
    chances = np.array([chance for *_, chance in paths])
    episodes = weights_of(paths, behaviour=np.where(never == 0, 1.0, never))
    assert chances @ per_decision(episodes) < 0.9 * TRUTH  # the estimate misses what was never tried
    assert HORIZON * GREATEST - chances @ safe_scores(episodes, 1e9, GREATEST) > TRUTH


def test_the_share_of_events_is_bounded_too():
    paths = trajectories(TARGET)
    truth = sum(chance for (*_, chance), costs in zip(paths, costs_of(paths)) if costs.sum() > 1.0)
    for clip, close in ((1.0, False), (1e9, True)):
        upper = 1 - CHANCES @ safe_events(weights_of(PATHS), clip, 1.0)
        assert upper == pytest.approx(truth) if close else upper > truth


def drawn(generator, repetitions, n):
    return generator.choice(len(PATHS), size=(repetitions, n), p=CHANCES)


@pytest.mark.parametrize("bound", LOWER_BOUNDS)
@pytest.mark.parametrize("clip", [1.0, 3.0])
def test_the_upper_bound_is_below_the_truth_less_often_than_delta(bound, clip):
    scores, delta, repetitions = safe_scores(weights_of(PATHS), clip, GREATEST), 0.1, 2_000
    samples = scores[drawn(np.random.default_rng(2), repetitions, 400)]
    top = HORIZON * GREATEST
    # All at once: what was not saved, in units of the greatest score, bounded from above.
    units = BOUNDS[bound].unit(
        1 - samples.mean(1) / (clip * top), samples.var(1, ddof=1) / (clip * top) ** 2, 400, delta
    )
    upper = top - clip * top * (1 - units)
    single = [upper_from_saved(bound, sample, delta, top, clip) for sample in samples[:20]]
    np.testing.assert_allclose(upper[:20], single, rtol=1e-9)
    missed = int((upper < TRUTH).sum())
    assert stats.binomtest(missed, repetitions, delta, "greater").pvalue > 1e-3


def test_the_bound_comes_near_the_truth_with_many_episodes():
    episodes = weights_of(PATHS)
    sample = drawn(np.random.default_rng(3), 1, 200_000)[0]
    scores = safe_scores(episodes, 10.0, GREATEST)[sample]  # no weight is above 10
    upper = upper_from_saved("empirical_bernstein", scores, 0.05, HORIZON * GREATEST, 10.0)
    assert TRUTH < upper < TRUTH + 0.05


def test_the_weighted_estimate_is_the_plain_definition_and_consistent():
    episodes = weights_of(PATHS)
    chosen = drawn(np.random.default_rng(4), 1, 20_000)[0]
    sample = WeightedEpisodes(episodes.log_weights[chosen], episodes.costs[chosen])
    plain = sum(
        (sample.weights[:, step] * sample.costs[:, step]).sum() / sample.weights[:, step].sum()
        for step in range(HORIZON)
    )
    (estimate,) = weighted(sample)
    assert estimate == pytest.approx(plain, rel=1e-12)
    assert estimate == pytest.approx(TRUTH, abs=0.03)
    counts = np.bincount(chosen, minlength=len(PATHS))
    assert weighted(episodes, counts[None])[0] == pytest.approx(plain, rel=1e-9)


def test_weights_beyond_float64_cancel_in_the_weighted_estimate():
    episodes = WeightedEpisodes(np.array([[2_000.0], [2_000.0], [-np.inf]]), np.array([[1.0], [3.0], [9.0]]))
    assert weighted(episodes)[0] == pytest.approx(2.0)
    assert episodes.effective_episodes == pytest.approx(2.0)


def test_the_bootstrap_interval_covers_a_mean_as_often_as_it_says():
    generator, inside = np.random.default_rng(6), 0
    for repetition in range(100):
        values = generator.normal(1.0, 1.0, 60)
        low, high = resampled_interval(lambda counts, v=values: counts @ v / 60, 60, seed=repetition)
        inside += low <= 1.0 <= high
    assert 0.87 <= inside / 100 <= 1


def test_rows_become_padded_episodes():
    episodes = weighted_episodes([0.1, 0.2, -0.3], [1.0, 0.0, 2.0], [2, 1], 3)
    np.testing.assert_allclose(episodes.log_weights, [[0.1, 0.3, 0.3], [-0.3, -0.3, -0.3]])
    np.testing.assert_array_equal(episodes.costs, [[1, 0, 0], [2, 0, 0]])
    assert list(itertools.chain(episodes.totals)) == [1, 2]


def test_sums_that_are_rounded_stay_inside_of_the_range():
    # Nothing costs anything and every weight is 1: Hoeffding's distance, whatever the sums of 0.1 or 0.7 round to.
    distance = np.sqrt(np.log(1 / 0.05) / (2 * 20))
    for greatest, horizon in itertools.product((0.05, 0.1, 0.7), range(1, 60)):
        episodes = weighted_episodes(np.zeros(20 * horizon), np.zeros(20 * horizon), [horizon] * 20, horizon)
        top = greatest * horizon
        upper = upper_from_saved("hoeffding", safe_scores(episodes, 1.0, greatest), 0.05, top, 1.0)
        assert upper == pytest.approx(top * distance)
    with pytest.raises(ValueError, match="is outside of the stated range"):
        upper_from_saved("hoeffding", [1.001], 0.05, 1.0, 1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: weighted_episodes([0.0], [0.0, 1.0], [2]), "don't fit each other"),
        (lambda: weighted_episodes([0.0, np.inf], [0.0, 1.0], [2]), "row 1: the behaviour's density is 0 or NaN"),
        (
            lambda: weighted_episodes([0.0, 0.0], [0.0, 1.0], [2], 1),
            "an episode has 2 steps, more than the horizon of 1",
        ),
        (lambda: safe_scores(weights_of(PATHS), 1.0, 1.0), "a step cost 2, more than step_cost_max=1"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)
