"""The safety filter around environments and policies."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import saferl.envs
from saferl.envs import dubins_car, point_robot
from saferl.envs.safety_filter import FilteredPolicy, SafetyFilterWrapper
from saferl.evaluation.rollout import rollout
from saferl.policy import CallablePolicy, FeedbackPolicy, Policy, as_policy
from saferl.reachability import SYSTEMS, Box, Grid, System, Value
from saferl.reachability.discounted import solve
from saferl.reachability.safety_filter import SafetyFilter

THRESHOLD = 0.06  # for the error of the small grids here


def dubins_margin(x, y, heading):
    return np.max([radius - np.hypot(x - a, y - b) for a, b, radius in dubins_car.HAZARDS], axis=0)


@pytest.fixture(scope="module")
def dubins_value() -> Value:
    grid = Grid((-4.2, -4.2, -np.pi), (4.2, 4.2, np.pi), (71, 71, 60), (2,))
    return solve(SYSTEMS["dubins_car"](), grid, constraint=dubins_margin, dt=dubins_car.DT, discount=1.0)


@pytest.fixture
def safe(dubins_value) -> SafetyFilter:
    return SafetyFilter(dubins_value, dt=dubins_car.DT, threshold=THRESHOLD)


def state_of(env: gymnasium.Env) -> np.ndarray:
    return env.unwrapped.state  # type: ignore[attr-defined]


def test_an_action_that_may_pass_goes_on_bit_by_bit(safe):
    plain, wrapped = dubins_car.DubinsCar(), SafetyFilterWrapper(dubins_car.DubinsCar(), safe, state_of)
    start = {"state": (-3.5, 2.0, 0.0)}
    plain.reset(options=start)
    _, info = wrapped.reset(options=start)
    assert (info["intervened"], info["interventions"]) == (False, 0)
    for _ in range(10):
        action = np.array([0.123], np.float32)
        expected, got = plain.step(action), wrapped.step(action)
        np.testing.assert_array_equal(got[0], expected[0])
        assert got[1:4] == expected[1:4]
        assert got[4]["intervened"] is False
        np.testing.assert_array_equal(got[4]["nominal_action"], action)


def test_interventions_are_counted_and_a_reset_starts_again(safe):
    env = SafetyFilterWrapper(dubins_car.DubinsCar(), safe, state_of)
    env.reset(options={"state": (-3.0, 0.0, 0.0)})
    count, costs = 0, 0.0
    for _ in range(60):  # straight at the first hazard
        *_, info = env.step(np.zeros(1, np.float32))
        count += info["intervened"]
        costs += info["cost"]
        assert info["interventions"] == count
        np.testing.assert_array_equal(info["nominal_action"], [0.0])
    assert count > 5
    assert costs == 0
    assert safe.counts.interventions == count
    assert env.reset()[1]["interventions"] == 0


def test_random_actions_never_violate(safe):
    env = SafetyFilterWrapper(saferl.envs.make("dubins_car", start="feasible"), safe, state_of)
    env.action_space.seed(0)
    violations = 0.0
    for seed in range(20):
        env.reset(seed=seed)
        if safe.value(state_of(env)[None])[0] > -THRESHOLD:
            continue  # the closed form judges each hazard alone
        ended = False
        while not ended:
            *_, terminated, truncated, info = env.step(env.action_space.sample())
            violations += info["cost"]
            ended = terminated or truncated
    assert violations == 0


def test_gymnasium_checker_passes(safe):
    env = SafetyFilterWrapper(dubins_car.DubinsCar(), safe, state_of)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env, skip_render_check=True)
    advice = ("probably too low", "probably too high", "different from the unwrapped")
    said = [str(w.message) for w in caught if not issubclass(w.category, DeprecationWarning)]
    assert [message for message in said if not any(words in message for words in advice)] == []


def test_spec_makes_the_wrapped_environment_again(safe):
    env = SafetyFilterWrapper(saferl.envs.make("dubins_car"), safe, state_of)
    again = gymnasium.make(env.spec)
    assert isinstance(again, SafetyFilterWrapper)
    np.testing.assert_array_equal(again.reset(seed=1)[0], env.reset(seed=1)[0])


def test_actions_that_do_not_fit_are_refused(safe):
    with pytest.raises(ValueError, match="system dubins_car has 1 controls; the environment's actions are Box"):
        SafetyFilterWrapper(point_robot.PointRobot(), safe, state_of)
    grid = Grid((-1,), (1,), (5,))
    strong = System(name="strong", states=("x",), drift=lambda x: (0.0,), control_matrix=((1,),), control=Box(-2, 2))
    too_much = SafetyFilter(Value(grid, grid.axes[0], strong), dt=0.05)
    with pytest.raises(ValueError, match="compute the value with controls that the environment has"):
        SafetyFilterWrapper(dubins_car.DubinsCar(), too_much, state_of)


def test_filtered_policy_does_what_the_wrapper_does(safe):
    policy = FilteredPolicy(CallablePolicy(lambda o: np.zeros((len(o), 1))), safe, dubins_car.states_of)
    env = SafetyFilterWrapper(dubins_car.DubinsCar(), safe, state_of)
    plain = dubins_car.DubinsCar()
    start = {"state": (-3.0, 0.1, 0.0)}
    env.reset(options=start)
    observation, _ = plain.reset(options=start)
    for _ in range(60):
        action = policy.act(observation[None])
        assert action.dtype == np.float32
        observation, *_ = plain.step(action[0])
        *_, info = env.step(np.zeros(1, np.float32))
        np.testing.assert_allclose(plain.state, state_of(env), atol=1e-4)  # observations are float32
        assert policy.intervened.tolist() == [info["intervened"]]
    assert policy.interventions.tolist() == [info["interventions"]]
    assert policy.interventions[0] > 5


def test_filtered_policy_makes_a_rollout_free_of_violations(safe):
    ahead = as_policy(lambda o: np.arctan2(o[:, 6:7], o[:, 5:6]).clip(-1, 1))  # towards the goal, hazards or not
    filtered = FilteredPolicy(ahead, safe, dubins_car.states_of)
    seeds = [seed for seed in range(60) if feasible(seed, safe)]
    kwargs = {"env_kwargs": {"start": "feasible"}}
    before, after = (rollout(policy, "dubins_car", seeds, **kwargs) for policy in (ahead, filtered))
    assert before.violations.sum() > 100
    assert after.violations.sum() == 0
    assert safe.counts.interventions > 0


def feasible(seed: int, safe: SafetyFilter) -> bool:
    env = dubins_car.DubinsCar(start="feasible")
    env.reset(seed=seed)
    return bool(safe.value(env.state[None])[0] <= -THRESHOLD)


def test_counts_of_rows_are_reset_by_mask(safe):
    policy = FilteredPolicy(CallablePolicy(lambda o: np.zeros((len(o), 1))), safe, dubins_car.states_of)
    observations = dubins_car.observation([[-1.8, 0.0, 0.0], [-1.8, 0.0, 0.0], [-3.5, 3.0, 0.0]])
    policy.act(observations)
    policy.act(observations)
    assert policy.interventions.tolist() == [2, 2, 0]
    policy.reset(mask=np.array([True, False, False]))
    assert policy.interventions.tolist() == [0, 2, 0]
    policy.act(observations)
    assert policy.interventions.tolist() == [1, 3, 0]
    policy.reset(seed=0)
    policy.act(observations[:1])
    assert policy.interventions.tolist() == [1]


class Remembering:
    """A policy that notes what is passed on to it."""

    def __init__(self) -> None:
        self.seen: list[tuple] = []

    def act(self, observations):
        return np.zeros((len(observations), 1), np.float32)

    def reset(self, mask=None, seed=None):
        self.seen.append(("reset", mask, seed))

    def observe(self, rewards, costs):
        self.seen.append(("observe", rewards.tolist(), costs.tolist()))


def test_feedback_and_resets_are_passed_on(safe):
    inner = Remembering()
    policy = FilteredPolicy(inner, safe, dubins_car.states_of)
    assert isinstance(policy, Policy)
    assert isinstance(policy, FeedbackPolicy)
    policy.reset(seed=3)
    policy.observe(np.array([1.0]), np.array([0.0]))
    assert inner.seen == [("reset", None, 3), ("observe", [1.0], [0.0])]
    FilteredPolicy(CallablePolicy(lambda o: o), safe, dubins_car.states_of).observe(np.zeros(1), np.zeros(1))


def test_states_of_point_robot_come_back_from_observations():
    states = point_robot.start_states(50, "random", np.random.default_rng(0))
    np.testing.assert_allclose(point_robot.states_of(point_robot.observation(states)), states, atol=1e-6)
