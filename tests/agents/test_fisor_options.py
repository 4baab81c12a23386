"""FISOR's ablations and what fisor_plus adds: h of the state itself, choice by reward, a Gaussian policy, presets."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from saferl.agents import FISOR, FISORConfig
from saferl.agents.bellman import cost_value_threshold
from saferl.offline_data import OfflineDataset
from saferl.offline_data.batch import Batch
from saferl.offline_data.point_robot import generate
from tests.agents.tabular import ROAD, train

PRESETS = Path(__file__).parents[2] / "saferl" / "conf" / "agent"
SIZE = {"batch_size": 64, "critic_batch_size": 32, "hidden": 16, "blocks": 1, "critic_hidden": 16}


def recorded(states, actions, margins, ends, costs=None):
    """A dataset that goes through one-hot ``states`` (N + 1,); ``margins`` (N,) of the states behind the actions."""
    rows, seen = len(margins), np.eye(max(states) + 1)[states]
    zeros = np.zeros(rows)
    return OfflineDataset(
        observations=seen[:-1],
        next_observations=seen[1:],
        actions=np.asarray(actions)[:, None],
        rewards=zeros,
        costs=zeros if costs is None else costs,
        terminals=zeros,
        timeouts=ends,
        margins=None if costs is not None else margins,
    )


def around_the_ring(laps=20):
    """Places 0, 1, 2, 0, ... from place 2 on, whatever the action; h = -1, 1, -1."""
    states = [(2 + n) % 3 for n in range(3 * laps + 1)]
    h = np.array([-1.0, 1.0, -1.0])[states[1:]]
    return recorded(states, np.linspace(-0.9, 0.9, len(h)), h, np.arange(len(h)) == len(h) - 1)


@pytest.mark.parametrize(
    ("margin_of", "exact"),
    [
        # gamma = 1/2. next: V(0) = 1/2 + 1/2 max(1, V(1)) = 1, V(2) = -1/2 + 1/2 max(-1, V(0)), then V(1) likewise.
        ("next", [1.0, -0.5, 0.0]),
        # current: V(1) = 1/2 + 1/2 max(1, V(2)) = 1: a violated state is infeasible though the next one is not.
        ("current", [0.0, 1.0, -0.5]),
    ],
)
def test_the_fixed_point_on_a_ring_of_three_places(margin_of, exact):
    torch.manual_seed(0)
    rates = {"discount": 0.5, "target_rate": 0.2, "critic_lr": 3e-3, "bootstrap_timeouts": True}
    agent = FISOR(FISORConfig(**(SIZE | rates), margin_of=margin_of), 3, 1)
    sampler = agent.sampler(around_the_ring())
    for _ in range(500):
        batch = sampler.sample()
        agent.update_critics(batch, agent.target_q(batch.observations, batch.actions))
    assert agent.feasible_value(torch.eye(3)).tolist() == pytest.approx(exact, abs=0.03)


def test_the_current_margin_is_that_of_the_row_before_and_an_episodes_first_one_that_of_the_second_state():
    margins = np.array([-0.1, -0.2, -0.3, 0.4, 0.5], np.float32)
    data = recorded([0, 1, 2, 3, 4, 5], np.zeros(5), margins, [0, 0, 1, 0, 1])
    agent = FISOR(FISORConfig(**SIZE, margin_of="current"), 6, 1)
    batch = agent.sampler(data).batch(torch.arange(5))
    assert batch.margins_before.tolist() == pytest.approx([-0.1, -0.1, -0.2, 0.4, 0.4])
    assert batch.margins.tolist() == pytest.approx(margins.tolist())


def test_the_current_margin_of_point_robot_is_the_one_that_its_observations_show():
    data = generate(n=2_000, seed=3)
    batch = FISOR(FISORConfig(**SIZE, margin_of="current"), 11, 2).sampler(data).batch(torch.arange(2_000))
    shown = 0.8 - torch.minimum(batch.observations[:, 5], batch.observations[:, 8])  # radius less distance, m
    inside = np.setdiff1d(np.arange(2_000), data.episode_starts)
    torch.testing.assert_close(batch.margins_before[inside], shown[inside], atol=1e-5, rtol=0)
    assert (batch.margins_before - shown).abs().max() < 0.15  # one step of a first state


def test_costs_stay_with_their_step():  # a cost may come from the action, which the state behind it does not show
    agent = FISOR(FISORConfig(**SIZE, margin_of="current"), 3, 1)
    batch = agent.sampler(recorded([0, 1, 2], np.zeros(2), np.zeros(2), [0, 1], costs=np.array([1.0, 0.0]))).sample()
    assert batch.margins_before is None
    assert torch.equal(agent.margins(batch) > 0, batch.costs > 0)


def test_targets_with_the_current_margin_by_hand():
    agent = FISOR(FISORConfig(**SIZE, margin_of="current", discount=0.9, bootstrap_timeouts=True), 3, 1)
    rows, zeros = torch.randn(4, 3), torch.zeros(4)
    before, after = torch.tensor([-0.2, 9.0, -0.2, -0.2]), torch.tensor([9.0, -0.1, -0.1, 0.3])
    batch = Batch(
        observations=rows,
        actions=torch.zeros(4, 1),
        rewards=zeros,
        costs=zeros,
        next_observations=rows,
        terminals=torch.tensor([0.0, 0.0, 1.0, 1.0]),
        timeouts=zeros,
        margins=after,
        margins_before=before,
    )
    ahead = agent.feasible_value(rows)[0].item()
    assert ahead < 9
    # (1 - gamma) h(s) + gamma max(h(s), V_h(s')); nothing follows the last two, so V_h(s') is h(s') there.
    expected = [-0.02 + 0.9 * max(-0.2, ahead), 9.0, -0.02 - 0.09, -0.02 + 0.27]
    assert agent.critic_targets(batch)[1].tolist() == pytest.approx(expected, abs=1e-5)


def gaussian_agent(**settings):
    torch.manual_seed(0)
    return FISOR(FISORConfig(**(SIZE | {"actor": "awr"} | settings)), 3, 1)


def test_the_gaussian_loss_by_hand():
    agent, rows = gaussian_agent(), torch.randn(2, 3)
    actions, weights = torch.tensor([[0.5], [-0.2]]), torch.tensor([2.0, 0.25])
    mean, log_std = (each.detach() for each in agent.gaussian(rows))
    total = 0.0
    for action, weight, m, s in zip([0.5, -0.2], [2.0, 0.25], mean[:, 0].tolist(), log_std[:, 0].tolist(), strict=True):
        z = (math.atanh(action) - m) / math.exp(s)
        density = math.exp(-z * z / 2) / (math.exp(s) * math.sqrt(2 * math.pi)) / (1 - action**2)
        total -= weight * math.log(density)
    loss = agent.policy_loss(rows, actions, weights, agent.draw_noise(2))
    assert loss.item() == pytest.approx(total / 2, rel=1e-5)


def test_the_gaussian_fits_the_weighted_mean_and_deviation():
    # Before the tanh the actions are 1 and -1, weighted 3 : 1, and a third kind that has no weight: 0.5 +- sqrt(3) / 2.
    agent, rows = gaussian_agent(), torch.zeros(3, 3)
    raw, weights = torch.tensor([1.0, -1.0, 2.0]), torch.tensor([3.0, 1.0, 0.0])
    for group in agent.optimizers["actor"].param_groups:
        group["lr"] = torch.tensor(1e-2, dtype=torch.float64)
    for _ in range(400):
        agent.step("actor", agent.policy_loss(rows, raw.tanh()[:, None], weights, None))
    mean, log_std = agent.gaussian(rows[:1])
    assert mean.item() == pytest.approx(0.5, abs=0.01)
    assert log_std.exp().item() == pytest.approx(math.sqrt(3) / 2, abs=0.01)


def test_the_gaussian_policy_acts_by_its_averaged_network():
    agent, observations = gaussian_agent(candidates=5), torch.randn(7, 3)
    drawn = agent.draw_candidates(observations, torch.Generator().manual_seed(0))
    mean, log_std = agent.target_gaussian(observations)
    noise = torch.empty(7, 5, 1).normal_(generator=torch.Generator().manual_seed(0))
    expected = (mean[:, None] + log_std[:, None].exp() * noise).tanh()
    torch.testing.assert_close(drawn, expected)
    agent.gaussian.trunk.layers[-1].bias.data += 1
    torch.testing.assert_close(agent.draw_candidates(observations, torch.Generator().manual_seed(0)), expected)


@pytest.mark.parametrize("settings", [{"actor": "awr"}, {"margin_of": "current"}])
def test_an_option_resumes_with_the_same_bits(settings):
    data, config = generate(n=500, seed=0), FISORConfig(**SIZE, **settings)

    def updated(agent, sampler, updates):
        for _ in range(updates):
            agent.update(sampler.sample())
        return agent

    torch.manual_seed(0)
    whole = FISOR(config, 11, 2)
    updated(whole, whole.sampler(data), 6)
    torch.manual_seed(0)
    first = FISOR(config, 11, 2)
    sampler = first.sampler(data)
    updated(first, sampler, 2)
    noise = torch.get_rng_state()
    second = FISOR(config, 11, 2)
    second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    second.load_optimizer_state(first.optimizer_state())
    stream = second.sampler(data)
    stream.load_state_dict(sampler.state_dict())
    torch.set_rng_state(noise)
    updated(second, stream, 4)
    for name, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name


def preset(name):
    """A preset's settings as a dict, without its name and number of steps."""
    settings = yaml.safe_load((PRESETS / f"{name}.yaml").read_text())
    assert settings.pop("name") == "fisor"
    assert settings.pop("default_steps") > 0
    FISORConfig(**settings)
    return settings


