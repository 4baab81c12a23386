"""OGSRL's parts against finite differences and plain rewrites, and its optimum against a linear programme."""

import numpy as np
import pytest
import torch
from torch import nn

from saferl.agents.ogsrl import OGSRL, OGSRLConfig
from saferl.agents.ogsrl.agent import GaussianPolicy, fisher_product
from saferl.agents.ogsrl.models import Transition
from saferl.agents.ogsrl.rollouts import advantages, imagine
from tests.agents.tabular import CAREFUL, RISKY, ROAD, STATES, action_index


class TabularModel(nn.Module):
    """The road itself as the learned model."""

    def __init__(self, process=ROAD, cost_sign=1.0):
        super().__init__()
        self.process, self.cost_sign = process, cost_sign
        self.flow = torch.tensor(process.transitions, dtype=torch.float32)

    def step(self, observations, actions, values):
        state, action = observations.argmax(1), torch.as_tensor(action_index(actions.numpy()))
        following = torch.multinomial(self.flow[state, action], 1).squeeze(1)
        gains = [torch.tensor(each, dtype=torch.float32)[state, action] for each in (ROAD.rewards, ROAD.costs)]
        ended = (state == len(STATES) - 1).float()
        ahead = values(torch.eye(len(STATES))) @ self.flow[state, action].T * (1 - ended)
        return Transition(torch.eye(len(STATES))[following], gains[0], self.cost_sign * gains[1], ended, ahead)


class TabularSupport(nn.Module):
    """A guardian that knows the support exactly."""

    def __init__(self, allowed):
        super().__init__()
        self.allowed = torch.tensor(allowed)

    def cost(self, observations, actions):
        return (~self.allowed[observations.argmax(1), torch.as_tensor(action_index(actions.numpy()))]).float()


def allowed_pairs():
    """All but risky at the gate and in the meadow: without the guard the optimum at limit 4 takes the second."""
    allowed = np.ones((len(STATES), 3), bool)
    allowed[[STATES.index("gate"), STATES.index("meadow")], RISKY] = False
    return allowed


def trained(updates, limit=4.0, allowed=None, optimizer="cpo", seed=0, cost_sign=1.0):
    config = OGSRLConfig(
        cost_limit=limit,
        episode_length=10,
        horizon=None,
        optimizer=optimizer,
        guardian=None if allowed is None else "knn",
        ood_limit=0.05,
        exit_reward=-5.0,
        batch_size=64,
        hidden=16,
        radius=0.05,
        gradient_iterations=8,
        critic_lr=1e-2,
        proportional_gain=0.3,
        integral_gain=0.02,
    )
    torch.manual_seed(seed)
    agent = OGSRL(config, len(STATES), 1)
    sampler = agent.sampler(ROAD.dataset(100), seed=seed)
    agent.model = TabularModel(cost_sign=cost_sign)
    agent.support = None if allowed is None else TabularSupport(allowed)
    for _ in range(updates):
        metrics = agent.update(sampler.sample())
    return agent, {key: float(value) for key, value in metrics.items()}


def restricted_optimum(allowed, limit):
    """Best reward of policies that take only allowed pairs, by the linear programme: others earn far too little."""
    restricted = type(ROAD)(
        ROAD.transitions, np.where(allowed, ROAD.rewards, -1e3), ROAD.costs, ROAD.start, 10, ROAD.discount, ROAD.ends
    )
    return restricted.optimum(limit, discounted=False)


def share_outside(agent, allowed):
    """Probability that an episode of the road takes a pair that is not allowed, exactly."""
    policy = ROAD.policy_matrix(agent, samples=1000)
    leaves = type(ROAD)(
        ROAD.transitions * allowed[..., None], (~allowed).astype(float), ROAD.costs, ROAD.start, 10, 0.99, ROAD.ends
    )
    return leaves.value(policy).reward


@pytest.fixture(scope="module")
def guarded():
    return trained(35, allowed=allowed_pairs())[0]


