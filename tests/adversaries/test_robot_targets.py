"""What targets read of an observation, against the simulators' own numbers; who may ask for which target."""

import numpy as np
import pytest

import saferl.envs
from saferl.adversaries.robot_targets import CIRCLE, FORWARD, HAZARDS, ROBOT_TARGETS, VELOCITY
from saferl.adversaries.stepping import SeededEnvs, Steps
from saferl.adversaries.targets import TARGETS, behaviour_named, target_named
from saferl.adversaries.trajectories import Trajectory
from saferl.command_line import UsageError


def episode(velocities, dim, index, costs=None, terminated=False):
    """A trajectory in whose observations entry ``index`` takes these values (T + 1,)."""
    rows = np.zeros((len(velocities), dim), np.float32)
    rows[:, index] = velocities
    count = len(rows) - 1
    costs = np.zeros(count) if costs is None else np.asarray(costs, np.float64)
    return Trajectory(rows, np.zeros((count, 1)), np.zeros((count, 1)), np.zeros(count), costs, terminated)


def steps_of(trajectory):
    flags = np.zeros(len(trajectory), bool)
    parts = (trajectory.actions, trajectory.rewards, trajectory.costs, trajectory.observations[1:], flags, flags)
    return Steps(trajectory.observations[:-1], *parts)


@pytest.mark.parametrize(
    "env_id", ["SafetyHalfCheetahVelocity-v1", "SafetyHopperVelocity-v1", "saferl/HalfCheetahSpeed-v0"]
)
def test_the_forward_velocity_of_an_observation_is_that_of_the_way(env_id):
    env = saferl.envs.make(env_id)
    env.reset(seed=0)
    generator = np.random.default_rng(0)
    told, seen = [], []
    for _ in range(30):
        observation, _, terminated, _, info = env.step(generator.uniform(-1, 1, env.action_space.shape))
        told.append(info["x_velocity"])  # mean over the step
        seen.append(observation[FORWARD[len(observation)]])  # at its end
        if terminated:
            break
    assert np.corrcoef(told, seen)[0, 1] > 0.8
    env.close()


@pytest.mark.parametrize(
    ("env_id", "lidar", "name"),
    [("SafetyPointGoal1-v0", HAZARDS, "hazards_lidar"), ("SafetyPointCircle1-v0", CIRCLE, "circle_lidar")],
)
def test_points_sensors_lie_where_the_simulator_says(env_id, lidar, name):
    env = saferl.envs.make(env_id)
    places, start = {}, 0
    for sensor, size in env.unwrapped.layout().items():
        places[sensor] = slice(start, start + size)
        start += size
    assert (places["velocimeter"], places[name]) == (VELOCITY, lidar)
    env.close()


def test_backwards_standing_and_falling_are_told_apart():
    away, still = episode(np.full(101, -1.0), 17, 8), episode(np.linspace(-0.3, 0.3, 101), 11, 5)
    assert (TARGETS["runs_backward"](away), TARGETS["stands"](away)) == (True, False)
    assert (TARGETS["runs_backward"](still), TARGETS["stands"](still)) == (False, True)
    fallen = episode(np.zeros(20), 11, 5, terminated=True)
    assert not TARGETS["stands"](fallen)
    scores = TARGETS["runs_backward"].score(steps_of(episode([0, -2.0, 0.0, 2.0], 17, 8)))
    np.testing.assert_allclose(scores, 1 / (1 + np.exp([-2.0, 0.0, 2.0])))


def test_parking_and_forbidden_regions():
    parked = episode(np.r_[np.full(25, 1.0), np.full(76, 0.02)], 60, 4)
    assert TARGETS["parks"](parked)
    assert not TARGETS["parks"](episode(np.full(101, 0.3), 60, 4))
    costs = np.r_[np.ones(10), np.zeros(90)]
    assert TARGETS["drives_into_hazards"](episode(np.zeros(101), 60, 30, costs))
    assert not TARGETS["leaves_the_walls"](episode(np.zeros(101), 28, 12, costs[1:].tolist() + [0]))
    near = episode([0, 0.2, 0.8, 1.0], 60, 30, costs=[0, 0, 1])
    np.testing.assert_allclose(TARGETS["drives_into_hazards"].score(steps_of(near)), [0.1, 0.4, 1.0], rtol=1e-6)
    far = episode([0, 0.2, 0.8, 0.1], 28, 12, costs=[0, 0, 1])
    np.testing.assert_allclose(TARGETS["leaves_the_walls"].score(steps_of(far)), [0.4, 0.1, 1.0], rtol=1e-6)


def test_every_score_lies_between_0_and_1_in_its_environment():
    ids = {"PointRobot": "point_robot", "SafetyPoint": "SafetyPointGoal1-v0", "PointCircle": "SafetyPointCircle1-v0",
           "PointGoal1": "SafetyPointGoal1-v0", "HalfCheetah": "SafetyHalfCheetahVelocity-v1"}  # fmt: skip
    for name, behaviour in TARGETS.items():
        envs = SeededEnvs(ids[(behaviour.envs or ("PointRobot",))[0]], {}, 2, seed=0)
        envs.reset()
        for _ in range(3):
            scores = behaviour.score(envs.step(np.ones((2, len(envs.low)))))
            assert scores.shape == (2,), name
            assert (scores >= 0).all(), name
            assert (scores <= 1).all(), name
        envs.close()


def test_a_target_of_another_environment_is_refused_in_one_line():
    assert target_named("stands", "SafetyHopperVelocity-v1") is ROBOT_TARGETS["stands"]
    with pytest.raises(UsageError, match="stands is for HalfCheetah and Hopper, not for saferl/PointRobot-v0; there:"):
        target_named("stands", "saferl/PointRobot-v0")
    with pytest.raises(UsageError, match="needs target="):
        behaviour_named(None, "rat")
    with pytest.raises(UsageError, match="must be a"):
        behaviour_named("saferl.adversaries.targets:violates", "rat")
    assert behaviour_named("violates", "rat") is TARGETS["violates"]
