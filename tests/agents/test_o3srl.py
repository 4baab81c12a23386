"""O3SRL: the bandit's loss and rounds by hand, and the policy on the tabular CMDP."""

import pytest
import torch

from saferl.agents.o3srl import O3SRL, O3SRLConfig
from tests.agents.tabular import ROAD, STATES, train

FAST = {"hidden": 32, "batch_size": 120, "actor_lr": 3e-3, "critic_lr": 3e-3, "target_rate": 0.1, "value_weight": 10.0}


def agent(limit=2.0, seed=0, **settings):
    torch.manual_seed(seed)
    return O3SRL(O3SRLConfig(**(ROAD.limit_settings(limit) | FAST | settings)), len(STATES), 1)


def test_the_multipliers_lie_evenly_from_zero():
    assert agent(arms=5, greatest_multiplier=5.0).multipliers.tolist() == pytest.approx([0, 1.25, 2.5, 3.75, 5])


@pytest.mark.parametrize(
    ("share", "cost_over_kappa", "loss"),
    [(0, 3.0, 0.5), (0, 0.0, 0.5), (1, 0.0, 1.0), (1, 1.0, 0.5), (1, 4.0, 0.125), (0.5, 2.0, 0.375), (1, -0.5, 1.0)],
)
def test_a_multiplier_loses_less_where_the_cost_is_above_the_limit(share, cost_over_kappa, loss):
    learner = agent()
    found = learner.multiplier_loss(torch.tensor(5.0 * share), torch.tensor(learner.threshold * cost_over_kappa))
    assert found.item() == pytest.approx(loss)


def test_at_limit_zero_every_cost_counts_in_full():
    learner = agent(limit=0.0)
    assert learner.multiplier_loss(torch.tensor(5.0), torch.tensor(0.01)).item() == pytest.approx(0)
    assert learner.multiplier_loss(torch.tensor(5.0), torch.tensor(0.0)).item() == pytest.approx(0.5)


def test_a_multiplier_stays_for_its_updates():
    learner = agent(arm_updates=4, arms=50)
    sampler = learner.sampler(ROAD.dataset(20), 0, -1, 1)
    played = [learner.update(sampler.sample())["multiplier/played"].item() for _ in range(40)]
    rounds = [played[start : start + 4] for start in range(0, 40, 4)]
    assert all(len(set(each)) == 1 for each in rounds)
    assert len({each[0] for each in rounds}) > 5


def test_the_actor_climbs_the_reward_less_the_multiplier_times_the_greater_cost():
    """With imitation made negligible, the actor moves to the cheap side under a great multiplier, else to the dear."""
    ends = []
    for arm in (0, 1):
        learner = agent(arms=2, value_weight=1e4)

        def values(rows, members, frozen=False):  # reward a, costs 0.1 a and 0.5 a
            return rows[:, -1] * torch.tensor([[9.0], [1.0], [0.1], [0.5]])[members]

        learner.critics.forward = values
        learner.bandit.arm.fill_(arm)  # multiplier 0 or 5: a or a - 2.5 a
        batch = learner.sampler(ROAD.dataset(20), 0, -1, 1).sample()
        learner.q = lambda part: torch.zeros(4, len(part.rewards), requires_grad=True)
        before = learner.act(batch.observations)
        learner.update(batch)
        ends.append((learner.act(batch.observations) - before).mean().item())
    assert ends[0] > 0 > ends[1]


# Any multiplier in 0.8..1.6 (limit 2) or 0.2..0.7 (limit 4) has the optimum as its best policy.
@pytest.mark.parametrize(("limit", "greatest_multiplier"), [(2.0, 2.0), (4.0, 1.0)])
def test_it_solves_the_tabular_task(limit, greatest_multiplier):
    """Within 10 % of the rewards' range and without excess cost; most runs find the optimum itself."""
    learner = agent(limit, arms=3, greatest_multiplier=greatest_multiplier, arm_updates=1)
    train(learner, ROAD.dataset(1000), updates=1200)
    shortfall, excess = ROAD.gap(learner, limit, samples=1)
    assert shortfall < 0.1
    assert excess < 0.05


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("arms", 1, "agent.arms must be >= 2; got 1"),
        ("arm_updates", 0, "agent.arm_updates must be >= 1; got 0"),
        ("greatest_multiplier", 0.0, "agent.greatest_multiplier must be > 0; got 0.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(key, value, message):
    with pytest.raises(ValueError, match=message):
        agent(**{key: value})
