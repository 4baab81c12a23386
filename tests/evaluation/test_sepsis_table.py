"""The sepsis table: every row can be trained, and what is on disk is read, averaged and judged."""

import importlib.metadata
import json

import numpy as np
import pytest

from saferl.agents import AGENTS

try:
    importlib.metadata.distribution("icu-sepsis")
except importlib.metadata.PackageNotFoundError:
    pytest.skip("icu-sepsis: python -m saferl.install_envs --medical", allow_module_level=True)

from benchmarks import sepsis_planner, sepsis_table
from benchmarks.sepsis_table import LIMITS, ROWS, Training, table, trainings
from saferl.command_line import composed
from saferl.envs.icu_sepsis import finite_model, optimum
from saferl.envs.icu_sepsis.model import LIVE
from saferl.offline_data.icu_sepsis import generate


def test_every_agent_has_a_row_and_every_setting_is_known():
    presets = {composed("config", [f"agent={preset}"]).agent.name for preset, _ in ROWS.values()}
    assert presets == set(AGENTS)
    planned = list(trainings(list(ROWS), 2))  # makes each agent's settings
    assert len({each.run.path for each in planned}) == len(planned)
    assert [each.limit for each in planned if each.row == "cql_lag" and each.seed == 1] == list(LIMITS)
    assert [each.limit for each in planned if each.row in ("bc", "caps")] == [None] * 4
    assert [each.limit for each in planned if each.row == "bc_boundary"] == [0.7, 0.7]  # the one that data can meet


def test_results_are_averaged_over_seeds_and_costs_above_a_limit_marked(tmp_path, monkeypatch):
    monkeypatch.setattr(sepsis_table, "OUT", tmp_path)
    monkeypatch.setattr(sepsis_table, "references", dict)
    for row, seed, survival, cost in (("cql", 0, 0.8, 0.4), ("cql", 1, 0.7, 0.56), ("carl", 0, 0.86, 0.6)):
        training = Training(row, None if row == "cql" else LIMITS[1], seed)
        training.run.path.mkdir(parents=True)
        told = [f"{limit:g}" for limit in (LIMITS if row == "cql" else LIMITS[1:2])]
        report = {"survival": survival, "mortality": 1 - survival, "cost": cost, "exact": row == "cql"}
        training.results[0].write_text(json.dumps({"limits": dict.fromkeys(told, report)}))
    fallback = {"survival": 0.84, "mortality": 0.16, "cost": 0.55, "exact": True}
    training.results[1].write_text(json.dumps({"limits": {"0.5": fallback}}))
    lines = table(list(ROWS), 3).splitlines()
    assert lines[2] == "| carl | 1 |  | ~0.860 / 0.60 ✗ |  | 0.140 |  |  |  |"
    assert lines[3] == "| carl, fallback | 1 |  | 0.840 / 0.55 ✗ |  | 0.160 |  |  |  |"
    cql = "| cql | 2 | 0.750 / 0.48 ✗ | **0.750 / 0.48** | **0.750 / 0.48** | 0.250 |  |  |  |"
    assert lines[4] == cql
    assert len(lines) == 5


def test_a_model_counted_from_endless_data_has_the_true_optimum():
    model = finite_model()
    best = optimum(sepsis_planner.counted_model(1e6 * model.outcomes[model.rows], 1.0), 0.5)
    assert best.value.survival == pytest.approx(0.863302, abs=0.012)  # death leaks in, a thousandth a step
    assert model.value(best.policy).survival == pytest.approx(0.863302, abs=0.012)


def test_counts_are_those_of_the_data():
    data = generate(50, seed=1)
    found = sepsis_planner.counts(data)
    assert found.sum() == len(data)
    assert found[:, :, LIVE:].sum(axis=(0, 1)).tolist() == [50 - data.rewards.sum(), data.rewards.sum(), 0]
    first = finite_model().observations[:LIVE]
    state, after = ((first == row).all(1).argmax() for row in (data.observations[0], data.next_observations[0]))
    level = np.floor((data.actions[0] + 1) / 0.4).astype(int)
    assert found[state, 5 * level[0] + level[1], after] >= 1
