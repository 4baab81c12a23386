"""Tabular counts, against a dictionary."""

from collections import Counter

import numpy as np
import pytest

from saferl.guardians import GuardianConfig, fit_guardian


def test_scores_are_counts():
    rng = np.random.default_rng(0)
    states, actions = rng.integers(-3, 12, 400), rng.integers(2, 6, 400)
    guardian = fit_guardian(states, actions, GuardianConfig(kind="counts"))
    counter = Counter(zip(states.tolist(), actions.tolist()))
    wanted = [(s, a) for s in range(-5, 15) for a in range(8)]
    scores = guardian.score([s for s, _ in wanted], [a for _, a in wanted])
    assert scores.tolist() == [counter[pair] for pair in wanted]


def test_vectors_of_whole_numbers_are_told_apart():
    observations = np.array([[0, 1], [1, 0], [0, 1], [10, 10]], float)
    actions = np.array([[1.0], [1.0], [1.0], [0.0]])
    guardian = fit_guardian(observations, actions, GuardianConfig(kind="counts"))
    assert guardian.score(observations, actions).tolist() == [2, 1, 2, 1]
    assert guardian.score([[1, 1], [0, 0]], [[1], [1]]).tolist() == [0, 0]


def test_a_pair_never_seen_is_outside_whatever_alpha_says():
    guardian = fit_guardian(np.arange(50), np.zeros(50, int), GuardianConfig(kind="counts", alpha=0.5))
    assert guardian.threshold == 1
    assert guardian.supported([3, 3, 70], [0, 1, 0]).tolist() == [True, False, False]


def test_the_threshold_leaves_each_row_out():
    states = np.repeat([0, 1, 2], [2, 6, 12])  # others with the same pair: 1, 5, 11
    guardian = fit_guardian(states, np.zeros(20, int), GuardianConfig(kind="counts", alpha=0.15))
    assert guardian.threshold == 5  # two of twenty rows, a tenth, lie below
    assert guardian.supported([0, 1, 2], [0, 0, 0]).tolist() == [False, True, True]


def test_too_many_pairs_are_refused():
    with pytest.raises(ValueError, match="too many pairs; take another kind"):
        fit_guardian(np.array([[0, 0], [2**40, 2**40]]), [0, 1], GuardianConfig(kind="counts"))
