"""A run of a benchmark in its folder: trained on from where it was, evaluated as a rollout, its failures told."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

import saferl
from saferl.agents import AGENTS, BC
from saferl.benchmarking.calls import CallError
from saferl.benchmarking.runs import complete_run
from saferl.evaluation.rollout import rollout
from saferl.training.checkpoint import checkpoints
from tests.benchmarking.small import planned
from tests.benchmarking.test_plan import ActingConfig


def weights(run):
    return load_file(checkpoints(run.folder / "checkpoints")[-1] / "weights.safetensors")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = planned(tmp_path_factory.mktemp("run"), "limits=[0,10]").runs[0]
    complete_run(run)
    return run


def test_the_folder_is_an_ordinary_run_and_its_evaluation_a_rollout_of_its_policy(run):
    assert run.is_complete
    measured = json.loads((run.folder / run.evaluations[0].file_name).read_text())
    episodes = rollout(saferl.load_policy(run.folder), "point_robot", range(3), env_kwargs={"start": "feasible"})
    assert measured["returns"] == episodes.returns.tolist()
    assert measured["costs"] == episodes.costs.tolist()
    assert measured["violations"] == episodes.violations.tolist()
    assert measured["seeds"] == [0, 1, 2]
    assert run.train_seconds > 0


def test_a_complete_run_is_left_alone(run):
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.name != "log.txt"}
    complete_run(run)
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.name != "log.txt"} == before


def test_a_training_goes_on_bit_for_bit(run, tmp_path):
    other = replace(run, folder=tmp_path / "other")
    complete_run(replace(other, config=replace(run.config, steps=10), evaluations=()))
    assert (other.done, other.is_trained) == (10, False)
    seconds = other.train_seconds
    complete_run(other)
    assert other.train_seconds > seconds
    assert all(np.array_equal(tensor, weights(other)[name]) for name, tensor in weights(run).items())


def test_a_policy_that_takes_a_limit_is_told_each_one(tmp_path, monkeypatch):
    class Told(BC):
        """Acts along x as far as it is told to."""

        def policy(self, low=None, high=None, cost_limit=None):
            from saferl.policy import as_policy

            return as_policy(lambda observations: np.tile(np.float32([cost_limit / 100, 0]), (len(observations), 1)))

    monkeypatch.setitem(AGENTS, "bc", (ActingConfig, Told))
    monkeypatch.setattr("saferl.benchmarking.plan.code_version", lambda module: "of a test")
    run = planned(tmp_path, "limits=[0,50]").runs[0]
    complete_run(run)
    still, moving = (json.loads((run.folder / each.file_name).read_text()) for each in run.evaluations)
    assert (still["limit"], moving["limit"]) == (0, 50)
    assert still["returns"] != moving["returns"]


def test_a_mistake_of_the_data_is_told_in_its_own_words(run, tmp_path):
    wrong = replace(run, folder=tmp_path / "wrong", config=replace(run.config, env="Pendulum-v1"))
    with pytest.raises(CallError, match="11 values, but Pendulum-v1 has 3"):
        complete_run(wrong)


def test_a_bug_is_told_with_the_file_that_has_its_traceback(run, tmp_path, monkeypatch):
    monkeypatch.setattr(BC, "update", lambda self, batch: 1 / 0)
    broken = replace(run, folder=tmp_path / "broken")
    with pytest.raises(CallError, match=r"ZeroDivisionError: division by zero \(traceback in .*log\.txt\)"):
        complete_run(broken)
    assert "in complete_run\n" in broken.log.read_text()


def test_data_are_read_once_for_the_runs_of_a_task(run, tmp_path, monkeypatch):
    import saferl.benchmarking.runs as module

    reads = []
    load = module.load_dataset
    monkeypatch.setattr(module, "_KEPT", {})
    monkeypatch.setattr(module, "load_dataset", lambda env, path: reads.append(path) or load(env, path))
    for name in ("a", "b"):
        complete_run(replace(run, folder=tmp_path / name))
    assert len(reads) == 1
