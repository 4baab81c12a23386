"""Critics fitted to a policy, against values in closed form; trajectories, against a plain loop."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import saferl.envs
from saferl.adversaries.critics import (
    CriticConfig,
    Critics,
    NoisyPolicy,
    Transitions,
    agreement,
    fitted_critics,
    transitions,
    whole_sums,
)
from saferl.adversaries.threat import Normaliser, Units
from saferl.adversaries.trajectories import Recorder, Trajectory, returns_to_go
from saferl.adversaries.victim import Victim
from saferl.evaluation.rollout import episode_seeds, rollout
from saferl.policy import CallablePolicy

UNITS = Units(Normaliser(np.zeros(1, np.float32), np.full(1, 0.5, np.float32), "made up"))
DISCOUNT = 0.8
CONFIG = CriticConfig(updates=300, hidden=32, batch=128, discount=DISCOUNT, target_rate=0.05, lr=5e-3)


def made_up(count=4_000, seed=0):
    """s' is uniform whatever is done; r = -(a - s)^2, c = 1 where a > 0.5; the victim's a is s / 2.

    So Q_r(s, a) = -(a - s)^2 + gamma / (1 - gamma) E[-(s / 2)^2] with E[s^2] = 1 / 3, and Q_c(s, a) = [a > 0.5]:
    s / 2 is never above 0.5, the victim itself never pays.
    """
    generator = np.random.default_rng(seed)
    states, after = generator.uniform(-1, 1, (2, count, 1))
    actions = generator.uniform(-1, 1, (count, 1))
    gains = np.stack([-((actions - states)[:, 0] ** 2), actions[:, 0] > 0.5])
    sizes = np.sqrt(np.square(gains).mean(1)) / (1 - DISCOUNT)
    parts = (states, actions, states / 2, gains, after, after / 2, np.zeros(count), sizes)
    return Transitions(*(torch.as_tensor(part, dtype=torch.float32) for part in parts))


@pytest.fixture(scope="module")
def fitted():
    return fitted_critics(made_up(), UNITS, CONFIG, seed=0).as_critics("fitted")


def exact_reward(states, actions):
    return -((actions - states)[:, 0] ** 2) - DISCOUNT / (1 - DISCOUNT) / 12


def scale(gains):
    return (1 - DISCOUNT) / gains.square().mean().sqrt()


def test_q_is_the_value_of_the_action_followed_by_the_victims_own(fitted):
    data = made_up(500, seed=1)
    values = fitted.reward(data.observations, data.actions)
    exact = scale(made_up().gains[0]) * exact_reward(data.observations, data.actions)
    assert (values - exact).square().mean().sqrt() < 0.03
    assert exact.std() > 0.1
    costs = fitted.cost(data.observations, data.actions)
    exact = scale(made_up().gains[1]) * (data.actions[:, 0] > 0.5)
    clear = (data.actions[:, 0] - 0.5).abs() > 0.1
    assert (costs - exact)[clear].abs().mean() < 0.15 * exact.max()  # Adam at this rate leaves 0.10 to 0.15 of it


def test_v_is_the_q_of_the_victims_action(fitted):
    states = torch.linspace(-0.95, 0.95, 40)[:, None]
    values = fitted.value(states, states)
    exact = scale(made_up().gains[0]) * exact_reward(states, states / 2)
    assert (values - exact).abs().max() < 0.04


def test_the_policy_is_valued_that_is_attacked_and_not_the_noisy_one():
    """Noise in the data changes the actions that are seen, not those that the targets take."""
    costly = made_up()
    costly = costly._replace(next_actions=torch.full_like(costly.next_actions, 0.9))
    values = (
        fitted_critics(costly, UNITS, CONFIG, seed=0).as_critics("").cost(torch.zeros(1, 1), torch.zeros(1, 1))
    )  # nothing now, then 1 at every step
    assert float(values) == pytest.approx(float(scale(costly.gains[1]) * DISCOUNT / (1 - DISCOUNT)), rel=0.1)


def test_what_ends_is_followed_by_nothing_and_without_cost_its_critic_is_flat():
    data = made_up()
    gains = torch.stack([data.gains[0], torch.zeros_like(data.gains[1])])
    data = data._replace(terminals=torch.ones_like(data.terminals), gains=gains)
    critics = fitted_critics(data, UNITS, CONFIG, 0, with_robust=False).as_critics("")
    values = critics.reward(data.observations, data.actions)
    assert (values - scale(data.gains[0]) * data.gains[0]).square().mean().sqrt() < 0.03
    assert critics.cost(data.observations, data.actions).abs().max() < 0.02


def test_robust_sarsa_is_smoother_in_the_action_than_q(fitted):
    states = torch.zeros(50, 1)
    actions = torch.linspace(-0.7, 0.7, 50)[:, None]

    def change(critic):
        return (critic(states, actions + 0.2) - critic(states, actions)).abs().mean()

    slack = fitted_critics(made_up(), UNITS, replace(CONFIG, robust_weight=0.0), seed=0).as_critics("")
    stiff = fitted_critics(made_up(), UNITS, replace(CONFIG, robust_weight=20.0), seed=0).as_critics("")
    assert change(slack.robust) == pytest.approx(float(change(fitted.reward)), rel=0.15)
    assert change(fitted.robust) < 0.9 * change(fitted.reward)
    assert change(stiff.robust) < 0.4 * change(fitted.reward)


def test_a_fit_is_its_seeds_and_gradients_reach_the_inputs_only():
    config = CriticConfig(updates=300, hidden=8)
    first, again, other = (fitted_critics(made_up(), UNITS, config, seed).state_dict() for seed in (0, 0, 1))
    for key in first:
        torch.testing.assert_close(first[key], again[key])
    assert any((first[key] - other[key]).abs().max() > 0.01 for key in first)
    network = fitted_critics(made_up(), UNITS, config, 0)
    actions = torch.zeros(3, 1, requires_grad=True)
    network.as_critics("").cost(torch.zeros(3, 1), actions).sum().backward()
    assert actions.grad is not None
    assert all(parameter.grad is None for parameter in network.parameters())


ONE = np.ones(2, np.float32)
DRIVER = CallablePolicy(lambda obs: np.stack([np.sin(3 * obs[:, 0]), 0.3 * np.cos(2 * obs[:, 1])], axis=1))


def test_recorded_episodes_are_those_of_a_plain_loop():
    recorder = Recorder()
    seeds = episode_seeds(11, 7)
    rollout(DRIVER, "point_robot", seeds, num_envs=3, watch=recorder)
    episodes = recorder.trajectories()
    assert len(episodes) == 7
    for seed, episode in zip(seeds, episodes):
        env = saferl.envs.make("point_robot")
        observation, _ = env.reset(seed=int(seed))
        rows, rewards, costs = [observation], [], []
        while True:
            action = np.clip(DRIVER.act(observation[None])[0], -1, 1)
            observation, reward, terminated, truncated, info = env.step(action)
            rows, rewards, costs = [*rows, observation], [*rewards, reward], [*costs, info["cost"]]
            if terminated or truncated:
                break
        np.testing.assert_allclose(episode.observations, rows, atol=1e-6)
        np.testing.assert_allclose(episode.rewards, rewards, atol=1e-9)
        np.testing.assert_array_equal(episode.costs, costs)
        assert episode.terminated == terminated
        assert len(episode) == len(rewards)


def test_noise_is_added_to_what_the_victim_chose_which_is_recorded_too():
    low, high = np.array([-3.0, -1.0], np.float32), np.array([1.0, 1.0], np.float32)
    victim = Victim(CallablePolicy(lambda obs: 0 * obs[:, :2] + [[-1.0, 0.5]]), 11, low, high, "constant")
    noisy = NoisyPolicy(victim, 0.1)
    noisy.reset(seed=0)
    actions = noisy.act(np.zeros((20_000, 11), np.float32))
    np.testing.assert_array_equal(noisy.own, np.tile([[-1.0, 0.5]], (20_000, 1)).astype(np.float32))
    assert (actions >= low).all()
    assert (actions <= high).all()
    unit = (actions[:, 0] + 1) / 2  # the first action's box is 4 wide
    assert unit.mean() == pytest.approx(0, abs=0.01)
    # E[sigma^2] of sigma ~ U(0, 2 m), m ~ U(0, 0.2)
    assert unit.std() == pytest.approx(np.sqrt(4 / 3 * 0.2**2 / 3), rel=0.03)


def test_an_episode_keeps_its_mean_of_the_noise():
    victim = Victim(CallablePolicy(lambda obs: 0 * obs[:, :1]), 1, -np.ones(1), np.ones(1), "still")
    noisy = NoisyPolicy(victim, 0.1)
    noisy.reset(seed=0)
    rows = np.zeros((200, 1), np.float32)
    before = np.std([noisy.act(rows)[:, 0] for _ in range(400)], axis=0)
    renewed = np.arange(200) < 100
    noisy.reset(renewed)
    after = np.std([noisy.act(rows)[:, 0] for _ in range(400)], axis=0)
    assert before.min() < 0.01 < 0.2 < before.max()  # m from 0 to 0.2, deviation m * sqrt(4 / 3)
    assert np.corrcoef(before[~renewed], after[~renewed])[0, 1] > 0.98
    assert abs(np.corrcoef(before[renewed], after[renewed])[0, 1]) < 0.5


def test_transitions_join_each_step_with_the_victims_next_action():
    rows = np.arange(5, dtype=np.float32)[:, None] * [[1, 10]]
    own = np.array([[0.1], [0.2], [0.3], [0.4]], np.float32)
    episode = Trajectory(rows.astype(np.float32), own + 0.05, own, np.arange(4.0), 10 * np.arange(4.0), True)
    cut = Trajectory(rows.astype(np.float32), own + 0.05, own, np.arange(4.0), 10 * np.arange(4.0), False)
    one = np.ones(1, np.float32)
    victim = Victim(CallablePolicy(lambda obs: obs[:, :1]), 2, -2 * one, 2 * one, "scaled")
    data = transitions([episode, cut], victim, 0.5)
    np.testing.assert_allclose(data.next_actions[[0, 1, 2, 4, 5, 6], 0], np.array([0.2, 0.3, 0.4] * 2) / 2)
    np.testing.assert_array_equal(data.terminals, [0, 0, 0, 1, 0, 0, 0])  # of the cut one, the last step is left out
    np.testing.assert_allclose(data.actions[:4, 0], (own[:, 0] + 0.05) / 2)
    np.testing.assert_array_equal(data.gains[:, :4], [np.arange(4), 10 * np.arange(4)])
    np.testing.assert_array_equal(data.next_observations[:4], rows[1:])
    sums = [1 / 2 + 2 / 4 + 3 / 8, 1 + 2 / 2 + 3 / 4, 2 + 3 / 2, 3]  # rewards 0, 1, 2, 3 at discount 1/2
    np.testing.assert_allclose(data.sizes, np.sqrt(np.mean(np.square(sums))) * np.array([1, 10]), rtol=1e-6)
    with pytest.raises(ValueError, match="no two steps in a row"):
        transitions([Trajectory(rows[:2], own[:1], own[:1], np.zeros(1), np.zeros(1), False)], victim, 0.5)


def test_the_quality_of_critics_is_a_rank_correlation_with_what_came(fitted):
    assert returns_to_go(np.array([1.0, 0.0, 2.0]), 0.5).tolist() == [1.5, 1.0, 2.0]
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(101, 1)).astype(np.float32)
    own = np.zeros((100, 1), np.float32)
    episode = Trajectory(rows, own, own, rows[:-1, 0].astype(float), np.zeros(100), False)
    one = np.ones(1, np.float32)
    victim = Victim(CallablePolicy(lambda obs: 0 * obs), 1, -one, one, "still")
    exact = Critics(
        reward=lambda states, actions: states[:, 0].exp(),  # the same order
        cost=lambda states, actions: states[:, 0],
        value=fitted.value,
        robust=fitted.robust,
        source="",
    )
    found = agreement(exact, [episode], victim, discount=0.0)
    assert found["reward"] == pytest.approx(1)
    assert np.isnan(found["cost"])  # no cost, so no order


def test_what_time_cut_off_says_nothing_about_a_critic(fitted):
    one, rewards = np.ones(1, np.float32), np.linspace(1.0, 2.0, 200)  # a true critic rises with them; cut sums fall
    rows = np.append(rewards, 2.0)[:, None].astype(np.float32)
    own = np.zeros((200, 1), np.float32)
    victim = Victim(CallablePolicy(lambda obs: 0 * obs), 1, -one, one, "still")
    rising = Critics(lambda states, _: states[:, 0], lambda states, _: states[:, 0], fitted.value, fitted.robust, "")
    cut, ended = (Trajectory(rows, own, own, rewards, 0 * rewards, ends) for ends in (False, True))
    assert whole_sums(cut, 0.9).tolist() == [True] * 194 + [False] * 6  # 0.9^7 < 0.5 < 0.9^6
    assert whole_sums(ended, 0.9).all()
    assert agreement(rising, [cut], victim, 0.9)["reward"] > agreement(rising, [ended], victim, 0.9)["reward"] + 0.1
    assert np.isnan(agreement(rising, [cut], victim, 0.999)["reward"])  # no sum is known


def test_about_ten_thousand_steps_are_rolled_out_unless_told_otherwise():
    lengths = {20.0: 200, 100.0: 100, 300.0: 33, 1000.0: 20}
    assert {length: CriticConfig().episodes_of(length) for length in lengths} == lengths
    assert CriticConfig(episodes=7).episodes_of(100.0) == 7
