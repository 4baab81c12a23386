"""Plans: the best there are by trying every sequence of actions, and expectations by plain recursion."""

from itertools import product

import numpy as np
import pytest

from saferl.danger.edge_literals import EdgeLiterals
from saferl.danger.literals import vocabulary_of
from saferl.danger.planning import best_policy, expected, policy_of
from saferl.danger.tasks import task_world
from saferl.envs.gridworlds import GRIDWORLDS


def returns_of_all_plans(name, horizon):
    """R of every sequence of actions, by the rules themselves, in a gridworld without chance."""
    rules = GRIDWORLDS[name]
    totals = []
    for actions in product(range(rules.actions), repeat=horizon):
        state = [0] * rules.state_size
        rules.start(rules.plain_tables, 0, state)
        total, ended = 0.0, False
        for action in actions:
            if not ended:
                reward, _, _, ended = rules.step(rules.plain_tables, state, action, 0)
                total += reward
        totals.append(total)
    return np.array(totals)


@pytest.mark.parametrize(
    "name", ["boat_race", "side_effects_sokoban_0", "conveyor_belt_sushi_goal", "rocks_diamonds_1"]
)
def test_the_best_policy_is_as_good_as_the_best_of_all_plans(name):
    world = task_world(name)
    policy = best_policy(world.clone, world.clone.rewards, 6)
    rewards = np.where(world.edges >= 0, world.clone.rewards[world.edges], 0.0)
    assert expected(world, policy, [rewards])[0, 0] == pytest.approx(returns_of_all_plans(name, 6).max())


def test_all_equally_good_actions_are_kept():
    world = task_world("boat_race")
    policy = best_policy(world.clone, np.zeros(len(world.clone.node)), 3)
    assert policy.all()


def plain_expectation(world, policy, quantity, pair, time=0):
    if pair < 0 or time == len(policy):
        return 0.0
    total, options = 0.0, np.flatnonzero(policy[time, world.node[pair]])
    for action in options:
        for k, chance in enumerate(world.chances[pair, action]):
            if chance:
                ahead = plain_expectation(world, policy, quantity, int(world.following[pair, action, k]), time + 1)
                total += chance * (quantity[pair, action, k] + ahead) / len(options)
    return total


@pytest.mark.parametrize("name", ["whisky_gold_human", "safe_interruptibility_1", "absent_supervisor"])
def test_expectations_where_chance_decides(name):
    world = task_world(name)
    policy = best_policy(world.clone, world.clone.rewards, 4)
    policy |= np.random.default_rng(0).random(policy.shape) < 0.2
    sums = expected(world, policy, [world.hidden, world.danger.astype(float)])
    for start, pair in enumerate(world.starts):
        for row, quantity in enumerate((world.hidden, world.danger)):
            assert sums[row, start] == pytest.approx(plain_expectation(world, policy, quantity, int(pair)))


@pytest.mark.parametrize(("name", "literal"), [("boat_race", "reverses"), ("safe_interruptibility_1", "first(B)")])
def test_a_rule_about_the_past_is_kept_by_the_plan(name, literal):
    world = task_world(name)
    vocabulary = vocabulary_of(world.clone.steps)
    column = list(vocabulary.by_name).index(literal)
    called = EdgeLiterals(world.clone, vocabulary).called([(column,)], 20)
    policy = best_policy(world.clone, world.clone.rewards - 1000 * called, 20)
    assert expected(world, policy, [called[world.edges].astype(float)])[0] == pytest.approx(0)
    free = best_policy(world.clone, world.clone.rewards, 20)
    assert expected(world, free, [called[world.edges].astype(float)])[0].max() > 0.1  # it takes some care


def test_a_reward_may_depend_on_the_time():
    world = task_world("boat_race")
    stays = ~world.clone.steps.moved
    rewards = np.stack([stays if time < 3 else ~stays for time in range(6)]).astype(float)
    policy = best_policy(world.clone, rewards, 6)
    count = expected(world, policy, [np.where(world.edges >= 0, stays[world.edges], False)])
    assert count[0, 0] == pytest.approx(3)


def test_a_list_of_actions_is_a_plan_and_is_cut():
    clone = task_world("boat_race").clone
    policy = policy_of([3, 3, 1], clone, 2)
    assert policy.shape == (2, 1, 4)
    assert policy.argmax(axis=2).ravel().tolist() == [3, 3]
    assert policy_of([], clone, 2).shape == (0, 1, 4)


@pytest.mark.parametrize("plan", [[4], [-1], [0.5], [[0, 1]], "up"])
def test_what_is_no_plan_is_refused(plan):
    with pytest.raises(ValueError, match="a plan"):
        policy_of(plan, task_world("boat_race").clone, 20)
