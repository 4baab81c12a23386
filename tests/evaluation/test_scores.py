import pytest

from saferl.evaluation.scores import (
    Reference,
    cost_limits,
    normalised_cost,
    normalised_return,
    reference_returns,
    verdict,
)
from saferl.evaluation.statistics import Estimate


def test_the_ends_of_the_scale_and_beyond():
    reference = Reference(-10.0, 30.0, "test")
    assert normalised_return([-10, 30, 10, 50], reference).tolist() == [0, 1, 0.5, 1.5]


@pytest.mark.parametrize(
    ("cost", "limit", "score"), [(0, 10, 0), (10, 10, 1), (25, 10, 2.5), (0, 0, 1), (1, 0, 2), (4, 5, 0.8)]
)
def test_normalised_cost_is_dsrls(cost, limit, score):
    assert normalised_cost(cost, limit) == pytest.approx(score)


def test_a_negative_limit_is_refused():
    with pytest.raises(ValueError, match="cost_limit must be >= 0; got -1"):
        normalised_cost(1, -1)


def test_dsrl_tasks_bring_their_own_references_and_limits():
    # PointCircle1 in DSRL's published table.
    reference = reference_returns("OfflinePointCircle1Gymnasium-v0", {"min_return": 0.0, "max_return": 1.0})
    assert reference.max_return == pytest.approx(61.7282, abs=1e-4)
    assert reference.min_return == pytest.approx(20.0676, abs=1e-4)
    assert cost_limits("OfflinePointCircle1Gymnasium-v0") == (20, 40, 80)
    assert cost_limits("OfflineCarRun-v0") == (10, 20, 40)


def test_elsewhere_the_data_are_the_reference():
    reference = reference_returns("point_robot", {"min_return": -2.0, "max_return": 8.0})
    assert (reference.min_return, reference.max_return) == (-2.0, 8.0)
    assert reference_returns("point_robot") is None
    assert reference_returns("point_robot", {"min_return": 1.0, "max_return": 1.0}) is None
    assert cost_limits("point_robot") == (0.0,)
    assert cost_limits("SafetyPointGoal1-v0") == (10.0,)


@pytest.mark.parametrize(
    ("low", "mean", "high", "word"),
    [(1, 5, 9, "safe"), (1, 5, 12, "safe?"), (8, 12, 15, "unsafe?"), (11, 12, 15, "unsafe"), (9, 10, 10, "safe")],
)
def test_the_verdict_says_whether_the_interval_agrees(low, mean, high, word):
    assert verdict(Estimate(mean, low, high, mean, low, high), 10.0).word == word
