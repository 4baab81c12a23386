"""The buffer's segments, relabelling and questions, against plain loops."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from saferl.adversaries.rat.buffer import PreferenceBuffer
from saferl.adversaries.rat.novelty import novelty
from saferl.adversaries.rat.preferences import RewardEnsemble
from saferl.adversaries.rat.queries import asked
from saferl.adversaries.rat.teacher import ScriptedTeacher

LENGTH = 4


@pytest.fixture
def buffer():
    """12 steps of 2 environments; the first one's episodes end behind its steps 2 and 9, the second's behind 6."""
    made = PreferenceBuffer(12, spaces.Box(-10, 10, (3,)), spaces.Box(-1, 1, (2,)), carried_dim=2, envs=2)
    generator = np.random.default_rng(0)
    for t in range(12):
        before, after = generator.normal(size=(2, 2, 3)).astype(np.float32)
        actions, carried = generator.uniform(-1, 1, (2, 2, 2)).astype(np.float32)
        terminated, truncated = np.array([t == 2, t == 6]), np.array([t == 9, False])
        made.append(before, after, actions, carried, generator.normal(size=2), terminated, truncated, np.zeros(2))
    return made


def test_segments_lie_in_one_episode(buffer):
    ends = [{2, 9}, {6}]
    expected = [
        (t, row) for t in range(12 - LENGTH + 1) for row in range(2)
        if not any(u in ends[row] for u in range(t, t + LENGTH - 1))
    ]  # fmt: skip
    starts = buffer.segment_starts(LENGTH)
    assert sorted(map(tuple, starts.tolist())) == sorted(expected)
    inputs, scores = buffer.segments(starts, LENGTH)
    for (t, row), rows, scored in zip(starts, inputs, scores):
        np.testing.assert_array_equal(rows[:, :3], buffer.observations[t : t + LENGTH, row])
        np.testing.assert_array_equal(rows[:, 3:], buffer.carried[t : t + LENGTH, row])
        np.testing.assert_array_equal(scored, buffer.scores[t : t + LENGTH, row])
    assert len(buffer.segment_starts(13)) == 0


def test_a_time_limit_is_no_end_for_the_learner(buffer):
    dones = buffer.dones * (1 - buffer.timeouts)
    assert np.argwhere(dones).tolist() == [[2, 0], [6, 1]]


def test_relabelling_sets_every_reward_to_what_its_step_is_worth(buffer):
    buffer.relabel(lambda rows: rows[:, 0] + 10 * rows[:, 3])
    np.testing.assert_allclose(buffer.rewards, buffer.observations[..., 0] + 10 * buffer.carried[..., 0], rtol=1e-5)


def test_questions_are_those_of_most_disagreement(buffer):
    torch.manual_seed(0)
    ensemble = RewardEnsemble(3, 5, 8)
    generator = np.random.default_rng(5)
    first, second, labels = asked(buffer, ScriptedTeacher(), ensemble, 6, LENGTH, generator)
    starts = buffer.segment_starts(LENGTH)
    again = np.random.default_rng(5)
    drawn = [starts[again.integers(len(starts), size=60)] for _ in range(2)]
    (one, one_scores), (two, two_scores) = (buffer.segments(each, LENGTH) for each in drawn)
    spread = ensemble.disagreement(one, two)
    assert ensemble.disagreement(first, second).min() >= spread.sort(descending=True).values[5]
    for left, right, label in zip(first, second, labels):
        row = next(i for i in range(60) if torch.equal(one[i], left) and torch.equal(two[i], right))
        assert label == 0.5 + 0.5 * np.sign(one_scores[row].sum() - two_scores[row].sum())
    assert asked(buffer, ScriptedTeacher(), None, 6, 13, generator) is None


def test_one_segment_of_each_question_is_new(buffer):
    """Members that never saw a region may agree about it, so it is not left to their disagreement."""
    first, second, _ = asked(buffer, ScriptedTeacher(), None, 40, LENGTH, np.random.default_rng(5), since=5)
    starts = buffer.segment_starts(LENGTH)
    new, _ = buffer.segments(starts[starts[:, 0] >= 5], LENGTH)
    assert 0 < len(new) < len(starts)
    assert all((segment == new).all((1, 2)).any() for segment in first)
    assert not all((segment == new).all((1, 2)).any() for segment in second)
    assert asked(buffer, ScriptedTeacher(), None, 6, LENGTH, np.random.default_rng(5), since=99) is not None


def test_one_state_alone_is_no_news():
    assert novelty(torch.ones(1, 3), 5, torch.Generator()).tolist() == [0.0]


def test_novelty_ranks_states_by_the_distance_to_their_third_neighbour():
    states = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    values = novelty(states, 3, torch.Generator())
    third = [sorted(float((row - other).norm()) for other in states)[3] for row in states]
    logs = np.log(np.array(third) + 1e-6)
    np.testing.assert_allclose(values, (logs - logs.mean()) / logs.std(ddof=1), rtol=1e-3, atol=1e-3)
