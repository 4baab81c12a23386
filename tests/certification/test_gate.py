"""The test of several constraints, its verdict, and how often it is wrong."""

import numpy as np
import pytest
from scipy import stats

from saferl.certification.gate import REFUSED, RELEASE, Constraint, decide, shared_delta


def event(limit=0.1, delta=0.05, bound="clopper_pearson", above=0.0):
    return Constraint(kind="event", limit=limit, delta=delta, bound=bound, event_limit=above)


def mean(limit, delta=0.05, bound="hoeffding_bentkus", greatest=300.0):
    return Constraint(kind="mean", limit=limit, delta=delta, bound=bound, greatest=greatest)


def test_no_event_in_29_episodes_shows_ten_percent_and_28_do_not():
    assert decide([event()], np.zeros(29)).verdict == RELEASE == "release"
    refused = decide([event()], np.zeros(28))
    assert refused.verdict == REFUSED == "no solution found"
    assert refused.reasons == [
        f"at most 10 % of episodes that cost anything: 0 observed in 28 episodes, which may come from "
        f"{1 - 0.05 ** (1 / 28):.4g}"
    ]


def test_episodes_count_as_events_above_the_event_limit():
    costs = np.array([3.0] * 50 + [3.5] * 2)
    (check,) = decide([event(above=3.0)], costs).checks
    assert check.mean == 2 / 52
    assert check.constraint.words == "at most 10 % of episodes that cost more than 3"


def test_every_constraint_must_hold():
    costs = np.r_[np.zeros(95), np.full(5, 200.0)]  # mean 10, 5 % events
    assert decide([event(0.2)], costs).release
    assert not decide([event(0.2), mean(12.0)], costs).release
    assert len(decide([event(0.01), mean(12.0)], costs).reasons) == 2


def test_an_episode_beyond_the_stated_range_refuses_the_mean():
    decision = decide([mean(200.0, greatest=10.0)], np.r_[np.zeros(500), 11.0])
    assert not decision.release
    assert "an episode cost 11, more than cost_max=10" in decision.reasons[0]
    assert decision.checks[0].as_facts()["upper_bound"] is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mean(5.0, bound="clopper_pearson"), "bound=clopper_pearson is for events"),
        (lambda: mean(5.0, bound="hoefding"), "Did you mean bound=hoeffding?"),
        (lambda: event(delta=1.0), "delta must be in (0, 1); got 1.0."),
        (lambda: decide([], [0.0]), "at least one constraint"),
        (lambda: decide([event()], []), "costs must be"),
        (lambda: decide([event()], [-1.0]), "costs must be"),
        (lambda: decide([event()], [np.nan]), "costs must be"),
    ],
)
def test_what_can_not_be_tested_is_refused(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert message in str(error.value)


def test_two_constraints_that_share_delta_release_wrongly_less_often_than_delta():
    # Both hold exactly at their limits, with the same episodes: any release is false.
    delta, repetitions, generator = 0.2, 2_000, np.random.default_rng(5)
    constraints = [event(0.2, shared_delta(delta, 2)), mean(0.4, shared_delta(delta, 2), "hoeffding", 2.0)]
    costs = 2.0 * (generator.random((repetitions, 60)) < 0.2)
    verdicts = {count: decide(constraints, 2.0 * (np.arange(60) < count)).release for count in range(61)}
    released = sum(verdicts[count] for count in (costs > 0).sum(axis=1))
    assert stats.binomtest(released, repetitions, delta, "greater").pvalue > 1e-3
    assert any(verdicts.values())  # the test is not one that never releases
