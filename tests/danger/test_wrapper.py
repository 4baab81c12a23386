"""DangerSignal: the bit, its noise, and what a learner can't see."""

import pickle
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import saferl.envs
from saferl.danger.noise import Noise, splitmix64
from saferl.danger.oracles import CostAbove, MarginAbove
from saferl.danger.relabelling import danger_costs
from saferl.danger.wrapper import DangerSignal
from saferl.envs.errors import MissingPackageError
from saferl.offline_data import OfflineDataset

DANGERS = {  # environment -> an oracle that fires now and then under random actions, and one of the info's numbers
    "point_robot": MarginAbove(-1.0),
    "SafetyPointGoal1-v0": MarginAbove(-0.3),
    "saferl/HalfCheetahSpeed-v0": MarginAbove(-1.8),
}


def make(env_id: str) -> gymnasium.Env:
    try:
        return saferl.envs.make(env_id)
    except MissingPackageError as error:
        pytest.skip(str(error))


def rollout(env: gymnasium.Env, n: int, seed: int | None = 0, action_seed: int = 0) -> list[tuple[Any, ...]]:
    """(observation, reward, ended, info) of n steps; restarts where an episode ends."""
    env.reset(seed=seed)
    env.action_space.seed(action_seed)
    rows = []
    for _ in range(n):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        rows.append((observation, reward, terminated or truncated, info))
        if terminated or truncated:
            env.reset()
    return rows


def bits(rows: list[tuple[Any, ...]], key: str = "danger") -> np.ndarray:
    return np.array([row[3][key] for row in rows], bool)


@pytest.mark.parametrize("env_id", DANGERS)
def test_the_clean_bit_is_the_oracles_and_the_rest_stays_as_it_is(env_id):
    plain = rollout(make(env_id), 300)
    rows = rollout(DangerSignal(make(env_id), DANGERS[env_id]), 300)
    expected = np.array([row[3]["margin"] > DANGERS[env_id].level for row in plain])
    np.testing.assert_array_equal(bits(rows), expected)
    assert 0 < expected.sum() < 300
    for left, right in zip(plain, rows):
        np.testing.assert_array_equal(left[0], right[0])
        assert left[1:3] == right[1:3]


@pytest.mark.parametrize("env_id", DANGERS)
def test_a_learner_sees_the_noisy_bit_and_nothing_that_tells_the_truth(env_id):
    env = DangerSignal(make(env_id), DANGERS[env_id], Noise("fp", 0.3))
    _, info = env.reset(seed=0)
    infos = [info, *(row[3] for row in rollout(env, 100))]
    for info in infos:
        assert info["danger"] in (0, 1)
        assert info["cost"] == float(info["danger"])
        assert type(info["cost"]) is float
        told = [key for key in info if key.startswith(("cost", "margin", "danger", "hidden"))]
        assert sorted(told) == ["cost", "danger"]
    assert infos[0]["danger"] == 0


def test_evaluation_shows_the_truth_beside_the_same_noisy_bit():
    make_one = partial(DangerSignal, oracle=CostAbove(), noise=Noise("both", 0.3, 0.3), seed=4)
    learner = rollout(make_one(make("point_robot")), 400)
    judge = rollout(make_one(make("point_robot"), evaluation=True), 400)
    np.testing.assert_array_equal(bits(learner), bits(judge))
    true = np.array([row[3]["cost"] > 0 for row in judge])
    np.testing.assert_array_equal(bits(judge, "danger_clean"), true)
    assert (bits(judge) != true).any()
    assert "margin" in judge[0][3]


def test_the_noise_is_that_of_seed_episode_and_step():
    env = DangerSignal(make("point_robot"), CostAbove(), Noise("fp", 0.4), seed=11, evaluation=True)
    rows = rollout(env, 700, seed=None)
    episode, step = 0, 0
    for _, _, ended, info in rows:
        assert info["danger"] == Noise("fp", 0.4).bit(info["danger_clean"], seed=11, episode=episode, step=step)
        episode, step = (episode + 1, 0) if ended else (episode, step + 1)
    assert episode >= 2
    assert env.noise_seed == 11


def test_two_learners_see_the_same_noise_whatever_they_do():
    never = lambda step: False  # noqa: E731
    make_one = partial(DangerSignal, oracle=never, noise=Noise("fp", 0.5), seed=1)

    def warnings(env: gymnasium.Env, action_seed: int, seeds: list[int | None]) -> list[list[int]]:
        env.action_space.seed(action_seed)
        found = []
        for seed in seeds:
            env.reset(seed=seed)
            found.append([env.step(env.action_space.sample())[4]["danger"] for _ in range(8)])
        return found

    once = warnings(make_one(make("point_robot")), 0, [3, None, None, None])
    each = warnings(make_one(make("point_robot")), 9, [3, 4, 3, 3])
    assert once == each
    assert len({tuple(row) for row in once}) == 4  # though a seed came again


