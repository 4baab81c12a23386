"""Certificates from recorded episodes, of a process whose truth is known."""

import dataclasses
import json

import gymnasium
import numpy as np
import pytest
from scipy import stats

import saferl.train
from saferl.certification.gate import Constraint
from saferl.certify import main
from saferl.offline_data.hdf5 import load_hdf5, save_hdf5
from tests.certification import coins
from tests.certification.coins import ENV

STEPS = "env_kwargs={steps:2,max_episode_steps:2}"
POLICY = [f"policy={coins.__name__}:nearby", "policy_noise=0.3"]
STATED = f"behaviour={coins.__name__}:behaviour"
TRUTH = 2 * coins.rate(0.5, noise=0.3)  # mean cost of an episode of the policy with its noise


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "recorded.hdf5"
    save_hdf5(coins.recorded(3_000, seed=0), path)
    return path


@pytest.fixture
def folder(data, tmp_path, capsys):
    assert main([ENV, f"data={data}", f"out={tmp_path}/halves", "seed=0"]) == 0
    capsys.readouterr()
    return tmp_path / "halves"


def certified(folder, *words):
    code = main([*POLICY, ENV, STEPS, f"data={folder}", *words])
    return code, json.loads((folder / "certificate.json").read_text())


def test_every_episode_is_in_one_half(data, folder):
    everything, first, second = (load_hdf5(each) for each in (data, folder / "candidate.hdf5", folder / "test.hdf5"))
    assert first.n_episodes == second.n_episodes == 1_500
    both = np.sort(np.concatenate([first.actions, second.actions]), axis=0)
    np.testing.assert_array_equal(both, np.sort(everything.actions, axis=0))


def test_a_policy_near_the_behaviour_is_released_and_its_bound_holds(folder, capsys):
    code, facts = certified(folder, STATED, "cost_limit=0.6", "event_rate=0.5")
    assert code == 0
    mean, events = facts["checks"]
    assert TRUTH < mean["upper_bound"] <= 0.6
    assert 1 - (1 - TRUTH / 2) ** 2 < events["upper_bound"] <= 0.5
    page = (folder / "safety_case.html").read_text()
    assert "Off-policy estimates" in page
    assert "the policy with Gaussian noise of standard deviation 0.3" in page
    estimates = {(each["method"], each["of"]): each for each in facts["off_policy"]["estimates"]}
    for method in ("importance sampling", "per-decision importance sampling", "weighted importance sampling"):
        each = estimates[method, "cost of an episode"]
        assert each["estimate"] == pytest.approx(TRUTH, abs=0.03)
        assert each["interval"][0] < each["estimate"] < each["interval"][1]
        assert not each["is_bound"]
    assert estimates["fitted-Q evaluation", "cost of an episode"]["estimate"] == pytest.approx(TRUTH, abs=0.04)
    assert [each["is_bound"] for each in facts["off_policy"]["estimates"]].count(True) == 2


def test_the_bound_uses_its_part_of_delta_and_the_choices_of_the_candidate_half(folder):
    code, facts = certified(folder, STATED, "cost_limit=0.15", "delta=0.01")
    assert code == 1
    (check,) = facts["checks"]
    assert check["mean"] < 0.15 < check["upper_bound"]  # the estimate alone would have passed
    claim = json.loads((folder / "claim.json").read_text())
    (chosen, clip), test = claim["choices"][0], load_hdf5(folder / "test.hdf5")
    ratio = stats.norm.logpdf(test.actions[:, 0], 0.5, 0.3) - coins.behaviour(test.observations, test.actions)
    weights = np.exp(np.cumsum(ratio.reshape(-1, 2), axis=1))
    saved = (np.minimum(weights, clip) * (1 - test.costs.reshape(-1, 2))).sum(axis=1) / (2 * clip)
    assert chosen["bound"] == "empirical_bernstein"
    log, n = np.log(2 / 0.01), len(saved)
    lower = saved.mean() - np.sqrt(2 * saved.var(ddof=1) * log / n) - 7 * log / (3 * (n - 1))
    assert check["upper_bound"] == pytest.approx(2 - 2 * clip * lower, rel=1e-6)