def test_with_the_true_model_and_guard_it_reaches_the_optimum_inside_the_support(guarded):
    allowed, agent = allowed_pairs(), guarded
    best = restricted_optimum(allowed, 4.0)
    assert best.reward < ROAD.optimum(4.0, discounted=False).reward - 0.5  # the guard matters
    value = ROAD.value(ROAD.policy_matrix(agent, samples=1000))
    assert value.reward > best.reward - 0.08 * (best.reward - ROAD.worst)  # the stated gap: 8 %
    assert value.cost < 4.0 + 0.3
    assert share_outside(agent, allowed) < 0.1


def test_the_guard_lowers_how_often_the_support_is_left(guarded):
    allowed = allowed_pairs()
    free, _ = trained(25)
    assert share_outside(free, allowed) > 0.3
    assert share_outside(guarded, allowed) < 0.15


@pytest.mark.parametrize("optimizer", ["cpo", "pid_lag"])
def test_the_limit_is_kept_and_used(optimizer):
    agent, _ = trained(45, limit=2.0, optimizer=optimizer)
    shortfall, excess = ROAD.gap(agent, 2.0, samples=1000)
    assert -1.0 < excess < 0.35
    assert shortfall < 0.15


def test_costs_of_the_wrong_sign_break_the_limit():  # which the test above would not survive
    agent, _ = trained(25, limit=2.0, cost_sign=-1.0)
    assert ROAD.gap(agent, 2.0)[1] > 1.0


def test_fisher_product_is_the_second_derivative_of_the_divergence():
    torch.manual_seed(0)
    actor = GaussianPolicy(3, 2, 5, -0.3).double()
    inputs = torch.randn(7, 3).double()
    parameters = dict(actor.named_parameters())
    start = torch.cat([each.detach().flatten() for each in parameters.values()])
    mean, log_std = actor.mean(inputs).detach(), actor.log_std.detach()

    def divergence(vector):
        parts = vector.split([each.numel() for each in parameters.values()])
        placed = {name: part.view_as(parameters[name]) for name, part in zip(parameters, parts)}
        other = torch.func.functional_call(
            actor.mean, {name.removeprefix("mean."): each for name, each in placed.items() if name != "log_std"}, inputs
        )
        old, new = (torch.distributions.Normal(m, s.exp()) for m, s in ((mean, log_std), (other, placed["log_std"])))
        return torch.distributions.kl_divergence(old, new).sum(1).mean()

    fisher = torch.autograd.functional.hessian(divergence, start)
    product = fisher_product(actor, inputs, damping=0.1)
    rows = torch.randn(3, len(start)).double()
    torch.testing.assert_close(product(rows), rows @ fisher + 0.1 * rows, rtol=1e-8, atol=1e-10)
    step = 1e-3 * rows[0]
    assert float(divergence(start + step)) == pytest.approx(float(0.5 * step @ fisher @ step), rel=1e-2)


def test_advantages_equal_a_plain_sum_of_errors():
    rng = np.random.default_rng(0)
    gains, values, after = rng.normal(size=(3, 6, 2))
    over, alive = np.zeros((6, 2)), np.ones((6, 2))
    over[2:, 1], alive[3:, 1] = 1, 0  # the second path ends in its third step
    gains[3:, 1], after[2:, 1] = 0, 0
    given = (torch.tensor(each) for each in (gains, values, after, over, alive))
    found = advantages(*given, 0.9, 0.8).numpy()
    for path, steps in ((0, 6), (1, 3)):
        errors = [gains[t, path] + 0.9 * after[t, path] - values[t, path] for t in range(steps)]
        for t in range(steps):
            assert found[t, path] == pytest.approx(sum(0.72**k * errors[t + k] for k in range(steps - t)))
    assert not found[3:, 1].any()


