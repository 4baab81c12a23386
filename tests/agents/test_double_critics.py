"""What BCQ-Lag and BEAR-Lag share: targets against slow loops, the multiplier's excess, the policy's choice."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from saferl.agents.bcq_lag import BCQLag, BCQLagConfig
from saferl.agents.bear_lag import BEARLag, BEARLagConfig
from saferl.agents.double_critics import cost_mixture, reward_mixture
from saferl.offline_data import Batch
from tests.agents.tabular import ROAD, STATES, train

OBS, ACT, ROWS, DRAWS = 3, 2, 6, 4
AGENTS = ((BCQLagConfig, BCQLag), (BEARLagConfig, BEARLag))
FORMS = ("corrected", "published")
SMALL = {"hidden": 32, "vae_hidden": 32, "batch_size": 128, "candidates": 5, "members": 1, "target_rate": 0.1}
ON_THE_ROAD = SMALL | {"vae_divergence_weight": 0.05, "integral": 3e-3}
LEARNS = (
    ON_THE_ROAD | {"critic_lr": 3e-3, "vae_lr": 3e-3},
    ON_THE_ROAD
    | {"critic_lr": 5e-3, "actor_lr": 2e-3, "kernel_width": 1.0, "discrepancy": 0.1, "discrepancy_samples": 5},
)


def make(config_class=BCQLagConfig, agent_class=BCQLag, **settings):
    """A small agent; kappa of its settings is 10 (1 - 0.99^1000) / (0.01 * 1000) = 0.99996."""
    torch.manual_seed(0)
    given = {"hidden": 8, "vae_hidden": 8, "cost_limit": 10.0, "episode_length": 1000, "candidates": DRAWS}
    return agent_class(config_class(**(given | settings)), OBS, ACT)


def batch(**fields):
    torch.manual_seed(1)
    values = {
        "observations": torch.randn(ROWS, OBS),
        "actions": torch.rand(ROWS, ACT) * 2 - 1,
        "rewards": torch.randn(ROWS),
        "costs": torch.rand(ROWS),
        "next_observations": torch.randn(ROWS, OBS),
        "terminals": torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0, 0.0]),
        "timeouts": torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, 0.0]),
    }
    return Batch(**(values | fields))


class Table(torch.nn.Module):
    """Stands in for the critics: the values it was given, whatever the rows are."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def forward(self, rows, frozen=False):
        if self.values.ndim == 2:
            return self.values
        draw = (self.candidates - rows[:, None, -ACT:]).abs().sum(2).argmin(1)  # which of the candidates the rows hold
        return self.values[:, torch.arange(len(rows)), draw]

    def over_candidates(self, states, candidates, members=slice(None)):
        self.candidates = candidates
        return self.values[members, : len(states), : candidates.shape[1]]


def test_the_mixtures_lean_towards_the_worse_group():
    q = torch.tensor([[1.0], [5.0], [3.0], [2.0]])  # groups (1, 5) and (3, 2)
    assert reward_mixture(q, 0.75).tolist() == [0.75 * 1 + 0.25 * 2]
    assert cost_mixture(q, 0.75).tolist() == [0.75 * 5 + 0.25 * 3]


def slow_targets(agent, rows, q, multiplier, published):
    """Targets (2, B) from Q (8, B, N) of two groups of two, one number at a time."""
    found = np.zeros((2, ROWS))
    for row in range(ROWS):
        options = []
        for draw in range(DRAWS):
            reward_groups = [min(q[0:2, row, draw]), min(q[2:4, row, draw])]
            reward = 0.75 * min(reward_groups) + 0.25 * max(reward_groups)
            pick = min if published else max
            cost_groups = [pick(q[4:6, row, draw]), pick(q[6:8, row, draw])]
            other = max if published else min
            options.append((reward, 0.75 * pick(cost_groups) + 0.25 * other(cost_groups)))
        if published:
            reward, cost = max(each[0] for each in options), max(each[1] for each in options)
        else:
            chosen = max(range(DRAWS), key=lambda draw: q[0, row, draw] - multiplier * q[4, row, draw])
            reward, cost = options[chosen]
        terminal, timeout = float(rows.terminals[row]), float(rows.timeouts[row])
        goes_on = (1 - max(terminal, timeout), 1.0) if published else (1 - terminal, 1 - terminal)
        found[0, row] = float(rows.rewards[row]) + 0.99 * goes_on[0] * reward
        found[1, row] = float(rows.costs[row]) + 0.99 * goes_on[1] * cost
    return found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("classes", AGENTS)
def test_the_targets_against_a_slow_loop(classes, form):
    agent, rows = make(*classes, form=form), batch()
    q = torch.randn(8, ROWS, DRAWS)
    agent.target_critics = Table(q)
    agent.multiplier.value.fill_(0.7)
    expected = slow_targets(agent, rows, q.numpy(), 0.7, form == "published")
    assert agent.critic_targets(rows).numpy() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("form", "cost"), [("corrected", 1.0), ("published", 9.0)])
def test_only_the_published_cost_is_that_of_the_costliest_action(form, cost):
    """Two actions: the first has the greater reward and costs 1, the second costs 9."""
    agent = make(form=form, members=1, candidates=2)
    q = torch.tensor([[5.0, 4.0]] * 2 + [[1.0, 9.0]] * 2)  # (4, N)
    agent.target_critics = Table(q.unsqueeze(1).expand(4, ROWS, 2))
    rows = replace(batch(), terminals=torch.zeros(ROWS), timeouts=torch.zeros(ROWS))
    reward_targets, cost_targets = agent.critic_targets(rows)
    assert torch.allclose(reward_targets, rows.rewards + 0.99 * 5)
    assert torch.allclose(cost_targets, rows.costs + 0.99 * cost)