def test_the_test_half_of_a_data_set_is_used_once(folder, capsys):
    words = (STATED, "cost_limit=0.6")
    code, facts = certified(folder, *words)
    (folder / "safety_case.html").unlink()
    assert certified(folder, *words) == (code, facts)  # the same verdict again, and its page
    assert "Off-policy estimates" in (folder / "safety_case.html").read_text()
    capsys.readouterr()
    assert main([f"policy={coins.__name__}:careful", "policy_noise=0.3", ENV, STEPS, f"data={folder}", STATED,
                 "cost_limit=0.6"]) == 2  # fmt: skip
    assert "is spent (verdict: release" in capsys.readouterr().err
    assert main([ENV, f"data={folder}/test.hdf5", f"out={folder}"]) == 2
    assert "holds a split already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "no density of the behaviour is stated"),
        (["behaviour=fitted"], "the density of the behaviour is fitted"),
    ],
)
def test_where_no_bound_can_hold_the_test_half_stays_closed(words, reason, folder, capsys):
    assert main([*POLICY, ENV, STEPS, f"data={folder}", "cost_limit=1.9", *words]) == 1
    facts = json.loads((folder / "estimates.json").read_text())
    assert facts["verdict"] == "no solution found"
    assert reason in facts["reasons"][0]
    assert facts["checks"][0]["upper_bound"] is None
    assert not any(each["is_bound"] for each in facts["off_policy"]["estimates"])
    fitted = facts["off_policy"]["estimates"][-1]
    assert fitted["method"] == "fitted-Q evaluation"
    assert fitted["estimate"] == pytest.approx(TRUTH, abs=0.05)
    assert not (folder / "claim.json").exists()
    code, _ = certified(folder, STATED, "cost_limit=1.9")
    assert code == 0


def test_recordings_that_stop_early_bound_nothing(tmp_path, capsys):
    data = coins.recorded(50, seed=0)
    stopped = dataclasses.replace(data, terminals=np.zeros_like(data.terminals), timeouts=data.terminals)
    save_hdf5(stopped, tmp_path / "stopped.hdf5")
    main([ENV, f"data={tmp_path}/stopped.hdf5", f"out={tmp_path}/halves"])
    words = [f"data={tmp_path}/halves", STATED, "cost_limit=2.9", "env_kwargs={max_episode_steps:3}"]
    assert main([*POLICY, ENV, *words]) == 1
    assert "25 of 25 recordings stop before their episode ends" in capsys.readouterr().out


def test_a_step_that_costs_too_much_in_the_test_half_alone_is_a_verdict(folder, tmp_path, capsys):
    data, first = coins.recorded(3_000, seed=0), json.loads((folder / "split.json").read_text())["test"][0]
    costs = data.costs.copy()
    costs[2 * first] = 2.0
    save_hdf5(dataclasses.replace(data, costs=costs), tmp_path / "dear.hdf5")
    main([ENV, f"data={tmp_path}/dear.hdf5", f"out={tmp_path}/dear", "seed=0"])
    for _ in range(2):
        code, facts = certified(tmp_path / "dear", STATED, "cost_limit=1.9")
        assert code == 1
        assert facts["verdict"] == "no solution found"
        assert "no bound: a step cost 2, more than step_cost_max=1" in facts["reasons"][0]
    assert "Verdict: no solution found" in (tmp_path / "dear" / "safety_case.html").read_text()


class Risky(coins.Coins):
    """Another environment of the same sizes."""


gymnasium.register("saferl-tests/Risky-v0", entry_point=Risky, max_episode_steps=4)


