"""The table of DSRL's tasks and the ids that come from it."""

import csv
import dataclasses
from pathlib import Path

import gymnasium
import pytest

import saferl.envs
from saferl.envs.tasks import TASKS, find_task

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "oracles" / "dsrl" / "dsrl_tasks.csv"


def test_the_table_is_the_reference_table():
    if not REFERENCE.exists():
        pytest.skip("reference data dsrl_tasks.csv is not beside the repository")
    with REFERENCE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(TASKS) == 38
    for row in rows:
        task = find_task(row["env_id"])
        assert task is not None
        assert (task.dataset_file, task.family, task.name) == (row["dataset_file"], row["family"], row["name"])
        assert (task.horizon, task.obs_dim, task.act_dim) == tuple(
            int(row[key]) for key in ("horizon", "obs_dim", "act_dim")
        )
        assert (task.min_return, task.max_return, task.max_cost) == tuple(
            float(row[key]) for key in ("min_episode_reward", "max_episode_reward", "max_episode_cost")
        )


def test_published_figures():  # DSRL, table of tasks: PointCircle1 has 1098 trajectories; limits 20, 40, 80
    task = find_task("OfflinePointCircle1Gymnasium-v0")
    assert task is not None
    assert task.n_trajectories == 1098
    assert task.cost_limits == (20.0, 40.0, 80.0)
    assert task.simulator_id == "SafetyPointCircle1-v0"
    assert find_task("OfflineBallRun-v0").cost_limits == (10.0, 20.0, 40.0)


def test_other_ids_are_no_tasks():
    assert find_task("saferl/PointRobot-v0") is None
    assert find_task("SafetyPointCircle1-v0") is None


def test_tasks_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        find_task("OfflineBallRun-v0").horizon = 1


def test_every_id_is_registered_with_its_horizon():
    for task in TASKS.values():
        spec = gymnasium.spec(task.env_id)
        assert spec.max_episode_steps == (None if task.family == "metadrive" else task.horizon)


@pytest.mark.parametrize("task", [t for t in TASKS.values() if "gymnasium" in t.family], ids=lambda t: t.env_id)
def test_safety_gymnasium_tasks_have_the_sizes_of_their_data(task):
    try:
        env = gymnasium.make(task.env_id)
    except gymnasium.error.DependencyNotInstalled as error:
        pytest.skip(str(error))
    assert env.observation_space.shape == (task.obs_dim,)
    assert env.action_space.shape == (task.act_dim,)


@pytest.mark.parametrize("task", [t for t in TASKS.values() if t.family == "metadrive"], ids=lambda t: t.env_id)
def test_metadrive_ids_say_in_one_line_what_they_need(task):
    with pytest.raises(gymnasium.error.Error) as caught:
        saferl.envs.make(task.env_id)
    message = str(caught.value)
    assert task.env_id in message
    assert "metadrive-simulator" in message
    assert "\n" not in message
