"""CPQ: its term for unknown actions against hand and gradient, its equations, and the fixed point of its own rule."""

import numpy as np
import pytest
import torch

from saferl.agents.cpq import COST, CPQ, CPQConfig
from saferl.nn.gaussian import Sample
from saferl.nn.vae import Encoding
from saferl.offline_data import Batch, OfflineDataset
from tests.agents.tabular import ROAD, STATES, deterministic, train

FORMS = ("corrected", "published")


def make(form="corrected", **settings):
    """A small agent of one action dimension; kappa is 10 (1 - 0.99^1000) / (0.01 * 1000) = 0.99996."""
    torch.manual_seed(0)
    given = {"hidden": 8, "vae_hidden": 8, "cost_limit": 10.0, "episode_length": 1000, "form": form}
    return CPQ(CPQConfig(**(given | settings)), 3, 1)


def batch(rows=16, **fields):
    torch.manual_seed(1)
    values = {
        "observations": torch.randn(rows, 3),
        "actions": torch.rand(rows, 1) * 2 - 1,
        "rewards": torch.randn(rows),
        "costs": torch.rand(rows),
        "next_observations": torch.randn(rows, 3),
        "terminals": torch.zeros(rows),
        "timeouts": torch.zeros(rows),
    }
    return Batch(**(values | fields))