def test_an_ablation_changes_one_thing():
    def changed(name, base):
        before = preset(base)
        return {key: value for key, value in preset(name).items() if before[key] != value}

    assert changed("fisor_qc", "fisor") == {"safety_critic": "qc"}
    assert changed("fisor_qc_small", "fisor_small") == {"safety_critic": "qc", "safety_margin": 0.0}
    assert changed("fisor_awr", "fisor") == {"actor": "awr"}
    assert changed("fisor_awr_small", "fisor_small") == {"actor": "awr", "hidden": 256}


def test_the_threshold_of_the_cost_value_is_kappa_and_reachability_has_none():
    limit = {"cost_limit": 10.0, "episode_length": 200}  # kappa = 4.33 (published)
    costs = FISOR(FISORConfig(**(preset("fisor_qc") | SIZE | limit)), 3, 1)
    assert costs.threshold == cost_value_threshold(10.0, 0.99, 200) == pytest.approx(4.33, abs=0.005)
    assert costs.config.limit_use == "training"
    reachability = FISOR(FISORConfig(**(preset("fisor") | SIZE | limit)), 3, 1)
    assert reachability.threshold == 0
    q_h = torch.tensor([[[4.0, 5.0]], [[4.2, 3.0]]])  # greater twin 4.2 and 5.0: one candidate on each side of kappa

    class Critics:
        def over_candidates(self, states, candidates, members=slice(None)):
            return torch.cat([torch.tensor([[[0.0, 9.0]]] * 2), q_h])[members]

    costs.config = replace(costs.config, selection="feasible_best_reward")
    del costs.target_critics
    object.__setattr__(costs, "target_critics", Critics())
    assert costs.selected(torch.zeros(1, 3), torch.zeros(1, 2, 1)).tolist() == [0]


