"""The memory of a policy that reads its last K steps, against plain lists of everything that happened."""

import numpy as np
import pytest
import torch

from saferl.agents.sequence_policy import SequencePolicy
from saferl.policy import FeedbackPolicy

CONTEXT, TARGET, LIMIT = 3, 10.0, 4.0


class Recorder:
    """A network that keeps what it was shown and answers with the step's number / 100, in both dimensions."""

    def __init__(self):
        self.shown = None

    def __call__(self, history):
        self.shown = type(history)(*(each.clone() for each in history))
        return (history.steps / 100).unsqueeze(2).repeat(1, 1, 2).float()


def made(**settings):
    network = Recorder()
    return network, SequencePolicy(network, 2, CONTEXT, TARGET, LIMIT, **settings)


def test_it_shows_the_last_steps_of_each_episode_and_what_is_left():
    rng = np.random.default_rng(0)
    network, policy = made()
    assert isinstance(policy, FeedbackPolicy)
    policy.reset(seed=0)
    past = [[], [], []]  # of each row: (observation, return to go, cost to go, step, action)
    left = [[TARGET, LIMIT] for _ in past]
    for _ in range(25):
        observations = rng.normal(size=(3, 4)).astype(np.float32)
        actions = policy.act(observations)
        for row, steps in enumerate(past):
            steps.append((observations[row], *left[row], len(steps), actions[row]))
            kept = steps[-CONTEXT:]
            shown = [each[row, : len(kept)].tolist() for each in network.shown]
            assert shown[0] == [step[0].tolist() for step in kept]
            assert shown[1][:-1] == [step[4].tolist() for step in kept[:-1]]  # the current action is still to come
            assert shown[2] == pytest.approx([step[1] for step in kept], abs=1e-4)
            assert shown[3] == pytest.approx([step[2] for step in kept], abs=1e-4)
            assert shown[4] == [step[3] for step in kept]
            assert actions[row] == pytest.approx([kept[-1][3] / 100] * 2)
        rewards, costs = rng.normal(size=3), rng.uniform(size=3)
        policy.observe(rewards, costs)
        left = [[each[0] - reward, each[1] - cost] for each, reward, cost in zip(left, rewards, costs)]
        ended = rng.random(3) < 0.15
        policy.reset(mask=ended)
        for row in np.flatnonzero(ended):
            past[row], left[row] = [], [TARGET, LIMIT]


def test_asking_again_before_the_step_is_made_replaces_the_observation():
    network, policy = made()
    policy.act(np.zeros((1, 4), np.float32))
    policy.act(np.ones((1, 4), np.float32))
    assert network.shown.observations[0, 0].tolist() == [1.0] * 4
    assert network.shown.steps[0, 0] == 0


def test_another_number_of_rows_begins_new_episodes():
    network, policy = made()
    policy.act(np.zeros((1, 4), np.float32))
    policy.observe(np.ones(1), np.ones(1))
    policy.act(np.zeros((2, 4), np.float32))
    assert network.shown.returns_to_go[:, 0].tolist() == [TARGET] * 2
    assert network.shown.steps[:, 0].tolist() == [0, 0]


def test_actions_come_in_the_environments_units_and_are_remembered_in_the_networks():
    network, policy = made(low=np.array([0.0, 0.0]), high=np.array([10.0, 10.0]))
    for step in range(3):
        actions = policy.act(np.zeros((1, 4), np.float32))
        assert actions[0] == pytest.approx([5 + 5 * step / 100] * 2)
        policy.observe(np.zeros(1), np.zeros(1))
    assert network.shown.actions[0, :2, 0].tolist() == pytest.approx([0.0, 0.01])


def test_actions_are_kept_inside_of_the_box():
    policy = SequencePolicy(lambda history: torch.full((1, CONTEXT, 2), 7.0), 2, CONTEXT, TARGET, LIMIT)
    assert policy.act(np.zeros((1, 4), np.float32)).tolist() == [[1.0, 1.0]]
