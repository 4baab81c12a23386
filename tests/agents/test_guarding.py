"""Guarded CQL, BCQ-Lag and FISOR: targets and choices by hand, checkpoints bit for bit."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from saferl.agents import AGENTS, CQL, FISOR, Agent, BCQLag, BCQLagConfig, CQLConfig, FISORConfig
from saferl.guardians import GuardianConfig, fit_guardian
from saferl.guardians.networks import SupportNetwork
from saferl.offline_data.batch import Batch
from saferl.offline_data.point_robot import generate
from saferl.offline_data.sampler import ActionScale
from saferl.training.checkpoint import load_checkpoint, load_weights, save_checkpoint

OBS, ACT = 11, 2
DATA = generate(n=1_000, seed=0)
LIMIT = {"cost_limit": 10.0, "episode_length": 100}
SMALL = {
    "cql": {"hidden": 16, "batch_size": 32, "candidates": 3, **LIMIT},
    "bcq_lag": {"hidden": 16, "batch_size": 32, "candidates": 4, "vae_hidden": 16, **LIMIT},
    "fisor": {"hidden": 16, "batch_size": 32, "critic_batch_size": 16, "critic_hidden": 16, "blocks": 1},
}


class HalfPlane(SupportNetwork):
    """Score: minus the action's first value. Supported: scores of 0 and more, so first values up to 0."""

    def raw_score(self, inputs):
        return -inputs[:, self.obs_dim]

    def loss(self, inputs, targets, generator):
        raise NotImplementedError


def half_plane(obs_dim, act_dim):
    network = HalfPlane(obs_dim, act_dim)
    network.low.fill_(-1)  # so that nothing is scaled
    return network


def make(name, seed=0, **settings):
    config_class, agent_class = AGENTS[name]
    torch.manual_seed(seed)
    return quick(agent_class(config_class(**SMALL[name], guardian="density_ratio", **settings), OBS, ACT))


def quick(agent):
    """The agent, whose guard is hardly trained: what it learns is tested elsewhere."""
    agent.guard.settings = replace(agent.guard.settings, updates=20)
    return agent


def test_the_target_of_guarded_cql_is_the_worst_value_outside():
    config = CQLConfig(hidden=8, guardian="density_ratio", discount=0.9)
    torch.manual_seed(0)
    agent = CQL(config, 1, 1)
    agent.guard.network = half_plane(1, 1)
    agent.guard.worst_value.fill_(-40.0)
    following = torch.tensor([[0.5], [0.5], [0.25], [0.25]])
    batch = Batch(
        observations=torch.zeros(4, 1), actions=torch.zeros(4, 1), rewards=torch.tensor([1.0, 2.0, 3.0, 4.0]),
        costs=torch.zeros(4), next_observations=following, terminals=torch.tensor([0.0, 0.0, 1.0, 1.0]),
        timeouts=torch.zeros(4),
    )  # fmt: skip
    actions = torch.tensor([[-0.3], [0.3], [-0.3], [0.3]])
    agent.actor.sample = lambda observations: SimpleNamespace(actions=actions)
    q = agent.target_critics(torch.cat([following, actions], dim=1)).amin(0)
    expected = [1 + 0.9 * float(q[0]), -40.0, 3.0, 4.0]  # inside; outside; ended; ended
    assert agent.critic_targets(batch).tolist() == [pytest.approx(expected), pytest.approx(expected)]


def test_the_worst_value_is_the_least_reward_for_ever():
    agent = make("cql", discount=0.9)
    agent.sampler(DATA, reward_scale=2.0)
    assert float(agent.guard.worst_value) == pytest.approx(2 * float(DATA.rewards.min()) / 0.1)
    bonus = replace(DATA, rewards=np.abs(DATA.rewards) + 1)  # an episode of a few steps is worth less than 1 for ever
    agent.sampler(bonus)
    assert float(agent.guard.worst_value) == 0


def test_costs_are_not_guarded():
    config = {**SMALL["cql"], "lagrangian": True}
    targets = []
    for guardian in (None, "density_ratio"):
        torch.manual_seed(0)
        agent = CQL(CQLConfig(**config, guardian=guardian), OBS, ACT)
        batch = Agent.sampler(agent, DATA).sample()  # no fit
        if agent.guard is not None:
            agent.guard.network = half_plane(OBS, ACT)
            agent.guard.worst_value.fill_(-1e3)
        torch.manual_seed(1)
        targets.append(agent.critic_targets(batch))
    assert not torch.equal(targets[0][:2], targets[1][:2])
    assert torch.equal(targets[0][2:], targets[1][2:])


def test_candidates_outside_are_not_allowed_unless_there_is_no_other():
    agent = make("cql")
    agent.guard.network = half_plane(1, 1)
    candidates = torch.tensor([[-0.2, 0.1, -0.9], [0.3, 0.1, 0.9]]).unsqueeze(2)
    allowed = agent.guard.allowed(torch.zeros(2, 1), candidates)
    assert allowed.tolist() == [[True, False, True], [False, True, False]]


