"""The penalty of SA-regularised policies against its closed form for a linear policy; critics against exact values."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from saferl.adversaries.critics import CriticConfig
from saferl.adversaries.robust.observing import TrueSteps, normalised_threat
from saferl.adversaries.robust.online_critics import OnlineCritics
from saferl.adversaries.robust.smooth import SmoothPolicy, learning_victim

EPS, KAPPA, ENTROPY = 0.2, 3.0, 0.1


@pytest.fixture
def policy():
    """mu(s) = w s + b with one action."""
    torch.manual_seed(0)
    made = SmoothPolicy(spaces.Box(-10, 10, (4,)), spaces.Box(-1, 1, (1,)), lambda _: 1e-3, net_arch=[])
    made.regularise(normalised_threat(4, EPS, "linf"), 1, KAPPA, ENTROPY, steps=4, seed=0)
    with torch.no_grad():
        made.action_net.weight.copy_(torch.tensor([[0.5, -0.3, 0.2, 0.1]]))
    return made


def test_the_penalty_of_a_linear_policy_is_its_greatest_change_squared(policy):
    rows = torch.randn((6, 4), generator=torch.Generator().manual_seed(0))
    penalty = policy.penalty(rows)
    weight = policy.action_net.weight
    size = float(weight.detach().abs().sum())
    torch.testing.assert_close(penalty, torch.full((6,), (EPS * size) ** 2))
    (slope,) = torch.autograd.grad(penalty.mean(), weight)
    torch.testing.assert_close(slope, 2 * EPS**2 * size * weight.detach().sign())


def test_ppos_loss_holds_the_penalty_with_its_weight(policy):
    """PPO adds -ent_coef * mean entropy, here with ent_coef 1."""
    rows, actions = torch.zeros(5, 4), torch.zeros(5, 1)
    values, log_probability, bonus = policy.evaluate_actions(rows, actions)
    entropy = policy.get_distribution(rows).distribution.entropy().sum(-1)
    torch.testing.assert_close(bonus, ENTROPY * entropy - KAPPA * policy.penalty(rows))
    policy.ascent.threat.eps = 0.0
    plain = policy.evaluate_actions(rows, actions)
    torch.testing.assert_close(plain[0], values)
    torch.testing.assert_close(plain[1], log_probability)
    torch.testing.assert_close(plain[2], ENTROPY * entropy)


def test_critics_follow_the_true_steps_of_a_policy_that_learns(policy):
    """Every step ends its episode: Q_r is the reward and Q_c the cost, up to their units."""
    generator = np.random.default_rng(0)
    states = generator.normal(size=(200, 4, 4)).astype(np.float32)
    actions = generator.uniform(-1, 1, (200, 4, 1)).astype(np.float32)
    rewards = states[..., 0] * actions[..., 0]
    costs = (actions[..., 0] + 1).astype(np.float32)
    steps = TrueSteps(states, actions, rewards, costs, states, np.ones((200, 4), bool))
    config = CriticConfig(updates=250, hidden=32, batch=128, lr=5e-3, discount=0.5)
    victim = learning_victim(policy, 1)
    online = OnlineCritics(normalised_threat(4, EPS, "linf").units, victim, config, seed=0)
    online.update(steps)
    rows, acted = torch.as_tensor(states[0]), torch.as_tensor(actions[0])
    many = torch.as_tensor(states.reshape(-1, 4)), torch.as_tensor(actions.reshape(-1, 1))
    for critic, truth in ((online.critics().reward, rewards), (online.critics().cost, costs)):
        assert np.corrcoef(critic(*many), truth.ravel())[0, 1] > 0.9
    assert online.critics().cost(rows, acted).shape == (4,)
