"""The coverage report and what N rows can say."""

import numpy as np
import pytest
from scipy.stats import beta, binom

from saferl.guardians import GuardianConfig, coverage_report, fit_guardian, guaranteed_share, rows_needed
from tests.guardians.clouds import cloud


def test_the_report_counts_and_has_exact_intervals():
    guardian = fit_guardian(*cloud(500), GuardianConfig(kind="knn", alpha=0.1))
    held = cloud(200, seed=1)
    report = coverage_report(guardian, *held)
    inside = int(guardian.supported(*held).sum())
    each = report["held_out"]
    assert (each.rows, each.share) == (200, inside / 200)
    assert each.low == pytest.approx(beta.ppf(0.025, inside, 201 - inside))
    assert each.high == pytest.approx(beta.ppf(0.975, inside + 1, 200 - inside))
    assert report["reference"].share == pytest.approx(0.9, abs=1 / 500)
    assert report["far"].share == 0


def test_random_actions_are_outside_where_the_data_have_one_action_for_a_state():
    observations = np.random.default_rng(0).uniform(-1, 1, (800, 2))
    actions = observations[:, :1]
    guardian = fit_guardian(observations[:600], actions[:600], GuardianConfig(kind="knn"))
    report = coverage_report(guardian, observations[600:], actions[600:])
    assert report["held_out"].share > 0.8
    assert report["random_actions"].share < 0.3


def test_random_actions_of_counts_are_recorded_numbers():
    states, actions = np.tile([0, 1], 50), np.tile([0, 2], 50)
    report = coverage_report(fit_guardian(states, actions, GuardianConfig(kind="counts")), states, actions, seed=2)
    assert 0.1 < report["random_actions"].share < 0.6  # one of three actions is the recorded one


def test_rows_needed_is_hoeffdings_number():
    assert rows_needed(0.05, 0.1, 0.05) == 600  # ln 20 / (2 * 0.05^2) = 599.15
    assert rows_needed(0.05, 0.06, 0.01) == 23026  # ln 100 / (2 * 0.01^2) = 23025.85
    assert guaranteed_share(0.05, 600, 0.05) == pytest.approx(0.1, abs=1e-4)


@pytest.mark.parametrize(("alpha", "alpha_c", "delta"), [(0.05, 0.1, 0.05), (0.1, 0.3, 0.2), (0.0, 0.02, 0.01)])
def test_with_so_many_rows_the_exact_risk_is_at_most_delta(alpha, alpha_c, delta):
    """At a true share just above alpha_c, a share of alpha or less is seen with probability at most delta."""
    rows = rows_needed(alpha, alpha_c, delta)
    assert binom.cdf(np.floor(alpha * rows), rows, alpha_c) <= delta
    # The number printed in the paper's main text, from exp(-2 N^2 (alpha_c - alpha)), is far too small.
    printed = int(np.ceil(np.sqrt(np.log(1 / delta) / (2 * (alpha_c - alpha)))))
    assert binom.cdf(np.floor(alpha * printed), printed, alpha_c) > delta


def test_shares_out_of_order_are_refused():
    with pytest.raises(ValueError, match="alpha < alpha_c"):
        rows_needed(0.2, 0.1)
    with pytest.raises(ValueError, match=r"delta must be in \(0, 1\); got 0"):
        rows_needed(0.1, 0.2, 0)
