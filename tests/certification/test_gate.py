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


def test_bounds_that_share_delta_hold_together_and_would_not_without_sharing():
    # 50 % of episodes cost something, 2 % more than 1, and both limits are exactly that: a check that passes is wrong.
    # A release needs both to pass, and so is rarer; but the page prints both bounds, and either may be read alone.
    n, rates, delta = 150, (0.5, 0.02), 0.2
    some = stats.binom.pmf(np.arange(n + 1), n, rates[1])  # (n + 1,) probability of so many dear episodes

    def either_passes(part):
        constraints = [event(rates[0], part), event(rates[1], part, above=1.0)]
        counts = np.arange(n + 1)
        verdicts = [[check.passed for check in decide(constraints, 2.0 * (np.arange(n) < k)).checks] for k in counts]
        most, most_dear = (int(column.nonzero()[0].max()) for column in np.array(verdicts).T)
        cheap = stats.binom.cdf(most - counts, n - counts, (rates[0] - rates[1]) / (1 - rates[1]))
        return float((some * np.where(counts <= most_dear, 1.0, cheap)).sum())

    assert 0.1 < either_passes(shared_delta(delta, 2)) <= delta < either_passes(delta)
