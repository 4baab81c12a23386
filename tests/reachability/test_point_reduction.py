"""The reduction of Safety-Gymnasium's Point against MuJoCo, and the simulator whose states can be set."""

from importlib.util import find_spec

import numpy as np
import pytest

from saferl.evaluation.audit_robots import PointCircleAudit
from saferl.evaluation.monte_carlo import avoid_policies, monte_carlo
from saferl.evaluation.simulators import SafetyPointSimulator, point_states
from saferl.reachability.systems import (
    POINT_ACCELERATION,
    POINT_DAMPING,
    POINT_LEVER,
    POINT_TURN_RATE,
    point_action,
    safety_gymnasium_point,
)

pytestmark = pytest.mark.skipif(find_spec("safety_gymnasium") is None, reason="Safety-Gymnasium is not installed")


@pytest.fixture(scope="module")
def simulator():
    return SafetyPointSimulator("SafetyPointCircle1-v0", seed=3)


def drawn(count, seed=0):
    return PointCircleAudit.sample(None, count, np.random.default_rng(seed))


def test_constants_are_those_of_the_xml_file(simulator):
    model = simulator.model
    mass, body = model.body("agent").mass[0], model.body("agent")
    force = model.actuator_forcerange[0, 1] * model.actuator_gear[0, 0]  # N
    torque = model.actuator_forcerange[1, 1] * model.actuator_gear[1, 0]  # N m
    assert force / mass == pytest.approx(POINT_ACCELERATION, rel=1e-3)
    assert model.dof_damping[0] / mass == pytest.approx(POINT_DAMPING, rel=1e-3)
    assert body.ipos[0] == pytest.approx(POINT_LEVER, rel=1e-3)
    assert torque / model.dof_damping[2] == pytest.approx(POINT_TURN_RATE, rel=1e-3)


def test_errors_after_a_step_and_after_a_second(simulator):
    generator, system = np.random.default_rng(0), safety_gymnasium_point()
    real = drawn(200)
    real[:, 5] = 0
    predicted = real[:, :5].copy()
    for step in range(50):
        if step % 5 == 0:
            control = np.stack([generator.uniform(-1, 1, 200), generator.choice([-3.0, 0.0, 3.0], 200)])
        real = simulator.step(real, point_action(control.T))
        predicted += np.stack(np.broadcast_arrays(*system.displacement(tuple(predicted.T), control, (), 0.02)), axis=1)
        if step in (0, 49):
            error = np.sqrt(np.mean((predicted - real[:, :5]) ** 2, axis=0))
            bound = (3e-4, 3e-4, 1e-3, 1e-3, 0.02) if step == 0 else (5e-3, 5e-3, 0.01, 0.01, 0.04)
            assert (error < bound).all(), error


def test_the_part_along_x_is_closed():
    whole, part = safety_gymnasium_point(), safety_gymnasium_point(along_x=True)
    states, control = drawn(50)[:, :5], np.array([0.7, -2.0])
    moved = whole.displacement(tuple(states.T), control, (), 0.1)
    alone = part.displacement(tuple(states[:, [0, 2, 4]].T), control, (), 0.1)
    for index, change in zip((0, 2, 4), alone):
        assert np.broadcast_to(change, 50) == pytest.approx(np.broadcast_to(moved[index], 50), abs=1e-12)


def test_batched_steps_are_the_environments():
    simulator = SafetyPointSimulator("SafetyPointCircle1-v0", seed=3)
    env, world = simulator.env, simulator.env.unwrapped

    def state():
        return simulator._states(np.concatenate([[0], world.data.qpos, world.data.qvel])[None])

    generator = np.random.default_rng(1)
    for _ in range(20):
        before, action = state(), generator.uniform(-1, 1, 2)
        observation, _, _, _, info = env.step(action)
        # One step: the chattering motor lets rounding errors grow, so that long rollouts differ.
        after = simulator.step(before, action[None])
        assert after == pytest.approx(state(), abs=1e-9)
        assert simulator.margins(after)[0] == pytest.approx(info["margin"], abs=1e-9)
        assert point_states(observation[None])[0, :4] == pytest.approx(after[0, :4], abs=1e-6)


def test_states_come_back_from_observations(simulator):
    states = drawn(300, seed=5)
    back = point_states(simulator.observations(states, np.random.default_rng(0)))
    assert back[:, :4] == pytest.approx(states[:, :4], abs=1e-5)
    turn = (back[:, 4] - states[:, 4] + np.pi) % (2 * np.pi) - np.pi
    assert np.abs(turn).max() < 1e-5
    assert back[:, 5] == pytest.approx(states[:, 5], abs=1e-5)


@pytest.mark.parametrize("task", ["SafetyPointGoal1-v0", "SafetyPointRun0-v0", "SafetyPointCircle2-v0"])
def test_other_tasks_have_their_own_margins(task):  # against the environment's
    simulator = SafetyPointSimulator(task, seed=1)
    world = simulator.env.unwrapped
    state = simulator._states(np.concatenate([[0], world.data.qpos, world.data.qvel])[None])
    _, _, _, _, info = simulator.env.step(np.array([0.05, 0.0]))
    state = simulator.step(state, np.array([[0.05, 0.0]]))
    assert simulator.margins(state)[0] == pytest.approx(info["margin"], abs=1e-9)


def test_rollouts_around_hazards_need_no_grid():
    simulator = SafetyPointSimulator("SafetyPointGoal1-v0", seed=1)
    states = drawn(200, seed=6)
    result = monte_carlo(simulator, states, avoid_policies(simulator))
    assert not (result.shown & (simulator.margins(states) > 0)).any()
    slow = np.hypot(states[:, 2], states[:, 3]) < 0.3
    clear = simulator.margins(states) < -0.3  # far more than it takes to stop
    assert result.shown[slow & clear].all()


def test_observations_of_another_task_are_refused():
    with pytest.raises(ValueError, match=r"Circle task have shape \(N, 28\); got \(3, 60\)"):
        point_states(np.zeros((3, 60)))


def test_rollouts_in_mujoco_bear_out_the_grid():
    robot = PointCircleAudit("SafetyPointCircle1-v0")
    value = robot.truth(1.0)
    states = robot.sample(3_000, np.random.default_rng(2))
    states = states[np.abs(value(robot.columns(states))) < 0.3][:150]  # near the border, where it may fail
    result = monte_carlo(robot.simulator, states, avoid_policies(robot.simulator))
    true = value(robot.columns(states))
    assert not (result.shown & (true > 0.02)).any()
    assert (result.infeasible & (true < -0.05)).sum() <= 3
    assert 0.1 < result.shown.mean() < 0.9
