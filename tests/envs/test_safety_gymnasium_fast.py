"""The fast methods give the numbers of the package's own code, which runs beside them here."""

import gymnasium
import numpy as np
import pytest

import saferl  # noqa: F401 - registers the ids
from saferl.envs import safety_gymnasium
from saferl.envs.safety_gymnasium_ids import navigation_ids

IDS = (
    "SafetyPointGoal1-v0",
    "SafetyPointGoal2-v0",
    "SafetyPointButton1-v0",
    "SafetyPointPush2-v0",
    "SafetyCarButton2-v0",
    "SafetyCarCircle2-v0",
    "SafetyRacecarGoal1-v0",
    "SafetyDoggoGoal1-v0",
    "SafetyAntGoal2-v0",
    "SafetyPointRun0-v0",
    "SafetyAntCircle1-v0",
)


def make(task_id: str) -> gymnasium.Env:
    try:
        return gymnasium.make(task_id).unwrapped
    except gymnasium.error.DependencyNotInstalled as error:
        pytest.skip(str(error))


def make_original(task_id: str, monkeypatch: pytest.MonkeyPatch) -> gymnasium.Env:
    with monkeypatch.context() as patch:
        patch.setattr("saferl.envs.safety_gymnasium.accelerate", lambda task: False)
        return make(task_id)


def towards_the_goal(env: gymnasium.Env, t: int) -> np.ndarray:
    """A random action, three steps of four steered to the goal where a robot of two actions has one."""
    action = env.action_space.sample()
    if t % 4 and len(action) == 2 and hasattr(env.task, "goal"):
        ego = (env.task.goal.pos - env.task.agent.pos) @ env.task.agent.mat
        action = np.clip([1, 2 * np.arctan2(ego[1], ego[0])], -1, 1) * env.action_space.high
    return action


@pytest.mark.parametrize("task_id", IDS)
def test_observations_rewards_and_costs_are_the_packages_own(task_id, monkeypatch):
    fast, original = make(task_id), make_original(task_id, monkeypatch)
    assert type(fast.task) is not type(original.task)
    original.action_space.seed(0)
    for seed in (0, 1):
        observation, info = fast.reset(seed=seed)
        expected, expected_info = original.reset(seed=seed)
        np.testing.assert_allclose(observation, expected, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(fast.data.xpos, original.data.xpos)
        assert info == expected_info
        for t in range(150):
            action = towards_the_goal(original, t)
            observation, *rest = fast.step(action)
            expected, *expected_rest = original.step(action)
            np.testing.assert_allclose(observation, expected, rtol=0, atol=1e-12)
            assert rest == expected_rest  # reward, flags and every entry of info, exactly
            np.testing.assert_array_equal(fast.data.qpos, original.data.qpos)
            if rest[1] or rest[2]:
                break


def test_the_comparison_meets_goals_and_violations(monkeypatch):
    met, cost = 0, 0.0
    for task_id in ("SafetyPointGoal1-v0", "SafetyPointGoal2-v0", "SafetyPointButton1-v0"):
        env = make_original(task_id, monkeypatch)
        env.action_space.seed(0)
        for seed in (0, 1):
            env.reset(seed=seed)
            for t in range(150):
                info = env.step(towards_the_goal(env, t))[-1]
                met, cost = met + info.get("goal_met", 0), cost + info["cost"]
    assert met >= 2
    assert cost >= 20


def test_tasks_with_unknown_parts_stay_as_they_are(monkeypatch):
    called = []
    accelerate = safety_gymnasium.accelerate
    monkeypatch.setattr(
        "saferl.envs.safety_gymnasium.accelerate", lambda task: called.append(accelerate(task)) or called[-1]
    )
    make("SafetyPointRace1-v0")
    assert called == [False]
    for task_id in navigation_ids():
        if "Race0" not in task_id and "Race1" not in task_id and "Race2" not in task_id:
            make(task_id)
            assert called[-1], task_id
