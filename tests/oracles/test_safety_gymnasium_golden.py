"""How closely, and for how long, saferl's Safety-Gymnasium follows trajectories of the original stack.

The dynamics are chaotic: on the original stack itself, moving the reset state of a navigation task by one unit in the
last place gives other trajectories within 1 to 500 steps. So the layout is compared exactly, the physics one step at a
time from recorded states, the open loop only where it is stable, and the closed loop by its means.
The table of one-step deviations: ``pytest tests/oracles/test_safety_gymnasium_golden.py -s``.
"""

import json

import gymnasium
import numpy as np
import pytest

import saferl  # noqa: F401 - registers the ids
from saferl.envs.safety_gymnasium_compat import contact_margins_add_up
from tests.oracles.safety_gymnasium_golden import FOLDER, HEADER, SEEDS, TASKS, follow, recording

pytest.importorskip("mujoco")
pytest.importorskip("xmltodict")

CASES = [(task_id, seed) for task_id in TASKS for seed in SEEDS]

# (task, seed) -> bounds on the 50 % and 95 % quantile of |dqpos| after one step. What exceeds the common bound are
# contacts of Car's bumper (the box collider of mujoco 3 has other contact points) and of Racecar's wheels.
COMMON_BOUND = (1e-12, 1e-6)
BOUNDS = {
    ("SafetyCarButton1-v0", 0): (1e-12, 1e-3),
    ("SafetyRacecarRun0-v0", 0): (1e-8, 5e-5),
    ("SafetyRacecarRun0-v0", 1): (1e-8, 5e-5),
    ("SafetyPointPush1-v0", 0): (1e-11, 1e-10),
    ("SafetyPointPush1-v0", 1): (1e-11, 1e-10),
}
REWARD_BOUND = 1e-4  # 95 % quantile


def make(task_id: str, physics: str = "legacy") -> gymnasium.Env:
    try:
        return gymnasium.make(task_id, physics=physics).unwrapped
    except gymnasium.error.DependencyNotInstalled as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def table():
    rows: list[str] = []
    yield rows
    print("\n" + "\n".join([HEADER, *rows]))


@pytest.mark.parametrize(("task_id", "seed"), CASES)
def test_a_seed_gives_the_recorded_layout(task_id, seed):
    record = recording(task_id, seed)
    env = make(task_id)
    for k, reset_seed in enumerate(record["reset_seed"]):
        observation, _ = env.reset(seed=int(reset_seed))
        np.testing.assert_allclose(env.data.xpos, record["reset_xpos"][k], rtol=0, atol=1e-12)
        np.testing.assert_allclose(env.data.qpos, record["reset_qpos"][k], rtol=0, atol=1e-12)
        # Car's wheels start exactly at contact distance: the last bit decides what its accelerometer reads.
        first = 3 if "Car" in task_id and "Racecar" not in task_id else 0
        np.testing.assert_allclose(observation[first:], record["reset_obs"][k][first:], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("task_id", "seed"), CASES)
def test_one_step_from_each_recorded_state_follows_the_recording(task_id, seed, table):
    deviation = follow(make(task_id), recording(task_id, seed), inject=True)
    table.append(deviation.row(f"{task_id} s{seed}"))
    middle, most = BOUNDS.get((task_id, seed), COMMON_BOUND)
    assert np.quantile(deviation.qpos, 0.5) <= middle
    assert np.quantile(deviation.qpos, 0.95) <= most
    assert np.quantile(deviation.reward, 0.95) <= REWARD_BOUND
    assert deviation.cost.max() == 0  # in all 300 steps


@pytest.mark.parametrize(
    ("task_id", "seed"),
    [
        ("SafetyHopperVelocity-v1", 0),
        ("SafetyHopperVelocity-v1", 1),
        ("SafetySwimmerVelocity-v1", 0),
        ("SafetySwimmerVelocity-v1", 1),
        ("SafetyHalfCheetahVelocity-v1", 1),
    ],
)
def test_stable_tasks_follow_the_recording_open_loop_for_300_steps(task_id, seed):
    deviation = follow(make(task_id), recording(task_id, seed), inject=False)
    assert len(deviation.observation) == 300
    assert deviation.observation.max() <= 1e-6
    assert deviation.reward.max() <= 1e-6
    assert deviation.cost.max() == 0


