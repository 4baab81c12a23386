"""What IQL-Lag and CAPS share: heads, weights, targets and the actor's learning rate, each against a closed form."""

import math
from importlib.resources import files

import pytest
import torch
import yaml

from saferl.agents.caps import CAPS, CAPSConfig
from saferl.agents.implicit import GaussianHeads, advantage_weights
from saferl.agents.iql_lag import IQLLag, IQLLagConfig
from saferl.offline_data import Batch

AGENTS = {"iql_lag": (IQLLagConfig, IQLLag), "caps": (CAPSConfig, CAPS)}


@pytest.fixture(params=AGENTS)
def name(request):
    return request.param


def make(name, **settings):
    config_class, agent_class = AGENTS[name]
    torch.manual_seed(0)
    given = {"hidden": 8, "cost_limit": 10.0, "episode_length": 100} | settings
    return agent_class(config_class(**given), 3, 2)


def batch(rows=4, terminals=0.0, timeouts=0.0):
    draw = torch.Generator().manual_seed(1)
    ones = torch.ones(rows)
    return Batch(
        torch.randn(rows, 3, generator=draw),
        torch.rand(rows, 2, generator=draw) * 2 - 1,
        torch.randn(rows, generator=draw),
        torch.rand(rows, generator=draw),
        torch.randn(rows, 3, generator=draw),
        ones * terminals,
        ones * timeouts,
    )


def test_each_head_is_a_gaussian_around_its_own_action():
    heads = GaussianHeads(3, 2, heads=4, hidden=8, dtype=torch.float32)
    with torch.no_grad():
        heads.log_std.copy_(torch.linspace(-1, 1, 8).view(4, 2))
    rows = batch()
    means, found = heads(rows.observations), heads.log_prob(rows.observations, rows.actions)
    assert means.shape == (4, 4, 2)
    for head in range(4):
        normal = torch.distributions.Normal(means[:, head], heads.log_std[head].exp())
        assert found[:, head].tolist() == pytest.approx(normal.log_prob(rows.actions).sum(1).tolist(), rel=1e-5)


def test_the_likeliest_action_is_the_one_that_acts():
    """Imitating 0.9 gives 0.9, not tanh(0.9) = 0.716; the edge of the box is within reach too."""
    heads = GaussianHeads(1, 2, heads=1, hidden=8, dtype=torch.float32)
    optimizer = torch.optim.Adam(heads.parameters(), lr=1e-2)
    observations, actions = torch.ones(16, 1), torch.tensor([[0.9, 1.0]]).expand(16, 2)
    for _ in range(500):
        optimizer.zero_grad()
        (-heads.log_prob(observations, actions).mean()).backward()
        optimizer.step()
    assert heads(observations[:1]).flatten().tolist() == pytest.approx([0.9, 1.0], abs=0.01)


def test_weights_grow_with_the_advantage_up_to_the_clip():
    found = advantage_weights(torch.tensor([-1.0, 0.0, 0.5, 10.0]), 3.0, 100.0)
    assert found.tolist() == pytest.approx([math.exp(-3), 1, math.exp(1.5), 100])


def test_the_pessimistic_twin_counts(name):
    agent, rows = make(name), batch()
    pairs = torch.cat([rows.observations, rows.actions], dim=1)
    q = agent.target_critics(pairs)
    reward, cost = agent.target_q(pairs)
    assert torch.equal(reward, torch.minimum(q[0], q[1]))
    assert torch.equal(cost, torch.maximum(q[2], q[3]))


def test_values_go_on_behind_a_time_limit_and_end_with_the_task(name):
    agent = make(name)
    rows = batch()
    following = agent.values(rows.next_observations)
    gains = torch.stack([rows.rewards, rows.costs])
    assert torch.allclose(agent.critic_targets(batch(timeouts=1.0)), gains + 0.99 * following)
    assert torch.equal(agent.critic_targets(batch(terminals=1.0)), gains)


def test_the_actors_rate_falls_by_half_a_cosine(name):
    agent = make(name, lr_decay=8)
    rates = []
    for _ in range(9):
        agent.update(batch())
        rates.append(float(agent.optimizers["actor"].param_groups[0]["lr"]))
    assert rates == pytest.approx([3e-4 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(9)], abs=1e-12)


def test_the_decay_is_as_long_as_the_default_run(name):
    """CAPS's code lets it be ten times longer, so that the rate at the end of a run is still 98 % of the first."""
    preset = yaml.safe_load(files("saferl.conf").joinpath(f"agent/{name}.yaml").read_text())
    assert preset["lr_decay"] == preset["default_steps"] == AGENTS[name][0]().lr_decay


def test_the_critics_do_not_depend_on_the_actor(name):
    first, second = make(name), make(name)
    with torch.no_grad():
        for parameter in second.actor.parameters():
            parameter.add_(1)
    for agent in (first, second):
        for _ in range(3):
            agent.update(batch())
    assert all(torch.equal(*pair) for pair in zip(first.critics.parameters(), second.critics.parameters()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"expectile": 1}, r"agent.expectile must be in \(0, 1\); got 1"),
        ({"temperature": 0}, "agent.temperature must be > 0; got 0"),
        ({"weight_clip": 0}, "agent.weight_clip must be > 0; got 0"),
        ({"lr_decay": -1}, "agent.lr_decay must be >= 0; got -1"),
        ({"discount": 1.0}, r"agent.discount must be in \[0, 1\); got 1.0"),
    ],
)
def test_settings_are_checked(name, settings, message):
    with pytest.raises(ValueError, match=message):
        AGENTS[name][0](**settings)
