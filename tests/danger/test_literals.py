"""The vocabulary: it can say what is dangerous in every recorded gridworld, and single literals mean what they say."""

from functools import cache

import numpy as np
import pytest

from saferl.danger.literals import VisibleLiteral, general_literals, vocabulary_of
from saferl.danger.moments import scene_of
from saferl.danger.specification import Episode, Rule, Specification, Step
from tests.danger.recorded import moments_of, recorded_episodes

# Minimal correct rules; each recorded danger bit is the OR of these and nothing else.
RULES = {
    "absent_supervisor": ["on(P)"],
    "boat_race": ["not_clockwise"],
    "conveyor_belt_vase": ["turns(O,:)"],
    "conveyor_belt_sushi": ["leaves_row(O)"],
    "conveyor_belt_sushi_goal": ["leaves_row(O)"],
    "conveyor_belt_sushi_goal2": ["leaves_row(O)"],
    "distributional_shift_train": ["enters(L)"],
    "distributional_shift_test1": ["enters(L)"],
    "distributional_shift_test2": ["enters(L)"],
    "island_navigation": ["enters(W)"],
    "rocks_diamonds_0": ["enters(p)", "enters(P)", "enters(q)", "enters(Q)", "enters(R,G)", "leaves(D,G)"],
    "rocks_diamonds_1": ["enters(p)", "enters(P)", "enters(q)", "enters(Q)", "enters(R,G)", "leaves(D,G)"],
    "safe_interruptibility_1": ["first(B)"],
    "side_effects_sokoban_0": ["ends(X,corner)"],
    "side_effects_sokoban_1": ["comes_to(X,corner)", "comes_to(X,long_wall)"],
    "side_effects_sokoban_2": ["comes_to(X,corner)", "comes_to(X,long_wall)"],
    "side_effects_sokoban_3": ["comes_to(X,corner)", "comes_to(X,long_wall)"],
    "tomato_crmdp": ["on(O)"],
    "tomato_watering": ["on(O)"],
    "whisky_gold": ["first(W)"],
    "whisky_gold_human": ["first(W)"],
}


@cache
def moments_recorded(name):
    episodes = recorded_episodes(name, 40)
    return moments_of(episodes), np.concatenate([episode.warnings for episode in episodes]), episodes


@pytest.mark.parametrize("name", RULES)
def test_the_danger_of_a_recorded_gridworld_is_said_exactly(name):
    known, danger, _ = moments_recorded(name)
    literals = {literal.name: literal.of(known) for literal in general_literals(known)}
    assert danger.any()
    assert np.array_equal(np.any([literals[rule] for rule in RULES[name]], axis=0), danger)


@pytest.mark.parametrize("name", RULES)
def test_a_vocabulary_has_no_literal_twice_and_stays_small(name):
    known, _, _ = moments_recorded(name)
    vocabulary = vocabulary_of(known)
    columns = vocabulary.columns(known)[:, [literal.since is None for literal in vocabulary.literals]]
    assert len(np.unique(columns, axis=1).T) == len(columns.T)
    assert 20 <= len(vocabulary) <= 100


def test_one_step_and_many_steps_give_the_same():
    known, _, episodes = moments_recorded("rocks_diamonds_0")
    vocabulary = vocabulary_of(known)
    columns = vocabulary.columns(known)
    steps = [step for episode in episodes for step in episode.steps]
    for number in range(0, 400, 37):  # slow: each looks back to the start of its episode
        assert [literal.holds(steps[number]) for literal in vocabulary.literals] == columns[number].tolist()


def board(*rows):
    return np.array([[ord(character) for character in row] for row in rows], np.uint8)


def walk(boards, actions):
    previous, steps = None, []
    for index, action in enumerate(actions):
        previous = Step(boards[index], action, boards[index + 1], -1.0, index, boards[0], previous)
        steps.append(previous)
    return tuple(steps)


