import numpy as np
import pytest
import torch

from saferl.agents import BC, BCConfig
from saferl.offline_data import Batch, DatasetError, OfflineDataset
from tests.agents.tabular import ROAD, train


def batch_of(observations, actions):
    zeros = torch.zeros(len(observations))
    return Batch(observations, actions, zeros, zeros, observations, zeros, zeros)


def episodes(costs, returns=None, steps=4):
    """One state; episode i costs ``costs[i]`` in all, returns ``returns[i]``, and its actions are (i + 1) / 100."""
    costs = np.asarray(costs, float)
    ones = np.ones((len(costs) * steps, 1))
    return OfflineDataset(
        observations=ones,
        next_observations=ones,
        actions=np.repeat(np.arange(1, len(costs) + 1) / 100, steps)[:, None],
        rewards=np.repeat(costs if returns is None else np.asarray(returns, float), steps) / steps,
        costs=np.repeat(costs, steps) / steps,
        terminals=np.zeros(len(ones), bool),
        timeouts=np.arange(len(ones)) % steps == steps - 1,
        source="made up",
    )


def imitated(dataset, **settings):
    """Which episodes the agent's batches come from."""
    agent = BC(BCConfig(hidden=4, batch_size=2_000, **settings), 1, 1)
    batch = agent.sampler(dataset).sample()
    return sorted({round(100 * float(action)) - 1 for action in batch.actions})


def test_it_finds_the_mean_action_of_each_state():
    # Two states, each with two recorded actions: the least squared error is at their means, 0.3 and -0.5.
    observations = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    actions = torch.tensor([[0.1], [0.5], [-0.9], [-0.1]])
    torch.manual_seed(0)
    agent = BC(BCConfig(hidden=16), 1, 1)
    for _ in range(600):
        loss = agent.update(batch_of(observations, actions))["actor/loss"]
    assert agent.act(torch.tensor([[1.0], [-1.0]])).flatten().tolist() == pytest.approx([0.3, -0.5], abs=5e-3)
    assert float(loss) == pytest.approx((0.2**2 * 2 + 0.4**2 * 2) / 4, rel=1e-2)  # the variance that is left


def test_the_first_step_of_adam_has_the_size_of_the_learning_rate():
    torch.manual_seed(0)
    agent = BC(BCConfig(hidden=4, lr=0.01), 3, 2)
    before = agent.actor.layers[-1].bias.detach().clone()
    agent.update(batch_of(torch.randn(8, 3), torch.rand(8, 2)))
    assert (agent.actor.layers[-1].bias - before).abs().tolist() == pytest.approx([0.01] * 2, rel=1e-3)


@pytest.mark.parametrize(
    ("choice", "kept"),
    [
        ("all", [0, 1, 2, 3, 4, 5]),
        ("safe", [0, 1, 2]),  # C <= 10
        ("risky", [4, 5]),  # C >= 20
        ("boundary", [2, 3]),  # 5 < C <= 15
    ],
)
def test_episodes_are_chosen_by_their_cost(choice, kept):
    assert imitated(episodes([0, 5, 10, 15, 20, 40]), episodes=choice, cost_limit=10) == kept


def test_the_frontiers_neighbours_are_chosen():
    # The best return for a cost C is C itself (a line), returns span 0 to 10: a band of 2 on both sides.
    costs = [0, 2, 4, 6, 8, 10, 5, 5, 10]
    returns = [0, 2, 4, 6, 8, 10, 3.5, 2.5, 1]
    assert imitated(episodes(costs, returns), episodes="frontier") == [0, 1, 2, 3, 4, 5, 6]


def test_where_no_episode_is_left_one_line_says_what_the_data_costs():
    agent = BC(BCConfig(episodes="safe", cost_limit=10), 1, 1)
    with pytest.raises(DatasetError) as caught:
        agent.sampler(episodes([52, 210]))
    assert str(caught.value) == (
        "made up: agent.episodes=safe at agent.cost_limit=10 leaves nothing: none of 2 episodes costs 10 or less, "
        "they cost 52 to 210; change the limit or take agent.episodes=all."
    )


def test_conditioned_on_the_limit_it_acts_as_episodes_of_that_cost_did():
    dataset = ROAD.dataset(1000, "mixed")
    torch.manual_seed(0)
    agent = BC(BCConfig(episodes="conditioned", cost_limit=0, hidden=64, batch_size=256), 12, 1)
    train(agent, dataset, updates=800)
    costs = [ROAD.rollout_value(agent.policy(cost_limit=limit))[1] for limit in (None, 0, 8)]
    assert costs[0] == costs[1] == pytest.approx(0, abs=0.2)
    assert costs[2] == pytest.approx(8, abs=1)
    unaware = BC(BCConfig(hidden=64, batch_size=256), 12, 1)
    train(unaware, dataset, updates=800)
    assert len({ROAD.rollout_value(unaware.policy(cost_limit=limit)) for limit in (0, 8)}) == 1


def test_safe_episodes_teach_to_keep_the_limit_and_risky_ones_to_exceed_it():
    limit, costs = 2, {}
    for choice in ("safe", "risky"):
        torch.manual_seed(0)
        agent = BC(BCConfig(episodes=choice, cost_limit=limit, hidden=32, batch_size=256), 12, 1)
        train(agent, ROAD.dataset(2000, "mixed"), updates=500)
        costs[choice] = ROAD.value(ROAD.policy_matrix(agent, samples=1)).cost
    assert costs["safe"] <= limit
    assert costs["risky"] >= 2 * limit


def test_the_condition_survives_a_round_trip_of_the_weights():
    agent, other = (BC(BCConfig(episodes="conditioned", cost_limit=3), 1, 1) for _ in range(2))
    agent.sampler(episodes([0, 40]))  # the greatest cost of a step is 10
    other.load_state_dict(agent.state_dict())
    states = torch.ones(2, 1)
    assert torch.equal(agent.act(states), other.act(states))
    expected = agent.actor(torch.tensor([[1.0, np.log(1 + 3 / 10)]])).tanh()
    assert torch.allclose(agent.act(states)[:1], expected)


def test_it_says_where_the_limit_enters():
    uses = {choice: BCConfig(episodes=choice).limit_use for choice in ("all", "frontier", "safe", "conditioned")}
    assert uses == {"all": "none", "frontier": "none", "safe": "training", "conditioned": "acting"}


def test_without_a_limit_it_says_which_choice_needs_one():
    agent = BC(BCConfig(episodes="risky"), 1, 1)
    with pytest.raises(ValueError, match=r"agent.cost_limit has no value; .* for agent.episodes=risky"):
        agent.sampler(episodes([1, 2]))


@pytest.mark.parametrize("key", ["lr", "hidden", "batch_size"])
def test_settings_are_checked(key):
    with pytest.raises(ValueError, match=rf"agent.{key} must be > 0; got 0"):
        BCConfig(**{key: 0})


def test_unknown_episodes_are_refused():
    with pytest.raises(ValueError, match=r"agent.episodes must be one of all, safe.*; got 'best'"):
        BCConfig(episodes="best")
