import itertools

import gymnasium
import numpy as np
import pytest

import saferl.envs
from saferl.evaluation.rollout import episode_seeds, rollout
from saferl.policy import CallablePolicy

# Drives on or brakes, by the position: episodes of 2 to 300 steps.
POLICY = CallablePolicy(lambda obs: np.stack([np.sin(3 * obs[:, 0]), 0.3 * np.cos(2 * obs[:, 1])], axis=1))


def one_by_one(env_id, seeds):
    """The same episodes in the plainest loop."""
    env = saferl.envs.make(env_id)
    rows = []
    for seed in seeds:
        obs, _ = env.reset(seed=int(seed))
        total = cost = violations = length = 0
        reached = ended = False
        while not ended:
            action = np.clip(POLICY.act(obs[None])[0], env.action_space.low, env.action_space.high)
            obs, reward, terminated, truncated, info = env.step(action)
            total, cost, length = total + reward, cost + info["cost"], length + 1
            violations += info["cost"] > 0
            reached |= bool(info.get("is_success", False))
            ended = terminated or truncated
        rows.append((total, cost, violations, length, reached))
    return [np.array(column) for column in zip(*rows)]


@pytest.mark.parametrize("num_envs", [1, 3, 8, None])
def test_every_seed_gives_exactly_one_whole_episode(num_envs):
    seeds = episode_seeds(11, 13)
    returns, costs, violations, lengths, successes = one_by_one("point_robot", seeds)
    episodes = rollout(POLICY, "point_robot", seeds, num_envs=num_envs)
    assert lengths.min() < 50 < lengths.max()  # or the test would not see a bias towards short episodes
    np.testing.assert_array_equal(episodes.lengths, lengths)
    np.testing.assert_array_equal(episodes.violations, violations)
    np.testing.assert_array_equal(episodes.successes, successes)
    np.testing.assert_allclose(episodes.returns, returns, rtol=1e-12)
    np.testing.assert_allclose(episodes.costs, costs, rtol=1e-12)


def test_processes_give_what_one_process_gives():
    seeds = episode_seeds(0, 5)
    one = rollout(POLICY, "point_robot", seeds, num_envs=2)
    two = rollout(POLICY, "point_robot", seeds, num_envs=2, vectorization="async")
    np.testing.assert_array_equal(one.returns, two.returns)
    np.testing.assert_array_equal(one.lengths, two.lengths)


def test_policies_see_the_same_starts():
    starts = []
    for action in (0.0, 1.0):
        seen = []

        def act(obs, action=action, seen=seen):
            seen.append(obs.copy())
            return np.full((len(obs), 2), action, np.float32)

        rollout(CallablePolicy(act), "point_robot", [5, 6, 7])
        starts.append(seen[0])
    np.testing.assert_array_equal(starts[0], starts[1])
    assert len(np.unique(starts[0][:, 0])) == 3


def test_actions_are_clipped_to_the_box_and_costs_counted():
    class Counter(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.left = int(self.np_random.integers(3, 9))
            return np.zeros(1, np.float32), {"cost": 0.0}

        def step(self, action):
            assert self.action_space.contains(action)
            self.left -= 1
            return np.zeros(1, np.float32), float(action[0]), self.left == 0, False, {"cost": 2.0 * (self.left % 2)}

    gymnasium.register("saferl-test/Counter-v0", entry_point=Counter)
    try:
        episodes = rollout(CallablePolicy(lambda obs: 5 * np.ones((len(obs), 1))), "saferl-test/Counter-v0", range(6))
    finally:
        del gymnasium.registry["saferl-test/Counter-v0"]
    lengths = [int(np.random.Generator(np.random.PCG64(seed)).integers(3, 9)) for seed in range(6)]
    assert episodes.lengths.tolist() == lengths
    assert episodes.returns.tolist() == lengths
    assert episodes.violations.tolist() == [length // 2 for length in lengths]
    assert episodes.costs.tolist() == [2.0 * (length // 2) for length in lengths]
    assert episodes.successes is None


class Spender:
    """A policy that adds up what it is told, per environment, and starts anew where an episode ends."""

    def __init__(self, width):
        self.spent, self.calls, self.finished = np.zeros(width), 0, []

    def act(self, observations):
        self.calls += 1
        return POLICY.act(observations)

    def observe(self, rewards, costs):
        assert self.calls == 1  # once for each step, behind act
        self.calls = 0
        self.spent += costs

    def reset(self, mask=None, seed=None):
        if mask is not None:
            self.finished += self.spent[mask].tolist()
            self.spent[mask] = 0


def test_a_policy_with_a_budget_sees_every_cost_of_its_episode():
    spender = Spender(3)
    episodes = rollout(spender, "point_robot", episode_seeds(11, 9), num_envs=3)
    assert max(episodes.costs) > 0
    assert set(spender.finished) <= set(episodes.costs)
    assert len(spender.finished) >= 6  # the last three end without a reset behind them


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda obs: np.zeros((len(obs), 3)), r"shape \(2, 3\); the environment needs \(2, 2\)"),
        (lambda obs: np.full((len(obs), 2), np.nan), "NaN or infinite"),
    ],
)
def test_a_policy_that_gives_nonsense_is_named(function, message):
    with pytest.raises(ValueError, match=message):
        rollout(CallablePolicy(function), "point_robot", [0, 1])


def test_a_watcher_sees_each_step_of_each_episode_in_order():
    seeds = episode_seeds(11, 13)
    steps = []
    episodes = rollout(POLICY, "point_robot", seeds, num_envs=4, watch=steps.append)
    for index, seed in enumerate(seeds):
        rows = [(step, int(np.flatnonzero(step.episodes == index)[0])) for step in steps if index in step.episodes]
        assert len(rows) == episodes.lengths[index]
        assert sum(step.rewards[row] for step, row in rows) == pytest.approx(episodes.returns[index])
        assert sum(step.costs[row] for step, row in rows) == episodes.costs[index]
        first, _ = saferl.envs.make("point_robot").reset(seed=int(seed))
        np.testing.assert_array_equal(rows[0][0].observations[rows[0][1]], first)
        for (step, row), (following, other) in itertools.pairwise(rows):
            np.testing.assert_array_equal(step.next_observations[row], following.observations[other])
        ends = [bool(step.terminated[row] | step.truncated[row]) for step, row in rows]
        assert ends == [False] * (len(rows) - 1) + [True]
