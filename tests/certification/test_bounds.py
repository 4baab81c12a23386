"""The bounds: recorded numbers, closed forms, slow rewrites, and how often they fail."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import optimize, stats

from saferl.certification.bounds import BOUNDS, Moments, bound_named, lower_bound, upper_bound

TWENTY_OF_100 = Moments.of(np.r_[np.ones(20), np.zeros(80)])
EXACT = [name for name, bound in BOUNDS.items() if not bound.approximate]
ANY_COST = [name for name in EXACT if not BOUNDS[name].events_only]
DELTA = 0.05
REPETITIONS = 2_000


@pytest.mark.parametrize(
    ("name", "expected"),
    [  # of the design page
        ("student_t", 0.266750),
        ("hoeffding", 0.322387),
        ("empirical_bernstein", 0.396139),
        ("clopper_pearson", 0.277200),
        ("hoeffding_bentkus", 0.2978765),  # the page's .297878 is 1.5e-6 above the root of e P(Bin(100, U) <= 20)
        ("chernoff", 0.308577),
    ],
)
def test_twenty_of_a_hundred_gives_the_recorded_bound(name, expected):
    assert upper_bound(name, TWENTY_OF_100, DELTA) == pytest.approx(expected, abs=5.1e-7)


def test_no_event_in_n_gives_one_less_the_nth_root_of_delta():
    none = Moments.of(np.zeros(59))
    assert upper_bound("clopper_pearson", none, DELTA) == pytest.approx(1 - DELTA ** (1 / 59), rel=1e-9)
    assert upper_bound("chernoff", none, DELTA) == pytest.approx(1 - DELTA ** (1 / 59), rel=1e-9)


@pytest.mark.parametrize("count", [0, 1, 7, 60, 119, 120])
def test_clopper_pearson_is_scipys_exact_interval(count):
    moments = Moments.of(np.r_[np.ones(count), np.zeros(120 - count)])
    expected = stats.binomtest(count, 120, alternative="less").proportion_ci(1 - DELTA, "exact").high
    assert upper_bound("clopper_pearson", moments, DELTA) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("mean", "n", "delta"), [(0.013, 77, 0.05), (0.31, 40, 0.01), (0.8, 9, 0.2)])
def test_hoeffding_bentkus_is_the_root_of_its_p_value(mean, n, delta):
    def p_value(rate):
        divergence = mean * np.log(mean / rate) + (1 - mean) * np.log((1 - mean) / (1 - rate))
        return min(np.exp(-n * divergence), np.e * stats.binom.cdf(np.ceil(n * mean), n, rate))

    root = optimize.brentq(lambda rate: p_value(rate) - delta, mean + 1e-9, 1 - 1e-12, xtol=1e-13)
    assert upper_bound("hoeffding_bentkus", Moments(mean, 0.1, n), delta) == pytest.approx(root, abs=1e-9)


@pytest.mark.parametrize("name", BOUNDS)
def test_a_bound_falls_with_more_costs_and_with_a_greater_delta(name):
    sizes = [upper_bound(name, TWENTY_OF_100, DELTA, n=n) for n in (20, 50, 100, 1_000, 100_000)]
    deltas = [upper_bound(name, TWENTY_OF_100, delta) for delta in (0.001, 0.01, 0.05, 0.2)]
    for values in (sizes, deltas):
        assert all(a >= b for a, b in pairwise(values))  # a bound may be capped at 1 twice
        assert values[0] > values[-1] > 0.2
    assert sizes[-1] == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("name", [*ANY_COST, "student_t"])
def test_a_bound_scales_with_the_range(name):
    sample = np.random.default_rng(0).uniform(size=50)
    unit = upper_bound(name, Moments.of(sample), DELTA)
    assert upper_bound(name, Moments.of(3 + 300 * sample), DELTA, 3, 303) == pytest.approx(3 + 300 * unit, rel=1e-9)


@pytest.mark.parametrize("name", EXACT)
def test_the_lower_bound_is_that_of_what_did_not_happen(name):
    rest = Moments.of(np.r_[np.ones(80), np.zeros(20)])
    expected = 1 - upper_bound(name, rest, DELTA)
    assert lower_bound(name, TWENTY_OF_100, DELTA) == pytest.approx(expected, abs=1e-12)
    assert lower_bound(name, TWENTY_OF_100, DELTA) < 0.2


def test_one_cost_bounds_nothing_but_by_hoeffding():
    one = Moments.of([0.0])
    assert upper_bound("empirical_bernstein", one, DELTA) == 1
    assert upper_bound("student_t", one, DELTA) == np.inf
    assert upper_bound("clopper_pearson", one, DELTA) == pytest.approx(0.95)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bound_named("clopper"), "no bound named 'clopper'. Did you mean bound=clopper_pearson?"),
        (lambda: upper_bound("hoeffding", TWENTY_OF_100, 0), "delta must be in (0, 1); got 0."),
        (lambda: upper_bound("hoeffding", TWENTY_OF_100, 0.1, 1, 1), "low < high"),
        (lambda: upper_bound("hoeffding", TWENTY_OF_100, 0.1, 0.5), "outside of the stated range [0.5, 1]"),
        (lambda: Moments.of([]), "shape (n,) with n >= 1"),
        (lambda: Moments.of([np.nan]), "finite"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


def released(name, samples, limit, high=1.0):
    """(R,) whether each of samples (R, n) is released at a limit."""
    means, variances = samples.mean(axis=1) / high, samples.var(axis=1, ddof=1) / high**2
    return high * BOUNDS[name].unit(means, variances, samples.shape[1], DELTA) <= limit


def is_at_most_delta(count):
    """Whether a rate of at most DELTA could have given so many of the repetitions (one-sided, 1 in 1,000)."""
    return stats.binomtest(int(count), REPETITIONS, DELTA, "greater").pvalue > 1e-3


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize(("limit", "n"), [(0.02, 100), (0.1, 200), (0.3, 500)])
def test_rates_of_events_at_the_limit_are_released_less_often_than_delta(name, limit, n):
    samples = (np.random.default_rng(7).random((REPETITIONS, n)) < limit).astype(np.float64)
    assert is_at_most_delta(released(name, samples, limit).sum())


def rare_costs(generator, n):
    """An episode in a hundred costs 100 to 300."""
    return (generator.random((REPETITIONS, n)) < 0.01) * generator.uniform(100, 300, (REPETITIONS, n))


def spread_costs(generator, n):
    """Costs of all sizes up to 300, small ones more often."""
    return 300 * generator.beta(0.3, 2.0, (REPETITIONS, n))


@pytest.mark.parametrize("name", ANY_COST)
@pytest.mark.parametrize(("draw", "mean"), [(rare_costs, 2.0), (spread_costs, 300 * 0.3 / 2.3)])
@pytest.mark.parametrize("n", [40, 400])
def test_mean_costs_at_the_limit_are_released_less_often_than_delta(name, draw, mean, n):
    samples = draw(np.random.default_rng(11), n)
    assert is_at_most_delta(released(name, samples, mean, high=300.0).sum())


def test_students_t_releases_rare_events_far_too_often():
    # A sample without an event has the bound 0: with probability .98^100 alone.
    samples = (np.random.default_rng(7).random((REPETITIONS, 100)) < 0.02).astype(np.float64)
    rate = released("student_t", samples, 0.02).mean()
    assert rate == pytest.approx(0.98**100, abs=0.025)
    assert not is_at_most_delta(REPETITIONS * rate)
    costs = rare_costs(np.random.default_rng(11), 40)
    assert released("student_t", costs, 2.0, high=300.0).mean() > 0.5  # .99^40 have none


@pytest.mark.parametrize(
    ("limit", "n", "expected"),
    [  # of the design page, from 5,000 repetitions: Student's t, Hoeffding, Maurer-Pontil, Clopper-Pearson
        (0.02, 100, (0.131, 0, 0, 0)),
        (0.1, 200, (0.097, 0, 0, 0.032)),
        (0.3, 500, (0.054, 0.003, 0.0006, 0.044)),
    ],
)
def test_the_exact_rates_of_false_release_are_the_recorded_ones(limit, n, expected):
    counts = np.arange(n + 1)
    mean = counts / n
    probabilities = stats.binom.pmf(counts, n, limit)
    for name, rate in zip(("student_t", "hoeffding", "empirical_bernstein", "clopper_pearson"), expected):
        passing = BOUNDS[name].unit(mean, mean * (1 - mean) * n / (n - 1), n, DELTA) <= limit
        assert probabilities[passing].sum() == pytest.approx(rate, abs=3 * (rate / 5_000) ** 0.5 + 6e-4), name
