"""The prediction on the candidate half, and what its inflation is good for."""

import numpy as np
import pytest
from scipy import stats

from saferl.certification.bounds import Moments
from saferl.certification.candidates import AUTOMATIC, best, judged, predicted_bound, tightest
from saferl.certification.gate import Constraint, decide
from saferl.evaluation.rollout import Episodes


def episodes(costs, gains=None):
    costs = np.asarray(costs, np.float64)
    ones = np.ones(len(costs), np.int64)
    return Episodes(ones, np.zeros(len(costs)) if gains is None else np.asarray(gains, float), costs, ones, ones)


def rare(limit=0.1):
    return Constraint(kind="event", limit=limit, delta=0.05, bound="clopper_pearson")


def test_the_prediction_for_students_t_is_the_recorded_one():
    constraint = Constraint(kind="mean", limit=1.0, delta=0.05, bound="student_t")
    sample = Moments.of(np.r_[np.ones(20), np.zeros(80)])
    assert predicted_bound(constraint, sample, 100) == pytest.approx(0.333500, abs=5e-7)  # of the design page
    assert predicted_bound(constraint, sample, 100, inflation=1) == pytest.approx(0.266750, abs=5e-7)


def test_the_greatest_return_that_is_predicted_to_pass_wins():
    safe, bold, wild = (
        judged(value, episodes(np.arange(200) < events, np.full(200, gain)), [rare()], [False], 200)
        for value, events, gain in ((1, 0, 1.0), (2, 3, 2.0), (3, 15, 3.0))
    )
    assert [each.passes for each in (safe, bold, wild)] == [True, True, False]
    assert best([safe, bold, wild]).value == 2
    worse = judged(4, episodes(np.arange(200) < 80, np.full(200, 9.0)), [rare()], [False], 200)
    assert best([worse, wild]).value == 3  # the one that is nearer to its limit
    assert wild.objective < -1e5


def test_candidates_by_the_inflated_bound_pass_the_test_more_often():
    # The true rate rises with the value and so does the return; the plain bound picks values that only just pass.
    rates, n, repetitions = np.linspace(0.0, 0.12, 13), 150, 500
    generator = np.random.default_rng(1)
    first, second = (generator.binomial(n, rates, (repetitions, len(rates))) for _ in range(2))
    passes = np.array([decide([rare()], np.arange(n) < count).release for count in range(n + 1)])
    passed = {}
    for inflation in (1.0, 2.0):
        fits = np.array([predicted_bound(rare(), Moments(k / n, 0.0, n), n, inflation) <= 0.1 for k in range(n + 1)])
        chosen = [np.flatnonzero(fits[counts]) for counts in first]
        passed[inflation] = sum(len(row) > 0 and passes[second[i, row[-1]]] for i, row in enumerate(chosen))
    assert passed[2.0] > passed[1.0] + 0.15 * repetitions


@pytest.mark.parametrize("searched", [True, False])
def test_the_whole_gate_releases_too_often_with_probability_delta_at_most(searched):
    """2,000 gates on policies exactly at both limits: choose values and bounds on one half, test on the other."""
    n, repetitions = 60, 2_000
    both = [
        Constraint(kind="event", limit=0.1, delta=0.025, bound="clopper_pearson"),
        Constraint(kind="mean", limit=2.0, delta=0.025, bound="hoeffding", greatest=20.0),
    ]
    generator, released = np.random.default_rng(2), 0
    for _ in range(repetitions):
        values = range(2 if searched else 1)
        costs = [20.0 * (generator.random(n) < 0.1) for _ in values]  # rate 0.1, mean 2
        candidates = [judged(value, episodes(each), both, [False, True], n) for value, each in zip(values, costs)]
        chosen = best(candidates)
        if searched and not chosen.passes:
            chosen = candidates[0]  # the gate would stay closed: open it, which is worse
        released += decide(chosen.constraints, 20.0 * (generator.random(n) < 0.1)).release
    assert stats.binomtest(released, repetitions, 0.05, alternative="greater").pvalue > 0.01


def test_a_free_bound_is_the_tightest_of_the_predicted():
    constraint = Constraint(kind="mean", limit=10.0, delta=0.05, bound="hoeffding", greatest=100.0)
    for sample in (np.zeros(500), np.full(500, 50.0), 100 * np.random.default_rng(0).beta(1, 1, 500)):
        moments = Moments.of(sample)
        chosen = tightest(constraint, moments, 500)
        bounds = {
            name: predicted_bound(Constraint(**{**vars(constraint), "bound": name}), moments, 500) for name in AUTOMATIC
        }
        assert bounds[chosen.bound] == min(bounds.values())
    assert tightest(constraint, Moments.of(np.zeros(500)), 500).bound == "hoeffding_bentkus"
    assert tightest(constraint, Moments.of(np.full(5_000, 50.0)), 5_000).bound == "empirical_bernstein"


def test_a_cost_beyond_the_range_is_told_before_the_test():
    constraint = Constraint(kind="mean", limit=10.0, delta=0.05, bound="hoeffding", greatest=100.0)
    with pytest.raises(ValueError, match="an episode cost 120, more than cost_max=100"):
        judged(None, episodes([0.0, 120.0]), [constraint], [True], 50)
