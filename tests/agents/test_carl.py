"""CARL: its relabelling by hand, its cost critic and its policy against exact solutions of the tabular CMDP."""

import numpy as np
import pytest
import torch

from saferl.agents.bellman import cost_value_threshold
from saferl.agents.carl import CARL, CARLConfig
from saferl.agents.td3_bc import COST_TWINS
from tests.agents.tabular import ACTIONS, ROAD, STATES, deterministic, train

FAST = {
    "hidden": 32,
    "batch_size": 120,
    "actor_lr": 3e-3,
    "critic_lr": 3e-3,
    "target_rate": 0.1,
    "target_noise": 0.1,
    "value_weight": 10.0,
}


def agent(limit=2.0, **settings):
    torch.manual_seed(0)
    return CARL(CARLConfig(**(ROAD.limit_settings(limit) | FAST | settings)), len(STATES), 1)


def test_the_pessimistic_twin_of_the_cost_decides_what_is_unsafe():
    learner = agent(limit=3.0)
    kappa = cost_value_threshold(3.0, 0.99, 10)
    low, high = kappa - 0.01, kappa + 0.01
    q = torch.zeros(4, 4)
    q[2], q[3] = torch.tensor([low, low, high, high]), torch.tensor([low, high, low, high])
    assert learner.unsafe(q).tolist() == [False, True, True, True]


def test_unsafe_rows_get_minus_the_greatest_reward_seen():
    learner = agent()
    unsafe = torch.tensor([False, True, True])
    assert learner.relabelled(torch.tensor([1.0, 4.0, -2.0]), unsafe).tolist() == [1, -4, -4]
    assert learner.relabelled(torch.tensor([0.5, 0.5, 0.5]), unsafe).tolist() == [0.5, -4, -4]
    assert "largest_reward" in learner.state_dict()


def test_the_penalty_is_one_where_all_rewards_are_negative_too():
    rewards = torch.tensor([-1.0, -3.0])
    assert (agent().relabelled(rewards, torch.tensor([True, True])) <= rewards.min()).all()


def fixed_point(limit):
    """Policy (S,) whose actions are best for rewards relabelled by its own cost; exact, last state first."""
    kappa, penalty = ROAD.threshold(limit), -ROAD.rewards.max()
    policy = np.zeros(len(STATES), int)
    rewards, costs = np.zeros(len(STATES)), np.zeros(len(STATES))
    for state in reversed(range(len(STATES))):  # a state's followers have a higher index
        q = np.zeros((len(ACTIONS), 2))
        for action in ACTIONS:
            flow = 0.99 * ROAD.flow[state, action]
            cost = ROAD.costs[state, action] + flow @ costs
            reward = ROAD.rewards[state, action] if cost <= kappa else penalty
            q[action] = reward + flow @ rewards, cost
        policy[state] = q[:, 0].argmax()
        rewards[state], costs[state] = q[policy[state]]
    return policy


# The constraint holds in every state with the whole of kappa, so the last risks of an episode are taken first and leave
# nothing for the better ones before them. The gap to the optimum of the limit on an episode is CARL's own, not the
# learner's. At these two limits no action's cost is within 0.13 of kappa, which the critics can tell apart.
@pytest.mark.parametrize(("limit", "shortfall", "excess"), [(1.25, 0.21, -0.25), (3.25, 0.20, -0.25)])
def test_it_finds_its_own_optimum_which_is_safe_and_short_of_the_limits(limit, shortfall, excess):
    learner = agent(limit)
    train(learner, ROAD.dataset(1000), updates=1000)
    found, exact = ROAD.policy_matrix(learner, samples=1), deterministic(fixed_point(limit))
    assert ROAD.value(found).reward == pytest.approx(ROAD.value(exact).reward, abs=0.05)
    assert ROAD.gap(learner, limit, samples=1) == pytest.approx((shortfall, excess), abs=0.02)
    # The cost critic values the policy as it acts: its exact values are the solution of a linear system.
    flow = np.einsum("sa,sap->sp", found, ROAD.flow)
    costs = np.linalg.solve(np.eye(len(STATES)) - 0.99 * flow, (found * ROAD.costs).sum(1))
    states = torch.eye(len(STATES))
    with torch.no_grad():
        q = learner.critics(torch.cat([states, learner.act(states)], dim=1))[COST_TWINS].amax(0)
    assert q.numpy() == pytest.approx(costs, abs=0.2)