@pytest.mark.parametrize(("task_id", "least"), [("SafetyHopperVelocity-v1", 1e-4), ("SafetyRacecarRun0-v0", 5e-3)])
def test_native_physics_departs_where_mujoco_changed(task_id, least):
    if "Hopper" in task_id and not contact_margins_add_up():
        pytest.skip("this mujoco takes contact margins as mujoco 2.3.3 did")
    deviation = follow(make(task_id, physics="native"), recording(task_id, 0), inject=True)
    assert np.quantile(deviation.qpos, 0.95) > least


def autoregressive_policy(generator, env):
    noise = np.zeros(env.action_space.shape)

    def act(env):
        noise[:] = 0.9 * noise + 0.45 * generator.randn(len(noise))
        return np.clip(noise, -1, 1) * env.action_space.high

    return act


def goal_seeking_policy(generator, env):
    def act(env):
        task = env.task
        ego = (task.goal.pos - task.agent.pos)[:2] @ task.agent.mat[:2, :2]
        angle = np.arctan2(ego[1], ego[0])
        action = np.array([1.0 if abs(angle) < 1 else 0.1, np.clip(2 * angle, -1, 1)])
        return np.clip(action + 0.1 * generator.randn(2), -1, 1)

    return act


POLICIES = {"ar1": autoregressive_policy, "seek": goal_seeking_policy}


def closed_loop(task_id: str, policy: str, steps: int, seed: int) -> tuple[float, float, int]:
    """Return, cost and number of resets of one run of the recorded policy."""
    env = make(task_id)
    generator = np.random.RandomState(1000 + seed)
    generator.uniform(size=2 * env.action_space.shape[0])  # drawn by the recorder for another policy
    act = POLICIES[policy](generator, env)
    env.reset(seed=seed)
    total, cost, resets = 0.0, 0.0, 1
    for t in range(steps):
        _, reward, terminated, truncated, info = env.step(act(env))
        total, cost = total + reward, cost + info["cost"]
        if (terminated or truncated) and t < steps - 1:
            env.reset(seed=seed + 100 * resets)
            resets += 1
    return total, cost, resets


def recorded_closed_loop(task_id: str) -> tuple[str, int, np.ndarray]:
    path = FOLDER / "closed_loop.json"
    if not path.exists():
        pytest.skip(f"reference data {path.name} is not beside the repository")
    entry = json.loads(path.read_text())["envs"][task_id]
    return entry["policy"], entry["steps"], np.array(entry["rows"])  # (20, 3)


def test_hopper_repeats_the_recorded_closed_loop_run_by_run():
    policy, steps, rows = recorded_closed_loop("SafetyHopperVelocity-v1")
    found = np.array([closed_loop("SafetyHopperVelocity-v1", policy, steps, seed) for seed in range(len(rows))])
    np.testing.assert_allclose(found, rows, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "task_id",
    [
        "SafetyPointGoal1-v0",
        pytest.param("SafetyPointButton1-v0", marks=pytest.mark.slow),
        pytest.param("SafetyCarPush1-v0", marks=pytest.mark.slow),
    ],
)
def test_mean_return_and_cost_of_the_closed_loop_agree(task_id):
    policy, steps, rows = recorded_closed_loop(task_id)
    found = np.array([closed_loop(task_id, policy, steps, seed) for seed in range(len(rows))])
    standard_error = np.sqrt((found.var(axis=0, ddof=1) + rows.var(axis=0, ddof=1)) / len(rows))
    gap = np.abs(found.mean(axis=0) - rows.mean(axis=0))
    for name, i in (("return", 0), ("cost", 1)):
        print(
            f"\n{task_id} {name}: recorded {rows[:, i].mean():.2f}, here {found[:, i].mean():.2f}, "
            f"standard error of the difference {standard_error[i]:.2f}"
        )
    assert (gap[:2] <= 3 * standard_error[:2]).all()
