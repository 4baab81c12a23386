"""ICU-Sepsis against the exact values that others computed for it, its package's own facts and sampled episodes."""

import importlib.metadata
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import scipy.sparse
from scipy.optimize import linprog

import saferl.envs
from saferl import install_envs
from saferl.envs.errors import MissingPackageError
from saferl.envs.icu_sepsis import action_indices, finite_model, optimum
from saferl.envs.icu_sepsis.model import ACTIONS, LIVE, PIP_LINE, SINK, STATES, SURVIVAL, read_model

needs_package = pytest.mark.skipif(
    not any(each.name == "icu-sepsis" for each in importlib.metadata.distributions()),
    reason="icu-sepsis: python -m saferl.install_envs --medical",
)
SOFA_CURVE = {0.4: 0.834259, 0.45: 0.854506, 0.5: 0.863302, 0.6: 0.871422, 0.7: 0.873974, 0.8: 0.874984}
FLUID_CURVE = {0: 0.828788, 0.5: 0.842936, 1: 0.850687, 2: 0.861059, 3: 0.868287, 4: 0.872851, 5: 0.874952}


@pytest.fixture
def model():
    try:
        return finite_model()
    except MissingPackageError as error:
        pytest.skip(str(error))


# The design notes' figures, computed by HiGHS; the package's page has 0.78 / 9.45, 0.78 / 9.22 and 0.88 / 10.99.
def test_values_of_the_uniform_and_the_clinicians_policy(model):
    uniform, clinician = model.value(model.uniform), model.value(model.clinician)
    assert (uniform.survival, uniform.length) == pytest.approx((0.780071, 9.462296), abs=1e-5)
    assert (clinician.survival, clinician.length) == pytest.approx((0.781845, 9.237950), abs=1e-5)
    assert (uniform.cost, clinician.cost) == pytest.approx((0.776627, 0.739765), abs=1e-5)
    fluids = [model.value(policy, "fluid").cost for policy in (model.uniform, model.clinician)]
    assert fluids == pytest.approx([3.784918, 3.372807], abs=1e-5)
    assert uniform.survival + uniform.mortality == pytest.approx(1, abs=1e-12)


def test_optimum_without_a_limit(model):
    best = optimum(model)
    assert (best.value.survival, best.value.length) == pytest.approx((0.875142, 10.991744), abs=1e-5)
    discounted = optimum(model, discount=0.99)
    assert (discounted.objective, discounted.value.survival) == pytest.approx((0.801334, 0.868180), abs=1e-5)
    assert optimum(model, limit=0.880047).value.survival == pytest.approx(0.875142, abs=1e-5)
    assert optimum(model, limit=5.6158, cost="fluid").value.survival == pytest.approx(0.875142, abs=1e-5)


@pytest.mark.parametrize("cost", ["sofa", "fluid"])
def test_trade_off_curve(model, cost):
    for limit, survival in (SOFA_CURVE if cost == "sofa" else FLUID_CURVE).items():
        best = optimum(model, limit, cost)
        assert best.value.survival == pytest.approx(survival, abs=1e-5)
        assert best.objective == pytest.approx(best.value.survival, abs=1e-9)  # the stationary policy is the mixture
        assert best.value.cost == pytest.approx(limit, abs=1e-9)


def test_a_limit_below_the_least_cost_is_refused(model):
    with pytest.raises(ValueError, match=r"least is 0\.375427"):
        optimum(model, 0.375)


@pytest.mark.slow  # a minute
def test_decomposition_equals_the_linear_programme_of_highs(model):
    pairs = np.argwhere(model.admissible[:LIVE])  # the mean of these adds nothing where costs don't depend on actions
    following = model.outcomes[model.rows[pairs[:, 0], pairs[:, 1]]]
    here = scipy.sparse.csr_array((np.ones(len(pairs)), (pairs[:, 0], np.arange(len(pairs)))), shape=(LIVE, len(pairs)))
    spent = (model.sofa[pairs[:, 0]] >= 10).astype(float)
    found = linprog(
        -following[:, SURVIVAL],
        spent[None],
        [0.5],
        here - scipy.sparse.csr_array(following[:, :LIVE].T),
        model.start[:LIVE],
        method="highs-ipm",
    )
    best = optimum(model, 0.5)
    assert best.value.survival == pytest.approx(-found.fun, abs=1e-8)
    assert best.multiplier == pytest.approx(-found.ineqlin.marginals[0], abs=1e-6)


