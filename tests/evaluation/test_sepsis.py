"""Exact reports on ICU-Sepsis against sampled episodes."""

import importlib.metadata

import numpy as np
import pytest

from saferl.envs.icu_sepsis import finite_model
from saferl.evaluation.sepsis import exact_report, policy_table
from saferl.offline_data.icu_sepsis import box_actions, generate, rollouts
from saferl.policy import CallablePolicy, TorchPolicy

try:
    importlib.metadata.distribution("icu-sepsis")
except importlib.metadata.PackageNotFoundError:
    pytest.skip("icu-sepsis: python -m saferl.install_envs --medical", allow_module_level=True)

MODEL = finite_model()


def test_measures_of_a_mix_equal_those_of_its_episodes():
    policy = 0.5 * MODEL.clinician + 0.5 * MODEL.uniform
    report = exact_report(MODEL, policy)
    data = rollouts(MODEL, policy[None], 4000, np.random.default_rng(0))
    returns, costs = data.episode_returns()
    assert report.survival == pytest.approx(returns.mean(), abs=0.03)
    assert report.cost == pytest.approx(costs.mean(), abs=4 * costs.std() / 4000**0.5)
    assert report.length == pytest.approx(data.episode_lengths.mean(), rel=0.05)
    levels = ((data.actions + 1) / 0.4).astype(int)  # (N, 2)
    inner = np.setdiff1d(np.arange(len(data)), data.episode_starts)
    steps = levels[inner] - levels[inner - 1]
    assert report.dose_change == pytest.approx(np.hypot(*steps.T).mean(), rel=0.02)
    needy = data.costs[inner] > 0
    assert report.intervention == pytest.approx((steps > 0).any(1)[needy].mean(), abs=0.03)


def test_agreement_is_that_of_the_clinicians_own_steps():
    best = MODEL.clinician.argmax(1)
    records = rollouts(MODEL, MODEL.clinician[None], 3000, np.random.default_rng(1))
    place = {row.tobytes(): state for state, row in enumerate(MODEL.observations)}
    states = np.array([place[row.tobytes()] for row in records.observations])
    levels = ((records.actions + 1) / 0.4).astype(int) @ [5, 1]
    report = exact_report(MODEL, np.eye(25)[best])
    assert report.agreement == pytest.approx((best[states] == levels).mean(), abs=0.02)


def test_table_of_a_deterministic_and_of_a_noisy_policy():
    mode = MODEL.clinician.argmax(1)
    place = {row.tobytes(): state for state, row in enumerate(MODEL.observations[:713])}
    calls = []

    def act(observations):
        calls.append(len(observations))
        return box_actions(mode[[place.get(row.tobytes(), 713) for row in observations]])

    np.testing.assert_array_equal(policy_table(MODEL, CallablePolicy(act)), np.eye(25)[mode])
    assert len(calls) == 2

    def noise(observations, generator):
        return observations.new_empty(len(observations), 2).uniform_(-1, 1, generator=generator)

    table = policy_table(MODEL, TorchPolicy(noise), samples=50)
    assert table.mean(0) == pytest.approx(np.full(25, 1 / 25), abs=0.005)
    assert MODEL.value(table).survival == pytest.approx(MODEL.value(MODEL.uniform).survival, abs=0.01)


def test_a_policy_with_a_memory_is_refused():
    class Remembers(CallablePolicy):
        def observe(self, rewards, costs):
            pass

    with pytest.raises(ValueError, match="evaluate it by episodes"):
        policy_table(MODEL, Remembers(lambda rows: rows[:, :2]))


def test_the_built_in_data_have_the_mix_of_the_recipe():
    data = generate(n_episodes=4000, seed=0)
    place = {row.tobytes(): state for state, row in enumerate(MODEL.observations[:713])}
    states = np.array([place[row.tobytes()] for row in data.observations])
    levels = ((data.actions + 1) / 0.4).astype(int)
    np.testing.assert_array_equal(data.costs, MODEL.sofa[states] >= 10)
    admissible = MODEL.admissible[states, levels @ [5, 1]]
    kind = np.repeat(np.arange(data.n_episodes) % 4, data.episode_lengths)
    outside = ~MODEL.admissible[states]  # (N, 25)
    clinicians, anybody = (outside * MODEL.clinician[states]).sum(1), outside.mean(1)
    for which, epsilon in ((0, 0), (1, 0), (2, 0.25), (3, 0.5)):
        expected = (epsilon * anybody + (1 - epsilon) * clinicians)[kind == which].mean()
        assert (~admissible[kind == which]).mean() == pytest.approx(expected, abs=0.02)
    assert data.terminals.sum() == data.n_episodes
    np.testing.assert_array_equal(generate(n_episodes=50, seed=3).actions, generate(n_episodes=50, seed=3).actions)
    with pytest.raises(ValueError, match="epsilons in"):
        generate(epsilons=(1.5,))
