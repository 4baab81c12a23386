"""CCAC: budgets and equations by hand, the policy's memory, and one training for several limits of the tabular task."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from saferl.agents.ccac import CCAC, COST, MEMBERS, REWARD, CCACConfig
from saferl.offline_data import OfflineDataset
from tests.agents.tabular import ROAD, STATES, train

FAST = {
    "hidden": 32,
    "vae_hidden": 32,
    "vae_latent_dim": 4,
    "batch_size": 126,
    "actor_lr": 3e-3,
    "critic_lr": 3e-3,
    "vae_lr": 3e-3,
    "target_rate": 0.1,
    "warm_up": 150,
    "log_multiplier_limit": 1.5,
}


def agent(**settings):
    torch.manual_seed(0)
    return CCAC(CCACConfig(**({"cost_limit": 2.0} | FAST | settings)), len(STATES), 1)


def road_batch(learner, episodes=40):
    return learner.sampler(ROAD.dataset(episodes), 0, -1, 1).sample()


class Fixed(torch.nn.Module):
    """Stands in for the critics: the same raw output of a member everywhere."""

    def __init__(self, raw):
        super().__init__()
        self.raw = torch.tensor(raw)

    def forward(self, rows, frozen=False):
        return self.raw[:, None].expand(-1, len(rows))


def test_a_rows_budget_is_the_cost_to_the_end_of_its_episode():
    data = OfflineDataset(
        observations=np.arange(5.0)[:, None],
        next_observations=np.ones((5, 1)),
        actions=np.zeros((5, 1)),
        rewards=np.zeros(5),
        costs=np.array([1.0, 0.0, 2.0, 5.0, 1.0]),
        terminals=np.array([0, 0, 1, 0, 0]),
        timeouts=np.array([0, 0, 0, 0, 1]),
    )
    batch = CCAC(agent().config, 1, 1).sampler(data, 0, -1, 1).sample()
    exact = torch.tensor([3.0, 2.0, 2.0, 6.0, 1.0])[batch.observations[:, 0].long()]
    assert torch.equal(batch.costs_to_go, exact)


@pytest.mark.parametrize("form", ["corrected", "published"])
def test_targets_have_the_units_of_the_budget_if_corrected(form):
    learner = agent(form=form)
    raw = [3.0, 2.0, 4.0, 5.0, 10.0, 20.0, 30.0, 25.0]  # large, so that softplus changes little
    learner.target_critics = Fixed(raw)
    batch = replace(
        road_batch(learner).head(3),
        terminals=torch.tensor([0.0, 1.0, 0.0]),
        timeouts=torch.tensor([0.0, 0.0, 1.0]),
    )
    targets = learner.critic_targets(batch, torch.zeros(3)) - torch.stack([batch.rewards, batch.costs])
    if form == "corrected":
        assert targets.flatten().tolist() == pytest.approx([0.99 * 2, 0, 0.99 * 2, 30, 0, 0])
    else:
        reward = 0.99 * math.log(1 + math.exp(2))
        assert targets.flatten().tolist() == pytest.approx([reward, 0, 0, 0.99 * 10, 0, 0], rel=1e-4)


def test_a_corrected_reward_may_be_negative_and_a_cost_may_not():
    learner = agent()
    raw = torch.full((2 * MEMBERS, 3), -4.0)
    q = learner.q(Fixed(raw[:, 0].tolist()), torch.zeros(3, len(STATES)), torch.zeros(3, 1), torch.zeros(3))
    assert (q[REWARD] == -4).all()
    assert q[COST].flatten().tolist() == pytest.approx([math.log(1 + math.exp(-4))] * 12)


def test_the_critics_raise_costs_of_generated_pairs_above_their_budget():
    """Gradient of -lambda (Q_c - b) on the greatest member, by the mean over the rows that the classifier chooses."""
    learner = agent(multiplier_decay=0.0)
    batch = road_batch(learner)
    learner.classifier.forward = lambda rows: torch.where(torch.arange(len(rows)) < 3, 9.0, -9.0)[:, None]
    learner.multiplier = lambda name, budgets: torch.full_like(budgets, 7.0)
    torch.manual_seed(1)
    loss, excess, metrics = learner.critic_loss(batch, batch.costs_to_go)
    assert metrics["critics/above_budget_share"].item() == pytest.approx(3 / 126)
    assert torch.equal(excess != 0, torch.arange(126) < 3)
    assert (loss - metrics["critics/error"]).item() == pytest.approx(-7 * excess.mean().item(), rel=1e-3)
    assert excess.mean().item() == pytest.approx((excess[:3] / 42).sum().item() / 3, rel=1e-5)


def test_the_multipliers_follow_the_excess_and_come_back_from_their_limit():
    learner = agent(multiplier_decay=0.0)
    budgets = torch.full((20,), 1.0)
    values = {}
    for sign in (1.0, -1.0):  # too costly a policy and too cheap a critic off the data, then the reverse
        for _ in range(200):
            spent = torch.full((20,), sign)
            learner.step("multipliers", learner.multiplier_loss(budgets, -spent, spent))
        values[sign] = [learner.multiplier(name, budgets)[0].item() for name in ("critics", "actor")]
    assert values[1.0] == pytest.approx([math.exp(1.5)] * 2, rel=1e-3)
    assert max(values[-1.0]) < 1


def test_in_the_warm_up_only_generator_and_classifier_learn():
    learner = agent(warm_up=3)
    sampler = learner.sampler(ROAD.dataset(40), 0, -1, 1)
    start = {key: value.clone() for key, value in learner.state_dict().items()}
    changed = []
    for _ in range(4):
        learner.update(sampler.sample())
        changed.append(
            {key.split(".")[0] for key, value in learner.state_dict().items() if (value != start[key]).any()}
        )
    assert changed[2] == {"encoder", "decoder", "classifier", "updates"}
    assert changed[3] == changed[2] | {"actor", "critics", "target_critics", "multipliers"}


def test_the_policy_spends_its_budget_and_gets_it_back():
    policy = agent().policy(cost_limit=3.0)
    states = np.eye(len(STATES), dtype=np.float32)[:3]
    policy.reset(seed=0)
    policy.act(states)
    policy.observe(np.zeros(3), np.array([0.0, 1.0, 5.0]))
    assert policy.budgets.tolist() == [3, 2, 0]
    policy.reset(np.array([False, False, True]))
    assert policy.budgets.tolist() == [3, 2, 3]
    policy.act(states[:2])
    assert policy.budgets.tolist() == [3, 3]


def test_what_the_policy_sees_is_its_own_budget():
    learner = agent()
    seen = []
    learner.actor.mode = lambda rows: seen.append(rows[:, -1].tolist()) or torch.zeros(len(rows), 1)
    policy = learner.policy()
    policy.act(np.zeros((2, len(STATES)), np.float32))
    policy.observe(np.zeros(2), np.array([0.0, 1.5]))
    policy.act(np.zeros((2, len(STATES)), np.float32))
    learner.act(torch.zeros(1, len(STATES)))
    assert seen == [[2, 2], [2, 0.5], [2]]


def test_one_training_keeps_to_every_limit_of_the_tabular_task():
    """Within 0.3 of the rewards' range at each limit, and mostly at the optimum."""
    learner = agent()
    train(learner, ROAD.dataset(1000), updates=1000)
    shortfalls = []
    for limit in (0.0, 2.0, 4.0):
        reward, cost = ROAD.rollout_value(learner.policy(cost_limit=limit), 500)
        assert cost <= limit + 0.05
        shortfalls.append(ROAD.shortfall(reward, limit))
    assert max(shortfalls) < 0.3
    assert min(shortfalls) < 0.1


def test_published_budgets_are_not_kept():
    learner = agent(form="published")
    train(learner, ROAD.dataset(1000), updates=450)
    for limit in (0.0, 2.0):
        assert ROAD.rollout_value(learner.policy(cost_limit=limit), 500)[1] > limit + 2


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("form", "paper", "agent.form must be one of corrected, published; got 'paper'"),
        ("unsafe_share", 1.0, r"agent.unsafe_share must be in \(0, 1\); got 1.0"),
        ("warm_up", -1, "agent.warm_up must be >= 0; got -1"),
        ("vae_latent_dim", 0, "agent.vae_latent_dim must be >= 1; got 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(key, value, message):
    with pytest.raises(ValueError, match=message):
        agent(**{key: value})


def test_a_policy_without_a_limit_is_refused():
    with pytest.raises(ValueError, match=r"agent.cost_limit has no value"):
        agent(cost_limit=None).policy()
    with pytest.raises(ValueError, match="cost_limit must be >= 0; got -1"):
        agent().policy(cost_limit=-1)
