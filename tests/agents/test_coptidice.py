"""COptiDICE against its equations by hand, data far over the limit, and the tabular CMDP; each fault of the published
form fails where the corrected one passes."""

import math

import numpy as np
import pytest
import torch

from saferl.agents.coptidice import COptiDICE, COptiDICEConfig, conjugate, divergence, ratio_at_slope
from saferl.offline_data import Batch, OfflineDataset
from tests.agents.tabular import ROAD, train

FORMS = ("corrected", "published")


def make(form="corrected", obs_dim=1, act_dim=1, **settings):
    """A small agent; kappa of its settings is 10 (1 - 0.99^1000) / (0.01 * 1000) = 0.99996."""
    given = {"hidden": 16, "cost_limit": 10.0, "episode_length": 1000, "form": form} | settings
    torch.manual_seed(0)
    return COptiDICE(COptiDICEConfig(**given), obs_dim, act_dim)


def with_constant_values(agent, value, cost_value):
    """The agent, with nu and chi the same in all states."""
    with torch.no_grad():
        agent.values.weights[-1].zero_()
        agent.values.biases[-1].copy_(torch.tensor([value, cost_value])[:, None, None])
    return agent


def test_the_divergence_is_the_soft_chi_square():
    assert divergence(torch.tensor([0.0, 0.5, 1.0, 3.0])).tolist() == pytest.approx(
        [1.0, 0.5 * math.log(0.5) + 0.5, 0, 2]
    )
    assert ratio_at_slope(torch.tensor([-1.0, 0.0, 2.0])).tolist() == pytest.approx([math.exp(-1), 1, 3])


def test_the_ratio_is_where_the_divergence_has_that_slope():
    slopes = torch.linspace(-4, 4, 9, dtype=torch.float64)
    ratios = ratio_at_slope(slopes).requires_grad_()
    (found,) = torch.autograd.grad(divergence(ratios).sum(), ratios)
    assert found.tolist() == pytest.approx(slopes.tolist())


def test_the_conjugate_is_the_greatest_gain_over_the_divergence():
    slopes = torch.linspace(-4, 4, 9, dtype=torch.float64)[:, None]
    ratios = torch.linspace(0, 8, 80_001, dtype=torch.float64)
    best = (slopes * ratios - divergence(ratios)).amax(1)
    assert conjugate(slopes[:, 0]).tolist() == pytest.approx(best.tolist(), abs=1e-7)


def test_an_extreme_slope_gives_finite_gradients():
    slopes = torch.tensor([-1e4, 1e4], requires_grad=True)
    conjugate(slopes).sum().backward()
    assert slopes.grad.tolist() == [0.0, 10_001.0]