@pytest.mark.parametrize(("form", "cost"), [("corrected", 20.0), ("published", 10.0)])
def test_the_lagrangian_by_hand(form, cost):
    agent = make(form=form, members=1, proportional=0.5, integral=0.25, derivative=0.0)
    agent.critics = Table(torch.tensor([3.0, 2.0, 10.0, 20.0])[:, None].expand(4, ROWS))
    agent.acting_cost = lambda rows: torch.tensor(7.0)
    kappa = agent.threshold
    limited = 7.0 if form == "corrected" else 10.0
    for step in (1, 2):
        multiplier = (0.5 + 0.25 * step) * (limited - kappa)
        value, metrics = agent.lagrangian(batch(), torch.zeros(ROWS, ACT))
        assert metrics["multiplier/value"].item() == pytest.approx(multiplier, rel=1e-5)
        assert value.item() == pytest.approx(2 - multiplier * (cost - kappa), rel=1e-5)


@pytest.mark.parametrize("classes", AGENTS)
def test_the_limit_is_held_against_the_acting_policys_cost_where_episodes_begin(classes):
    """Draw 0 is the best for the reward, draw 1 costs nothing; rows 1 and 4 are starts, all others cost 90 more."""
    agent = make(*classes, members=1, candidates=2)
    rows = batch(starts=torch.tensor([0.0, 1.0, 0.0, 0.0, 1.0, 0.0]))
    at_start = {0: 2.0, 1: 0.0}
    for multiplier, draw in ((0.0, 0), (5.0, 1)):
        agent = make(*classes, members=1, candidates=2)
        agent.multiplier.value.fill_(multiplier)

        def q(states, candidates):
            begins = (states.unsqueeze(1) == rows.observations[[1, 4]]).all(2).any(1).float()  # (rows,)
            reward = torch.tensor([4.0, 1.0]).expand(len(states), 2)
            cost = torch.tensor([2.0, 0.0]).expand(len(states), 2) + 90 * (1 - begins).unsqueeze(1)
            return torch.stack([reward, reward, cost, cost])

        agent.critics.over_candidates = q
        assert agent.acting_cost(rows).item() == pytest.approx(at_start[draw])


@pytest.mark.parametrize("classes", AGENTS)
def test_the_policy_takes_the_best_of_its_draws_which_the_generator_alone_decides(classes):
    agent = make(*classes)
    agent.multiplier.value.fill_(2.0)
    observations = torch.randn(5, OBS)
    with torch.no_grad():
        actions = agent.act(observations, torch.Generator().manual_seed(3))
        torch.rand(7)
        drawn = agent.candidates(agent.actor, observations, DRAWS, torch.Generator().manual_seed(3))
        for row in range(5):
            scores = []
            for draw in range(DRAWS):
                q = agent.critics(torch.cat([observations[row], drawn[row, draw]])[None])[:, 0]
                scores.append(float(q[:4].min() - 2 * q[4:].max()))
            assert torch.equal(actions[row], drawn[row, int(np.argmax(scores))])


@pytest.mark.parametrize("classes", AGENTS)
def test_the_actors_step_leaves_critics_and_vae_without_gradient(classes):
    agent = make(*classes)
    agent.actor_loss(batch())[0].backward()
    assert all(each.grad is None for each in [*agent.critics.parameters(), *agent.vae.parameters()])
    assert any(each.grad.abs().sum() > 0 for each in agent.actor.parameters())


def test_all_members_are_trained_towards_their_targets():
    agent, rows = make(), batch()
    agent.critic_targets = lambda _: torch.tensor([[1.0], [2.0]]).expand(2, ROWS)
    for optimizer in agent.optimizers.values():
        optimizer.param_groups[0]["lr"] = 0.02
    for _ in range(300):
        agent.step("critics", agent.critic_losses(rows)[0].sum())
    with torch.no_grad():
        q = agent.critics(torch.cat([rows.observations, rows.actions], dim=1))
    assert q.mean(1).tolist() == pytest.approx([1] * 4 + [2] * 4, abs=0.05)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixture": 1.5}, r"agent.mixture must be in \[0, 1\]; got 1.5"),
        ({"members": 0}, "agent.members must be >= 1; got 0"),
        ({"candidates": 0}, "agent.candidates must be >= 1; got 0"),
        ({"integral": -1}, "agent.integral must be >= 0; got -1"),
        ({"critic_lr": 0}, "agent.critic_lr must be > 0; got 0"),
        ({"form": "paper"}, "agent.form must be one of corrected, published; got 'paper'"),
    ],
)
@pytest.mark.parametrize("config_class", [BCQLagConfig, BEARLagConfig])
def test_settings_are_checked(config_class, settings, message):
    with pytest.raises(ValueError, match=message):
        config_class(**settings)


@pytest.mark.parametrize("limit", [2.0, pytest.param(4.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("classes", "learns"), zip(AGENTS, LEARNS))
def test_both_solve_the_tabular_task(classes, learns, limit):
    config_class, agent_class = classes
    torch.manual_seed(0)
    agent = agent_class(config_class(**ROAD.limit_settings(limit), **learns), len(STATES), 1)
    metrics = train(agent, ROAD.dataset(1000), updates=800)
    shortfall, excess = ROAD.gap(agent, limit)
    assert shortfall < 0.1
    assert excess < 0.1
    # The cost critics know what the policy costs that acts, or think it costs a little more.
    exact = ROAD.value(ROAD.policy_matrix(agent)).discounted_cost
    assert -0.2 < metrics["multiplier/limited_cost"] - exact < 1
