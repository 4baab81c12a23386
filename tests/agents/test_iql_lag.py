"""IQL-Lag: its two values against brute force, its multiplier by hand, and the tabular CMDP's optimum."""

import numpy as np
import pytest
import torch

from saferl.agents.feasibility import expectile_loss, reversed_expectile_loss
from saferl.agents.iql_lag import IQLLag, IQLLagConfig
from saferl.offline_data import Batch
from tests.agents.tabular import ROAD, train


def make(**settings):
    torch.manual_seed(0)
    given = {"hidden": 8, "cost_limit": 10.0, "episode_length": 1000} | settings
    return IQLLag(IQLLagConfig(**given), 1, 1)


Q = torch.tensor([[0.0, 0.3, 0.5, 1.0], [0.1, 0.0, 0.6, 1.2]])  # Q_r and Q_c of four actions of one state


def settled_values(agent):
    """(V_r, V_c), where the gradient of the value losses on Q is zero."""
    values = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.SGD([values], lr=0.2)
    for _ in range(2000):
        residuals = Q - values[:, None]
        weights = agent.policy_weights(residuals.detach())
        optimizer.zero_grad()
        agent.value_losses(residuals, weights).sum().backward()
        optimizer.step()
    return values.detach()


def test_without_a_multiplier_the_reward_value_is_the_expectile_of_iql():
    grid = torch.linspace(0, 1, 10_001)
    losses = torch.stack([expectile_loss(Q[0] - value, 0.7) for value in grid])
    assert float(settled_values(make())[0]) == pytest.approx(float(grid[losses.argmin()]), abs=2e-4)


@pytest.mark.parametrize("multiplier", [0.0, 0.5, 4.0])
def test_the_cost_value_is_the_cost_of_the_policy_that_the_weights_give(multiplier):
    agent = make(temperature=2.0)
    agent.multiplier.value.fill_(multiplier)
    shares = np.exp(2.0 * (Q[0] - multiplier * Q[1]).double().numpy())  # e^(beta A) up to a factor
    own_cost = float(shares @ Q[1].double().numpy() / shares.sum())
    assert float(settled_values(agent)[1]) == pytest.approx(own_cost, abs=1e-4)


def test_the_multiplier_sees_what_the_starts_still_cost():
    """Two starts of 6 and 8, kappa = 1 at 1,000 steps: the first excess is 6, and I, D and e are all that."""
    agent = make(proportional=0.1, integral=0.01, derivative=0.5)
    zeros = torch.zeros(4)
    column = torch.zeros(4, 1)
    rows = Batch(column, column, zeros, zeros, column, zeros, zeros, starts=torch.tensor([1.0, 0.0, 1.0, 0.0]))
    metrics = agent.constrain(torch.tensor([[9.0, 9.0, 9.0, 9.0], [6.0, 90.0, 8.0, 90.0]]), rows)
    assert float(metrics["multiplier/start_cost"]) == pytest.approx(7)
    assert float(metrics["multiplier/value"]) == pytest.approx((0.1 + 0.01 + 0.5) * 6, rel=1e-4)


def test_batches_say_where_episodes_begin():
    data = ROAD.dataset(20)
    sampler = IQLLag(IQLLagConfig(cost_limit=2, episode_length=10), 12, 1).sampler(data, 0, -1, 1)
    rows = sampler.batch(torch.arange(len(data)))
    assert rows.starts.nonzero().flatten().tolist() == list(range(0, 200, 10))


LEARNS = {"batch_size": 60, "hidden": 32, "actor_lr": 2e-3, "critic_lr": 2e-3, "target_rate": 0.02} | {
    "temperature": 5.0,
    "integral": 5e-4,
}


def learned(limit, agent_class=IQLLag, updates=1500):
    torch.manual_seed(0)
    agent = agent_class(IQLLagConfig(**ROAD.limit_settings(limit), **LEARNS, lr_decay=updates), 12, 1)
    metrics = train(agent, ROAD.dataset(), updates)
    return (*ROAD.gap(agent, limit, samples=1), metrics["multiplier/value"])


@pytest.mark.parametrize("limit", [2.0, 4.0])
def test_it_finds_the_optimum_at_the_limit(limit):
    shortfall, excess, _ = learned(limit)
    assert excess <= 1e-6
    assert shortfall < 0.05


class CheapestBehaviour(IQLLag):
    """With V_c an expectile towards cheap actions, the mirror image of V_r."""

    def value_losses(self, residuals, weights):
        reward, _ = super().value_losses(residuals, weights)
        return torch.stack([reward, reversed_expectile_loss(residuals[1], self.config.expectile)])


def test_the_cost_of_the_cheapest_behaviour_would_blind_the_multiplier():
    _, excess, multiplier = learned(2.0, CheapestBehaviour, updates=1000)
    assert multiplier < 0.05
    assert excess > 4


@pytest.mark.parametrize("key", ["proportional", "integral", "derivative"])
def test_settings_are_checked(key):
    with pytest.raises(ValueError, match=f"agent.{key} must be >= 0; got -1"):
        IQLLagConfig(**{key: -1})
