"""The sepsis table: every row can be trained, and what is on disk is read, averaged and judged."""

import importlib.metadata
import json

import pytest

from saferl.agents import AGENTS

try:
    importlib.metadata.distribution("icu-sepsis")
except importlib.metadata.PackageNotFoundError:
    pytest.skip("icu-sepsis: python -m saferl.install_envs --medical", allow_module_level=True)

from benchmarks import sepsis_table
from benchmarks.sepsis_table import LIMITS, ROWS, Training, table, trainings
from saferl.command_line import composed


def test_every_agent_has_a_row_and_every_setting_is_known():
    presets = {composed("config", [f"agent={preset}"]).agent.name for preset, _ in ROWS.values()}
    assert presets == set(AGENTS)
    planned = list(trainings(list(ROWS), 2))  # makes each agent's settings
    assert len({each.run.path for each in planned}) == len(planned)
    assert [each.limit for each in planned if each.row == "cql_lag" and each.seed == 1] == list(LIMITS)
    assert [each.limit for each in planned if each.row in ("bc", "caps")] == [None] * 4


def test_results_are_averaged_over_seeds_and_costs_above_a_limit_marked(tmp_path, monkeypatch):
    monkeypatch.setattr(sepsis_table, "OUT", tmp_path)
    monkeypatch.setattr(sepsis_table, "references", dict)
    for row, seed, survival, cost in (("cql", 0, 0.8, 0.4), ("cql", 1, 0.7, 0.56), ("carl", 0, 0.86, 0.6)):
        training = Training(row, None if row == "cql" else LIMITS[1], seed)
        training.run.path.mkdir(parents=True)
        told = [f"{limit:g}" for limit in (LIMITS if row == "cql" else LIMITS[1:2])]
        report = {"survival": survival, "mortality": 1 - survival, "cost": cost, "exact": row == "cql"}
        training.results.write_text(json.dumps({"limits": dict.fromkeys(told, report)}))
    lines = table(list(ROWS), 3).splitlines()
    assert lines[2] == "| carl | 1 |  | ~0.860 / 0.60 ✗ |  | 0.140 |  |  |  |"
    cql = "| cql | 2 | 0.750 / 0.48 ✗ | **0.750 / 0.48** | **0.750 / 0.48** | 0.250 |  |  |  |"
    assert lines[3] == cql
    assert len(lines) == 4