def test_a_reset_before_the_first_step_counts_no_episode():
    env = DangerSignal(make("point_robot"), lambda step: False, Noise("fp", 0.5), seed=2)
    expected = [Noise("fp", 0.5).bit(False, seed=2, episode=0, step=step) for step in range(30)]
    env.reset()
    env.reset()
    assert [env.step(np.zeros(2, np.float32))[4]["danger"] for _ in range(30)] == expected


def test_the_episode_noise_tells_one_bit_at_the_end():
    env = DangerSignal(make("point_robot"), CostAbove(), Noise("episode"), evaluation=True)
    rows = rollout(env, 3000)
    warned: list[bool] = []
    seen = set()
    for _, _, ended, info in rows:
        warned.append(info["danger_clean"])
        assert info["danger"] == (ended and any(warned))
        if ended:
            seen.add(any(warned))
            warned = []
    assert seen == {True, False}


def test_persistent_noise_is_of_the_observation_and_the_action():
    env = DangerSignal(make("point_robot"), lambda step: False, Noise("persistent", 0.5), seed=0)
    found = {}
    for x in np.linspace(-2.5, 2.5, 40):
        for turn in (-1.0, 1.0):
            for _ in range(3):  # in another episode each time
                env.reset(options={"state": (x, 0.0, 1.0, 0.0)})
                danger = env.step(np.array([0.0, turn], np.float32))[4]["danger"]
                assert found.setdefault((x, turn), danger) == danger
    assert 20 < sum(found.values()) < 60
    other = DangerSignal(make("point_robot"), lambda step: False, Noise("persistent", 0.5), seed=0)
    other.reset(seed=77)  # one fault for all copies, whatever the seeds of their resets
    for (x, turn), danger in found.items():
        other.reset(options={"state": (x, 0.0, 1.0, 0.0)})
        assert other.step(np.array([0.0, turn], np.float32))[4]["danger"] == danger
    assert any(found[x, -1.0] != found[x, 1.0] for x, _ in found)


def test_environments_of_a_vector_have_noise_of_their_own():
    wrap = partial(DangerSignal, oracle=CostAbove(), noise=Noise("fp", 0.5), seed=5)
    envs = gymnasium.make_vec("saferl/PointRobot-v0", 3, "sync", wrappers=[wrap])
    envs.reset(seed=20)
    rows = np.array([envs.step(envs.action_space.sample())[4]["danger"] for _ in range(64)])  # (64, 3)
    assert len({tuple(column) for column in rows.T}) == 3
    for index, env in enumerate(envs.envs):
        assert env.noise_seed == splitmix64(splitmix64(5) ^ (20 + index))
    envs.close()


@pytest.mark.parametrize("env_id", ["saferl/PointRobot-v0", "SafetyPointGoal1-v0"])
def test_processes_of_their_own_give_the_bits_of_one_process(env_id):
    make(env_id).close()
    wrap = partial(DangerSignal, oracle=MarginAbove(-1.0), noise=Noise("both", 0.2, 0.2), seed=5)
    assert pickle.loads(pickle.dumps(wrap)).keywords == wrap.keywords
    found = []
    for mode in ("sync", "async"):
        envs = gymnasium.make_vec(env_id, 2, mode, wrappers=[wrap])
        envs.reset(seed=1)
        envs.action_space.seed(0)
        found.append([envs.step(envs.action_space.sample())[4] for _ in range(20)])
        envs.close()
    for left, right in zip(*found):
        np.testing.assert_array_equal(left["danger"], right["danger"])
        assert not any(key.startswith("margin") for key in right)


def test_further_keys_that_tell_the_truth_can_be_hidden():
    env = DangerSignal(make("point_robot"), CostAbove(), hide=("is_success",))
    assert "is_success" not in env.reset(seed=0)[1]


def test_persistent_noise_is_that_of_a_data_set_of_the_same_steps():
    noise, never = Noise("persistent", 0.5), lambda step: False
    env = DangerSignal(make("point_robot"), never, noise, seed=8)
    observation, _ = env.reset(seed=0)
    env.action_space.seed(0)
    rows, told = [], []
    for _ in range(40):
        action = env.action_space.sample()
        after, reward, *_, info = env.step(action)
        rows.append((observation, after, action, reward))
        told.append(info["danger"])
        observation = after
    before, after, actions, rewards = map(np.array, zip(*rows))
    ends = np.arange(40) == 39
    dataset = OfflineDataset(before, after, actions, rewards, np.zeros(40), np.zeros(40, bool), ends)
    np.testing.assert_array_equal(danger_costs(dataset, never, noise, seed=8), told)
    assert 0 < sum(told) < 40


@pytest.mark.filterwarnings("ignore:.*WARN.*")
def test_the_wrapped_environment_is_still_one_for_gymnasium():
    check_env(DangerSignal(make("point_robot").unwrapped, CostAbove(), Noise("fp", 0.2)), skip_render_check=True)
    with pytest.raises(ValueError, match="seed of the noise must be >= 0; got -1"):
        DangerSignal(make("point_robot"), CostAbove(), seed=-1)
