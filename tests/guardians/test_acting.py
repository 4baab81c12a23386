"""GuardedPolicy and GuardedAction: counts by hand, and a toy whose visited pairs are known."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from saferl.guardians import GuardedAction, GuardedPolicy, GuardianConfig, RecordedBehaviour, fit_guardian
from saferl.policy import CallablePolicy, Policy


@pytest.fixture(scope="module")
def corridor():
    """Pairs with a = -s / 2 + noise: positions in [-1, 1], and steps that go back to the middle."""
    rng = np.random.default_rng(0)
    positions = rng.uniform(-1, 1, (3000, 1)).astype(np.float32)
    steps = (-positions / 2 + 0.05 * rng.normal(size=(3000, 1))).astype(np.float32)
    return positions, steps


@pytest.fixture(scope="module")
def guardian(corridor):
    return fit_guardian(*corridor, GuardianConfig(kind="knn", alpha=0.02))


class Line(gymnasium.Env):
    """A point on a line; the action is added to its position. Costs 1 beyond 1.2."""

    observation_space = spaces.Box(-10, 10, (1,))
    action_space = spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position, self.steps = np.array([0.5], np.float32), 0
        return self.position, {}

    def step(self, action):
        self.position, self.steps = (self.position + action).astype(np.float32), self.steps + 1
        return self.position, 0.0, False, self.steps == 20, {"cost": float(abs(self.position[0]) > 1.2)}


RUNAWAY = CallablePolicy(lambda observations: np.full_like(observations, 0.4))
RETURNING = CallablePolicy(lambda observations: -observations / 2)


def test_a_guarded_policy_replaces_exactly_what_is_not_supported_and_counts_it(guardian):
    policy = GuardedPolicy(RUNAWAY, guardian, RETURNING)
    assert isinstance(policy, Policy)
    observations = np.array([[-0.8], [0.0], [0.8]], np.float32)  # a = 0.4 is what the data have at -0.8 only
    assert policy.act(observations) == pytest.approx(np.array([[0.4], [0.0], [-0.4]]))
    assert policy.fell_back.tolist() == [False, True, True]
    policy.act(observations[::-1])
    assert policy.fallbacks.tolist() == [1, 2, 1]
    policy.reset(mask=np.array([False, True, False]))
    policy.act(observations)
    assert policy.fallbacks.tolist() == [1, 1, 2]
    assert (policy.total, policy.asked) == (6, 9)
    policy.reset()
    policy.act(observations)
    assert policy.fallbacks.tolist() == [0, 1, 1]


def test_recorded_behaviour_is_the_nearest_rows_action(corridor):
    positions, steps = corridor
    asked = np.array([[-0.71], [0.02], [0.9]], np.float32)
    nearest = np.abs(asked - positions.T).argmin(1)
    assert np.array_equal(RecordedBehaviour(positions, steps).act(asked), steps[nearest])


def outside_share(env, policy, guardian):
    observation, _ = env.reset(seed=0)
    pairs, done = [], False
    while not done:
        action = policy.act(observation[None])[0]
        before = observation
        observation, _, terminated, truncated, info = env.step(action)
        done = terminated or truncated
        taken = action if not info.get("fell_back") else RETURNING.act(before[None])[0]
        pairs.append((before, taken))
    return guardian.cost(*(np.stack(each) for each in zip(*pairs))).mean(), len(pairs), info


def test_a_guard_lowers_the_rate_of_visited_pairs_outside(guardian):
    unguarded = outside_share(Line(), RUNAWAY, guardian)[0]
    guarded = outside_share(Line(), GuardedPolicy(RUNAWAY, guardian, RETURNING), guardian)[0]
    assert unguarded == 1.0  # at 0.5 and beyond nobody ever stepped right
    assert guarded == 0.0


def test_the_wrapper_falls_back_and_says_so(guardian):
    env = GuardedAction(Line(), guardian, fallback=RETURNING)
    _, info = env.reset(seed=0)
    assert (info["fell_back"], info["fallbacks"], info["outside"]) == (False, 0, False)
    observation, *_, info = env.step(np.array([0.4], np.float32))
    assert observation == pytest.approx([0.25])
    assert (info["fell_back"], info["fallbacks"], info["outside"]) == (True, 1, False)
    assert info["nominal_action"] == pytest.approx([0.4])
    observation, *_, info = env.step(np.array([-0.1], np.float32))
    assert observation == pytest.approx([0.15])
    assert (info["fell_back"], info["fallbacks"], info["cost"]) == (False, 1, 0.0)
    assert env.reset(seed=0)[1]["fallbacks"] == 0


def test_a_fallback_that_wants_to_see_rewards_and_costs_sees_them(guardian):
    class Seeing:
        def __init__(self):
            self.seen = []

        def act(self, observations):
            return np.full_like(observations, 0.4)

        def reset(self, mask=None, seed=None):
            self.seen = []

        def observe(self, rewards, costs):
            self.seen = [*self.seen, (rewards.tolist(), costs.tolist())]

    fallback = Seeing()
    env = GuardedAction(Line(), guardian, fallback=fallback)
    env.reset(seed=0)
    for _ in range(3):  # 0.9, 1.3, 1.7
        env.step(np.array([0.4], np.float32))
    assert fallback.seen == [([0.0], [0.0]), ([0.0], [1.0]), ([0.0], [1.0])]


def test_the_terminator_ends_the_episode_behind_the_first_pair_outside(guardian):
    share, steps, info = outside_share(GuardedAction(Line(), guardian, terminate=True), RETURNING, guardian)
    assert (share, steps) == (0.0, 20)  # this one stays inside, the time runs out
    share, steps, info = outside_share(GuardedAction(Line(), guardian, terminate=True), RUNAWAY, guardian)
    assert (share, steps, info["outside"], info["fell_back"]) == (1.0, 1, True, False)
    outward = GuardedAction(Line(), guardian, fallback=RUNAWAY, terminate=True)  # its replacement is outside as well
    outward.reset(seed=0)
    _, _, terminated, truncated, info = outward.step(np.array([0.9], np.float32))
    assert (terminated, truncated, info["fell_back"], info["outside"]) == (True, False, True, True)


def test_without_fallback_and_end_the_wrapper_only_tells(guardian):
    env = GuardedAction(Line(), guardian)
    env.reset(seed=0)
    observation, _, terminated, _, info = env.step(np.array([0.4], np.float32))
    assert observation == pytest.approx([0.9])
    assert (terminated, info["outside"], info["fell_back"]) == (False, True, False)


class Table(gymnasium.Env):
    observation_space, action_space = spaces.Discrete(3), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        assert self.action_space.contains(action)
        return int(action), 0.0, False, False, {"cost": 0.0}


def test_discrete_environments_are_guarded_by_counts():
    guardian = fit_guardian([0, 0, 1, 1], [1, 1, 0, 0], GuardianConfig(kind="counts"))
    behaviour = CallablePolicy(lambda states: 1 - np.minimum(states, 1).reshape(-1, 1))
    env = GuardedAction(Table(), guardian, behaviour)
    env.reset(seed=0)
    observation, *_, info = env.step(0)
    assert (observation, info["fell_back"], info["outside"]) == (1, True, False)
    observation, *_, info = env.step(0)
    assert (observation, info["fell_back"], info["fallbacks"]) == (0, False, 1)
