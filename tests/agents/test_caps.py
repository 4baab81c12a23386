"""CAPS: weights and choice of its heads by hand, its budget in closed form, and the tabular CMDP at several limits."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from saferl.agents.bellman import cost_value_threshold
from saferl.agents.caps import CAPS, CAPSConfig, head_shares
from saferl.policy import FeedbackPolicy
from tests.agents.tabular import ROAD, train


def make(heads=2, obs_dim=2, **settings):
    torch.manual_seed(0)
    given = {"hidden": 8, "heads": heads, "cost_limit": 10.0, "episode_length": 100} | settings
    return CAPS(CAPSConfig(**given), obs_dim, 1)


@pytest.mark.parametrize(
    ("heads", "cost"),
    [(2, [0, 1]), (4, [0, 2 / 3, 4 / 3, 1]), (8, [0, 2 / 7, 4 / 7, 6 / 7, 8 / 7, 10 / 7, 12 / 7, 1])],
)
def test_the_heads_lie_between_reward_and_cost(heads, cost):
    assert head_shares(heads)[0].tolist() == [1.0] * (heads - 1) + [0.0]
    assert head_shares(heads)[1].tolist() == pytest.approx(cost)


def test_the_weights_of_the_heads_by_hand():
    residuals = torch.tensor([[0.5, 9.0, -1.0], [0.2, -0.1, -9.0]])  # Q_r - V_r and Q_c - V_c of three rows
    gain = [math.exp(1.5), 100, math.exp(-3)]
    saving = [math.exp(-0.4), math.exp(0.2), 100]  # cost temperature 2
    weights = make(heads=3, cost_temperature=2.0).policy_weights(residuals)
    told = [[g, g + s, s] for g, s in zip(gain, saving)]
    assert weights.flatten().tolist() == pytest.approx(np.ravel(told).tolist(), rel=1e-5)


def test_values_lean_towards_good_and_towards_cheap_actions():
    losses = make(expectile=0.7, cost_expectile=0.9).value_losses(torch.tensor([[1.0, -1.0], [1.0, -2.0]]), None)
    assert losses.tolist() == pytest.approx([(0.7 + 0.3) / 2, (0.1 * 1 + 0.9 * 4) / 2])


class ScriptedHeads(nn.Module):
    """Three heads that act -0.5, 0 and 0.5 everywhere."""

    def forward(self, observations):
        return torch.tensor([-0.5, 0.0, 0.5])[None, :, None].expand(len(observations), 3, 1)


class ScriptedCritics(nn.Module):
    """Twins of Q_r = (1, 2, 3) and Q_c = (0.1, 0.3, 0.9) for the three actions; the other twins are more hopeful."""

    def over_candidates(self, observations, actions):
        reward, cost = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.1, 0.3, 0.9])
        q = torch.stack([reward + 5, reward, cost, cost - 5])
        return q[:, None].expand(4, *actions.shape[:2])


def scripted(**settings):
    agent = make(heads=3, **settings)
    agent.actor, agent.target_critics = ScriptedHeads(), ScriptedCritics()
    return agent


@pytest.mark.parametrize(
    ("threshold", "action"), [(1.0, 0.5), (0.9, 0.0), (0.5, 0.0), (0.3, -0.5), (0.2, -0.5), (0.0, -0.5)]
)
def test_the_best_head_below_the_threshold_acts_and_else_the_cheapest(threshold, action):
    found = scripted().actions_within(torch.zeros(1, 2), torch.tensor([threshold]))
    assert float(found) == action


def test_the_threshold_is_what_is_left_over_the_steps_that_are_left():
    policy = make(discount=0.9).policy(cost_limit=6.0)
    observations = np.zeros((2, 2), np.float32)
    policy.act(observations)
    assert policy.thresholds().tolist() == pytest.approx([cost_value_threshold(6.0, 0.9, 100)] * 2)
    for _ in range(40):
        policy.observe(np.zeros(2), np.array([0.1, 0.25]))  # 4 and 10 in all
    assert policy.thresholds().tolist() == pytest.approx([2.0 * (1 - 0.9**60) / (0.1 * 60), 0])
    policy.reset(mask=np.array([False, True]))
    assert policy.thresholds().tolist() == pytest.approx(
        [2.0 * (1 - 0.9**60) / (0.1 * 60), cost_value_threshold(6.0, 0.9, 100)]
    )


def test_each_episode_spends_its_own_budget():
    policy = scripted(discount=0.9).policy(cost_limit=10.0)  # kappa_0 = 1.00, over all heads' costs
    assert isinstance(policy, FeedbackPolicy)
    observations = np.zeros((3, 2), np.float32)
    assert policy.act(observations).flatten().tolist() == [0.5, 0.5, 0.5]
    policy.observe(np.zeros(3), np.array([0.0, 4.0, 40.0]))
    assert policy.act(observations).flatten().tolist() == [0.5, 0.0, -0.5]
    policy.reset(mask=np.array([False, False, True]))
    assert policy.act(observations).flatten().tolist() == [0.5, 0.0, 0.5]


def test_behind_the_end_of_an_episode_it_still_acts():
    policy = make(episode_length=2).policy()
    policy.act(np.zeros((1, 2), np.float32))
    for _ in range(5):
        policy.observe(np.zeros(1), np.ones(1))
    assert policy.thresholds().tolist() == [5.0]  # of 10, as in a last step


def test_the_settings_limit_counts_where_none_is_given():
    agent = make(cost_limit=None)
    assert agent.config.limit_use == "acting"
    with pytest.raises(ValueError, match=r"agent\.cost_limit and agent\.episode_length have no value"):
        agent.policy()
    with pytest.raises(ValueError, match="cost_limit must be >= 0; got -1"):
        agent.policy(cost_limit=-1)
    assert make(cost_limit=7.0).policy().act(np.zeros((1, 2), np.float32)).shape == (1, 1)


@pytest.fixture(scope="module")
def trained():
    """Four heads on the tabular CMDP; no limit enters."""
    torch.manual_seed(0)
    settings = {"batch_size": 60, "hidden": 32, "actor_lr": 2e-3, "critic_lr": 2e-3, "target_rate": 0.02}
    values = {"expectile": 0.9, "cost_expectile": 0.95, "temperature": 5.0, "cost_temperature": 5.0}
    agent = CAPS(CAPSConfig(heads=4, episode_length=10, lr_decay=1500, **settings, **values), 12, 1)
    train(agent, ROAD.dataset(), updates=1500)
    return agent


@pytest.mark.parametrize(("limit", "least", "missing"), [(0.0, 0.0, 0.02), (2.0, 1.0, 0.4), (4.0, 3.0, 0.25)])
def test_one_training_keeps_to_every_limit_and_earns_most_of_the_optimum(trained, limit, least, missing):
    """It spends as soon as it may, on less than the best occasion: hence what is missing."""
    reward, cost = ROAD.rollout_value(trained.policy(cost_limit=limit), 500)
    assert least <= cost <= limit
    assert ROAD.shortfall(reward, limit) < missing


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 1}, "agent.heads must be >= 2; got 1"),
        ({"cost_expectile": 0}, r"agent.cost_expectile must be in \(0, 1\); got 0"),
        ({"cost_temperature": 0}, "agent.cost_temperature must be > 0; got 0"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        CAPSConfig(**settings)
