"""The test bed itself: its optimum against all policies, its values against simulation, its data against its tables."""

import math

import numpy as np
import pytest
import torch

from saferl.agents import BC, BCConfig
from saferl.agents.bellman import cost_value_threshold
from tests.agents.tabular import (
    BEHAVIOURS,
    CAREFUL,
    LIMITS,
    RING,
    RISKY,
    ROAD,
    STATES,
    USELESS,
    action_index,
    deterministic,
    train,
)

N_STATES, N_ACTIONS = ROAD.rewards.shape
PLACE = {name: index for index, name in enumerate(STATES)}
RISKY_AT = {0: {"last"}, 2: {"meadow", "sixth", "last"}, 4: {"early", "meadow", "sixth", "late", "last"}}
REACHED = [name for name in STATES if name != "swamp"]  # by each of the three


def known_policy(limit, **changes):
    """(S, A), the optimum that the module's docstring names, with other actions in some states."""
    chosen = {name: RISKY if name in RISKY_AT[limit] else CAREFUL for name in STATES}
    return deterministic((chosen | changes).values())


@pytest.fixture(scope="module")
def every_policy():
    """All 3^12 deterministic policies of ROAD: actions (K, S), undiscounted reward (K,) and cost (K,)."""
    actions = np.indices((N_ACTIONS,) * N_STATES, dtype=np.int8).reshape(N_STATES, -1)
    sums = []
    for gains in (ROAD.rewards, ROAD.costs):
        values = np.zeros((N_STATES, actions.shape[1]))
        for state in reversed(range(N_STATES)):  # a state's followers have a higher index
            for action in range(N_ACTIONS):
                chosen = actions[state] == action
                follower = ROAD.flow[state, action] @ values[:, chosen]
                values[state, chosen] = gains[state, action] + follower
        sums.append(values[0])
    return actions.T, sums[0], sums[1]


@pytest.mark.parametrize("limit", [*LIMITS, 1.0, 3.0, math.inf])
def test_the_linear_programme_finds_the_best_of_all_deterministic_policies(every_policy, limit):
    actions, rewards, costs = every_policy
    best = np.where(costs <= limit + 1e-9, rewards, -np.inf).argmax()
    found = ROAD.optimum(limit, discounted=False)
    assert found.reward == pytest.approx(rewards[best], abs=1e-9)
    assert found.cost == pytest.approx(costs[best], abs=1e-9)
    for name in REACHED:
        assert found.policy[PLACE[name]].argmax() == actions[best, PLACE[name]], name


def test_between_two_deterministic_optima_the_best_policy_is_a_mixture(every_policy):
    _, rewards, costs = every_policy
    found = ROAD.optimum(2.5, discounted=False)
    assert found.reward == pytest.approx((7.82 + 8.62) / 2)  # the optima at 2 and at 3
    assert found.reward > rewards[costs <= 2.5].max() + 0.2


@pytest.mark.parametrize("model", [ROAD, RING])
@pytest.mark.parametrize("limit", LIMITS)
def test_the_discounted_limit_has_the_same_optimum(model, limit):
    found = model.optimum(limit)
    known = known_policy(limit, **({"last": CAREFUL} if model is RING else {}))
    for name in REACHED:
        assert found.policy[PLACE[name]] == pytest.approx(known[PLACE[name]], abs=1e-3), name
    value = model.value(known)
    assert value.discounted_cost <= model.threshold(limit) + 1e-9
    assert value.discounted_reward == pytest.approx(found.reward, rel=2e-4)


@pytest.mark.parametrize(("limit", "low", "high"), [(0, 1.68, math.inf), (2, 0.8, 1.6), (4, 0.2, 0.7)])
def test_the_multiplier_may_lie_in_a_wide_range(limit, low, high):
    step, best = 0.01, ROAD.optimum(limit, discounted=False).reward
    assert (ROAD.optimum(limit + step, discounted=False).reward - best) / step == pytest.approx(low)
    if limit > 0:
        assert (best - ROAD.optimum(limit - step, discounted=False).reward) / step == pytest.approx(high)
    for multiplier in np.linspace(low + 0.02, min(high, 50) - 0.02, 5):  # anywhere inside: greed finds the optimum
        policy = greedy(ROAD, multiplier)
        assert ROAD.value(policy).reward == pytest.approx(best)
        assert ROAD.value(policy).cost == pytest.approx(limit)


def greedy(model, multiplier, discount=1.0, sweeps=12):
    """Value iteration on r - multiplier c."""
    gains, values = model.rewards - multiplier * model.costs, np.zeros(N_STATES)
    for _ in range(sweeps):
        q = gains + discount * model.flow @ values
        values = q.max(1)
    return deterministic(q.argmax(1))


def test_without_a_limit_the_ring_agrees_with_value_iteration():
    value = RING.value(greedy(RING, 0.0, 0.99, sweeps=3000))
    assert RING.optimum().reward == pytest.approx(value.discounted_reward)


