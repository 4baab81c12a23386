"""CDT against its equations by hand, data far over the limit, continuous costs and the tabular CMDP; each fault of the
published form fails where the corrected one passes."""

import math

import numpy as np
import pytest
import torch

import saferl.agents.cdt as module
from saferl.agents import CDT, CDTConfig
from saferl.offline_data import DatasetError, OfflineDataset
from saferl.offline_data.sequences import SequenceBatch
from tests.agents.tabular import ROAD, train

FORMS = ("corrected", "published")
STEPS = 8


def make(obs_dim=1, act_dim=1, seed=0, **settings):
    given = {"hidden": 16, "layers": 1, "heads": 2, "context": 3, "batch_size": 64, "dropout": 0.0, "lr": 3e-3}
    given |= {"warmup": 20, "cost_limit": 10.0, "episode_length": STEPS, "gradient_clip": 1.0}
    torch.manual_seed(seed)
    return CDT(CDTConfig(**(given | settings)), obs_dim, act_dim)


def two_kinds(cheap=10.0, dear=100.0, count=20):
    """One state; half of the episodes cost ``cheap`` and earn 4 by the action -0.5, half ``dear`` and 8 by +0.5."""
    is_dear = np.repeat(np.arange(2 * count) % 2 == 1, STEPS)
    ones = np.ones((len(is_dear), 1))
    noise = np.random.default_rng(0).uniform(-0.05, 0.05, len(is_dear))
    return OfflineDataset(
        observations=ones,
        next_observations=ones,
        actions=(np.where(is_dear, 0.5, -0.5) + noise)[:, None],
        rewards=np.where(is_dear, 8, 4) / STEPS,
        costs=np.where(is_dear, dear, cheap) / STEPS,
        terminals=np.zeros(len(ones), bool),
        timeouts=np.arange(len(ones)) % STEPS == STEPS - 1,
        source="made up",
    )


def batch_of(rows, steps, obs_dim=1, act_dim=1, **given):
    generator = torch.Generator().manual_seed(1)
    fields = {
        "observations": torch.randn(rows, steps, obs_dim, generator=generator),
        "actions": torch.rand(rows, steps, act_dim, generator=generator) * 2 - 1,
        "returns_to_go": torch.rand(rows, steps, generator=generator),
        "costs_to_go": torch.rand(rows, steps, generator=generator),
        "costs": torch.rand(rows, steps, generator=generator),
        "steps": torch.arange(steps).repeat(rows, 1),
        "mask": torch.ones(rows, steps),
    }
    return SequenceBatch(**(fields | given))


def spent(agent, limit, episodes=2):
    """What ``two_kinds`` would charge an agent in an episode: by the sign of each action."""
    policy, total = agent.policy(cost_limit=limit), np.zeros(episodes)
    policy.reset(seed=0)
    for _ in range(STEPS):
        dear = policy.act(np.ones((episodes, 1), np.float32))[:, 0] > 0
        costs = np.where(dear, 100, 10) / STEPS
        policy.observe(np.where(dear, 8, 4) / STEPS, costs)
        total += costs
    return float(total.mean())


@pytest.mark.parametrize("form", FORMS)
def test_episodes_that_cost_70_or_more_are_drawn_and_learned(form):
    """The limit 120 allows the dear kind, the limit 10 does not; published never sees the dear kind."""
    agent = make(form=form, augmentation=0.0)
    sampler = agent.sampler(two_kinds(), seed=0)
    batches = [sampler.sample() for _ in range(20)]
    dear = float(torch.cat([batch.actions.mean((1, 2)) > 0 for batch in batches]).float().mean())
    for _ in range(150):
        agent.update(sampler.sample())
    assert spent(agent, 10) == 10
    if form == "corrected":
        assert dear == pytest.approx((1 - 100 / 200) / (2 - 110 / 200), abs=0.04)
        assert spent(agent, 120) == 100
    else:
        assert dear == 0
        assert spent(agent, 120) == 10


@pytest.mark.parametrize("form", FORMS)
def test_more_cost_than_the_published_form_reaches_is_an_error_there_alone(form):
    agent = make(form=form)
    if form == "corrected":
        agent.update(agent.sampler(two_kinds(cheap=80)).sample())
    else:
        with pytest.raises(DatasetError, match=r"made up: every episode costs 70 or more.* take agent.form=corrected"):
            agent.sampler(two_kinds(cheap=80))


def with_constant_heads(agent, mean, log_std, logit):
    """The agent, saying the same at every step."""
    with torch.no_grad():
        for head, values in ((agent.action_head, [mean, log_std]), (agent.cost_head, [logit])):
            head.weight.zero_()
            head.bias.copy_(torch.tensor(values))
    return agent


