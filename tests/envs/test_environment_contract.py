"""What every environment promises, asked of one id or more of every registered family."""

import importlib.util
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check

import saferl.envs
from saferl.envs.errors import MissingPackageError
from saferl.envs.registration import MUJOCO_COSTS, SHORT_NAMES

IDS = [
    "point_robot",
    "dubins_car",
    *MUJOCO_COSTS,
    "SafetyPointGoal1-v0",
    "SafetyCarButton1-v0",
    "saferl/SafetyDoggoPush1-v0",
    "SafetyAntRun0-v0",
    "SafetyRacecarCircle1-v0",
    "SafetyHopperVelocity-v1",
    "SafetyPointCircle1Gymnasium-v0",
    "OfflinePointCircle1Gymnasium-v0",
    "OfflineSwimmerVelocityGymnasium-v1",
    "saferl/SafetyBallRun-v0",
    "OfflineCarCircle-v0",
    "icu_sepsis",
    "icu_sepsis_discrete",
    "safe_interruptibility",
    "tomato_watering",
    "saferl/WhiskyGoldHuman-v0",
]
ONE_START = {"safe_interruptibility", "tomato_watering", "saferl/WhiskyGoldHuman-v0"}  # the same for most seeds
ALWAYS_MARGIN = {"point_robot", "dubins_car", *MUJOCO_COSTS}
STEPS = 25


def make(env_id: str, **kwargs: Any) -> gymnasium.Env:
    """The environment; skips where its simulator is not installed."""
    try:
        return saferl.envs.make(env_id, **kwargs)
    except MissingPackageError as error:
        pytest.skip(str(error))


@pytest.fixture(params=IDS)
def env_id(request: pytest.FixtureRequest) -> str:
    make(request.param).close()
    return request.param


@pytest.fixture
def env(env_id: str) -> Iterator[gymnasium.Env]:
    made = make(env_id)
    yield made
    made.close()


def actions_of(env: gymnasium.Env, n: int) -> list[np.ndarray]:
    env.action_space.seed(0)
    return [env.action_space.sample() for _ in range(n)]


def trajectory(env: gymnasium.Env, seed: int, n: int = STEPS) -> list[tuple[Any, ...]]:
    """(observation, reward, terminated, truncated, cost) of each step, the start first; restarts where one ends."""
    actions = actions_of(env, n)
    observation, info = env.reset(seed=seed)
    rows: list[tuple[Any, ...]] = [(observation, 0.0, False, False, info["cost"])]
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        rows.append((observation, reward, terminated, truncated, info["cost"]))
        if terminated or truncated:
            observation, info = env.reset()
            rows.append((observation, 0.0, False, False, info["cost"]))
    return rows


def assert_same(ours: list[tuple[Any, ...]], theirs: list[tuple[Any, ...]]) -> None:
    assert len(ours) == len(theirs)
    for left, right in zip(ours, theirs):
        np.testing.assert_array_equal(left[0], right[0])
        assert left[1:] == right[1:]


def test_every_registered_family_is_asked():
    asked = {gymnasium.spec(SHORT_NAMES.get(i, i)).entry_point for i in IDS}
    own = {s.entry_point for s in gymnasium.registry.values() if str(s.entry_point).startswith("saferl.")}
    never_made = {"saferl.envs.tasks:refuse_metadrive"}  # says what MetaDrive needs; see test_tasks.py
    assert own - never_made == asked


def test_steps_give_five_values_and_a_cost(env):
    observation, info = env.reset(seed=0)
    assert type(info["cost"]) is float
    assert info["cost"] == 0.0
    assert env.observation_space.contains(observation)
    for action in actions_of(env, STEPS):
        observation, reward, terminated, truncated, info = env.step(action)
        assert env.observation_space.contains(observation)
        assert np.isfinite(observation).all()
        assert isinstance(float(reward), float)
        assert isinstance(terminated, (bool, np.bool_))
        assert isinstance(truncated, (bool, np.bool_))
        assert type(info["cost"]) is float
        assert info["cost"] >= 0
        if terminated or truncated:
            env.reset()


def test_margin_is_positive_exactly_where_there_is_a_cost(env_id, env):
    costs = set()
    for seed in range(6 if env_id in ALWAYS_MARGIN else 1):
        _, info = env.reset(seed=seed)
        known = "margin" in info
        assert known or env_id not in ALWAYS_MARGIN
        for action in actions_of(env, 100):
            *_, terminated, truncated, info = env.step(action)
            assert ("margin" in info) == known
            if known:
                assert type(info["margin"]) is float
                assert (info["margin"] > 0) == (info["cost"] > 0)
            costs.add(info["cost"] > 0)
            if terminated or truncated:
                break
    if env_id in ("point_robot", "saferl/Walker2dUpright-v0", "saferl/AntContact-v0"):
        assert costs == {False, True}  # else nothing was compared


def test_a_seed_fixes_the_episodes(env_id, env):
    first = trajectory(env, seed=3)
    assert_same(trajectory(env, seed=3), first)
    other = make(env_id)
    assert_same(trajectory(other, seed=3), first)
    assert env_id in ONE_START or not np.array_equal(trajectory(other, seed=4)[0][0], first[0][0])
    other.close()


def test_unseeded_environments_differ(env_id, env):
    other = make(env_id)
    assert env_id in ONE_START or not np.array_equal(env.reset()[0], other.reset()[0])
    other.close()