RING = (  # to B and back, and to B again, then against the wall
    board("#####", "#AB #", "#####"),
    board("#####", "# A #", "#####"),
    board("#####", "#AB #", "#####"),
    board("#####", "# A #", "#####"),
    board("#####", "# A #", "#####"),
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("enters(B)", [1, 0, 1, 0]),
        ("first(B)", [1, 0, 0, 0]),
        ("on(B)", [1, 0, 1, 1]),
        ("leaves(B)", [0, 1, 0, 0]),
        ("reverses", [0, 1, 1, 0]),
        ("stays", [0, 0, 0, 1]),
        ("moves(east)", [1, 0, 1, 0]),
        ("action(up)", [0, 0, 0, 1]),
        ("near(B)", [0, 1, 0, 0]),
    ],
)
def test_a_walk_to_a_tile_and_back(name, expected):
    known = moments_of([Episode(walk(RING, (3, 2, 3, 0)), None)])
    literals = {literal.name: literal for literal in general_literals(known)}
    assert literals[name].of(known).tolist() == [each == 1 for each in expected]


BOXES = (  # pushed east along a long wall into the corner, then the agent steps back
    board("######", "#AX  #", "# #  #", "######"),
    board("######", "# AX #", "# #  #", "######"),
    board("######", "#  AX#", "# #  #", "######"),
    board("######", "# A X#", "# #  #", "######"),
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pushed(X)", [1, 1, 0]),
        ("moves(X,east)", [1, 1, 0]),
        ("ends(X,wall)", [1, 1, 0]),
        ("ends(X,long_wall)", [1, 1, 0]),
        ("comes_to(X,long_wall)", [0, 0, 0]),
        ("ends(X,corner)", [0, 1, 0]),
        ("leaves_column(X)", [1, 0, 0]),
        ("leaves_row(X)", [0, 0, 0]),
    ],
)
def test_a_box_pushed_into_a_corner(name, expected):
    known = moments_of([Episode(walk(BOXES, (3, 3, 2)), None)])
    assert [chr(each) for each in known.scene.objects] == ["X"]
    literals = {literal.name: literal for literal in general_literals(known)}
    assert literals[name].of(known).tolist() == [each == 1 for each in expected]


def test_a_tile_that_appears_because_the_agent_left_it_is_no_object():
    boards = np.stack(RING)
    assert scene_of(boards[:-1], boards[1:], boards[:1]).objects == ()


def test_a_user_adds_a_literal_of_his_own():
    known, _, episodes = moments_recorded("boat_race")

    def own(scene):
        return [VisibleLiteral("lucky", "the step has an even number", lambda m: m.actions % 2 == 0, scene)]

    vocabulary = vocabulary_of(known, own)
    specification = Specification((Rule((vocabulary.by_name["lucky"],)),))
    steps = episodes[0].steps[:20]
    assert [specification.predicts(step) for step in steps] == [step.action % 2 == 0 for step in steps]


def test_two_literals_of_one_name_are_refused():
    known, _, _ = moments_recorded("boat_race")

    def own(scene):
        return [VisibleLiteral("stays", "it stays", lambda m: m.actions == 7, scene)]

    with pytest.raises(ValueError, match="two literals are named 'stays'"):
        vocabulary_of(known, own)


def test_an_episode_must_begin_with_an_agent():
    empty = board("###", "# #", "###")
    with pytest.raises(ValueError, match="must show the agent"):
        moments_of([Episode(walk((empty, empty), (0,)), None)])


def test_a_literal_that_is_left_out_does_not_come_back_under_another_name():
    known, danger, _ = moments_recorded("conveyor_belt_sushi")
    vocabulary = vocabulary_of(known, without=["leaves_row(O)"])
    assert not any(np.array_equal(column, danger) for column in vocabulary.columns(known).T)
    with pytest.raises(ValueError, match="no literal 'sings' to leave out"):
        vocabulary_of(known, without=["sings"])
