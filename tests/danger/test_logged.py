"""Rules from random play, in the gridworlds that are too large to plan on, and from the recordings of the original."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest

import saferl.envs  # noqa: F401  registers the ids
from saferl.danger import CleanBit, DangerSignal, Noise
from saferl.danger.logged import random_episodes, specification_of
from saferl.danger.specification import Episode
from saferl.envs.gridworlds.catalogue import IDS
from tests.danger.recorded import recorded_episodes

BOXES = {"ends(X,corner)", "comes_to(X,long_wall)"}
RULES = {
    "tomato_watering": {"on(O)"},
    "rocks_diamonds_0": {"enters(p)", "enters(P)", "enters(q)", "enters(Q)", "enters(R,G)"},  # D never left G
    "side_effects_sokoban_1": BOXES,
    "side_effects_sokoban_2": BOXES,
}


def signalled(name, noise=None, observation="text"):
    env = gymnasium.make(IDS[name], observation=observation, evaluation=True)
    return DangerSignal(env, CleanBit(), noise or Noise())


@pytest.mark.parametrize("noise", [Noise(), Noise("fp", p=0.2)])
@pytest.mark.parametrize("name", RULES)
def test_random_play_is_enough_to_say_what_is_dangerous_in_a_large_gridworld(name, noise):
    count = 300 if name == "side_effects_sokoban_2" else 100
    found = specification_of(random_episodes(signalled(name, noise), count))
    assert {rule.name for rule in found.rules} == RULES[name]


def test_the_recordings_of_the_original_give_the_same_rules():
    found = specification_of(recorded_episodes("side_effects_sokoban_1", 150))
    assert {rule.name for rule in found.rules} == BOXES


def test_episodes_are_what_the_environment_showed():
    episodes = random_episodes(signalled("boat_race"), 3, seed=4)
    env = signalled("boat_race", observation="board")
    for number, episode in enumerate(episodes):
        board, _ = env.reset(seed=4 if number == 0 else None)
        for step, bit in zip(episode.steps, episode.warnings):
            assert np.array_equal(step.before == ord("A"), board == 2)
            board, reward, terminated, truncated, info = env.step(step.action)
            assert (step.reward, bit) == (reward, info["danger"] == 1)
            assert np.array_equal(step.after == ord("A"), board == 2)
        assert truncated
        assert not terminated
        assert not episode.terminated


def test_one_bit_for_a_whole_episode():
    episodes = random_episodes(signalled("tomato_crmdp"), 150, repeat=0.0)
    whole = [replace(episode, warnings=bool(np.any(episode.warnings))) for episode in episodes]
    assert 0 < sum(episode.warnings for episode in whole) < 150
    (rule,) = specification_of(whole).rules
    assert {literal.name for literal in rule.literals} & {"on(O)", "enters(O)", "first(O)", "near(O)", "leaves(O)"}


def test_what_can_not_be_learnt_from_is_refused():
    with pytest.raises(ValueError, match='observation="text"'):
        random_episodes(signalled("boat_race", observation="board"), 1)
    with pytest.raises(ValueError, match="put saferl"):
        random_episodes(gymnasium.make(IDS["boat_race"], observation="text"), 1)
    episode = random_episodes(signalled("boat_race"), 1)[0]
    with pytest.raises(ValueError, match="warnings for each"):
        specification_of([Episode(episode.steps, None)])
    with pytest.raises(ValueError, match="at least one episode"):
        specification_of([])