def test_guarded_bcq_takes_the_best_of_the_allowed_candidates():
    torch.manual_seed(0)
    agent = BCQLag(BCQLagConfig(**SMALL["bcq_lag"], guardian="density_ratio"), OBS, ACT)
    agent.guard.network = half_plane(OBS, ACT)
    observations = torch.from_numpy(DATA.observations[:50])
    observations = observations / observations.abs().amax()
    actions = torch.rand(50, 4, ACT, generator=torch.Generator().manual_seed(3)) * 2 - 1
    q = agent.critics.over_candidates(observations, actions)
    values = q[agent.of_reward].amin(0) - agent.multiplier.value * q[agent.of_cost].amax(0)
    for row, (taken, _) in enumerate(zip(*agent.best(observations, actions))):
        inside = [k for k in range(4) if actions[row, k, 0] <= 0]
        best = max(inside, key=lambda k: values[row, k]) if inside else int(actions[row, :, 0].argmin())
        assert torch.equal(taken, actions[row, best])
    assert (values.argmax(1) != torch.where(actions[..., 0] <= 0, values, -torch.inf).argmax(1)).any()


@pytest.mark.parametrize("selection", ["least_qh", "feasible_best_reward"])
def test_guarded_fisor_selects_among_the_allowed_candidates(selection):
    torch.manual_seed(0)
    agent = FISOR(FISORConfig(**SMALL["fisor"], guardian="density_ratio", selection=selection), OBS, ACT)
    agent.guard.network = half_plane(OBS, ACT)
    observations = torch.from_numpy(DATA.observations[:60])
    observations = observations / observations.abs().amax()
    actions = torch.rand(60, 5, ACT, generator=torch.Generator().manual_seed(3)) * 2 - 1
    q = agent.target_critics.over_candidates(observations, actions)
    q_r, q_h = q[:2].amin(0), q[2:].amax(0)
    for row, chosen in enumerate(agent.selected(observations, actions).tolist()):
        inside = [k for k in range(5) if actions[row, k, 0] <= 0]
        if not inside:
            assert chosen == int(actions[row, :, 0].argmin())
            continue
        feasible = [k for k in inside if q_h[row, k] <= 0]
        if selection == "feasible_best_reward" and feasible:
            assert chosen == max(feasible, key=lambda k: q_r[row, k])
        else:
            assert chosen == min(inside, key=lambda k: q_h[row, k])


@pytest.mark.parametrize("name", SMALL)
def test_the_guard_is_a_guardian_of_the_scaled_data(name):
    agent = make(name, guardian_alpha=0.1)
    agent.sampler(DATA, 4, -2.0, 2.0)
    actions = ActionScale(-2.0, 2.0, ACT)(DATA.actions)
    config = GuardianConfig(kind="density_ratio", alpha=0.1, updates=20)
    episodes = np.repeat(np.arange(DATA.n_episodes), DATA.episode_lengths)
    plain = fit_guardian(DATA.observations, actions, config, seed=4, episodes=episodes)
    pairs = torch.from_numpy(DATA.observations), torch.from_numpy(actions).float()
    inside = agent.guard.network.inside(*pairs).numpy()
    assert (inside == plain.supported(DATA.observations, actions)).all()
    assert 0.6 < inside.mean() < 0.98


@pytest.mark.parametrize("name", SMALL)
def test_checkpoints_keep_the_guard_bit_for_bit(name, tmp_path):
    agent = make(name)
    sampler = agent.sampler(DATA, 0)
    for _ in range(2):
        agent.update(sampler.sample())
    saved = save_checkpoint(tmp_path, 2, agent, sampler)
    for _ in range(2):
        agent.update(sampler.sample())
    again = make(name, seed=8)
    other = again.sampler(DATA, 5)  # another fit, which the checkpoint replaces
    load_checkpoint(saved, again, other)
    for _ in range(2):
        again.update(other.sample())
    assert any(key.startswith("guard.network.") for key in agent.state_dict())
    for key, tensor in agent.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[key]), key
    acting = make(name, seed=9)  # as load_policy does, without any data
    load_weights(saved, acting)
    assert torch.equal(acting.guard.network.threshold, agent.guard.network.threshold)


@pytest.mark.parametrize("name", SMALL)
def test_without_a_guardian_nothing_is_kept_or_drawn(name):
    plain, guarded = make(name), make(name)
    config_class, agent_class = AGENTS[name]
    torch.manual_seed(0)
    plain = agent_class(config_class(**SMALL[name]), OBS, ACT)
    assert plain.guard is None
    assert not any("guard" in key for key in plain.state_dict())
    for key, tensor in plain.state_dict().items():
        assert torch.equal(tensor, guarded.state_dict()[key])


def test_kinds_that_search_the_data_are_refused_in_training():
    with pytest.raises(ValueError, match=r"agent.guardian must be null, autoencoder.*python -m saferl.guard"):
        CQLConfig(guardian="kde")
    with pytest.raises(ValueError, match=r"needs agent.form=corrected"):
        BCQLagConfig(guardian="autoencoder", form="published")
    with pytest.raises(ValueError, match=r"agent.guardian_alpha must be in \(0, 1\)"):
        FISORConfig(guardian="autoencoder", guardian_alpha=1.0)
