"""Safety-Gymnasium's tasks on today's stack: every id, cost and margin, vectors, checkers, pictures."""

import importlib.metadata
import os
import pickle
import subprocess
import sys
import tomllib
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import saferl.envs
from saferl import install_envs
from saferl.envs import safety_gymnasium_compat as compat
from saferl.envs.errors import MissingPackageError
from saferl.envs.safety_gymnasium_ids import navigation_ids, velocity_ids

ALL_IDS = [*navigation_ids(), *velocity_ids()]
WITH_MARGIN = ("Goal1", "Push1", "Circle1", "Circle2", "Run0", "Velocity")


@pytest.fixture(scope="module")
def package():
    try:
        compat.load()
    except MissingPackageError as error:
        pytest.skip(str(error))


def rollout(env: gymnasium.Env, seed: int, steps: int = 10) -> np.ndarray:
    """Observations of a seeded episode under seeded random actions, (steps + 1, obs_dim)."""
    env.action_space.seed(seed)
    observations = [env.reset(seed=seed)[0]]
    observations += [env.step(env.action_space.sample())[0] for _ in range(steps)]
    return np.array(observations)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("task_id", ALL_IDS)
def test_every_id_steps_and_reports_its_cost(task_id):
    env = saferl.envs.make(task_id)
    observation, info = env.reset(seed=0)
    env.action_space.seed(0)
    has_margin = any(name in task_id for name in WITH_MARGIN)
    assert info["cost"] == 0.0
    for _ in range(10):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert observation in env.observation_space
        assert type(reward) is float
        assert type(info["cost"]) is float
        assert info["cost"] in (0.0, 1.0)
        assert ("margin" in info) == has_margin
        assert not has_margin or (info["margin"] > 0) == (info["cost"] > 0)
        if terminated or truncated:
            env.reset()
    env.close()


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("task_id", ["SafetyPointGoal1-v0", "SafetyHopperVelocity-v1"])
def test_the_names_of_a_task_make_the_same_environment(task_id):
    name, version = task_id.split("-")
    expected = rollout(gymnasium.make(task_id), seed=1)
    dsrl = f"{name.replace('Safety', 'Offline', 1)}Gymnasium-{version}"
    for other in (f"saferl/{task_id}", f"{name}Gymnasium-{version}", dsrl):
        np.testing.assert_array_equal(rollout(gymnasium.make(other), seed=1), expected)


def test_there_are_five_robots_in_sixteen_tasks_and_six_in_two_versions():
    assert len(navigation_ids()) == 5 * 16
    assert len(velocity_ids()) == 6 * 2


def geometric_margin(env: gymnasium.Env) -> float:
    """The margin from mujoco's own geometry: depth inside a hazard's cylinder, or distance beyond a wall's plane."""
    model, data = env.unwrapped.model, env.unwrapped.data
    x, y = data.body("agent").xpos[:2]
    margins = []
    for i in range(model.ngeom):
        name = model.geom(i).name
        if name.startswith("hazard"):
            margins.append(model.geom_size[i, 0] - np.hypot(*(data.geom_xpos[i, :2] - (x, y))))
        elif name.startswith("sigwall"):
            normal = int(np.argmax(np.abs(data.geom_xpos[i, :2])))  # a wall stands across the axis it is placed on
            margins.append(abs((x, y)[normal]) - abs(data.geom_xpos[i, normal]))
    return max(margins)


