"""Rows of the tables from what runs left in their folders."""

import json
from dataclasses import replace

import pytest

from saferl.benchmarking.plan import Problem
from saferl.benchmarking.results import NOT_FINISHED, results_of
from saferl.benchmarking.runs import complete_run
from tests.benchmarking.small import planned

MEASURED = {"returns": [1.0, 3.0], "costs": [4.0, 8.0], "violations": [4, 5], "seeds": [0, 1]}


@pytest.fixture
def plan(tmp_path):
    """Two seeds at two limits, of which seed 0 is trained and evaluated."""
    plan = planned(tmp_path, "limits=[5,10]")
    complete_run(plan.runs[0])
    (plan.runs[0].folder / plan.runs[0].evaluations[0].file_name).write_text(json.dumps(MEASURED))
    return plan


def test_each_limit_has_a_row_of_the_same_episodes(plan):
    results, _ = results_of(plan, {})
    assert [(each.agent, each.task, each.seed, each.limit) for each in results] == [
        ("bc", "point_robot", 0, 5), ("bc", "point_robot", 0, 10),
    ]  # fmt: skip
    for each in results:
        assert each.returns == (1.0, 3.0)
        assert each.costs == (4.0, 8.0)
        assert each.violations == (4, 5)
        assert each.start_seeds == (0, 1)
        assert (each.env, each.family, each.steps) == ("saferl/PointRobot-v0", "other", 20)
        assert each.train_seconds > 0
    assert [each.safe for each in results] == [False, True]  # a mean cost of 6


def test_returns_are_normalised_by_the_data_where_dsrl_has_no_table(plan):
    results, _ = results_of(plan, {})
    facts = plan.facts["point_robot"]
    span = facts.max_return - facts.min_return
    assert results[0].normalised_returns == pytest.approx([(value - facts.min_return) / span for value in (1.0, 3.0)])


def test_what_is_not_there_is_a_failure_with_its_cause(plan):
    _, failures = results_of(plan, {})
    assert [(each.seed, each.limit, each.cause) for each in failures] == [(1, 5, NOT_FINISHED), (1, 10, NOT_FINISHED)]
    _, failures = results_of(plan, {plan.runs[1].digest: "it broke"})
    assert {each.cause for each in failures} == {"it broke"}
    _, failures = results_of(replace(plan, problems=(Problem("point_robot", None, "no simulator"),)), {})
    assert {each.cause for each in failures} == {"no simulator"}


def test_a_row_names_its_run_folder_as_the_user_would(plan):
    from saferl.training.run_folder import open_run

    results, _ = results_of(plan, {})
    assert open_run(results[0].run).settings()["seed"] == 0