def test_data_of_another_environment_certify_nothing(folder, capsys):
    other = f"env={__name__}:saferl-tests/Risky-v0"
    assert main([*POLICY, other, STEPS, f"data={folder}", STATED, "cost_limit=0.6"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"was recorded in {ENV.removeprefix('env=')}, which says nothing about {other}" in line
    assert not (folder / "claim.json").exists()


@pytest.mark.parametrize("filters", [[], ["data.filters={noise:0.05}"]], ids=["whole", "filtered"])
@pytest.mark.parametrize("half", ["candidate", "all"])
def test_a_run_must_be_trained_on_the_candidate_half_alone(half, filters, folder, data, tmp_path):
    """Returns and costs would not tell: every pair of the test half is in the candidate half too."""
    source = folder / "candidate.hdf5" if half == "candidate" else data
    words = ["agent=bc", f"env={coins.ENV.removeprefix('env=')}", f"data.path={source}", "steps=2", "agent.hidden=8"]
    words += filters
    assert saferl.train.main([*words, "eval_episodes=1", "eval_every=0", f"out={tmp_path}/runs"]) == 0
    (run,) = (path.parent for path in tmp_path.glob("runs/**/config.yaml"))
    main([f"policy={run}", "policy_noise=0.3", ENV, STEPS, f"data={folder}", STATED, "cost_limit=1.99"])
    if half == "candidate":
        assert json.loads((folder / "certificate.json").read_text())["checks"][0]["fault"] is None
    else:
        reasons = json.loads((folder / "estimates.json").read_text())["reasons"]
        assert "the run was not trained on candidate.hdf5, so that it may know the test half" in reasons[0]


def test_a_run_that_does_not_tell_its_data_bounds_nothing(folder, tmp_path):
    words = ["agent=bc", f"env={coins.ENV.removeprefix('env=')}", f"data.path={folder}/candidate.hdf5", "steps=2"]
    assert saferl.train.main([*words, "agent.hidden=8", "eval_episodes=1", "eval_every=0", f"out={tmp_path}/runs"]) == 0
    (run,) = (path.parent for path in tmp_path.glob("runs/**/config.yaml"))
    facts = json.loads((run / "data.json").read_text())
    del facts["metadata"]["sha256"]
    (run / "data.json").write_text(json.dumps(facts))
    main([f"policy={run}", "policy_noise=0.3", ENV, STEPS, f"data={folder}", STATED, "cost_limit=1.99"])
    reasons = json.loads((folder / "estimates.json").read_text())["reasons"]
    assert "has no SHA-256 of the data" in reasons[0]


def test_a_half_that_was_exchanged_is_refused(folder, capsys):
    (folder / "candidate.hdf5").write_bytes((folder / "test.hdf5").read_bytes())
    assert main([*POLICY, ENV, STEPS, f"data={folder}", STATED, "cost_limit=0.6"]) == 2
    assert "candidate.hdf5 is not the file that was split" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cost_limit=0.6", STATED, "policy_noise=null"], "give policy_noise="),
        (["cost_limit=0.6", STATED, "step_cost_max=0.5"], "a step cost 1, more than step_cost_max=0.5"),
        (["event_rate=0.6", STATED, "bound=clopper_pearson"], "bound=clopper_pearson is for events"),
        (["cost_limit=0.6", "behaviour=numpy:add"], "expected log densities"),
        (["cost_limit=0.6", STATED, "env_kwargs={max_episode_steps:1}"], "an episode has 2 steps"),
    ],
)
def test_a_mistake_costs_one_line_and_opens_nothing(words, message, folder, capsys):
    assert main([*POLICY, ENV, STEPS, f"data={folder}", *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert not (folder / "claim.json").exists()


def test_a_split_needs_a_folder_and_episodes(data, tmp_path, capsys):
    assert main([ENV, f"data={data}"]) == 2
    assert "give out=FOLDER for the two halves" in capsys.readouterr().err
    save_hdf5(coins.recorded(3, seed=0), tmp_path / "few.hdf5")
    assert main([ENV, f"data={tmp_path}/few.hdf5", f"out={tmp_path}/halves"]) == 2
    assert "3 episodes can't be split" in capsys.readouterr().err


def test_events_are_checked_by_their_words():
    constraint = Constraint(kind="event", limit=0.5, delta=0.1, bound="hoeffding", event_limit=2.0)
    assert constraint.sample([1.0, 2.0, 3.0]).tolist() == [0, 0, 1]