@pytest.mark.parametrize("form", FORMS)
def test_the_losses_by_hand(form):
    """Four rows in plain arithmetic: the second begins an episode, the third ends the task, the fourth runs out."""
    rewards, costs, starts = [1.0, 0.5, -2.0, 0.2], [0.0, 1.0, 0.0, 1.0], [0.0, 4.0, 0.0, 0.0]
    nu, chi, gamma, alpha, radius = 0.7, 1.5, 0.99, 0.5, 0.01
    agent = with_constant_values(make(form, regularisation=alpha, cost_radius=radius), nu, chi)
    batch = Batch(
        torch.randn(4, 1),
        torch.zeros(4, 1),
        torch.tensor(rewards),
        torch.tensor(costs),
        torch.randn(4, 1),
        torch.tensor([0.0, 0.0, 1.0, 0.0]),
        torch.tensor([0.0, 0.0, 0.0, 1.0]),
        starts=torch.tensor(starts),
    )
    loss, weights, metrics = agent.occupancy_loss(batch)

    scalar = math.log1p(math.e)  # softplus(1), both lambda and tau at the start
    ended = [0, 0, 1, 1 if form == "published" else 0]
    ratios, flaws, value_loss = [], [], 0.0
    for reward, cost, start, end in zip(rewards, costs, starts, ended):
        slope = (reward - scalar * cost + gamma * (1 - end) * nu - nu) / alpha
        ratio = slope + 1 if slope >= 0 else math.exp(slope)
        f = 0.5 * (ratio - 1) ** 2 if ratio >= 1 else ratio * (math.log(ratio) - 1) + 1
        value_loss += ((1 - gamma) * start * nu + alpha * (ratio * slope - f)) / 4
        flaw = ratio * (cost + gamma * (1 - end) * chi - chi)
        flaws.append(flaw + (1 - gamma) * start * chi if form == "published" else flaw)
        ratios.append(ratio)
    shares = np.exp(np.array(flaws) / scalar)
    doubt = 4 * shares / shares.sum()
    cost_value_loss = (doubt * flaws).mean() + (0 if form == "published" else (1 - gamma) * chi)
    kl = (doubt * np.log(doubt) - doubt + 1).mean()
    bound = (doubt * ratios * costs).mean()
    kappa = 10 * (1 - gamma**1000) / (1 - gamma) / 1000
    limit = kappa if form == "published" else (1 - gamma) * kappa

    assert weights.tolist() == pytest.approx(ratios, rel=1e-5)
    told = {key: float(value) for key, value in metrics.items()}
    assert told["values/loss"] == pytest.approx(value_loss, rel=1e-5)
    assert told["values/cost_loss"] == pytest.approx(cost_value_loss, rel=1e-5)
    assert told["occupancy/radius"] == pytest.approx(kl, rel=1e-4)
    assert told["occupancy/cost_bound"] == pytest.approx(bound, rel=1e-5)
    whole = value_loss + cost_value_loss + scalar * (radius - kl) + scalar * (limit - bound)
    assert float(loss.detach()) == pytest.approx(whole, rel=1e-5)

    loss.backward()
    slope_of_softplus = 1 / (1 + math.exp(-1))
    assert float(agent.raw_multiplier.grad) == pytest.approx(slope_of_softplus * (limit - bound), rel=1e-4)
    assert float(agent.raw_temperature.grad) == pytest.approx(slope_of_softplus * (radius - kl), rel=1e-4)
    ahead = [gamma * (1 - end) - 1 for end in ended]  # d e / d nu
    of_nu = np.mean([(1 - gamma) * start + w * a for start, w, a in zip(starts, ratios, ahead)])
    at_start = [(1 - gamma) * start * (q if form == "published" else 1) for start, q in zip(starts, doubt)]
    of_chi = np.mean([s + q * w * a for s, q, w, a in zip(at_start, doubt, ratios, ahead)])
    assert agent.values.biases[-1].grad.flatten().tolist() == pytest.approx([of_nu, of_chi], rel=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_a_row_that_begins_an_episode_must_not_crowd_out_the_others(form):
    """512 rows of 1,000-step episodes, one of them a start; every row costs 0.5, chi = 50 fits that exactly."""
    agent = with_constant_values(make(form), 0.0, 50.0)
    rows = 512
    starts = torch.zeros(rows)
    starts[7] = 1000
    ones, zeros = torch.ones(rows), torch.zeros(rows)
    costs = 0.5 * ones
    costs[7] = 0  # nothing happens in a first step
    batch = Batch(torch.zeros(rows, 1), torch.zeros(rows, 1), 0.66 * ones, costs, torch.zeros(rows, 1), zeros, zeros)
    batch = Batch(**(vars(batch) | {"starts": starts}))
    _, weights, metrics = agent.occupancy_loss(batch)
    plain = float((weights * costs).mean())
    if form == "corrected":
        assert float(metrics["occupancy/cost_bound"]) == pytest.approx(plain, rel=0.01)
        assert float(metrics["occupancy/cost_bound"]) >= plain
    else:
        assert float(metrics["occupancy/cost_bound"]) < 1e-3 * plain


def far_over_the_limit(seed=0):
    """One state, 40 episodes of 1,000 steps: a fifth of the actions earn 1 and cost 1, the others earn 0.5.

    An episode costs 200, against a limit of 10.
    """
    rng = np.random.default_rng(seed)
    risky = rng.random(40_000) < 0.2
    ones = np.ones((len(risky), 1))
    return OfflineDataset(
        observations=ones,
        next_observations=ones,
        actions=(np.where(risky, 0.5, -0.5) + rng.uniform(-0.1, 0.1, len(risky)))[:, None],
        rewards=np.where(risky, 1.0, 0.5),
        costs=risky,
        terminals=np.zeros(len(risky)),
        timeouts=np.arange(len(risky)) % 1000 == 999,
    )


def drawn_cost(agent, samples=4000):
    """Cost of a step of the policy, by drawing actions."""
    torch.manual_seed(0)
    return float((agent.actor.sample(torch.ones(samples, 1)).actions > 0).float().mean())


def test_data_twenty_times_over_the_limit_raise_the_multiplier_and_lower_the_cost():
    rates = {"actor_lr": 3e-3, "critic_lr": 1e-2, "multiplier_lr": 3e-2, "batch_size": 256}
    told = {}
    for form in FORMS:
        agent = make(form, **rates)
        assert float(agent.multiplier.detach()) == pytest.approx(1.3133, abs=1e-4)
        metrics = train(agent, far_over_the_limit(), updates=500)
        told[form] = metrics["multiplier/value"], drawn_cost(agent)
    assert told["corrected"][0] > 2
    assert told["corrected"][1] < 0.05
    assert told["published"][0] < 0.05
    assert told["published"][1] > 0.2  # more than in the data


@pytest.mark.parametrize(("form", "action"), [("corrected", 0.9), ("published", math.tanh(0.9))])
def test_the_policy_reproduces_the_action_it_imitates(form, action):
    """The published form has its density's mean at 0.9, and acts tanh of that: 0.716."""
    agent = make(form, actor_lr=1e-2)
    observations = torch.zeros(64, 1)
    actions = 0.9 + 0.01 * torch.randn(64, 1)
    zeros = torch.zeros(64)
    batch = Batch(observations, actions, zeros, zeros, observations, zeros, zeros)
    for _ in range(300):
        agent.step("actor", agent.actor_loss(batch, torch.ones(64)))
    assert float(agent.act(observations[:1]).detach()) == pytest.approx(action, abs=5e-3)


@pytest.mark.parametrize("form", FORMS)
def test_only_the_published_form_jitters_its_data(form):
    agent = make(form)
    batch = agent.sampler(far_over_the_limit(), action_low=-1, action_high=1).sample()
    before = torch.get_rng_state()
    agent.update(batch)
    assert torch.equal(torch.get_rng_state(), before) == (form == "corrected")


def test_the_starts_have_mean_one():
    data = far_over_the_limit()
    agent = make(batch_size=40_000)
    sampler = agent.sampler(data, action_low=-1, action_high=1)
    starts = sampler.batch(torch.arange(len(data))).starts
    assert starts.nonzero().flatten().tolist() == data.episode_starts.tolist()
    assert float(starts.mean()) == pytest.approx(1)


LEARNS = {"batch_size": 256, "hidden": 32, "actor_lr": 3e-3, "critic_lr": 5e-3, "multiplier_lr": 3e-2} | {
    "regularisation": 0.1,
    "cost_radius": 0.001,
}


def learned(limit, form="corrected", updates=2000):
    torch.manual_seed(0)
    agent = COptiDICE(COptiDICEConfig(**ROAD.limit_settings(limit), **LEARNS, form=form), 12, 1)
    train(agent, ROAD.dataset(), updates)
    return ROAD.gap(agent, limit, samples=1)


@pytest.mark.parametrize("limit", [2.0, 4.0])
def test_it_keeps_to_the_limit_and_earns_most_of_the_optimum(limit):
    """What is missing, 0.13 and 0.11, is at the gate: with one next state a row, luck looks like merit there."""
    shortfall, excess = learned(limit)
    assert excess <= 1e-6
    assert shortfall < 0.2


def test_the_published_form_does_not_see_the_limit():
    _, excess = learned(2.0, "published", updates=1000)
    assert excess > 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"regularisation": 0}, "agent.regularisation must be > 0; got 0"),
        ({"cost_radius": 0}, "agent.cost_radius must be > 0; got 0"),
        ({"form": "paper"}, "agent.form must be one of corrected, published; got 'paper'"),
        ({"cost_limit": -1}, "agent.cost_limit must be >= 0; got -1"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        COptiDICEConfig(**settings)
