"""BEAR-Lag: its discrepancy against a slow loop, its alpha, and the tabular CMDP. The rest: test_double_critics."""

import math

import pytest
import torch

from saferl.agents.bear_lag import BEARLag, BEARLagConfig, mean_discrepancy
from saferl.offline_data import Batch

# A kernel as wide as the recorded actions: at 50 a policy that is a single point, anywhere, passes for all of them.


def make(**settings):
    torch.manual_seed(0)
    given = {"hidden": 8, "vae_hidden": 8, "cost_limit": 10.0, "episode_length": 1000}
    return BEARLag(BEARLagConfig(**(given | settings)), 3, 2)


def batch(rows=40):
    zeros = torch.zeros(rows)
    return Batch(torch.randn(rows, 3), torch.rand(rows, 2), zeros, zeros, torch.randn(rows, 3), zeros, zeros)


def slow_discrepancy(first, second, width):
    def likeness(x, y):
        pairs = [math.exp(-sum((a - b) ** 2 for a, b in zip(one, other)) / (2 * width)) for one in x for other in y]
        return sum(pairs) / len(pairs)

    return math.sqrt(likeness(first, first) + likeness(second, second) - 2 * likeness(first, second) + 1e-6)


@pytest.mark.parametrize("width", [0.3, 50.0])
def test_the_discrepancy_against_a_slow_loop(width):
    torch.manual_seed(0)
    first, second = torch.randn(4, 3, 2, dtype=torch.float64), torch.randn(4, 5, 2, dtype=torch.float64) + 1
    slow = [slow_discrepancy(one, other, width) for one, other in zip(first.tolist(), second.tolist())]
    assert mean_discrepancy(first, second, width).tolist() == pytest.approx(slow, rel=1e-9)


def test_equal_sets_have_no_discrepancy_in_any_order():
    samples = torch.randn(4, 6, 2, dtype=torch.float64)
    found = mean_discrepancy(samples, samples.flip(1), 50.0)
    assert found.tolist() == pytest.approx([1e-3] * 4)  # the root's guard, sqrt(1e-6)


def with_fixed_draws(agent, mean, likely):
    """The agent, with a policy at ``mean`` before the tanh, almost without noise, and a VAE that decodes ``likely``."""
    with torch.no_grad():
        last = agent.actor.trunk.layers[-1]
        last.weight.zero_()
        last.bias.copy_(torch.tensor([mean, mean, -12.0, -12.0]))
    agent.vae.draw = lambda observations, count: torch.full((len(observations), count, 2), likely)
    return agent


def test_draws_are_compared_before_the_tanh():
    """3 and 6 in two dimensions are 18 apart squared; behind the tanh they are equal within 0.005."""
    _, metrics = with_fixed_draws(make(), 6.0, 3.0).actor_loss(batch())
    told = float(metrics["policy/discrepancy"])
    assert told == pytest.approx(math.sqrt(2 - 2 * math.exp(-18 / 100)), rel=1e-3)


@pytest.mark.parametrize(("likely", "sign"), [(3.0, 1), (0.0, -1)])
def test_alpha_grows_while_the_discrepancy_exceeds_its_bound_and_falls_below(likely, sign):
    agent = with_fixed_draws(make(alpha_lr=0.1), 0.0, likely)
    _, metrics = agent.actor_loss(batch())
    excess = float(metrics["policy/discrepancy"]) - 0.05
    assert math.copysign(1, excess) == sign
    assert float(agent.likeness.alpha) == pytest.approx(0.1 * excess, rel=1e-5)


@pytest.mark.parametrize(("likely", "bound"), [(3.0, 5.0), (0.0, -5.0)])
def test_alpha_is_clipped(likely, bound):
    agent = with_fixed_draws(make(alpha_lr=1e3), 0.0, likely)
    for _ in range(20):
        agent.actor_loss(batch())
    assert float(agent.likeness.alpha) == bound


def test_the_actors_loss_weighs_the_discrepancy_with_the_alpha_before_this_update():
    agent = with_fixed_draws(make(alpha_lr=0.1), 0.0, 3.0)
    agent.likeness.alpha.fill_(0.7)
    agent.lagrangian = lambda rows, actions: (torch.tensor(2.5), {})
    loss, metrics = agent.actor_loss(batch())
    assert float(loss.detach()) == pytest.approx(math.exp(0.7) * (float(metrics["policy/discrepancy"]) - 0.05) - 2.5)


def test_the_discrepancy_draws_the_policy_to_the_data():
    agent = with_fixed_draws(make(kernel_width=1.0, actor_lr=0.05), 1.5, -0.5)
    agent.lagrangian = lambda rows, actions: (torch.zeros(()), {})
    rows = batch()
    for _ in range(150):
        agent.step("actor", agent.actor_loss(rows)[0])
    with torch.no_grad():
        mean, _ = agent.actor(rows.observations)
    assert mean.numpy() == pytest.approx(-0.5, abs=0.15)


def test_both_multipliers_are_part_of_the_state():
    assert {"likeness.alpha", "multiplier.total", "multiplier.before", "multiplier.value"} <= set(make().state_dict())


def test_the_published_form_acts_without_noise():
    agent, observations = make(form="published"), torch.randn(5, 3)
    with torch.no_grad():
        assert torch.equal(agent.act(observations), agent.actor(observations)[0].tanh())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel_width": 0}, "agent.kernel_width must be > 0; got 0"),
        ({"discrepancy": -1}, "agent.discrepancy must be >= 0; got -1"),
        ({"discrepancy_samples": 0}, "agent.discrepancy_samples must be >= 1; got 0"),
        ({"alpha_lr": 0}, "agent.alpha_lr must be > 0; got 0"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        BEARLagConfig(**settings)