@pytest.mark.parametrize(("unsafe_label", "low", "high"), [(1.0, -1e-9, 0.02), (25.0, 0.05, 0.5)])
def test_fisor_plus_solves_the_road_at_limit_zero_unless_its_labels_are_lopsided(unsafe_label, low, high):
    """Imitating all feasible actions alike (reward temperature 0) leaves the choice to acting.

    A third of the recorded actions costs. At the expectile 0.95 a label of 25 lifts V_h of every safe state by 0.7.
    """
    torch.manual_seed(0)
    rates = {"actor_lr": 3e-3, "critic_lr": 3e-3, "actor_lr_decay": 1000, "critic_lr_decay": 500}
    sizes = {"batch_size": 128, "critic_batch_size": 128, "hidden": 64, "blocks": 1, "critic_hidden": 64}
    rates |= {"target_rate": 0.1, "actor_target_rate": 0.02, "dropout": 0.0, "reward_temperature": 0.0}
    settings = preset("fisor_plus_small") | rates | sizes | {"unsafe_label": unsafe_label}
    agent = FISOR(FISORConfig(**settings), 12, 1)
    train(agent, ROAD.dataset(), 500)
    shortfall, excess = ROAD.gap(agent, 0.0, samples=128)
    assert excess == 0
    assert low < shortfall < high
