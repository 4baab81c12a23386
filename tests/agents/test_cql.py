"""CQL: its penalty against integrals in closed form, its gradient, its equations by hand, and the tabular CMDP."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from saferl.agents.cql import COST_TWINS, CQL, REWARD_TWINS, CQLConfig, conservative_penalty
from saferl.offline_data import OfflineDataset
from tests.agents.tabular import ROAD, STATES, train

FAST = {"hidden": 32, "batch_size": 63, "actor_lr": 3e-3, "critic_lr": 3e-3, "temperature_lr": 3e-3, "target_rate": 0.1}


def agent(limit=2.0, **settings):
    torch.manual_seed(0)
    fields = ROAD.limit_settings(limit) | FAST | {"lagrangian": True, "candidates": 2}
    return CQL(CQLConfig(**(fields | settings)), len(STATES), 1)


def road_batch(learner):
    return learner.sampler(ROAD.dataset(40), 0, -1, 1).sample()


class Fixed(torch.nn.Module):
    """Stands in for the critics: the same Q of a member everywhere."""

    def __init__(self, values):
        super().__init__()
        self.values = torch.tensor(values)

    def forward(self, rows, frozen=False):
        return self.values[:, None].expand(-1, len(rows))


# ln of the integral of e^{b a} over [-1, 1] is ln(2 sinh(b) / b); a constant has b = 0 and leaves ln 2 per dimension.
@pytest.mark.parametrize("slope", [2.0, -0.7])
def test_every_kind_of_drawn_action_estimates_the_same_integral(slope):
    learner = agent(candidates=4000)
    batch = road_batch(learner).head(2)
    drawn, log_densities = learner.draw_candidates(batch)
    signs = torch.tensor([1.0, -1.0])
    recorded = slope * batch.actions.squeeze(-1).expand(2, -1)
    exact = math.log(2 * math.sinh(slope) / slope) - signs * slope * batch.actions.mean()
    for kind in range(3):
        rows = slice(kind * 4000, (kind + 1) * 4000)
        off_data = slope * drawn[:, rows, 0].expand(2, -1, -1)
        penalty = conservative_penalty(recorded, off_data, log_densities[:, rows], signs)
        assert penalty.tolist() == pytest.approx(exact.tolist(), abs=0.05), kind


def test_constant_values_have_the_logarithm_of_the_boxs_volume_as_penalty():
    q = torch.full((4, 5), 7.0)
    uniform = torch.full((5, 6), -3 * math.log(2))  # three action dimensions
    penalty = conservative_penalty(q, q[..., None].expand(4, 5, 6), uniform, torch.tensor([1.0, 1.0, -1.0, -1.0]))
    assert penalty.tolist() == pytest.approx([3 * math.log(2)] * 4, rel=1e-5)


def test_the_penaltys_gradient_lowers_rewards_and_raises_costs_off_the_data_and_the_reverse_on_it():
    recorded = torch.zeros(2, 3, requires_grad=True)
    off_data = torch.zeros(2, 3, 4, requires_grad=True)
    conservative_penalty(recorded, off_data, torch.zeros(3, 4), torch.tensor([1.0, -1.0])).sum().backward()
    assert recorded.grad[0].tolist() == pytest.approx([-1 / 3] * 3)
    assert recorded.grad[1].tolist() == pytest.approx([1 / 3] * 3)
    assert off_data.grad[0].flatten().tolist() == pytest.approx([1 / 12] * 12)
    assert off_data.grad[1].flatten().tolist() == pytest.approx([-1 / 12] * 12)


def test_the_gradient_of_every_critic_changes_with_the_weight():
    """A penalty evaluated without gradient, or on the target copies, would leave it as it is."""
    gradients = []
    for weight in (0.0, 5.0):
        learner = agent(conservative_weight=weight)
        batch = road_batch(learner)
        torch.manual_seed(1)
        learner.critic_loss(batch)[0].backward()
        gradients.append([each.grad for each in learner.critics.weights])
    for without, with_penalty in zip(*gradients, strict=True):
        for member in range(4):
            change = (with_penalty[member] - without[member]).norm()
            assert change > 0.1 * without[member].norm()


def narrow_dataset(rows=400):
    """One step in one state with actions about 0.3: reward 1, cost 1."""
    generator = np.random.default_rng(0)
    return OfflineDataset(
        observations=np.ones((rows, 1)),
        next_observations=np.ones((rows, 1)),
        actions=0.3 + generator.uniform(-0.1, 0.1, (rows, 1)),
        rewards=np.ones(rows),
        costs=np.ones(rows),
        terminals=np.ones(rows, bool),
        timeouts=np.zeros(rows, bool),
    )


def test_off_the_data_rewards_end_below_and_costs_above_those_on_them():
    learner = CQL(replace(agent().config, conservative_weight=1.0), 1, 1)
    train(learner, narrow_dataset(), updates=300)
    actions = torch.tensor([[-0.9], [-0.3], [0.9], [0.3]])
    with torch.no_grad():
        q = learner.critics(torch.cat([torch.ones(4, 1), actions], dim=1))  # (4, 4)
    for off in range(3):
        assert (q[REWARD_TWINS, off] < q[REWARD_TWINS, 3] - 0.5).all()
        assert (q[COST_TWINS, off] > q[COST_TWINS, 3] + 0.5).all()


def test_without_the_penalty_the_values_off_the_data_are_left_alone():
    learner = CQL(replace(agent().config, conservative_weight=0.0), 1, 1)
    train(learner, narrow_dataset(), updates=300)
    with torch.no_grad():
        q = learner.critics(torch.tensor([[1.0, 0.3]]))[:, 0]
    assert q.tolist() == pytest.approx([1.0] * 4, abs=0.05)


def test_targets_take_the_least_reward_and_the_greatest_cost_without_entropy():
    learner = agent()
    learner.target_critics = Fixed([3.0, 2.0, 10.0, 20.0])
    batch = road_batch(learner).head(3)
    batch = replace(batch, terminals=torch.tensor([0.0, 1.0, 0.0]), timeouts=torch.tensor([0.0, 0.0, 1.0]))
    goes_on = torch.tensor([1.0, 0.0, 1.0])
    reward, cost = batch.rewards + 0.99 * 2 * goes_on, batch.costs + 0.99 * 20 * goes_on
    assert torch.allclose(learner.critic_targets(batch), torch.stack([reward, reward, cost, cost]))


def test_the_actors_loss_by_hand():
    learner = agent(proportional_gain=0.5, integral_gain=0.0, derivative_gain=0.0)
    learner.critics = Fixed([3.0, 2.0, 10.0, 20.0])
    with torch.no_grad():
        learner.log_temperature.fill_(math.log(0.3))
    loss, log_probs, metrics = learner.actor_loss(road_batch(learner))
    multiplier = 0.5 * (20 - learner.threshold)
    assert metrics["multiplier/value"].item() == pytest.approx(multiplier, rel=1e-5)
    exact = 0.3 * log_probs.mean().item() - 2 + multiplier * (20 - learner.threshold)
    assert loss.item() == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize(("entropy", "sign"), [(-3.0, 1), (1.0, -1)])
def test_the_temperature_grows_while_the_entropy_is_below_its_target(entropy, sign):
    learner = agent()  # the target is -1
    learner.step("temperature", learner.temperature_loss(torch.full((5,), -entropy)))
    assert learner.log_temperature.sign().item() == sign


def test_without_the_lagrangian_costs_change_nothing():
    weights = []
    for factor in (0.0, 9.0):
        learner = agent(lagrangian=False)
        batch = road_batch(learner)
        torch.manual_seed(2)
        learner.update(replace(batch, costs=factor * batch.costs))
        weights.append(learner.state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert learner.critics.members == 2
    assert learner.config.limit_use == "none"
    assert agent().config.limit_use == "training"


def test_the_multiplier_is_part_of_the_state():
    learner = agent()
    learner.update(road_batch(learner))
    assert {"multiplier.total", "multiplier.before", "start_cost.weighted"} <= set(learner.state_dict())
    assert learner.state_dict()["start_cost.weight"] > 0


@pytest.mark.parametrize("limit", [2.0, 4.0])
def test_it_solves_the_tabular_task(limit):
    """Within 3 % of the rewards' range and 0.1 of the limit; the weight is small beside the gaps between values."""
    learner = agent(limit, conservative_weight=0.1)
    train(learner, ROAD.dataset(1000), updates=900)
    shortfall, excess = ROAD.gap(learner, limit, samples=1)
    assert shortfall < 0.03
    assert excess < 0.1


def test_without_a_limit_it_earns_what_there_is():
    learner = agent(lagrangian=False, conservative_weight=0.1)
    train(learner, ROAD.dataset(1000), updates=500)
    assert ROAD.gap(learner, math.inf, samples=1)[0] < 0.08


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("candidates", 0, "agent.candidates must be >= 1; got 0"),
        ("temperature_lr", 0.0, "agent.temperature_lr must be > 0; got 0.0"),
        ("conservative_weight", -1.0, "agent.conservative_weight must be >= 0; got -1.0"),
        ("cost_limit", None, "agent.cost_limit and agent.episode_length have no value"),
    ],
)
def test_settings_that_make_no_sense_are_refused(key, value, message):
    with pytest.raises(ValueError, match=message):
        agent(**{key: value})
