"""Statistics over runs against closed forms and slow rewrites."""

import random
import statistics

import numpy as np
import pytest
from scipy import stats

from saferl.evaluation.benchmark.statistics import (
    performance_profile,
    probability_of_improvement,
    stratified_iqm,
    stratified_mean,
)

STRATA = [[0.1, 0.5, 0.4, 0.9], [2.0, 1.2, 1.9], [0.3, -0.7, 0.8, 0.2, 0.1]]
OTHERS = [[0.2, 0.3, 0.4, 0.3], [1.5, 2.5, 1.0], [0.0, 0.2, -0.3, 0.1, 0.4]]


def slow_interval(quantity, *groups, draws=4000):
    """Percentiles of a quantity of stratified resamples, one resample at a time."""
    generator = random.Random(5)
    values = sorted(
        quantity(*([generator.choices(runs, k=len(runs)) for runs in strata] for strata in groups))
        for _ in range(draws)
    )
    return values[int(0.025 * draws)], values[int(0.975 * draws)]


def slow_iqm(strata):
    runs = sorted(run for stratum in strata for run in stratum)
    cut = len(runs) // 4
    return statistics.fmean(runs[cut : len(runs) - cut])


def slow_improvement(ours, theirs):
    shares = []
    for first, second in zip(ours, theirs):
        wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in first for b in second]
        shares.append(statistics.fmean(wins))
    return statistics.fmean(shares)


def test_the_interquartile_mean_is_that_of_all_runs():
    strata = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0, 100.0]]
    assert stratified_iqm(strata).value == pytest.approx(stats.trim_mean([1, 2, 3, 4, 5, 6, 7, 100], 0.25))


def test_the_interquartile_mean_and_its_interval_are_those_of_a_slow_rewrite():
    span = stratified_iqm(STRATA)
    assert span.value == pytest.approx(slow_iqm(STRATA))
    assert (span.low, span.high) == pytest.approx(slow_interval(slow_iqm, STRATA), abs=0.04)


def test_the_interval_of_a_mean_is_as_wide_as_the_normal_law_says():
    generator = np.random.default_rng(3)
    strata = [list(generator.normal(place, scale, 60)) for place, scale in ((0, 1), (5, 2), (9, 0.5))]
    span = stratified_mean(strata)
    error = np.sqrt(sum(np.var(each) / len(each) for each in strata)) / len(strata)
    assert span.value == pytest.approx(np.mean([np.mean(each) for each in strata]))
    assert span.high - span.low == pytest.approx(2 * 1.96 * error, rel=0.08)


def test_the_mean_weighs_each_stratum_alike_however_many_its_runs():
    assert stratified_mean([[0.0] * 9, [1.0]]).value == 0.5


def test_the_interval_knows_that_strata_differ():
    # Within each stratum all runs are equal: drawing them again changes nothing, though the strata are far apart.
    span = stratified_iqm([[0.0] * 3, [1.0] * 3])
    assert (span.low, span.value, span.high) == (0.5, 0.5, 0.5)


def test_the_interval_of_one_stratum_covers_its_mean_as_often_as_it_says():
    generator = np.random.default_rng(0)
    samples = generator.standard_normal((150, 40))
    spans = [stratified_iqm([list(sample)]) for sample in samples]
    assert np.mean([span.low <= 0 <= span.high for span in spans]) == pytest.approx(0.95, abs=0.06)


@pytest.mark.parametrize("quantity", [stratified_iqm, stratified_mean])
def test_one_run_for_each_task_has_no_interval(quantity):
    span = quantity([[0.2], [0.4]])
    assert span.value == pytest.approx(0.3)
    assert np.isnan([span.low, span.high]).all()


def test_a_profile_of_one_run_for_each_task_has_no_band():
    value, low, high = performance_profile([[0.2], [0.4]], np.array([0.3]))
    assert value == 0.5
    assert np.isnan([low, high]).all()


def test_the_probability_of_improvement_is_mann_whitneys():
    generator = np.random.default_rng(1)
    first, second = generator.normal(0.3, 1, 9), generator.normal(0, 1, 7)
    u = stats.mannwhitneyu(first, second).statistic
    assert probability_of_improvement([list(first)], [list(second)]).value == pytest.approx(u / 63)


def test_the_probability_of_improvement_and_its_interval_are_those_of_a_slow_rewrite():
    span = probability_of_improvement(STRATA, OTHERS)
    assert span.value == pytest.approx(slow_improvement(STRATA, OTHERS))
    assert (span.low, span.high) == pytest.approx(slow_interval(slow_improvement, STRATA, OTHERS), abs=0.03)


def test_ties_count_half_and_strata_weigh_the_same():
    span = probability_of_improvement([[1.0], [0.0, 0.0]], [[1.0], [1.0, 1.0]])
    assert span.value == pytest.approx((0.5 + 0) / 2)


def test_improving_and_being_improved_on_are_complements():
    there, back = probability_of_improvement(STRATA, OTHERS), probability_of_improvement(OTHERS, STRATA)
    assert there.complement.value == pytest.approx(back.value)
    assert (there.complement.low, there.complement.high) == pytest.approx((back.low, back.high), abs=0.03)


def test_a_profile_is_the_share_of_runs_above_each_level():
    value, low, high = performance_profile([[0.0, 1.0], [2.0, 3.0]], np.array([-1.0, 0.5, 2.0, 5.0]))
    assert value.tolist() == [1, 0.75, 0.25, 0]
    assert (low <= value).all()
    assert (value <= high).all()


def test_the_band_of_a_profile_is_binomial():
    # Of one stratum a resample's share above a level is a binomial count over its size.
    runs = np.arange(40) / 40
    _, low, high = performance_profile([list(runs)], np.array([0.19, 0.49]))
    shares = np.array([32, 20]) / 40
    expected = stats.binom.ppf([[0.025], [0.975]], 40, shares) / 40
    assert np.stack([low, high]) == pytest.approx(expected, abs=1 / 40)


@pytest.mark.parametrize("strata", [[], [[1.0], []], [[float("nan")]]])
def test_what_can_not_be_averaged_is_refused(strata):
    with pytest.raises(ValueError, match=r"at least one|finite"):
        stratified_iqm(strata)
