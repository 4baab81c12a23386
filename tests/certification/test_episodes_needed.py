"""How many episodes a test needs, against exhaustive search and simulation."""

import numpy as np
import pytest
from scipy import stats

from saferl.certification.bounds import BOUNDS
from saferl.certification.candidates import INFLATION
from saferl.certification.episodes_needed import episodes_needed
from saferl.certification.gate import Constraint
from saferl.certification.plan import plan_of


def power_of_events(n, delta, limit, rate):
    """Probability to pass, from the bound of every count that n episodes can give."""
    counts = np.arange(n + 1)
    passing = stats.beta.ppf(1 - delta, counts[:-1] + 1, n - counts[:-1]) <= limit
    return stats.binom.pmf(counts[:-1][passing], n, rate).sum()


@pytest.mark.parametrize(("limit", "delta", "n"), [(0.05, 0.05, 59), (0.01, 0.05, 299), (0.1, 0.01, 44)])
def test_a_policy_without_events_needs_ln_delta_over_ln_one_less_the_limit(limit, delta, n):
    assert episodes_needed("clopper_pearson", delta, limit, 0.0) == n
    assert (1 - limit) ** n <= delta < (1 - limit) ** (n - 1)


@pytest.mark.parametrize(("limit", "rate", "power"), [(0.1, 0.05, 0.8), (0.3, 0.1, 0.9), (0.2, 0.15, 0.3)])
def test_no_smaller_number_of_events_has_the_power(limit, rate, power):
    n = episodes_needed("clopper_pearson", 0.05, limit, rate, power=power)
    powers = [power_of_events(each, 0.05, limit, rate) for each in range(1, n + 1)]
    assert powers[-1] >= power
    assert max(powers[:-1]) < power


@pytest.mark.parametrize("name", ["hoeffding_bentkus", "empirical_bernstein", "hoeffding", "student_t"])
def test_a_mean_passes_about_as_often_as_planned(name):
    mean, variance = 300 * 0.2, 300**2 * 0.2 * 0.8 / 11  # of 300 Beta(2, 8)
    n = episodes_needed(name, 0.05, 80.0, mean, variance=variance, high=300.0, power=0.8)
    samples = np.random.default_rng(3).beta(2, 8, (2_000, n))
    upper = BOUNDS[name].unit(samples.mean(axis=1), samples.var(axis=1, ddof=1), n, 0.05)
    assert np.mean(300 * upper <= 80.0) == pytest.approx(0.8, abs=0.08)


def test_without_a_variance_the_greatest_is_taken():
    known = episodes_needed("empirical_bernstein", 0.05, 10.0, 5.0, variance=100.0, high=300.0)
    assert episodes_needed("empirical_bernstein", 0.05, 10.0, 5.0, high=300.0) > 2 * known


def test_a_mean_at_its_limit_can_not_be_shown():
    assert episodes_needed("clopper_pearson", 0.05, 0.1, 0.1) is None
    assert episodes_needed("hoeffding", 0.05, 10.0, 11.0, high=300.0) is None
    assert episodes_needed("hoeffding", 0.05, 10.0, 9.9999, high=300.0) is None  # more than ten million


def test_a_limit_that_nothing_can_break_needs_one_episode():
    assert episodes_needed("hoeffding", 0.05, 300.0, 5.0, high=300.0) == 1


def test_an_expected_mean_outside_of_the_range_is_refused():
    with pytest.raises(ValueError, match=r"outside of the stated range \[0, 1\]"):
        episodes_needed("hoeffding", 0.05, 3.0, 2.0)
    with pytest.raises(ValueError, match=r"power must be in \(0, 1\); got 1"):
        episodes_needed("hoeffding", 0.05, 0.5, 0.2, power=1)


@pytest.mark.parametrize(("limit", "rate", "power"), [(0.1, 0.05, 0.8), (0.3, 0.1, 0.9), (0.1, 0.0, 0.8)])
def test_a_search_is_planned_so_that_prediction_and_test_pass_together(limit, rate, power):
    n = episodes_needed("clopper_pearson", 0.05, limit, rate, power=power, inflation=INFLATION)
    counts = np.arange(n)
    upper = stats.beta.ppf(0.95, counts + 1, n - counts)
    predicted = counts / n + INFLATION * (upper - counts / n) <= limit
    chances = [stats.binom.pmf(counts[each], n, rate).sum() for each in (predicted, upper <= limit)]
    assert chances[0] * chances[1] >= power
    plain = episodes_needed("clopper_pearson", 0.05, limit, rate, power=power)
    assert n > plain
    if rate:  # the plan of a test alone would hardly ever let a value be predicted to pass
        counts = np.arange(plain)
        upper = stats.beta.ppf(0.95, counts + 1, plain - counts)
        predicted = counts / plain + INFLATION * (upper - counts / plain) <= limit
        assert stats.binom.pmf(counts[predicted], plain, rate).sum() < 0.5


def test_a_mean_is_predicted_and_passes_about_as_often_as_planned():
    mean, variance = 300 * 0.2, 300**2 * 0.2 * 0.8 / 11  # of 300 Beta(2, 8)
    given = {"variance": variance, "high": 300.0, "power": 0.8, "inflation": INFLATION}
    n = episodes_needed("empirical_bernstein", 0.05, 80.0, mean, **given)
    samples = 300 * np.random.default_rng(3).beta(2, 8, (2_000, 2, n))
    means, variances = samples.mean(2), samples.var(2, ddof=1)
    upper = 300 * BOUNDS["empirical_bernstein"].unit(means / 300, variances / 300**2, n, 0.05)
    passed = (means[:, 0] + INFLATION * (upper - means)[:, 0] <= 80) & (upper[:, 1] <= 80)
    assert 0.8 <= passed.mean() < 0.97  # the test alone passes nearly always


def test_several_constraints_share_what_power_leaves():
    both = [
        Constraint(kind="event", limit=0.1, delta=0.025, bound="clopper_pearson", event_limit=0.0),
        Constraint(kind="mean", limit=80.0, delta=0.025, bound="hoeffding", greatest=300.0),
    ]
    plan = plan_of(both, [False, False], 0.5, 0.8, None)
    for need in plan.needs:
        (name,) = need.episodes
        high = max(need.constraint.high, need.expected)
        given = (name, 0.025, need.constraint.limit, need.expected)
        assert need.episodes[name] == episodes_needed(*given, high=high, power=0.9)