class Fixed(torch.nn.Module):
    """Stands in for the critics: a function of the rows and of the members asked for."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, rows, members=slice(None), frozen=False):
        return self.function(rows)[members]


def constant(*values):
    return Fixed(lambda rows: torch.tensor(values)[:, None].expand(-1, len(rows)))


def cost_gradient(form, alpha):
    agent = make(form, batch_size=16)
    agent.penalty.alpha.fill_(alpha)
    torch.manual_seed(2)
    agent.critic_loss(batch())[0].backward()
    return [weight.grad[COST].clone() for weight in agent.critics.parameters()]


def test_the_cost_critics_gradient_changes_with_alpha():
    for small, large in zip(cost_gradient("corrected", -5.0), cost_gradient("corrected", 5.0), strict=True):
        assert (large - small).norm() > small.norm()  # e^alpha goes from 0.007 to 148


def test_the_published_cost_critics_gradient_is_bit_identical_for_every_alpha():
    for small, large in zip(cost_gradient("published", -5.0), cost_gradient("published", 5.0), strict=True):
        assert torch.equal(small, large)
        assert small.abs().sum() > 0


def test_the_term_raises_the_cost_of_unknown_actions():
    agent = make()
    _, missing = agent.unknown_cost(rows := batch(), aim=1.5)
    missing.backward()
    with torch.no_grad():
        before = agent.unknown_cost(rows, aim=1.5)[0]
        for weight in agent.critics.parameters():
            weight -= 0.01 * weight.grad
        torch.manual_seed(1)
        assert agent.unknown_cost(rows, aim=1.5)[0] > before


def with_known_draws(agent, drawn, of_data):
    """The agent, whose policy draws ``drawn`` (B, N) before the tanh; an action's divergence is its value's modulus.

    Args:
        of_data: (B,) divergences of the recorded actions.
    """
    agent.actor.sample = lambda observations, count: Sample(drawn.tanh().unsqueeze(2), drawn, drawn.unsqueeze(2))
    agent.vae.encode_candidates = lambda observations, actions: Encoding(
        (2 * actions.abs()).sqrt(), torch.zeros_like(actions)
    )
    agent.vae.encode = lambda observations, actions: Encoding(
        (2 * of_data).sqrt().unsqueeze(1), torch.zeros(len(of_data), 1)
    )
    return agent


def test_the_mean_is_over_actions_more_unknown_than_nearly_all_recorded_ones():
    """Of 8 draws the 2 farthest may be unknown: 0.9 is farther than the data, 0.5 is not. Q_c is the action (twice)."""
    drawn = torch.atanh(torch.tensor([[0.9, 0.1, 0.2, 0.0], [0.5, -0.1, 0.2, 0.3]]))
    agent = with_known_draws(make(candidates=4), drawn, torch.tensor([0.7, 0.1]))
    agent.critics = Fixed(lambda rows: torch.stack([rows[:, 3], rows[:, 3], 2 * rows[:, 3], rows[:, 3]]))
    cost, missing = agent.unknown_cost(batch(2), aim=1.5)
    assert cost.item() == pytest.approx((1.8 + 0.9) / 2)  # mean over the two cost critics
    assert missing.item() == pytest.approx((0 + 0.6) / 2)  # 1.8 is enough, 0.9 is 0.6 short


def test_the_published_mean_takes_actions_before_the_tanh_and_divides_by_all_draws():
    drawn = torch.tensor([[3.0, 0.1, 0.2, 0.0], [2.0, -0.1, 0.2, 0.3]])
    agent = with_known_draws(make("published", candidates=4), drawn, torch.tensor([9.0, 9.0]))
    agent.target_critics = Fixed(lambda rows: torch.stack([rows[:, 3], rows[:, 3], 2 * rows[:, 3], rows[:, 3]]))
    cost, _ = agent.unknown_cost(batch(2), aim=1.5)
    assert cost.item() == pytest.approx((3 + 2) / 8)  # the lesser critic


@pytest.mark.parametrize("farthest", [0.5, 0.9])
def test_alpha_rests_while_no_action_is_unknown_and_grows_while_unknown_ones_cost_too_little(farthest):
    drawn = torch.atanh(torch.tensor([[farthest, 0.1, 0.2, 0.0]] * 2))
    agent = with_known_draws(make(candidates=4, alpha_lr=0.1), drawn, torch.tensor([0.7, 0.1]))
    agent.target_critics = agent.critics = constant(0.0, 0.0, 0.3, 0.5)
    agent.critic_targets = lambda rows: torch.zeros(2, len(rows.rewards))
    loss, _ = agent.critic_loss(batch(2))
    kappa = agent.threshold
    assert agent.penalty.alpha.item() == pytest.approx(0.1 * (1.5 * kappa - 0.4) if farthest == 0.9 else 0, abs=1e-6)
    bellman = 0.3**2 + 0.5**2
    assert loss.item() == pytest.approx(bellman + (1.5 * kappa - 0.4 if farthest == 0.9 else 0), rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_reward_counts_what_follows_only_where_that_is_safe(form):
    """Next actions cost the first state component, or 0.2 less by the other critic; kappa is 1."""
    agent = make(form)
    agent.target_critics = Fixed(
        lambda rows: torch.stack([torch.full_like(rows[:, 0], 5.0), rows[:, 0] * 0 + 4, rows[:, 0], rows[:, 0] - 0.2])
    )
    following = torch.zeros(5, 3)
    following[:, 0] = torch.tensor([0.5, 1.1, 2.0, 0.5, 0.5])
    rows = batch(
        5,
        next_observations=following,
        terminals=torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0]),
        timeouts=torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0]),
    )
    reward, cost = agent.critic_targets(rows)
    if form == "corrected":  # the greater cost counts; only the task's end ends
        ahead, costs = [4, 0, 0, 0, 4], [0.5, 1.1, 2.0, 0, 0.5]
    else:
        ahead, costs = [4, 4, 0, 0, 0], [0.3, 0.9, 1.8, 0.3, 0.3]
    assert torch.allclose(reward, rows.rewards + 0.99 * torch.tensor(ahead))
    assert torch.allclose(cost, rows.costs + 0.99 * torch.tensor(costs))


@pytest.mark.parametrize(("form", "unsafe_gradient"), [("corrected", 3.0), ("published", 0.0)])
def test_the_actor_climbs_the_reward_where_safe_and_lowers_the_cost_elsewhere(form, unsafe_gradient):
    """dQ_r/da = 2, dQ_c/da = 3; the first state costs 50 less, the second 50 more: the published form is stuck."""
    agent = make(form)
    actions = torch.zeros(2, 1, requires_grad=True)
    agent.actor.sample = lambda observations: Sample(actions, actions[:, 0], actions)
    agent.critics = Fixed(lambda rows: torch.stack([2 * rows[:, 3]] * 2 + [3 * rows[:, 3] + 50 * rows[:, 0]] * 2))
    observations = torch.tensor([[-1.0, 0, 0], [1.0, 0, 0]])
    agent.actor_loss(observations)[0].backward()
    assert actions.grad[:, 0].tolist() == pytest.approx([-2 / 2, unsafe_gradient / 2])


def narrow_dataset(rows=400):
    """One step in one state with actions about -0.3: reward 1, cost 0.2."""
    generator = np.random.default_rng(0)
    return OfflineDataset(
        observations=np.ones((rows, 3)),
        next_observations=np.ones((rows, 3)),
        actions=-0.3 + generator.uniform(-0.1, 0.1, (rows, 1)),
        rewards=np.ones(rows),
        costs=np.full(rows, 0.2),
        terminals=np.ones(rows, bool),
        timeouts=np.zeros(rows, bool),
    )


@pytest.mark.parametrize("form", FORMS)
def test_actions_that_nobody_recorded_end_up_unsafe_unless_the_term_has_no_gradient(form):
    agent = make(form, hidden=32, batch_size=64, vae_divergence_weight=0.02, actor_lr=1e-6)
    train(agent, narrow_dataset(), updates=250)
    actions = torch.tensor([[-0.3], [0.6], [0.9]])
    with torch.no_grad():
        recorded, *unknown = agent.critics(torch.cat([torch.ones(3, 3), actions], dim=1), COST).amax(0).tolist()
    if form == "corrected":
        assert recorded == pytest.approx(0.2, abs=0.1)
        assert min(unknown) > agent.threshold
    else:
        assert max(unknown) < agent.threshold


LEARNS = {"hidden": 32, "vae_hidden": 32, "batch_size": 128, "target_rate": 0.02} | {
    "critic_lr": 3e-3,
    "actor_lr": 1e-3,
    "vae_divergence_weight": 0.05,
}


def fixed_point(limit):
    """What CPQ seeks, by recursion from the end: the greatest reward among the actions whose own cost is <= kappa."""
    kappa = ROAD.threshold(limit)
    rewards, costs = np.zeros(len(STATES)), np.zeros(len(STATES))
    policy = np.zeros(len(STATES), int)
    for state in reversed(range(len(STATES))):
        ahead = 0.99 * ROAD.flow[state]  # (A, S)
        cost = ROAD.costs[state] + ahead @ costs
        safe = cost <= kappa
        value = ROAD.rewards[state] + ahead @ rewards  # what follows is safe wherever that is possible
        policy[state] = np.where(safe, value, -np.inf).argmax() if safe.any() else cost.argmin()
        rewards[state], costs[state] = value[policy[state]], cost[policy[state]]
    return policy


# Every state may spend the whole of kappa on what lies ahead of it, so the last risks of an episode are taken first and
# leave nothing for the better ones before them. That gap to the optimum is CPQ's own, not the learner's.
@pytest.mark.parametrize(("limit", "shortfall", "excess"), [(1.5, 0.254, -0.5), (3.5, 0.215, -0.5)])
def test_it_finds_its_own_optimum_which_is_safe_and_short_of_the_limits(limit, shortfall, excess):
    exact = ROAD.value(deterministic(fixed_point(limit)))
    assert ROAD.shortfall(exact.reward, limit) == pytest.approx(shortfall, abs=0.01)
    torch.manual_seed(0)
    agent = CPQ(CPQConfig(**ROAD.limit_settings(limit), **LEARNS), len(STATES), 1)
    train(agent, ROAD.dataset(1000), updates=1000)
    assert ROAD.gap(agent, limit, samples=1) == pytest.approx((shortfall, excess), abs=0.02)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"known_share": 1.0}, r"agent.known_share must be in \(0, 1\); got 1.0"),
        ({"candidates": 0}, "agent.candidates must be >= 1; got 0"),
        ({"cost_scale": 0}, "agent.cost_scale must be > 0; got 0"),
        ({"alpha_lr": 0}, "agent.alpha_lr must be > 0; got 0"),
        ({"form": "paper"}, "agent.form must be one of corrected, published; got 'paper'"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        CPQConfig(**settings)
