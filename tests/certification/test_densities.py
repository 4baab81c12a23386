"""Densities of actions."""

import numpy as np
import pytest
from scipy import stats

from saferl.agents import BC, BCConfig
from saferl.certification.densities import NoisyPolicy, fitted_behaviour, stated_behaviour, stochastic
from saferl.command_line import UsageError
from saferl.policy import as_policy
from tests.certification import coins

BOX = (np.array([-1.0, 0.0]), np.array([1.0, 4.0]))


def test_noise_on_actions_is_scaled_to_the_box():
    policy = NoisyPolicy(as_policy(lambda rows: np.tile([[0.5, 1.0]], (len(rows), 1))), BOX, 0.25)
    observations = np.zeros((20_000, 3), np.float32)
    actions = policy.act(observations)
    np.testing.assert_allclose(actions.std(axis=0), [0.25, 0.5], rtol=0.03)
    expected = stats.norm.logpdf(actions[:, 0], 0.5, 0.25) + stats.norm.logpdf(actions[:, 1], 1.0, 0.5)
    np.testing.assert_allclose(policy.log_density(observations, actions), expected, rtol=1e-4, atol=1e-4)
    assert np.exp(expected).mean() > 0


def test_a_run_without_memory_has_a_density_with_noise():
    agent = BC(BCConfig(hidden=8), 3, 2)
    observations = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    noisy = stochastic(agent.policy(), (np.full(2, -1.0), np.full(2, 1.0)), 0.1)
    at_mode = noisy.log_density(observations, agent.policy().act(observations))
    np.testing.assert_allclose(at_mode, 2 * stats.norm.logpdf(0, 0, 0.1), rtol=1e-5)


class Remembering:
    def act(self, observations):
        return observations

    def reset(self, mask=None, seed=None):
        pass


class Knowing(Remembering):
    def log_density(self, observations, actions):
        return np.zeros(len(observations))


def test_a_policy_that_may_remember_is_refused_and_one_with_a_density_taken():
    with pytest.raises(UsageError, match="Remembering may act on more than the last observation"):
        stochastic(Remembering(), BOX, 0.1)
    with pytest.raises(UsageError, match="give policy_noise="):
        stochastic(Remembering(), BOX, None)
    knowing = Knowing()
    assert stochastic(knowing, None, None) is knowing


def test_a_fitted_behaviour_is_near_the_one_that_acted():
    data = coins.recorded(2_000, seed=0)
    fitted = fitted_behaviour(data.observations, data.actions)
    truth = coins.behaviour(data.observations, data.actions)
    assert np.abs(fitted(data.observations, data.actions) - truth).mean() < 0.05


def test_a_stated_behaviour_must_give_one_value_a_row():
    word = f"{coins.__name__}:behaviour"
    data = coins.recorded(3, seed=0)
    np.testing.assert_array_equal(
        stated_behaviour(word)(data.observations, data.actions), coins.behaviour(data.observations, data.actions)
    )
    with pytest.raises(UsageError, match=r"gave values of shape \(6, 1\)"):
        stated_behaviour("numpy:add")(data.observations, data.actions)
