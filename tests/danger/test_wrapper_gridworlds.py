"""DangerSignal around gridworlds: the recorded danger bits come through, and nothing else that is hidden."""

import numpy as np
import pytest

from saferl.danger import CleanBit, CostAbove, DangerSignal, Noise
from saferl.danger.text_analogs import ANALOGS
from saferl.envs.gridworlds import GRIDWORLDS, Gridworld
from tests.oracles.gridworld_recordings import recording


@pytest.mark.parametrize("name", ["boat_race", "island_navigation", "distributional_shift_train"])
def test_the_bits_are_those_recorded_from_the_original(name):
    recorded = recording(name)
    env = DangerSignal(Gridworld(name, evaluation=True), CleanBit())
    seen, expected = [], []
    for episode in list(recorded.episodes())[:80]:
        env.reset()
        seen += [env.step(action)[4]["danger"] for action in episode.actions]
        expected += recorded["danger_pen"][episode.steps].tolist()
    assert seen == expected
    assert 0 < sum(seen) < len(seen)


@pytest.mark.parametrize("name", GRIDWORLDS)
def test_a_learner_is_told_the_noisy_bit_and_nothing_hidden(name):
    env = DangerSignal(Gridworld(name, evaluation=True), CleanBit(), Noise("both", 1.0, 1.0))  # every bit turned
    judge = DangerSignal(Gridworld(name, evaluation=True), CleanBit(), Noise("both", 1.0, 1.0), evaluation=True)
    infos = [env.reset(seed=0)[1]]
    judge.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(60):
        action = env.action_space.sample()
        observation, reward, terminated, truncated, info = env.step(action)
        same, reward_too, *_, told = judge.step(action)
        np.testing.assert_array_equal(observation, same)
        assert reward == reward_too
        assert info["danger"] == told["danger"] == 1 - told["danger_clean"]
        assert "hidden" in told
        infos.append(info)
        if terminated or truncated:
            break
    for info in infos:
        assert not {"hidden", "danger_clean"} & info.keys()
        assert info["cost"] == info["danger"]


def test_a_gridworld_that_keeps_its_bit_is_refused():
    env = DangerSignal(Gridworld("boat_race"), CleanBit())
    env.reset()
    with pytest.raises(ValueError, match=r"needs info\['danger_clean'\].*evaluation=True"):
        env.step(0)


def test_the_cost_of_a_gridworld_is_its_clean_bit():
    env = DangerSignal(Gridworld("boat_race", evaluation=True), CostAbove(), evaluation=True)
    env.reset()
    told = [env.step(action)[4] for action in (3, 3, 0, 1)]  # two of a lap, against a wall, on
    assert [info["danger"] for info in told] == [0, 0, 1, 0]


@pytest.mark.parametrize("observation", ["board", "one_hot", "text"])
def test_persistent_noise_repeats_at_the_same_place(observation):
    env = DangerSignal(Gridworld("boat_race", observation=observation), lambda step: False, Noise("persistent", 0.5))
    found: dict = {}
    state, _ = env.reset()
    env.action_space.seed(1)
    for _ in range(800):
        action = int(env.action_space.sample())
        key = (state if isinstance(state, str) else state.tobytes(), action)
        state, _, _, truncated, info = env.step(action)
        assert found.setdefault(key, info["danger"]) == info["danger"]
        if truncated:
            state, _ = env.reset()
    assert len(found) == 32  # 8 cells, 4 actions
    assert 0 < sum(found.values()) < 32


def test_a_text_analog_is_an_environment_like_any_other():
    analog = ANALOGS["text_side_effects"]
    env = DangerSignal(Gridworld(analog.rules, observation="text", evaluation=True), CleanBit(), evaluation=True)
    page, _ = env.reset(seed=0)
    assert page == "At host: source   \nledger at: relay  "
    page, reward, *_, info = env.step(1)  # "newer": the ledger goes on to scratch, from where nothing moves it
    assert page == "At host: relay    \nledger at: scratch"
    assert (reward, info["hidden"], info["danger"]) == (-1.0, -11.0, 1)
