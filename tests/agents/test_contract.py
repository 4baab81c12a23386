"""What the training loop, checkpoints and evaluation rely on, for every agent in AGENTS and OGSRL's other model."""

import numpy as np
import pytest
import torch

from saferl.agents import AGENTS
from saferl.offline_data.point_robot import generate
from saferl.training.checkpoint import load_checkpoint, save_checkpoint

OBS, ACT = 11, 2
DATA = generate(n=1_000, seed=0)
SMALL = {
    "hidden": 16,
    "critic_hidden": 16,
    "blocks": 1,
    "batch_size": 32,
    "critic_batch_size": 16,
    "candidates": 3,
    "vae_hidden": 16,
    "discrepancy_samples": 3,
    "warm_up": 2,
    "vae_latent_dim": 4,
    "cost_limit": 10.0,
    "episode_length": 100,
}
# Agents that a setting makes of other parts.
VARIANTS = {"ogsrl_ensemble": ("ogsrl", {"model": "ensemble", "members": 2, "model_hidden": 16, "model_updates": 20})}


@pytest.fixture(params=[*AGENTS, *VARIANTS])
def name(request):
    return request.param


def make(name, seed=0):
    name, settings = VARIANTS.get(name, (name, {}))
    config_class, agent_class = AGENTS[name]
    fields = config_class.__dataclass_fields__
    config = config_class(**{key: value for key, value in SMALL.items() if key in fields}, **settings)
    torch.manual_seed(seed)
    agent = agent_class(config, OBS, ACT, "cpu")
    return agent, agent.sampler(DATA, seed)


def test_update_returns_finite_scalars_under_the_same_names(name):
    agent, sampler = make(name)
    names = None
    for _ in range(5):
        metrics = agent.update(sampler.sample())
        assert all(value.shape == () and torch.isfinite(value) for value in metrics.values())
        assert all(not value.requires_grad for value in metrics.values())
        assert all(len(key.split("/")) == 2 for key in metrics)
        assert names in (None, list(metrics))
        names = list(metrics)
    assert any(key.endswith("loss") for key in names)


def test_an_update_changes_the_weights(name):
    agent, sampler = make(name)
    before = {key: tensor.clone() for key, tensor in agent.state_dict().items()}
    agent.update(sampler.sample())
    assert any(not torch.equal(tensor, before[key]) for key, tensor in agent.state_dict().items())


def test_the_policy_acts_inside_the_environments_box(name):
    agent, sampler = make(name)
    for _ in range(3):
        agent.update(sampler.sample())
    low, high = np.array([-3.0, 0.5], np.float32), np.array([-1.0, 4.0], np.float32)
    policy = agent.policy(low, high)
    policy.reset(seed=0)
    for rows in (1, 7):
        actions = policy.act(DATA.observations[:rows] * 50)
        assert actions.shape == (rows, ACT)
        assert actions.dtype == np.float32
        assert (actions >= low).all()
        assert (actions <= high).all()


def test_a_policys_noise_depends_on_its_seed_alone(name):
    agent, _ = make(name)
    policy = agent.policy()
    policy.reset(seed=4)
    first = policy.act(DATA.observations[:9])
    torch.rand(5)  # the global generator is the training's, not the policy's
    policy.reset(seed=4)
    np.testing.assert_array_equal(policy.act(DATA.observations[:9]), first)


def test_acting_does_not_disturb_training(name):
    runs = []
    for acts in (False, True):
        agent, sampler = make(name)
        for _ in range(4):
            agent.update(sampler.sample())
            if acts:
                agent.policy().act(DATA.observations[:5])
        runs.append(agent.state_dict())
    assert all(torch.equal(runs[0][key], runs[1][key]) for key in runs[0])


def test_state_round_trips_into_an_agent_of_another_seed(name):
    agent, sampler = make(name)
    agent.update(sampler.sample())
    other, _ = make(name, seed=1)
    other.load_state_dict(agent.state_dict())
    policies = agent.policy(), other.policy()
    for policy in policies:
        policy.reset(seed=0)
    np.testing.assert_array_equal(*(policy.act(DATA.observations[:5]) for policy in policies))


def test_a_resumed_agent_ends_bit_for_bit_as_an_uninterrupted_one(name, tmp_path):
    straight, sampler = make(name)
    for _ in range(12):
        straight.update(sampler.sample())

    first, sampler = make(name)
    for _ in range(5):
        first.update(sampler.sample())
    path = save_checkpoint(tmp_path, 5, first, sampler)

    resumed, sampler = make(name, seed=9)
    assert load_checkpoint(path, resumed, sampler) == 5
    for _ in range(7):
        resumed.update(sampler.sample())
    for key, tensor in straight.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[key]), key