def towards_danger(env: gymnasium.Env) -> np.ndarray:
    """Point's action towards the first hazard; straight on where there is none."""
    task = env.unwrapped.task
    if not hasattr(task, "hazards"):
        return np.array([1.0, 0.0])
    ego = (task.hazards.pos[0] - task.agent.pos) @ task.agent.mat
    return np.clip([0.5, 2 * np.arctan2(ego[1], ego[0])], -1, 1)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    "task_id", [f"SafetyPoint{task}-v0" for task in ("Goal1", "Push1", "Circle1", "Circle2", "Run0")]
)
def test_the_margin_is_the_distance_that_mujocos_geometry_gives(task_id):
    env = gymnasium.make(task_id).unwrapped
    signs = set()
    for seed in range(4):
        _, info = env.reset(seed=seed)
        for _ in range(150):
            assert info["margin"] == pytest.approx(geometric_margin(env), abs=1e-9)
            _, _, _, _, info = env.step(towards_danger(env))
            signs.add((info["margin"] > 0, info["cost"] > 0))
    assert signs == {(False, False), (True, True)}


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("task_id", "limit", "planar"),
    [  # limits in m/s as Safety-Gymnasium documents them
        ("SafetyHalfCheetahVelocity-v1", 3.2096, False),
        ("SafetyHopperVelocity-v1", 0.7402, False),
        ("SafetySwimmerVelocity-v1", 0.2282, False),
        ("SafetySwimmerVelocity-v0", 0.04845, True),
        ("SafetyWalker2dVelocity-v1", 2.3415, False),
        ("SafetyAntVelocity-v1", 2.6222, True),
    ],
)
def test_the_velocity_margin_is_displacement_over_time_minus_the_limit(task_id, limit, planar):
    env = gymnasium.make(task_id).unwrapped
    env.action_space.seed(0)
    _, info = env.reset(seed=0)
    assert info["margin"] == -limit

    def position() -> np.ndarray:  # Ant's is the torso's, which mujoco updates one substep later
        return env.data.body("torso").xpos[:2] if "Ant" in task_id else env.data.qpos[:2]

    for _ in range(30):
        before = position().copy()
        _, _, terminated, _, info = env.step(env.action_space.sample())
        velocity = (position() - before) / (env._env.frame_skip * env.model.opt.timestep)
        speed = np.hypot(*velocity) if planar else velocity[0]
        assert info["margin"] == pytest.approx(speed - limit, abs=1e-9)
        assert info["cost"] == float(speed > limit)
        if terminated:
            env.reset()


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("task_id", ["SafetyAntVelocity-v1", "SafetyHumanoidVelocity-v1"])
def test_legacy_physics_observes_unit_quaternions(task_id):
    norms = {}
    for physics in ("legacy", "native"):
        env = gymnasium.make(task_id, physics=physics).unwrapped
        env.reset(seed=0)
        norms[physics] = abs(np.linalg.norm(env.data.qpos[3:7]) - 1)
    assert norms["legacy"] < 1e-12
    assert norms["native"] > 1e-3  # what the fix is for: mujoco >= 3.2 leaves the sampled quaternion as it is


@pytest.mark.usefixtures("package")
def test_contact_margins_are_what_they_were():
    mujoco = pytest.importorskip("mujoco")
    version = tuple(int(part) for part in mujoco.__version__.split(".")[:2])
    assert compat.contact_margins_add_up() == (version >= (3, 5))
    margins = {p: gymnasium.make("SafetyHopperVelocity-v1", physics=p).unwrapped.model for p in compat.PHYSICS}
    factor = 0.5 if version >= (3, 5) else 1.0
    np.testing.assert_array_equal(margins["legacy"].geom_margin, factor * margins["native"].geom_margin)


@pytest.mark.usefixtures("package")
def test_the_packages_sky_is_not_loaded():
    env = gymnasium.make("SafetyPointGoal1-v0").unwrapped
    env.reset(seed=0)
    assert env.model.ntexdata < 1e6  # bytes; the package's sky has 191 million


@pytest.mark.usefixtures("package")
def test_a_list_is_an_action():
    first, second = (gymnasium.make("SafetyCarGoal1-v0").unwrapped for _ in range(2))
    first.reset(seed=0)
    second.reset(seed=0)
    np.testing.assert_array_equal(first.step([0.5, 1])[0], second.step(np.array([0.5, 1.0]))[0])


