"""What an adversary thinks a policy would do is what the policy does, and the gradient is that of what it does."""

import gymnasium
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from torch import nn

from saferl.adversaries import white_box
from saferl.adversaries.threat import Normaliser, Units
from saferl.adversaries.victim import ActionBox, Response, Victim
from saferl.agents import AGENTS
from saferl.evaluation.sb3_zip import load_sb3
from saferl.policy import FeedbackPolicy
from tests.agents.test_contract import ACT, OBS, make

LOW, HIGH = np.array([-3.0, -1.0], np.float32), np.array([1.0, 4.0], np.float32)
ROWS = np.random.default_rng(0).normal(size=(12, OBS)).astype(np.float32)


def trained_a_little(name):
    agent, sampler = make(name)
    for _ in range(2 if name == "ogsrl" else 20):  # one of OGSRL's is a whole policy iteration
        agent.update(sampler.sample())
    return agent


def victim_of(agent):
    policy = agent.policy(LOW, HIGH)
    return Victim(policy, OBS, LOW, HIGH, "agent", respond=white_box.of_agent(agent, policy))


def slope_by_differences(victim, rows, directions, step=2e-3):
    """Central differences (B, act_dim) of the actions along directions (B, obs_dim)."""
    with torch.no_grad():
        ahead = victim.response(rows + step * directions).actions
        behind = victim.response(rows - step * directions).actions
    return (ahead - behind) / (2 * step)


def slope_by_gradient(victim, rows, directions):
    point = rows.clone().requires_grad_(True)
    actions = victim.response(point).actions
    columns = [torch.autograd.grad(each.sum(), point, retain_graph=True)[0] for each in actions.unbind(1)]
    return torch.stack([(column * directions).sum(1) for column in columns], dim=1)


def exact(actions):
    return Response(actions, actions)


@pytest.fixture(params=list(AGENTS))
def name(request):
    return request.param


def test_an_agents_response_is_what_its_policy_does(name):
    agent = trained_a_little(name)
    victim = victim_of(agent)
    for seed in (3, 4):
        victim.policy.reset(seed=seed)
        victim.fix_noise(seed)  # the same noise, to compare; an adversary has another
        acted = victim.policy.act(ROWS)
        said = victim.response(torch.as_tensor(ROWS))
        np.testing.assert_allclose(victim.box.from_unit(said.actions).detach().numpy(), acted, atol=2e-4)


def test_an_agents_gradient_is_that_of_its_actions(name):
    """By central differences; in float32, and kinks of ReLU and of the sampler's cut put some rows off."""
    agent = trained_a_little(name)
    victim = victim_of(agent)
    if name == "fisor":  # exactly, with no gradient through a cut
        noise = torch.Generator()
        victim._respond = lambda rows, seed: exact(
            white_box.diffusion_actions(agent, rows, noise.manual_seed(seed), straight=False)
        )
    rows = torch.as_tensor(ROWS)
    directions = torch.randn(rows.shape, generator=torch.Generator().manual_seed(1))
    differences = slope_by_differences(victim, rows, directions)
    gradient = slope_by_gradient(victim, rows, directions)
    moves = differences.abs() > 1e-3  # FISOR's actions are often at the box's edge
    assert moves.float().mean() > 0.3
    differences, gradient = differences[moves], gradient[moves]
    error = (differences - gradient).abs() / differences.abs().clamp(min=differences.abs().median())
    assert error.median() < 0.03
    assert error.quantile(0.75) < 0.2


def test_where_diffusion_is_at_the_boxs_edge_the_way_up_still_shows():
    agent = trained_a_little("fisor")
    rows = torch.as_tensor(ROWS)
    slopes = {}
    for straight in (False, True):
        point = rows.clone().requires_grad_(True)
        actions = white_box.diffusion_actions(agent, point, torch.Generator().manual_seed(0), straight)
        slopes[straight] = torch.autograd.grad(actions[:, 0].sum(), point)[0].abs().sum(1)
    edge = actions[:, 0].abs() == 1
    assert 2 < edge.sum() < len(rows)
    assert not slopes[False][edge].any()
    assert slopes[True].all()


def test_diffusion_draws_the_same_noise_in_every_answer_of_a_call():
    victim = victim_of(trained_a_little("fisor"))
    rows = torch.as_tensor(ROWS)
    victim.fix_noise(1)
    first = victim.response(rows).actions
    torch.testing.assert_close(victim.response(rows).actions, first, rtol=0, atol=0)
    victim.fix_noise(2)
    assert not torch.allclose(victim.response(rows).actions, first, atol=1e-2)


@pytest.mark.parametrize("name", ["cdt", "caps", "ccac"])
def test_answers_leave_no_trace_in_a_memory(name):
    agent = trained_a_little(name)
    asked, left_alone = victim_of(agent), victim_of(agent)
    generator = np.random.default_rng(0)
    assert isinstance(asked.policy, FeedbackPolicy)
    for step in range(15):  # beyond CDT's context of ten
        rows, others = generator.normal(size=(2, 5, OBS)).astype(np.float32)
        said = asked.response(torch.as_tensor(rows)).actions
        asked.response(torch.as_tensor(others, dtype=torch.float32)).actions.requires_grad_(False)
        acted = asked.policy.act(rows)
        np.testing.assert_array_equal(acted, left_alone.policy.act(rows))
        np.testing.assert_allclose(asked.box.from_unit(said).detach().numpy(), acted, atol=1e-5)
        costs = generator.uniform(0, 2, 5)
        for each in (asked, left_alone):
            each.policy.observe(np.ones(5), costs)
            if step == 6:
                each.policy.reset(mask=np.array([True, False, False, True, False]))


