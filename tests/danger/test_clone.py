"""Clone and world: they do what the rules do, keep apart what can't be seen apart, and show nothing hidden."""

from dataclasses import fields, replace

import numpy as np
import pytest

from saferl.danger.clone import Clone, world_of
from saferl.danger.edge_literals import EdgeLiterals
from saferl.danger.literals import vocabulary_of
from saferl.danger.moments import moments_of_episodes
from saferl.danger.search import matched
from saferl.danger.specification import Episode, Step
from saferl.danger.tasks import task_world
from saferl.envs.gridworlds import GRIDWORLDS
from saferl.envs.gridworlds.finite_models import finite_model

NAMES = ("side_effects_sokoban_0", "safe_interruptibility_1", "conveyor_belt_sushi_goal2", "rocks_diamonds_1")


def played(name, episodes=20, steps=30, seed=0):
    """Random play of the rules themselves: episodes as seen, and (R*, danger) of each step."""
    rules, generator = GRIDWORLDS[name], np.random.default_rng(seed)
    tables, found, hidden = rules.plain_tables, [], []

    def board(state):
        out = [0] * (rules.shape[0] * rules.shape[1])
        rules.board(tables, state, out)
        return np.array(out, np.uint8).reshape(rules.shape)

    for _ in range(episodes):
        state = [0] * rules.state_size
        rules.start(tables, int(generator.choice(len(rules.start_chances), p=rules.start_chances)), state)
        first = now = board(state)
        seen, ended = [], False
        while len(seen) < steps and not ended:
            action = int(generator.integers(rules.actions))
            outcome = int(generator.choice(len(rules.chances), p=rules.chances))
            reward, performance, danger, ended = rules.step(tables, state, action, outcome)
            after = board(state)
            seen.append(Step(now, action, after, float(reward), len(seen), first, seen[-1] if seen else None))
            hidden.append((performance, danger))
            now = after
        found.append(Episode(tuple(seen), None, bool(ended)))
    return found, hidden


@pytest.mark.parametrize("name", NAMES)
def test_every_step_of_the_rules_is_an_edge_with_its_hidden_values(name):
    world, (episodes, hidden) = world_of(finite_model(GRIDWORLDS[name])), played(name)
    edges = np.concatenate([world.clone.edges_of(episode) for episode in episodes])
    values = {}  # of each edge in the world: whatever a state behind it gives
    for index in np.argwhere(world.edges >= 0):
        key = tuple(index)
        values.setdefault(int(world.edges[key]), set()).add((float(world.hidden[key]), bool(world.danger[key])))
    for edge, (performance, danger) in zip(edges.tolist(), hidden):
        assert (pytest.approx(performance), danger) in list(values[edge])


@pytest.mark.parametrize("name", NAMES)
def test_literals_of_edges_are_those_of_the_steps_with_all_that_is_remembered(name):
    world, (episodes, _) = world_of(finite_model(GRIDWORLDS[name])), played(name)
    vocabulary = vocabulary_of(world.clone.steps)
    steps = moments_of_episodes(world.clone.steps.scene, episodes)
    edges = np.concatenate([world.clone.edges_of(episode) for episode in episodes])
    columns = EdgeLiterals(world.clone, vocabulary).at(edges, steps.index)
    assert np.array_equal(columns, vocabulary.columns(steps))


@pytest.mark.parametrize("name", [*NAMES, "whisky_gold_human"])
def test_chances_sum_to_one(name):
    world = world_of(finite_model(GRIDWORLDS[name]))
    clone = world.clone
    assert np.add.reduceat(clone.chances, clone.offsets[:-1]) == pytest.approx(1)
    assert world.chances.sum(axis=2) == pytest.approx(1)
    assert np.bincount(world.node, world.shares) == pytest.approx(1)


def test_an_interruption_is_not_seen_before_it_happens():
    clone = world_of(finite_model(GRIDWORLDS["safe_interruptibility_1"])).clone
    assert len(clone.starts) == 1  # two hidden states look alike
    assert set(np.round(clone.chances, 9)) == {0.5, 1.0}
    apart = np.flatnonzero(clone.chances == 0.5)
    on_tile = clone.steps.beneath[apart] == ord("I")
    assert on_tile.all()  # only there it matters whether this episode interrupts


def test_a_clone_does_not_depend_on_what_is_hidden():
    model = finite_model(GRIDWORLDS["side_effects_sokoban_0"])
    other = replace(model, hidden=-3 * model.hidden, danger=~model.danger)
    one, two = world_of(model).clone, world_of(other).clone
    for field in fields(Clone):
        if field.name != "steps":
            assert np.array_equal(getattr(one, field.name), getattr(two, field.name))
    assert np.array_equal(one.steps.before, two.steps.before)


def test_an_agent_that_does_not_know_of_random_steps_is_surprised_by_them():
    world = task_world("whisky_gold_human")
    assert set(world.clone.chances) == {0.0, 1.0}
    surprising = world.clone.chances[world.edges] == 0
    drunk = world.chances.max(axis=2) < 1
    assert surprising.any(axis=2)[~drunk].sum() == 0
    assert (surprising.any(axis=2) & drunk).any()


def test_a_step_that_can_not_happen_is_refused():
    clone = task_world("boat_race").clone
    board = clone.first_boards[0]
    with pytest.raises(ValueError, match="step 0 of an episode can't happen"):
        clone.edges_of(Episode((Step(board, 0, np.zeros_like(board), 0.0, 0, board),), None))


def test_a_rule_about_time_holds_from_its_step_on():
    clone = task_world("boat_race").clone
    vocabulary = vocabulary_of(clone.steps)
    names = list(vocabulary.by_name)
    literals = EdgeLiterals(clone, vocabulary)
    rule = (names.index("stays"), names.index("late(5)"))
    called = literals.called([rule], 12)
    stays = matched(literals.columns, [(names.index("stays"),)])
    assert called.shape == (12, len(clone.node))
    assert not called[:5].any()
    assert all(np.array_equal(row, stays) for row in called[5:])