def test_admissible_actions_alone_lose_nothing_of_the_survival(model):
    best = optimum(model, 0.5, allowed=model.admissible)
    assert best.value.survival == pytest.approx(SOFA_CURVE[0.5], abs=1e-5)
    assert best.policy[:LIVE][~model.admissible[:LIVE]].max() == 0


def test_a_state_without_an_allowed_action_is_named(model):
    allowed = model.admissible.copy()
    allowed[7] = False
    with pytest.raises(ValueError, match=r"no action may be taken in state 7; allow one in each"):
        optimum(model, 0.5, allowed=allowed)


def test_facts_of_the_package(model):
    counts = model.admissible[:LIVE].sum(1)
    assert (counts.min(), counts.max(), counts.mean()) == pytest.approx((1, 13, 3.14), abs=0.005)
    assert (model.clinician[model.admissible] > 0).all()
    taken = model.visits(model.clinician)[:, None] * model.clinician[:LIVE]
    assert taken[~model.admissible[:LIVE]].sum() / taken.sum() == pytest.approx(0.121, abs=5e-4)
    kept = np.where(model.admissible, model.clinician, 0)  # without these the page's length, 9.22
    assert model.value(kept / kept.sum(1, keepdims=True)).length == pytest.approx(9.2230, abs=1e-4)
    state = int(counts.argmax())
    inadmissible, allowed = np.flatnonzero(~model.admissible[state]), np.flatnonzero(model.admissible[state])
    mean = model.outcomes[model.rows[state, allowed]].mean(0)
    np.testing.assert_allclose(model.outcomes[model.rows[state, inadmissible[0]]], mean, atol=1e-12)
    np.testing.assert_allclose(model.outcomes[model.rows[SURVIVAL, 0]], np.eye(STATES)[SINK])
    assert len(np.unique(model.observations[:LIVE], axis=0)) == LIVE  # so a policy sees the state


def test_sampled_episodes_of_the_environment_have_the_exact_values(model):
    env = saferl.envs.make("icu_sepsis_discrete")
    returns, costs, lengths = [], [], []
    env.action_space.seed(0)
    for seed in range(600):
        env.reset(seed=seed)
        totals = np.zeros(3)
        while True:
            *_, reward, terminated, truncated, info = env.step(env.action_space.sample())
            totals += reward, info["cost"], 1
            if terminated or truncated:
                break
        for column, total in zip((returns, costs, lengths), totals):
            column.append(total)
    exact = model.value(model.uniform)
    for column, value in ((returns, exact.survival), (costs, exact.cost), (lengths, exact.length)):
        assert np.mean(column) == pytest.approx(value, abs=4 * np.std(column) / 600**0.5)