@pytest.mark.usefixtures("package")
def test_an_observation_that_is_not_finite_ends_the_episode(monkeypatch):
    env = gymnasium.make("SafetyPointGoal1-v0").unwrapped
    observation, _ = env.reset(seed=0)
    step = env._builder.step
    monkeypatch.setattr(env._builder, "step", lambda action: (np.full(60, np.nan), *step(action)[1:]))
    last, _, _, truncated, info = env.step(np.zeros(2))
    assert truncated
    np.testing.assert_array_equal(last, observation)
    assert info["cost"] == 0.0


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("task_id", ["SafetyPointGoal1-v0", "SafetyHalfCheetahVelocity-v1"])
def test_pickle_and_spec_make_it_again(task_id):
    env = gymnasium.make(task_id, physics="native")
    expected = rollout(env, seed=2)
    np.testing.assert_array_equal(rollout(pickle.loads(pickle.dumps(env.unwrapped)), seed=2), expected)
    np.testing.assert_array_equal(rollout(gymnasium.make(env.spec), seed=2), expected)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    "task_id",
    [
        "SafetyPointGoal1-v0",
        "SafetyCarButton1-v0",
        "SafetyRacecarCircle1-v0",
        "SafetyAntRun0-v0",
        "SafetyAntVelocity-v1",
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # advice about infinite bounds and float64 actions
def test_gymnasiums_and_sb3s_checkers_accept_it(task_id):
    from stable_baselines3.common.env_checker import check_env as check_env_sb3

    check_env(gymnasium.make(task_id, disable_env_checker=True).unwrapped, skip_render_check=True)
    check_env_sb3(gymnasium.make(task_id), skip_render_check=True)


@pytest.mark.usefixtures("package")
def test_sb3_trains_on_it():
    from stable_baselines3 import PPO

    model = PPO("MlpPolicy", gymnasium.make("SafetyPointCircle1-v0"), n_steps=32, batch_size=32, seed=0, device="cpu")
    assert model.learn(64).num_timesteps == 64


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("task_id", ["SafetyPointGoal1-v0", "SafetyHopperVelocity-v1"])
def test_sync_and_async_vectors_agree_and_their_workers_differ(task_id):
    runs = {}
    for mode in ("sync", "async"):
        envs = gymnasium.make_vec(task_id, num_envs=2, vectorization_mode=mode, max_episode_steps=4)
        try:
            envs.action_space.seed(0)
            observations, infos = envs.reset(seed=0)
            rows = [observations]
            assert infos["cost"].shape == (2,)
            for _ in range(7):  # across an automatic reset, whose step also has its cost
                observations, _, _, _, infos = envs.step(envs.action_space.sample())
                assert infos["_cost"].all()
                rows.append(observations)
            runs[mode] = np.array(rows)
        finally:
            envs.close()
    np.testing.assert_array_equal(runs["sync"], runs["async"])
    assert np.abs(runs["sync"][0, 0] - runs["sync"][0, 1]).max() > 1e-3


@pytest.mark.usefixtures("package")
def test_workers_that_are_forked_without_a_seed_differ():
    envs = gymnasium.make_vec("SafetyPointGoal1-v0", num_envs=2, vectorization_mode="async")
    try:
        observations, _ = envs.reset()
        assert np.abs(observations[0] - observations[1]).max() > 1e-3
    finally:
        envs.close()


@pytest.fixture
def gl(package):
    """Skips where no OpenGL library can draw; Debian: libegl1 libgl1-mesa-dri."""
    try:
        compat.use_headless_rendering()
    except MissingPackageError as error:
        pytest.skip(str(error))
    code = (
        "import mujoco; m = mujoco.MjModel.from_xml_string('<mujoco><worldbody><light/></worldbody></mujoco>');"
        "mujoco.Renderer(m, 8, 8).render()"
    )
    tried = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"no OpenGL: {tried.stderr.strip().splitlines()[-1]}")


