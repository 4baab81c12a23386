"""What a benchmark's folder holds, from results made up by hand."""

import csv
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from saferl.evaluation.benchmark import Failure, Result, write_results
from saferl.evaluation.benchmark.published import published_for, published_scores
from saferl.evaluation.benchmark.tables import main_table

ORACLE = Path(__file__).resolve().parents[4] / "shared" / "oracles" / "dsrl" / "dsrl_paper_results.csv"


def result(agent="bc", task="PointCircle1", seed=0, limit=20.0, gain=0.5, cost=10.0, **more):
    facts = {
        "env": f"Offline{task}Gymnasium-v0", "family": "safety_gymnasium_navigation", "returns": (gain * 50,) * 2,
        "costs": (cost - 1, cost + 1), "violations": (int(cost),) * 2, "start_seeds": (0, 1),
        "normalised_returns": (gain,) * 2, "steps": 10, "train_seconds": 1.0, "run": "runs/x",
    }  # fmt: skip
    return Result(agent=agent, task=task, seed=seed, limit=limit, **(facts | more))


def test_scores_of_a_result_by_hand():
    assert result(cost=30.0).normalised_cost == 1.5
    assert not result(cost=30.0).safe
    assert result(cost=30.0, gain=0.7).safe_return == 0
    assert result(cost=30.0, gain=-0.2).safe_return == -0.2
    assert result(cost=20.0, gain=0.7).safe_return == 0.7
    hard = result(limit=0.0, costs=(0.0, 0.0))
    assert (hard.normalised_cost, hard.safe) == (1, True)


def test_a_cell_averages_seeds_and_limits_and_the_best_is_the_best_safe_one():
    rows = [result("bc", seed=seed, limit=limit, gain=0.9, cost=60.0) for seed in (0, 1) for limit in (20.0, 40.0)] + [
        result("cpq", gain=0.4, cost=10.0),
        result("cql", gain=0.3, cost=1.0),
    ]
    table = main_table(rows)
    assert table.cells["bc", "PointCircle1"].normalised_cost == pytest.approx((3 + 1.5) / 2)
    assert table.best("PointCircle1") == "cpq"


def test_a_family_has_a_mean_only_of_agents_that_did_all_its_tasks():
    rows = [result("bc"), result("bc", task="CarCircle1", gain=0.1), result("cpq")]
    table = main_table(rows)
    mean = "Safety-Gymnasium navigation mean"
    assert table.cells["bc", mean].normalised_return == pytest.approx(0.3)
    assert ("cpq", mean) not in table.cells


def test_the_folder_holds_tables_pictures_and_a_page_that_needs_nothing_else(tmp_path):
    rows = [
        result(agent, task, seed, limit, gain, cost)
        for agent, gain, cost in (("bc", 0.8, 50.0), ("cpq", 0.4, 5.0))
        for task in ("CarPush1", "CarPush2")
        for seed in (0, 1, 2)
        for limit in (20.0, 40.0)
    ]
    failure = Failure(agent="cql", task="CarCircle1", seed=1, limit=20.0, cause="loss is <NaN>")
    paths = write_results(tmp_path, rows, [failure], "A title", "python -m saferl.benchmark", published=True)
    assert all(path.stat().st_size > 0 for path in paths)
    assert {path.name for path in paths} == {path.name for path in tmp_path.iterdir()}
    with (tmp_path / "results.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(rows)
    assert (table[0]["normalised_cost"], table[0]["safe"]) == ("2.5", "False")
    assert "**0.40 / 0.19**" in (tmp_path / "table.md").read_text()
    assert r"\textbf{0.40 / 0.19}" in (tmp_path / "table.tex").read_text()

    page = (tmp_path / "report.html").read_text()
    HTMLParser().feed(page)
    assert "loss is &lt;NaN&gt;" in page
    assert "Published by others" in page
    assert page.count("<svg") == 4
    assert not re.findall(r'(?:src|href)="(?!#)', re.sub(r'xmlns[^"]*"[^"]*"', "", page))  # nothing is loaded


def test_a_benchmark_in_which_all_failed_still_has_a_page(tmp_path):
    failure = Failure(agent="cql", task="CarCircle1", seed=1, limit=None, cause="no data")
    write_results(tmp_path, [], [failure], "A title", "command")
    assert "no data" in (tmp_path / "report.html").read_text()


def test_tasks_without_reference_returns_have_tables_without_scores(tmp_path):
    write_results(tmp_path, [result(normalised_returns=None)], [], "A title", "command")
    assert (tmp_path / "table.md").exists()


def test_published_scores_are_the_recorded_ones():
    if not ORACLE.exists():
        pytest.skip("no recorded scores beside the repository")
    with ORACLE.open() as file:
        assert len(published_scores()) == len(list(csv.DictReader(file)))
    fisor = published_for("fisor", "OfflineCarPush1Gymnasium-v0")
    assert [(each.normalised_return, each.normalised_cost, each.limits) for each in fisor] == [(0.28, 0.28, "10")]
    assert published_for("o3srl", "OfflineCarPush1Gymnasium-v0") == []
