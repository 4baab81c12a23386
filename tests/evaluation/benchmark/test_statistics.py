"""Statistics over runs against closed forms and slow rewrites."""

import numpy as np
import pytest
from scipy import stats

from saferl.evaluation.benchmark.statistics import performance_profile, probability_of_improvement, stratified_iqm


def test_the_interquartile_mean_is_that_of_all_runs():
    strata = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0, 100.0]]
    assert stratified_iqm(strata).value == pytest.approx(stats.trim_mean([1, 2, 3, 4, 5, 6, 7, 100], 0.25))


def test_the_interval_knows_that_strata_differ():
    # Within each stratum all runs are equal: drawing them again changes nothing, though the strata are far apart.
    span = stratified_iqm([[0.0] * 3, [1.0] * 3])
    assert (span.low, span.value, span.high) == (0.5, 0.5, 0.5)


def test_the_interval_of_one_stratum_covers_its_mean_as_often_as_it_says():
    generator = np.random.default_rng(0)
    samples = generator.standard_normal((150, 40))
    spans = [stratified_iqm([list(sample)]) for sample in samples]
    assert np.mean([span.low <= 0 <= span.high for span in spans]) == pytest.approx(0.95, abs=0.06)


def test_the_probability_of_improvement_is_mann_whitneys():
    generator = np.random.default_rng(1)
    first, second = generator.normal(0.3, 1, 9), generator.normal(0, 1, 7)
    u = stats.mannwhitneyu(first, second).statistic
    assert probability_of_improvement([list(first)], [list(second)]).value == pytest.approx(u / 63)


def test_ties_count_half_and_strata_weigh_the_same():
    span = probability_of_improvement([[1.0], [0.0, 0.0]], [[1.0], [1.0, 1.0]])
    assert span.value == pytest.approx((0.5 + 0) / 2)


def test_a_profile_is_the_share_of_runs_above_each_level():
    value, low, high = performance_profile([[0.0, 1.0], [2.0, 3.0]], np.array([-1.0, 0.5, 2.0, 5.0]))
    assert value.tolist() == [1, 0.75, 0.25, 0]
    assert (low <= value).all()
    assert (value <= high).all()
