import math

import numpy as np
import pytest
from scipy import stats

from saferl.evaluation.statistics import estimate, interquartile_mean, paired_difference, rate_interval


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 20, 101])
def test_interquartile_mean_is_the_mean_of_the_sorted_middle(n):
    values = np.random.default_rng(n).normal(size=n)
    cut = n // 4
    middle = sorted(values)[cut : n - cut]
    assert interquartile_mean(values) == pytest.approx(sum(middle) / len(middle), rel=1e-12)
    assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25), rel=1e-12)


def test_interquartile_mean_ignores_the_outer_quarters():
    assert interquartile_mean([-1e9, 1, 2, 3, 4, 5, 6, 1e9]) == 3.5


@pytest.mark.parametrize("draw", [np.random.Generator.standard_normal, np.random.Generator.standard_exponential])
def test_the_interval_of_the_mean_covers_the_truth_as_often_as_it_says(draw):
    # 95 % asked; a percentile bootstrap of 40 skewed values is known to fall a little short.
    generator = np.random.default_rng(0)
    truth = 0.0 if draw is np.random.Generator.standard_normal else 1.0
    estimates = [estimate(draw(generator, 40), seed=trial) for trial in range(200)]
    covered = np.mean([each.low <= truth <= each.high for each in estimates])
    assert 0.89 <= covered <= 0.985  # 200 trials: standard error 1.5 %


def test_the_interval_of_the_interquartile_mean_covers_the_truth():
    # The middle half of an exponential: quantiles q give means of -log(1 - q), integrated by its antiderivative.
    def integral(q):
        return (1 - q) * (math.log(1 - q) - 1)

    truth = (integral(0.75) - integral(0.25)) / 0.5
    generator = np.random.default_rng(1)
    estimates = [estimate(generator.standard_exponential(40), seed=trial) for trial in range(200)]
    covered = np.mean([each.iqm_low <= truth <= each.iqm_high for each in estimates])
    assert 0.89 <= covered <= 0.99
    assert np.mean([each.iqm for each in estimates]) == pytest.approx(truth, rel=0.05)


def test_the_bootstrap_interval_of_a_large_sample_is_the_normal_one():
    values = np.random.default_rng(2).normal(3, 2, 2_000)
    each = estimate(values)
    half = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
    assert each.mean == pytest.approx(values.mean())
    assert each.high - each.mean == pytest.approx(half, rel=0.06)
    assert each.mean - each.low == pytest.approx(half, rel=0.06)


def test_seeds_that_differ_make_the_interval_longer_than_their_episodes_do():
    # Three seeds whose means lie far apart: episodes pooled as one sample would hide it.
    groups = [level + 0.01 * np.random.default_rng(level).normal(size=50) for level in (0, 5, 10)]
    each = estimate(groups)
    assert each.mean == pytest.approx(5, abs=0.01)
    assert each.low == pytest.approx(0, abs=0.1)  # 1 of 27 resamples takes one seed thrice
    assert each.high == pytest.approx(10, abs=0.1)
    pooled = estimate(np.concatenate(groups))
    assert pooled.high - pooled.low < 2


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(0).normal(size=20)
    assert estimate(values, seed=3) == estimate(values, seed=3)
    assert estimate(values, seed=3) != estimate(values, seed=4)


def test_pairing_removes_what_the_starts_have_in_common():
    starts = np.random.default_rng(0).normal(0, 100, 30)
    each = paired_difference(starts + 1, starts)
    assert (each.low, each.mean, each.high) == pytest.approx((1, 1, 1))


@pytest.mark.parametrize(("count", "total"), [(0, 100), (0, 20), (100, 100), (3, 20)])
def test_rate_interval_is_clopper_pearsons(count, total):
    low, high = rate_interval(count, total)
    # Its definition: at either end, what was seen or worse has probability 2.5 %.
    if count:
        assert stats.binom.sf(count - 1, total, low) == pytest.approx(0.025, rel=1e-6)
    else:
        assert low == 0
        assert high == pytest.approx(1 - 0.025 ** (1 / total))
    if count < total:
        assert stats.binom.cdf(count, total, high) == pytest.approx(0.025, rel=1e-6)


@pytest.mark.parametrize("values", [[], [[1.0]], [1.0, float("nan")]])
def test_bad_samples_are_refused(values):
    with pytest.raises(ValueError, match="sample"):
        estimate(np.asarray(values))