@pytest.mark.parametrize("form", FORMS)
def test_the_losses_by_hand(form):
    """Two stretches of two steps, the last step behind an episode's end; costs 0, 1.5, 3 of at most 3."""
    agent = with_constant_heads(make(form=form), 0.2, -0.7, 0.4)
    agent.greatest_cost.fill_(3.0)
    actions, costs = [[0.1, 0.9], [-0.3, 0.0]], [[0.0, 1.5], [3.0, 0.6]]
    batch = batch_of(
        2,
        2,
        actions=torch.tensor(actions).unsqueeze(2),
        costs=torch.tensor(costs),
        mask=torch.tensor([[1.0, 1.0], [1.0, 0.0]]),
    )
    likelihood = entropy = cost = 0.0
    for action, paid in ((0.1, 0.0), (0.9, 1.5), (-0.3, 3.0)):
        std = math.exp(-0.7)
        density = math.exp(-0.5 * ((action - 0.2) / std) ** 2) / (std * math.sqrt(2 * math.pi))
        likelihood -= math.log(density)
        entropy += 0.5 * math.log(2 * math.pi * math.e * std**2)
        share = paid / 3 if form == "corrected" else float(paid >= 1)
        said = 1 / (1 + math.exp(-0.4))
        cost -= share * math.log(said) + (1 - share) * math.log(1 - said)
    assert agent.losses(batch).tolist() == pytest.approx([likelihood, entropy, cost], rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_the_head_of_continuous_costs_learns_their_mean(form):
    """Costs of 0.2 and 1.0, evenly: the mean is 0.6; cut to 0 and 1 they seem to be 0.5."""
    agent = with_constant_heads(make(form=form, cost_loss_weight=1.0, lr=2e-2), 0.0, 0.0, 0.0)
    agent.cost_head.weight.requires_grad_(False)
    costs = torch.tensor([[0.2, 1.0]]).repeat(8, 1)
    for _ in range(150):
        agent.update(batch_of(8, 2, costs=costs))
    expected = 0.6 if form == "corrected" else 0.5
    assert float(agent.cost_head.bias.detach().sigmoid()) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("form", FORMS)
def test_a_budget_that_is_overspent_counts_as_empty(form):
    agent = make(form=form)
    given = {key: value for key, value in vars(batch_of(1, 3)).items() if key not in ("costs", "mask", "costs_to_go")}
    empty, overspent = (agent.predicted(**given, costs_to_go=torch.full((1, 3), left)).mean for left in (0.0, -30.0))
    assert torch.equal(empty, overspent) == (form == "corrected")


def test_steps_behind_an_episodes_end_teach_nothing():
    mask = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    plain = batch_of(1, 4, mask=mask)
    other = {
        key: torch.where(mask.bool() if value.ndim == 2 else mask.bool().unsqueeze(2), value, 1e3)
        for key, value in vars(plain).items()
        if key not in ("steps", "mask")
    }
    agent = make()
    expected = agent.losses(plain)
    assert torch.equal(agent.losses(SequenceBatch(**other, steps=plain.steps, mask=mask)), expected)
    short = {key: value[:, :2] for key, value in vars(plain).items()}
    torch.testing.assert_close(agent.losses(SequenceBatch(**short)), expected)


def test_no_step_sees_its_own_action_or_what_comes_later():
    agent = make(2, 2)
    plain = vars(batch_of(1, 4, 2, 2))
    given = {key: value for key, value in plain.items() if key not in ("costs", "mask")}
    changed = {key: value.clone() for key, value in given.items()}
    changed["actions"][:, 1:] = 5
    for key in ("observations", "returns_to_go", "costs_to_go"):
        changed[key][:, 2:] = 5
    before, after = agent.predicted(**given).mean, agent.predicted(**changed).mean
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 2:], after[:, 2:])


def test_the_parts_of_a_batch_together_give_its_gradient(monkeypatch):
    """The step of 30 stretches in parts of 7, against one loss over all of them."""
    monkeypatch.setattr(module, "PART", 7)
    agent, whole = make(gradient_clip=1e9), make(gradient_clip=1e9)
    batch = batch_of(30, 3, mask=(torch.rand(30, 3, generator=torch.Generator().manual_seed(2)) < 0.7).float())
    metrics = agent.update(batch)
    likelihood, entropy, cost = whole.losses(batch) / batch.mask.sum()
    (likelihood - 0.1 * entropy + 0.02 * cost).backward()
    for name, parameter in whole.named_parameters():
        if name != "log_temperature":
            torch.testing.assert_close(agent.get_parameter(name).grad, parameter.grad, atol=1e-6, rtol=1e-4)
    assert float(metrics["policy/loss"]) == pytest.approx(float((likelihood - 0.1 * entropy).detach()), rel=1e-5)


def test_the_rate_rises_evenly_to_its_full_value():
    agent = make(lr=1e-2, warmup=4, weight_decay=0.0)
    before = agent.action_head.bias.detach().clone()
    rates = []
    for _ in range(6):
        agent.update(batch_of(8, 3))
        rates.append(float(agent.optimizers["policy"].param_groups[0]["lr"]))
        if len(rates) == 1:  # Adam's first step has the size of the rate
            step = (agent.action_head.bias - before).abs()
            assert step.tolist() == pytest.approx([2.5e-3] * 2, rel=1e-2)
    assert rates == pytest.approx([2.5e-3, 5e-3, 7.5e-3, 1e-2, 1e-2, 1e-2])


