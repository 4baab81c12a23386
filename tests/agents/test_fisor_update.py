"""One whole update of FISOR against two independent rewrites, and what an update leaves untouched."""

import numpy as np
import pytest
import torch

from benchmarks.fisor_plain import PlainFISOR
from saferl.agents import FISOR, FISORConfig
from saferl.offline_data.batch import Batch

SMALL = {"batch_size": 64, "critic_batch_size": 24, "hidden": 16, "blocks": 2, "critic_hidden": 12}


def make_agent(**settings):
    torch.manual_seed(0)
    agent = FISOR(FISORConfig(**{**SMALL, **settings}), obs_dim=7, act_dim=2)
    with torch.no_grad():  # biases and LayerNorm away from their start; values spread around zero: all kinds of weights
        for parameter in [*agent.parameters()]:
            parameter += 0.1 * torch.randn_like(parameter)
        for ensemble in (agent.values, agent.critics):
            ensemble.weights[-1].normal_()
            ensemble.biases[-1].zero_()
    agent.target_critics.load_state_dict(agent.critics.state_dict())
    agent.target_score.load_state_dict(agent.score.state_dict())
    return agent


def make_batch(seed=1, rows=64):
    torch.manual_seed(seed)
    return Batch(
        observations=torch.randn(rows, 7),
        actions=torch.rand(rows, 2) * 2 - 1,
        rewards=torch.randn(rows),
        costs=(torch.rand(rows) < 0.3).float(),
        next_observations=torch.randn(rows, 7),
        terminals=(torch.rand(rows) < 0.2).float(),
        timeouts=(torch.rand(rows) < 0.2).float(),
    )


def updates_of(agent, seeds, draws=None):
    for seed in seeds:
        batch = make_batch(seed)
        torch.manual_seed(seed)
        if draws is not None:
            draws.append([agent.draw_noise(32), agent.draw_noise(32)])
            torch.manual_seed(seed)
        metrics = agent.update(batch)
    return metrics


def test_updates_agree_with_a_plain_rewrite():
    agent = make_agent()
    plain, draws = PlainFISOR(agent), []
    seeds = range(1, 4)
    infeasible = (agent.feasible_value(make_batch(1).observations) > 0).float().mean()
    assert 0.05 < infeasible < 0.95
    metrics = updates_of(agent, seeds, draws)
    assert 0.05 < metrics["policy/unused_share"] < 0.9  # so that all three cases of the weights occur
    for seed, pair in zip(seeds, draws, strict=True):
        plain.update(make_batch(seed), pair)
    for name, value in plain.score.state_dict().items():
        torch.testing.assert_close(agent.score.state_dict()[name], value, atol=1e-5, rtol=1e-5)
    for name, value in plain.target_score.state_dict().items():
        torch.testing.assert_close(agent.target_score.state_dict()[name], value, atol=1e-5, rtol=1e-5)
    pairs = ((agent.values, plain.values), (agent.critics, plain.critics), (agent.target_critics, plain.targets))
    for ensemble, networks in pairs:
        for member, network in enumerate(networks):
            for index, weight in enumerate(ensemble.weights):
                torch.testing.assert_close(weight[member].T, network[2 * index].weight, atol=1e-5, rtol=1e-5)
                bias = ensemble.biases[index][member, 0]
                torch.testing.assert_close(bias, network[2 * index].bias, atol=1e-5, rtol=1e-5)


def test_updates_agree_with_the_jax_rewrite():
    jax = pytest.importorskip("jax", reason="JAX is not installed (extra: bench)")
    pytest.importorskip("optax", reason="optax is not installed (extra: bench)")
    from benchmarks.fisor_jax import JaxFISOR, weights_of

    agent = make_agent()
    peer, draws, seeds = JaxFISOR(agent), [], range(1, 4)
    updates_of(agent, seeds, draws)
    for seed, pair in zip(seeds, draws, strict=True):
        batch = {key: value.numpy() for key, value in vars(make_batch(seed)).items() if value is not None}
        peer.update(batch, [(d.steps.numpy(), d.noise.numpy(), torch.stack(d.dropout).numpy()) for d in pair])
    ours, theirs = weights_of(agent), peer.state["p"]
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5, rtol=1e-5)


def test_rows_of_weight_zero_move_nothing():
    agent, batch = make_agent(), make_batch()
    weights = torch.rand(64) * (torch.rand(64) < 0.5)
    torch.manual_seed(3)
    draws = agent.draw_noise(64)

    def gradient(actions):
        loss = agent.policy_loss(batch.observations, actions, weights, draws)
        return torch.autograd.grad(loss, list(agent.score.parameters()))

    changed = torch.where(weights[:, None] == 0, -batch.actions, batch.actions)
    for before, after in zip(gradient(batch.actions), gradient(changed), strict=True):
        torch.testing.assert_close(before, after, atol=1e-7, rtol=1e-6)


def test_critics_do_not_depend_on_the_actor():
    agents = [make_agent(), make_agent(actor_lr=1e-2, actor_lr_decay=0)]
    for agent in agents:
        updates_of(agent, [1, 2])
    for mine, other in zip(agents[0].values.parameters(), agents[1].values.parameters(), strict=True):
        assert torch.equal(mine, other)
    assert not torch.equal(agents[0].score.last.weight, agents[1].score.last.weight)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_resumed_run_ends_with_the_same_bits(precision):
    whole = make_agent(precision=precision, critic_lr_decay=10)
    updates_of(whole, [1, 2, 3, 4])
    first = make_agent(precision=precision, critic_lr_decay=10)
    updates_of(first, [1, 2])
    second = FISOR(first.config, 7, 2)
    second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    second.load_optimizer_state(first.optimizer_state())
    updates_of(second, [3, 4])
    assert int(second.updates) == 4
    for (name, mine), other in zip(second.state_dict().items(), whole.state_dict().values(), strict=True):
        assert torch.equal(mine, other), name


def test_bfloat16_gradient_points_the_same_way():
    flat = []
    for precision in ("float32", "bfloat16"):
        agent, batch = make_agent(precision=precision), make_batch()
        torch.manual_seed(3)
        loss = agent.policy_loss(batch.observations, batch.actions, torch.ones(64), agent.draw_noise(64))
        flat.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(agent.score.parameters()))]))
    assert all(parameter.dtype == torch.float32 for parameter in agent.score.parameters())
    assert torch.cosine_similarity(flat[0], flat[1], dim=0) > 0.99