def test_an_impossible_limit_is_refused():
    with pytest.raises(ValueError, match="limit -1"):
        ROAD.optimum(-1.0)


def test_exact_values_agree_with_recorded_episodes():
    policy = np.random.default_rng(1).dirichlet(np.ones(N_ACTIONS), N_STATES)
    value = ROAD.value(policy)
    data = ROAD.dataset(20_000, policy, seed=2)
    powers = 0.99 ** np.arange(10)
    for exact, discounted, rows in (
        (value.reward, value.discounted_reward, data.rewards),
        (value.cost, value.discounted_cost, data.costs),
    ):
        episodes = rows.reshape(-1, 10).astype(np.float64)
        error = 4 * episodes.sum(1).std() / 20_000**0.5
        assert episodes.sum(1).mean() == pytest.approx(exact, abs=error)
        assert (episodes @ powers).mean() == pytest.approx(discounted, abs=error)


def test_the_value_of_the_endless_process_is_the_sum_of_its_steps():
    policy = np.random.default_rng(3).dirichlet(np.ones(N_ACTIONS), N_STATES)
    place, sums = RING.start, np.zeros(2)
    for step in range(3000):
        pairs = place[:, None] * policy
        sums += 0.99**step * np.array([(pairs * RING.rewards).sum(), (pairs * RING.costs).sum()])
        place = np.einsum("sa,sap->p", pairs, RING.transitions)
    value = RING.value(policy)
    assert [value.discounted_reward, value.discounted_cost] == pytest.approx(sums)
    assert [value.reward, value.cost] == pytest.approx(sums / 10)  # 100 discounted steps, told per 10


@pytest.mark.parametrize("model", [ROAD, RING])
def test_the_settings_give_an_agent_the_discounted_threshold(model):
    settings = model.limit_settings(2.0)
    kappa = cost_value_threshold(settings["cost_limit"], settings["discount"], settings["episode_length"])
    assert kappa == pytest.approx(model.threshold(2.0), rel=5e-5)
    assert model.threshold(2.0) == pytest.approx(1.9124 if model is ROAD else 20.0, abs=1e-4)


def test_the_data_follow_the_tables():
    data = ROAD.dataset()
    states, index = data.observations.argmax(1), action_index(data.actions)
    following = data.next_observations.argmax(1)
    np.testing.assert_allclose(data.rewards, ROAD.rewards[states, index], rtol=1e-6)
    np.testing.assert_array_equal(data.costs, ROAD.costs[states, index])
    for state in range(N_STATES):
        for action in range(N_ACTIONS):
            rows = (states == state) & (index == action)
            assert rows.sum() > 150
            shares = np.bincount(following[rows], minlength=N_STATES) / rows.sum()
            assert shares == pytest.approx(ROAD.transitions[state, action], abs=0.08)
    inside = np.flatnonzero(np.arange(len(data)) % 10 != 9)  # within an episode, one row leads to the next
    np.testing.assert_array_equal(data.next_observations[inside], data.observations[inside + 1])


def test_the_data_hold_episodes_of_all_costs():
    data = ROAD.dataset()
    _, costs = data.episode_returns()
    counts = np.bincount(costs.astype(int))
    assert len(counts) == 9
    assert counts.min() > 100
    assert (data.episode_lengths == 10).all()


def test_the_behaviours_have_known_values():
    told = {"uniform": (4.565, 2.956), "careful": (4.227, 0.917), "risky": (7.831, 6.538)}
    for name, shares in BEHAVIOURS.items():
        rewards, costs = ROAD.dataset(4000, name).episode_returns()
        assert (rewards.mean(), costs.mean()) == pytest.approx(told[name], abs=0.1)
        value = ROAD.value(np.tile(shares, (N_STATES, 1)))
        assert (value.reward, value.cost) == pytest.approx(told[name], abs=1e-3)


def test_road_and_ring_record_the_same_but_for_the_flags():
    road, ring = ROAD.dataset(50), RING.dataset(50)
    for key in ("observations", "next_observations", "actions", "rewards", "costs"):
        np.testing.assert_array_equal(getattr(road, key), getattr(ring, key))
    np.testing.assert_array_equal(road.terminals, ring.timeouts)
    assert not road.timeouts.any()
    assert not ring.terminals.any()