def test_an_advantage_has_the_noise_of_actions_alone():
    """With exact values and no trace it is Q(s, a) - V(s), whatever next state was drawn."""
    even = np.full((len(STATES), 3), 1 / 3)
    flow = np.einsum("sa,sat->st", even, ROAD.flow)
    gains = [(even * each).sum(1) for each in (ROAD.rewards, ROAD.costs)]
    exact = np.linalg.solve(np.eye(len(STATES)) - 0.9 * flow, np.stack(gains, axis=1)).T  # (2, S)
    table = torch.tensor(exact, dtype=torch.float32)
    torch.manual_seed(0)
    starts = torch.eye(len(STATES))[:1].expand(500, -1)
    paths = imagine(
        lambda seen: torch.rand(len(seen), 1) * 2 - 1,
        TabularModel(),
        None,
        lambda observations: table[:, observations.argmax(-1)],
        starts,
        10,
        -25,
    )
    values = table[:, paths.observations.argmax(-1)]
    found = advantages(paths.gains, values, paths.ahead, paths.over, paths.alive, 0.9, 0.0)
    ahead = 0.9 * np.einsum("sat,vt->vsa", ROAD.flow, exact)
    wanted = np.stack([ROAD.rewards, ROAD.costs]) + ahead - exact[..., None]  # (2, S, 3)
    alive = paths.alive > 0
    states, actions = paths.observations[alive].argmax(1).numpy(), action_index(paths.actions[alive].numpy())
    np.testing.assert_allclose(found[:, alive], wanted[:, states, actions], atol=1e-4)


def test_a_path_that_leaves_the_support_ends_with_the_penalty_and_one_unit_of_cost():
    allowed = allowed_pairs()
    torch.manual_seed(0)
    starts = torch.eye(len(STATES))[:1].expand(64, -1)

    def ones(observations):
        return torch.ones(3, len(observations))

    model, support = TabularModel(), TabularSupport(allowed)
    paths = imagine(lambda seen: torch.full((len(seen), 1), 0.7), model, support, ones, starts, 10, -25)
    assert len(paths.alive) == 3  # start, early, gate
    assert paths.gains[2].sum(0).tolist() == [1.0] * 64
    np.testing.assert_allclose(paths.gains[:, :, 0].T, [[0.6, 1, 0], [1.2, 1, 0], [-25, 0, 1]], atol=1e-6)
    assert paths.ahead[:, -1].sum() == 0
    assert paths.ahead[:, 0].eq(1).all()
    careful = imagine(lambda seen: torch.zeros(len(seen), 1), model, support, ones, starts, 4, -25)
    assert careful.sums[2] == 0
    assert careful.alive.all()
    assert not careful.over[-1].any()  # only the time is up
    assert careful.gains[0, 2, 0] == pytest.approx(ROAD.rewards[STATES.index("gate"), CAREFUL])


def test_a_short_path_has_its_share_of_the_limit():
    long = OGSRLConfig(cost_limit=20.0, episode_length=100, horizon=None)
    short = OGSRLConfig(cost_limit=20.0, episode_length=100, horizon=25)
    assert (long.limits, short.limits) == ((20.0, 0.5), (5.0, 0.5))
    data = ROAD.dataset(50)
    lengths = {}
    for horizon in (None, 5):
        agent = OGSRL(OGSRLConfig(cost_limit=2.0, episode_length=10, horizon=horizon, guardian=None), len(STATES), 1)
        lengths[horizon] = len(agent.sampler(data, 0))
    assert lengths == {None: 50, 5: 500}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "ppo"}, "agent.optimizer must be one of cpo, pid_lag"),
        ({"model": "tree"}, "agent.model must be one of knn, ensemble"),
        ({"guardian": "counts"}, "agent.guardian must be one of kde"),
        ({"guardian_alpha": 2.0}, r"agent\.guardian_alpha must be in \(0, 1\)"),
        ({"horizon": 0}, "agent.horizon must be >= 1"),
    ],
)
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        OGSRLConfig(**settings)