def test_make_equals_gymnasium_make(env_id, env):
    theirs = gymnasium.make(SHORT_NAMES.get(env_id, env_id))
    assert env.spec == theirs.spec
    assert str(env) == str(theirs)  # the same wrappers in the same order
    assert_same(trajectory(env, seed=1, n=10), trajectory(theirs, seed=1, n=10))
    theirs.close()


def test_spec_makes_the_same_environment_again(env):
    again = gymnasium.make(env.spec)
    assert str(again) == str(env)
    assert_same(trajectory(again, seed=1, n=10), trajectory(env, seed=1, n=10))
    again.close()


def without_gymnasium_wrappers(env: gymnasium.Env) -> gymnasium.Env:
    while type(env).__module__.startswith("gymnasium.wrappers"):
        env = env.env  # type: ignore[attr-defined]
    return env


def test_gymnasium_checker_passes(env):
    # advice about the size of a box, and that MujocoCost is a wrapper; everything else is a fault
    advice = ("probably too low", "probably too high", "we recommend using a symmetric", "different from the unwrapped")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gymnasium_check(without_gymnasium_wrappers(env), skip_render_check=True)
    said = [str(w.message) for w in caught if not issubclass(w.category, DeprecationWarning)]
    assert [message for message in said if not any(words in message for words in advice)] == []


def test_stable_baselines_checker_passes(env):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # a recommendation about the size of the action box, not about correctness
        warnings.filterwarnings("ignore", message=".*recommend.*")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        sb3_check(env, warn=True, skip_render_check=True)


@pytest.mark.parametrize("env_id", ["point_robot", "saferl/HalfCheetahSpeed-v0", "SafetyPointGoal1-v0"])
def test_stable_baselines_trains(env_id):
    env = make(env_id)
    model = PPO("MlpPolicy", env, n_steps=64, batch_size=64, n_epochs=1, device="cpu", seed=0).learn(64)
    assert model.num_timesteps == 64
    env.close()


def test_sync_and_async_vectors_are_equal(env_id):
    name = SHORT_NAMES.get(env_id, env_id)
    sync, parallel = (gymnasium.make_vec(name, num_envs=2, vectorization_mode=mode) for mode in ("sync", "async"))
    try:
        (seen, info), (seen_too, info_too) = sync.reset(seed=5), parallel.reset(seed=5)
        np.testing.assert_array_equal(seen, seen_too)
        np.testing.assert_array_equal(info["cost"], [0.0, 0.0])
        np.testing.assert_array_equal(info_too["cost"], [0.0, 0.0])
        assert env_id in ONE_START or not np.array_equal(seen[0], seen[1])
        sync.action_space.seed(0)
        for _ in range(STEPS):
            action = sync.action_space.sample()
            ours, theirs = sync.step(action), parallel.step(action)
            for left, right in zip(ours[:4], theirs[:4]):
                np.testing.assert_array_equal(left, right)
            np.testing.assert_array_equal(ours[4]["cost"], theirs[4]["cost"])
    finally:
        sync.close()
        parallel.close()


@pytest.mark.parametrize(
    "env_id",
    [
        "point_robot",
        "SafetyPointGoal1-v0",
        "saferl/AntContact-v0",
        "SafetyHopperVelocity-v1",
        "saferl/SafetyBallRun-v0",
    ],
)
def test_video_is_recorded_without_a_display(env_id, tmp_path, monkeypatch):
    if importlib.util.find_spec("moviepy") is None:
        pytest.skip("moviepy (and with it ffmpeg) is not installed")
    monkeypatch.delenv("DISPLAY", raising=False)
    env = make(env_id, render_mode="rgb_array")
    env.reset(seed=0)
    try:
        picture = env.render()
    except Exception as error:  # whatever the machine's GL says
        if env_id == "point_robot":
            raise
        pytest.skip(f"no headless OpenGL on this machine: {error}")
    assert picture.dtype == np.uint8
    assert picture.std() > 1  # something is to be seen
    folder = tmp_path / "videos"
    env = gymnasium.wrappers.RecordVideo(env, str(folder), episode_trigger=lambda episode: True, video_length=5)
    env.reset(seed=0)
    for action in actions_of(env, 6):
        env.step(action)
    env.close()
    videos = list(folder.glob("*.mp4"))
    assert videos
    assert videos[0].stat().st_size > 500
    assert videos[0].read_bytes()[4:8] == b"ftyp"  # the mark of an mp4 file


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("point_robt", "Did you mean point_robot"),
        ("SafetyPointGaol1-v0", "Did you mean SafetyPointGoal1-v0"),
        ("OfflinePointCircle1Gymnasium-v1", "OfflinePointCircle1Gymnasium-v0"),
        ("halfcheetah-v5", "Did you mean HalfCheetah-v5"),
        ("qqqqqqqqqqqq", r"gymnasium.pprint_registry\(\) lists all"),
        ("no_such_module:Lab-v0", "no module named 'no_such_module'"),
    ],
)
def test_unknown_id_gives_one_line_with_a_close_match(name, message):
    with pytest.raises(ValueError, match=message) as error:
        saferl.envs.make(name)
    assert "\n" not in str(error.value)


def test_module_is_imported_before_its_id_is_made(tmp_path, monkeypatch):
    (tmp_path / "contract_lab.py").write_text(
        "import gymnasium\ngymnasium.register('lab/Point-v0', 'saferl.envs.point_robot:PointRobot')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        env = saferl.envs.make("contract_lab:lab/Point-v0", start="fixed")
        assert env.reset()[0][0] == pytest.approx(-1.8)
    finally:
        gymnasium.registry.pop("lab/Point-v0", None)