def learned(data, threshold, ends, discount=0.99):
    """Policy by Q-iteration on recorded rows alone, at the smallest multiplier that keeps to ``threshold``."""
    pairs = data.observations.argmax(1) * N_ACTIONS + action_index(data.actions)
    counts = np.bincount(pairs, minlength=N_STATES * N_ACTIONS)

    def means(rows):
        return (np.bincount(pairs, rows, len(counts)) / counts).reshape(N_STATES, N_ACTIONS)

    rewards, costs = means(data.rewards), means(data.costs)
    flow = np.zeros((len(counts), N_STATES))
    np.add.at(flow, (pairs, data.next_observations.argmax(1)), ~ends)
    flow = (flow / counts[:, None]).reshape(N_STATES, N_ACTIONS, N_STATES)
    sweeps = int(20 / (1 - discount))

    def attempt(multiplier):
        q, q_cost = np.zeros((2, N_STATES, N_ACTIONS))
        for _ in range(sweeps):
            best = (q - multiplier * q_cost).argmax(1)[:, None]
            q, q_cost = (
                gains + discount * flow @ np.take_along_axis(table, best, 1)[:, 0]
                for gains, table in ((rewards, q), (costs, q_cost))
            )
        best = (q - multiplier * q_cost).argmax(1)
        return best, q_cost[0, best[0]]

    low, high = 0.0, 64.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if attempt(middle)[1] <= threshold + 1e-6 else (middle, high)
    return deterministic(attempt(high)[0])


@pytest.mark.parametrize("model", [ROAD, RING])
@pytest.mark.parametrize("limit", LIMITS)
def test_the_data_suffice_to_learn_the_optimum(model, limit):
    data = model.dataset()
    value = model.value(learned(data, model.threshold(limit), data.terminals))
    assert model.shortfall(value.reward, limit) < 1e-3
    assert value.cost <= limit + 1e-9


def test_code_that_stops_at_timeouts_pays_in_the_ring():
    data = RING.dataset()
    value = RING.value(learned(data, 0.0, data.timeouts))  # at limit 0 the threshold is the same in both processes
    assert value.cost > 0.5
    without_limit = RING.value(learned(data, math.inf, data.timeouts))
    assert RING.shortfall(without_limit.reward, math.inf) > 0.05


def test_code_that_looks_beyond_terminals_forgoes_reward_on_the_road():
    data = ROAD.dataset()
    value = ROAD.value(learned(data, ROAD.threshold(2.0), data.timeouts))
    assert ROAD.shortfall(value.reward, 2.0) > 0.2


def test_code_that_sees_one_step_ahead_fails_at_the_gate():
    data = ROAD.dataset()
    policy = learned(data, 0.0, data.terminals, discount=0.0)
    assert policy[PLACE["gate"]].argmax() == RISKY
    assert ROAD.value(policy).cost > 0.5
    assert ROAD.value(known_policy(4, gate=RISKY)).reward < ROAD.value(known_policy(4)).reward - 0.5


class Scripted:
    """An agent that draws its actions' meanings from (S, A) probabilities; also a Policy that notes its feedback."""

    device = torch.device("cpu")

    def __init__(self, matrix):
        self.matrix, self.seen = torch.as_tensor(matrix, dtype=torch.float32), np.zeros(2)

    def act(self, observations, generator=None):
        shares = torch.as_tensor(observations) @ self.matrix
        return torch.multinomial(shares, 1, generator=generator) * 0.9 - 0.9

    def reset(self, mask=None, seed=None):
        torch.manual_seed(seed)

    def observe(self, rewards, costs):
        self.seen += rewards.sum(), costs.sum()


def test_the_matrix_of_an_agent_is_what_it_draws():
    matrix = np.random.default_rng(4).dirichlet(np.ones(N_ACTIONS), N_STATES)
    seen = ROAD.policy_matrix(Scripted(matrix), samples=4000, generator=torch.Generator().manual_seed(0))
    assert seen == pytest.approx(matrix, abs=0.04)


def test_the_optimum_has_no_gap_and_the_worst_policy_the_whole():
    assert ROAD.gap(Scripted(known_policy(2)), 2.0) == pytest.approx((0, 0), abs=1e-9)
    assert ROAD.gap(Scripted(known_policy(4)), 2.0) == pytest.approx((-1.5 / 7.82, 2))
    useless = deterministic([USELESS] * N_STATES)
    assert ROAD.gap(Scripted(useless), 4.0) == pytest.approx((1, 0.5 - 4))  # it meets the swamp by half


def test_rollouts_agree_with_the_exact_value_and_give_feedback():
    policy = Scripted(np.random.default_rng(5).dirichlet(np.ones(N_ACTIONS), N_STATES))
    reward, cost = ROAD.rollout_value(policy, 5000)
    value = ROAD.value(policy.matrix.double().numpy())
    assert (reward, cost) == pytest.approx((value.reward, value.cost), abs=0.1)
    assert policy.seen == pytest.approx(np.array([reward, cost]) * 5000)


def test_a_cloned_policy_has_the_value_of_the_recorded_one():
    policy = known_policy(4, early=CAREFUL, gate=RISKY)  # reaches every state
    torch.manual_seed(0)
    agent = BC(BCConfig(hidden=32, batch_size=128), N_STATES, 1)
    train(agent, ROAD.dataset(1000, policy), updates=500)
    assert ROAD.policy_matrix(agent, samples=1) == pytest.approx(policy)
    told = ROAD.value(policy)
    assert ROAD.rollout_value(agent.policy(), 5000) == pytest.approx((told.reward, told.cost), abs=0.1)