@pytest.mark.parametrize(("log_std", "direction"), [(0.0, -1), (-4.0, 1)])
def test_the_temperature_drives_the_entropy_to_its_target(log_std, direction):
    # H = log std + 1.42 against -1: 1.42 is too much, so less of it is asked for; -2.58 is too little.
    agent = with_constant_heads(make(temperature_lr=1e-2), 0.0, log_std, 0.0)
    agent.update(batch_of(4, 3))
    assert math.copysign(1, float(agent.log_temperature.detach()) - math.log(0.1)) == direction


def test_the_target_is_the_best_return_within_the_limit():
    agent, data = make(12, 1), ROAD.dataset(300)
    agent.sampler(data)
    returns, costs = data.episode_returns()
    for limit in (0, 1, 2.5, 4, 100):
        assert agent.target_return(limit) == pytest.approx(returns[costs <= limit].max(), rel=1e-6)


def test_a_limit_below_all_costs_asks_for_the_cheapest_episodes_return():
    agent = make()
    agent.sampler(two_kinds(cheap=20))
    assert agent.target_return(10) == pytest.approx(4)
    assert make(target_return=5.5).target_return(10) == 5.5


def test_more_costs_than_the_frontier_has_room_for_are_asked_for_a_little_less(monkeypatch):
    monkeypatch.setattr(module, "FRONTIER_POINTS", 16)
    agent = make()
    costs = np.linspace(0, 50, 400)
    ones = np.ones((400, 1))
    agent.sampler(
        OfflineDataset(ones, ones, 0 * ones, costs, costs, np.ones(400, bool), np.zeros(400, bool))
    )  # every episode is one step, whose reward is its cost
    for limit in (0, 7, 33, 50, 60):
        assert min(limit, 50) - 50 / 14 <= agent.target_return(limit) <= limit


def test_the_policy_says_what_the_network_says_of_its_history():
    """Steps of two episodes, beyond the context and the longest episode, against unpadded stretches."""
    agent = make(2, 2, context=3, target_return=6.0)
    rng = np.random.default_rng(0)
    policy = agent.policy(cost_limit=5.0)
    policy.reset(seed=0)
    seen, rewards, costs = [], rng.normal(size=(12, 2)), rng.uniform(size=(12, 2))
    for step in range(12):
        observations = rng.normal(size=(2, 2)).astype(np.float32)
        actions = policy.act(observations)
        to_go = 6 - rewards[:step].sum(0), 5 - costs[:step].sum(0)
        seen.append([torch.tensor(each, dtype=torch.float32) for each in (observations, actions, *to_go)])
        columns = [torch.stack(column, dim=1) for column in zip(*seen[-3:])]
        columns[1][:, -1] = 0  # not known when it is asked for
        steps = torch.arange(step + 1)[-3:].repeat(2, 1)
        with torch.no_grad():
            expected = agent.predicted(*columns, steps).mean[:, -1].clamp(-1, 1)
        assert actions == pytest.approx(expected.numpy(), abs=1e-5)
        policy.observe(rewards[step], costs[step])


@pytest.fixture
def one_thread():
    """Rounding depends on the threads, and a training this short may end elsewhere by it: see docs/agents.md."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_one_training_comes_near_the_optimum_at_two_limits():
    agent = make(12, 1, hidden=32, layers=2, lr=2e-3, warmup=50, episode_length=10)
    train(agent, ROAD.dataset(), updates=600)
    returns = []
    for limit in (2, 4):
        reward, cost = ROAD.rollout_value(agent.policy(cost_limit=limit), 2000)
        assert ROAD.shortfall(reward, limit) <= 0.2
        assert cost <= limit + 0.25
        returns.append(reward)
    assert returns[1] > returns[0] + 1  # more limit, more return


def test_a_policy_without_a_limit_says_what_to_do():
    with pytest.raises(ValueError, match=r"agent.cost_limit has no value"):
        make(cost_limit=None).policy()
    with pytest.raises(ValueError, match=r"agent.episode_length has no value"):
        CDT(CDTConfig(), 1, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": 10, "heads": 4}, r"agent.hidden must be a multiple of agent.heads=4; got 10"),
        ({"dropout": 1.0}, r"agent.dropout must be in \[0, 1\); got 1.0"),
        ({"context": 0}, r"agent.context must be >= 1; got 0"),
        ({"lr": 0.0}, r"agent.lr must be > 0; got 0.0"),
        ({"frontier_degree": -1}, r"agent.frontier_degree must be >= 0; got -1"),
        ({"form": "paper"}, r"agent.form must be one of corrected, published; got 'paper'"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        CDTConfig(**settings)
