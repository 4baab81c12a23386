"""The Bullet tasks of DSRL: seeds, costs, margins and gymnasium's rules; skipped where the packages are missing."""

import importlib.util

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import saferl  # noqa: F401 - registers the ids
from saferl.envs.bullet import BULLET_IDS
from saferl.envs.tasks import TASKS

BULLET_TASKS = [task for task in TASKS.values() if task.family == "bullet_safety_gym"]

# Found, not imported: pytest's captured streams are no streams that the package can silence.
INSTALLED = all(importlib.util.find_spec(name) for name in ("pybullet", "bullet_safety_gym"))


@pytest.fixture
def bullet():
    if not INSTALLED:
        pytest.skip("bullet-safety-gym and pybullet are not installed")


def rollout(env: gymnasium.Env, seed: int, steps: int = 20) -> np.ndarray:
    """Observations of a seeded episode under seeded random actions, (steps + 1, obs_dim)."""
    env.action_space.seed(seed)
    observations = [env.reset(seed=seed)[0]]
    observations += [env.step(env.action_space.sample())[0] for _ in range(steps)]
    return np.array(observations)


def test_the_eight_tasks_of_dsrl_are_bullet_safety_gyms():
    assert sorted(task.simulator_id for task in BULLET_TASKS) == sorted(BULLET_IDS)
    assert {task.simulator_id: task.horizon for task in BULLET_TASKS} == BULLET_IDS


def test_without_the_packages_the_error_names_the_install_command():
    if INSTALLED:
        pytest.skip("bullet-safety-gym is installed")
    with pytest.raises(gymnasium.error.DependencyNotInstalled, match=r"python -m saferl\.install_envs --bullet"):
        gymnasium.make("OfflineCarCircle-v0")


@pytest.mark.usefixtures("bullet")
@pytest.mark.parametrize("task", BULLET_TASKS, ids=lambda task: task.env_id)
def test_sizes_cost_and_margin(task):
    env = gymnasium.make(task.env_id)
    _, info = env.reset(seed=0)
    assert env.observation_space.shape == (task.obs_dim,)
    assert env.action_space.shape == (task.act_dim,)
    assert info["cost"] == 0.0
    assert ("margin" in info) == ("Circle" in task.name)
    for _ in range(env.spec.max_episode_steps):  # the same action all the time: Ball and Car leave the arena
        _, _, terminated, truncated, info = env.step(env.action_space.high)
        assert isinstance(info["cost"], float)
        assert info["cost"] in (0.0, 1.0)
        if "margin" in info:
            assert (info["margin"] > 0) == (info["cost"] > 0)
        if terminated or truncated:
            break
    assert terminated or truncated
    env.close()


@pytest.mark.usefixtures("bullet")
@pytest.mark.parametrize("task", BULLET_TASKS, ids=lambda task: task.env_id)
def test_the_seed_alone_decides_the_episode(task):
    env = gymnasium.make(task.env_id)
    first = rollout(env, seed=3)
    rollout(env, seed=4)
    np.random.seed(0)  # noqa: NPY002 - what other code draws must not matter
    np.testing.assert_array_equal(rollout(env, seed=3), first)
    assert np.abs(rollout(env, seed=4) - first).max() > 1e-3
    env.close()


@pytest.mark.usefixtures("bullet")
def test_numpys_global_generator_is_left_alone():
    env = gymnasium.make("OfflineBallCircle-v0")
    before = np.random.get_state()[1:3]  # noqa: NPY002 - the generator that is to be left alone
    rollout(env, seed=0)
    after = np.random.get_state()[1:3]  # noqa: NPY002
    np.testing.assert_array_equal(after[0], before[0])
    assert after[1] == before[1]
    env.close()


@pytest.mark.usefixtures("bullet")
@pytest.mark.parametrize("task", BULLET_TASKS, ids=lambda task: task.env_id)
def test_gymnasiums_checker_accepts_it(task):
    env = gymnasium.make(task.env_id, disable_env_checker=True).unwrapped
    check_env(env, skip_render_check=True)
    env.close()


@pytest.mark.usefixtures("bullet")
def test_unseeded_workers_differ():
    envs = gymnasium.make_vec("OfflineBallCircle-v0", num_envs=2, vectorization_mode="async")
    try:
        observations, _ = envs.reset()
        assert np.abs(observations[0] - observations[1]).max() > 1e-3
    finally:
        envs.close()


@pytest.mark.usefixtures("bullet")
def test_it_draws_without_a_display():
    env = gymnasium.make("OfflineCarCircle-v0", render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    assert picture.ndim == 3
    assert picture.std() > 0
    env.close()