def test_cdt_is_attacked_with_its_past_in_mind():
    agent = trained_a_little("cdt")
    victim = victim_of(agent)
    for _ in range(4):
        victim.policy.act(ROWS)
        victim.policy.observe(np.full(len(ROWS), 3.0), np.ones(len(ROWS)))
    rows = torch.as_tensor(ROWS)
    directions = torch.randn(rows.shape, generator=torch.Generator().manual_seed(1))
    with_past = slope_by_gradient(victim, rows, directions)
    differences = slope_by_differences(victim, rows, directions)
    assert ((with_past - differences).norm() / differences.norm()) < 0.05
    fresh = slope_by_gradient(victim_of(agent), rows, directions)
    assert ((fresh - differences).norm() / differences.norm()) > 0.1


class Spaces(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (OBS,), np.float32)
    action_space = gymnasium.spaces.Box(LOW, HIGH)

    def reset(self, *, seed=None, options=None):
        return np.zeros(OBS, np.float32), {}

    def step(self, action):
        return np.zeros(OBS, np.float32), 0.0, False, False, {}


@pytest.mark.parametrize("algorithm", ["PPO", "A2C", "SAC", "TD3"])
def test_sb3s_files_and_models_have_the_gradients_of_what_sb3_does(algorithm, tmp_path):
    model = getattr(sb3, algorithm)("MlpPolicy", Spaces(), device="cpu", seed=0)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.mul_(1.5)
    model.save(tmp_path / "model.zip")
    expected, _ = model.predict(ROWS, deterministic=True)
    rows = torch.as_tensor(ROWS)
    directions = torch.randn(rows.shape, generator=torch.Generator().manual_seed(1))
    actor = load_sb3(tmp_path / "model.zip", LOW, HIGH, OBS)
    responses = [white_box.of_actor(actor), white_box.of_model(model)]
    for respond in responses:
        victim = Victim(actor, OBS, LOW, HIGH, "sb3", respond)
        said = victim.response(rows)
        np.testing.assert_allclose(victim.box.from_unit(said.actions.detach()).numpy(), expected, atol=1e-4)
        if algorithm in ("PPO", "A2C"):
            wide = said.mean.detach().abs().max(dim=1).values < 0.9
            deviation = model.policy.log_std.exp().detach() / ((HIGH - LOW) / 2)
            torch.testing.assert_close(said.deviation[0], deviation)
        else:
            wide = torch.ones(len(rows), dtype=torch.bool)
        assert wide.sum() >= 4
        differences = slope_by_differences(victim, rows, directions)[wide]
        gradient = slope_by_gradient(victim, rows, directions)[wide]
        assert ((gradient - differences).norm() / differences.norm()) < 0.05


def test_a_model_behind_vecnormalize_is_asked_about_true_observations(tmp_path):
    model = sb3.PPO("MlpPolicy", Spaces(), device="cpu", seed=0)
    model.save(tmp_path / "model.zip")
    actor = load_sb3(tmp_path / "model.zip", LOW, HIGH, OBS)
    generator = np.random.default_rng(1)
    statistics = Normaliser.from_variance(generator.normal(size=OBS), generator.uniform(0.5, 4, OBS), "made up")
    victim = Victim(actor, OBS, LOW, HIGH, "sb3", white_box.of_actor(actor, statistics), statistics)
    expected, _ = model.predict(Units(statistics).features(torch.as_tensor(ROWS)).numpy(), deterministic=True)
    said = victim.box.from_unit(victim.response(torch.as_tensor(ROWS)).actions)
    np.testing.assert_allclose(said.detach().numpy(), expected, atol=1e-5)


def test_a_torch_module_is_a_white_box():
    torch.manual_seed(0)
    network = nn.Linear(OBS, ACT)
    respond = white_box.of_module(network, ActionBox(LOW, HIGH))
    point = torch.as_tensor(ROWS).requires_grad_(True)
    said = respond(point, 0)
    said.mean[:, 0].sum().backward()
    half = (HIGH[0] - LOW[0]) / 2
    torch.testing.assert_close(point.grad[0], network.weight[0].detach() / half)
    assert not network.weight.requires_grad


@pytest.mark.parametrize("name", ["fisor", "cpq", "bcq_lag", "iql_lag", "carl"])
def test_an_agents_own_critics_are_the_pessimistic_twins(name):
    agent = trained_a_little(name)
    found = white_box.agent_critics(agent)
    states, actions = torch.as_tensor(ROWS), torch.rand(len(ROWS), ACT) * 2 - 1
    values = agent.target_critics(torch.cat([states, actions], dim=1))
    half = len(values) // 2
    torch.testing.assert_close(found.reward(states, actions), values[:half].amin(0))
    torch.testing.assert_close(found.cost(states, actions), values[half:].amax(0))
    assert name in found.source


def test_agents_without_critics_bring_none():
    assert white_box.agent_critics(make("bc")[0]) is None
    assert white_box.agent_critics(make("cdt")[0]) is None
