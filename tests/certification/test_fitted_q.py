"""Fitted-Q evaluation against exact dynamic programming."""

import numpy as np
import pytest

from saferl.certification.fitted_q import Features, fitted_q, unexplained_share

STATES, ACTIONS, HORIZON = 3, 2, 7
SUCCESSORS = np.array([[1, 2], [2, 0], [0, 1]])  # [state, action]
COSTS = np.array([[0.0, 1.0], [0.5, 0.0], [2.0, 0.25]])
ENDS = np.array([[False, False], [True, False], [False, False]])
POLICY = np.array([0, 1, 0])  # action of each state


def one_hot(states, actions):
    return np.eye(STATES * ACTIONS)[np.asarray(states) * ACTIONS + np.asarray(actions)]


def exact(horizon):
    """Q (STATES, ACTIONS) of so many steps."""
    q = np.zeros((STATES, ACTIONS))
    for _ in range(horizon):
        value = q[np.arange(STATES), POLICY]
        q = COSTS + np.where(ENDS, 0, value[SUCCESSORS])
    return q


@pytest.mark.parametrize("horizon", [1, 2, HORIZON])
def test_a_table_of_states_gives_the_undiscounted_cost_of_the_horizon(horizon):
    states, actions = map(np.ravel, np.meshgrid(np.arange(STATES), np.arange(ACTIONS), indexing="ij"))
    following = SUCCESSORS[states, actions]
    weights = fitted_q(
        one_hot(states, actions), one_hot(following, POLICY[following]), COSTS[states, actions], ENDS[states, actions],
        horizon, 2.0,
    )  # fmt: skip
    np.testing.assert_allclose(weights.reshape(STATES, ACTIONS), exact(horizon), rtol=1e-4)


def test_targets_stay_in_the_range_that_the_steps_can_cost():
    # Features that exaggerate: without the clip this iteration grows without bound.
    generator = np.random.default_rng(0)
    features = generator.standard_normal((50, 5))
    weights = fitted_q(features, 3 * features, np.ones(50), np.zeros(50, bool), 40, 1.0)
    assert np.abs(features @ weights).max() < 40 * 50


def test_values_below_zero_are_kept_as_least_squares_gives_them():
    # To lift them to 0 would raise the mean: they are errors of the fit, as those above are.
    generator = np.random.default_rng(2)
    features, following = (np.column_stack([np.ones(300), generator.standard_normal((300, 20))]) for _ in range(2))
    costs = (generator.random(300) < 0.03) * 1.0
    plain = np.linalg.lstsq(features, costs, rcond=None)[0]
    assert (following @ plain).min() < -0.03
    for _ in range(9):
        plain = np.linalg.lstsq(features, costs + following @ plain, rcond=None)[0]
    weights = fitted_q(features, following, costs, np.zeros(300, bool), 10, 1.0)
    np.testing.assert_allclose(features @ weights, features @ plain, atol=1e-3)


def test_random_features_fit_a_smooth_function():
    generator = np.random.default_rng(1)
    rows = generator.uniform(-2, 2, (2_000, 2)).astype(np.float32)
    targets = np.sin(2 * rows[:, 0]) * rows[:, 1]
    features = Features.fitted(rows, seed=0)
    matrix = features(rows)
    weights = fitted_q(matrix, matrix, targets, np.ones(2_000, bool), 1, 1.0)
    assert unexplained_share(matrix, targets, weights) < 0.01
    fresh = generator.uniform(-2, 2, (500, 2)).astype(np.float32)
    assert np.std(features(fresh) @ weights - np.sin(2 * fresh[:, 0]) * fresh[:, 1]) < 0.1 * np.std(targets)


def test_a_column_that_never_changes_does_no_harm():
    rows = np.column_stack([np.arange(50.0), np.full(50, 3.0)]).astype(np.float32)
    assert np.isfinite(Features.fitted(rows, seed=0)(rows)).all()