@pytest.mark.usefixtures("gl")
@pytest.mark.parametrize("task_id", ["SafetyPointGoal1-v0", "SafetyHalfCheetahVelocity-v1"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # RecordVideo: the folder exists
def test_a_video_is_recorded_without_a_display(task_id, tmp_path):
    env = gymnasium.make(task_id, render_mode="rgb_array", width=128, height=96)
    env = gymnasium.wrappers.RecordVideo(env, str(tmp_path), episode_trigger=lambda episode: True, video_length=5)
    env.reset(seed=0)
    picture = env.render()
    assert picture.shape[-1] == 3
    assert picture.std() > 5  # something is seen
    for _ in range(6):
        env.step(env.action_space.sample())
    env.close()
    assert [path.suffix for path in tmp_path.iterdir() if path.stat().st_size > 1000] == [".mp4"]


@pytest.mark.usefixtures("gl")
def test_cameras_and_depth():
    env = gymnasium.make("SafetyCarCircle1-v0", render_mode="depth_array", width=64, height=48, camera_name="fixedfar")
    env.reset(seed=0)
    assert env.render().shape == (48, 64)
    env.close()


@pytest.mark.usefixtures("package")
def test_without_egl_a_picture_is_refused_in_one_line_and_the_task_still_steps():
    code = """
import gymnasium, saferl
try:
    gymnasium.make("SafetyPointGoal1-v0", render_mode="rgb_array")
except gymnasium.error.DependencyNotInstalled as error:
    print(error)
gymnasium.make("SafetyPointGoal1-v0").reset(seed=0)
"""
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment["PYOPENGL_PLATFORM"] = "osmesa"  # with which mujoco refuses to load EGL
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr
    assert "apt-get install libegl1" in found.stdout
    assert len(found.stdout.splitlines()) == 1


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("task_id", ["SafetyCarGoal1-v0", "SafetyHopperVelocity-v1"])
def test_the_packages_own_make_still_gives_six_values(task_id):
    package = sys.modules["safety_gymnasium"]
    env = package.make(task_id)
    observation, _ = env.reset(seed=0)
    np.testing.assert_allclose(observation, gymnasium.make(task_id).reset(seed=0)[0], rtol=0, atol=1e-12)
    assert len(env.step(env.action_space.sample())) == 6


def test_importing_saferl_imports_no_simulator():
    code = "import saferl, sys; print([n for n in ('mujoco', 'pybullet', 'safety_gymnasium') if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_without_the_package_the_error_names_the_one_line_that_installs_it(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(MissingPackageError) as caught:
        gymnasium.make("SafetyPointGoal1-v0")
    assert "python -m saferl.install_envs" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value, gymnasium.error.Error)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"physics": "new"}, "physics must be one of legacy, native; got 'new'"),
        ({"render_mode": "ascii"}, "render_mode must be None or one of human, rgb_array, depth_array; got 'ascii'"),
    ],
)
@pytest.mark.parametrize("task_id", ["SafetyPointGoal1-v0", "SafetyHopperVelocity-v1"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_wrong_argument_is_explained(task_id, arguments, message):
    with pytest.raises(ValueError, match=message):
        gymnasium.make(task_id, **arguments)


def test_the_install_command_installs_what_the_extras_name():
    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    assert sorted(install_envs.MUJOCO_PACKAGES) == sorted(extras["mujoco"])
    assert sorted(install_envs.BULLET_PACKAGES) == sorted(extras["bullet"])


def test_the_install_command_takes_the_simulators_without_their_pins(monkeypatch):
    called = []
    monkeypatch.setattr(subprocess, "call", lambda command: called.append(command) or 0)
    assert install_envs.main(["--bullet"]) == 0
    assert all(command[:4] == [sys.executable, "-m", "pip", "install"] for command in called)
    pinned = {command[-1] for command in called if "--no-deps" in command}
    assert pinned == {"safety-gymnasium==1.0.0", "bullet-safety-gym==1.4.0"}
    monkeypatch.setattr(subprocess, "call", lambda command: 3)
    assert install_envs.main([]) == 3