def test_both_forms_are_one_process(model):
    seen, exact = saferl.envs.make("icu_sepsis"), saferl.envs.make("icu_sepsis_discrete")
    rng = np.random.default_rng(0)
    for seed in range(5):
        left, right = seen.reset(seed=seed)[0], exact.reset(seed=seed)[0]
        ended = False
        while not ended:
            np.testing.assert_array_equal(left, model.observations[right])
            action = rng.uniform(-1, 1, 2)
            left, *ours, info = seen.step(action)
            fluid, vasopressor = (min(int((each + 1) // 0.4), 4) for each in action)
            right, *theirs, other = exact.step(5 * fluid + vasopressor)
            assert ours == theirs
            assert info == other
            ended = ours[1]


@pytest.mark.parametrize("name", ["saferl/ICUSepsis-v0", "saferl/ICUSepsisDiscrete-v0"])
def test_many_patients_are_as_one_by_one(model, name):
    together = gymnasium.make_vec(name, num_envs=5)
    apart = gymnasium.make_vec(name, num_envs=5, vectorization_mode="sync")
    assert type(together.unwrapped).__name__ == "BatchedICUSepsis"
    assert (together.observation_space, together.action_space) == (apart.observation_space, apart.action_space)
    apart.action_space.seed(0)
    left, right = together.reset(seed=3), apart.reset(seed=3)
    ended = 0
    for step in range(60):  # about six patients each
        for ours, theirs in zip(left[:-1], right[:-1]):
            np.testing.assert_array_equal(ours, theirs)
        assert left[-1].keys() == right[-1].keys()
        for key, values in left[-1].items():
            np.testing.assert_array_equal(values, right[-1][key], err_msg=key)
        if step == 40:  # without seeds the generators go on
            left, right = together.reset(), apart.reset()
            continue
        action = apart.action_space.sample()
        left, right = together.step(action), apart.step(action)
        ended += left[2].sum()
    assert ended > 5
    with pytest.raises(ValueError, match="5 patients need one seed or 5; got 2"):
        together.reset(seed=[1, 2])


def test_an_episode_is_cut_at_its_limit(model):
    env = gymnasium.make_vec("saferl/ICUSepsisDiscrete-v0", num_envs=64, max_episode_steps=2)
    env.reset(seed=0)
    env.step(np.zeros(64, int))
    *_, terminated, truncated, _ = env.step(np.zeros(64, int))
    ended = terminated | truncated
    assert truncated.sum() > 20
    *_, terminated, truncated, info = env.step(np.zeros(64, int))
    assert not (terminated | truncated)[ended].any()  # new patients
    assert not info["cost"][ended].any()


def test_levels_of_the_box():
    edges = [[-1, 1], [-0.61, 0.59], [-0.59, 0.61], [0, 0], [3, -3]]
    np.testing.assert_array_equal(action_indices(edges), [4, 3, 9, 12, 20])
    with pytest.raises(ValueError, match="2 finite numbers"):
        action_indices([[np.nan, 0.0]])


@needs_package
def test_a_wrong_state_action_or_cost_is_explained():
    with pytest.raises(ValueError, match=r"allowed: sofa, fluid"):
        saferl.envs.make("icu_sepsis", cost="sofas")
    env = saferl.envs.make("icu_sepsis_discrete")
    with pytest.raises(ValueError, match="0 to 712"):
        env.reset(options={"state": 713})
    env.reset(seed=0)
    with pytest.raises(ValueError, match="0 to 24"):
        env.step(25)


def test_without_the_package_one_line_says_how_to_install_it(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    finite_model.cache_clear()
    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(MissingPackageError, match=r"pip install --no-deps icu-sepsis==2\.0\.1") as caught:
        saferl.envs.make("icu_sepsis")
    assert "\n" not in str(caught.value)


def test_the_package_is_never_imported(model):
    assert "icu_sepsis" not in sys.modules


def test_the_install_command_leaves_the_old_gym_out(monkeypatch):
    called = []
    monkeypatch.setattr(subprocess, "call", lambda command: called.append(command) or 0)
    assert install_envs.main(["--medical"]) == 0
    assert called[-1][-2:] == ["--no-deps", "icu-sepsis==2.0.1"]
    assert PIP_LINE.split() == called[-1][-4:]
    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())
    assert project["project"]["optional-dependencies"]["medical"] == ["icu-sepsis==2.0.1"]


def test_damaged_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"dynamics\.npz: can't be read"):
        read_model(tmp_path)
    arrays = {
        "tx_mat": np.zeros((STATES, ACTIONS, STATES), np.float16),
        "d_0": np.full(STATES, 1 / STATES),
        "expert_policy": np.full((STATES, ACTIONS), 1 / ACTIONS),
        "state_cluster_centers": np.zeros((STATES, 47)),
        "sofa_scores": np.zeros(STATES),
    }
    np.savez_compressed(tmp_path / "dynamics.npz", **arrays)
    with pytest.raises(ValueError, match="tx_mat, row 0: probabilities"):
        read_model(tmp_path)
    np.savez_compressed(tmp_path / "dynamics.npz", **{**arrays, "d_0": np.ones(3)})
    with pytest.raises(ValueError, match="d_0 must be finite, of shape"):
        read_model(tmp_path)


def test_a_policy_must_be_probabilities(model):
    with pytest.raises(ValueError, match="sum 1"):
        model.value(model.uniform * 1.1)
    assert replace(model, sofa=model.sofa + 100).value(model.uniform).cost == pytest.approx(9.462296, abs=1e-5)
