"""Scores of runs, and what they say about agents and pairs of them."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from saferl.evaluation.benchmark.summary import (
    SCORES,
    improvements,
    improvements_csv,
    run_scores,
    statistics_csv,
    summaries,
)  # fmt: skip
from tests.evaluation.benchmark.made_up import benchmark, result


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_a_run_is_a_seed_on_a_task_averaged_over_limits():
    results = [result(seed=seed, limit=limit, cost=30.0) for seed in (0, 1) for limit in (20.0, 40.0)]
    scores = run_scores(results, SCORES["normalised_cost"])
    assert scores == {"bc": {"PointCircle1": pytest.approx([(1.5 + 0.75) / 2] * 2)}}


def test_a_seed_that_lacks_a_limit_is_no_run():
    whole = benchmark(agents=("bc", "cpq"))
    results = [each for each in whole if (each.agent, each.task, each.seed, each.limit) != ("cpq", "CarPush1", 1, 20.0)]
    scores = run_scores(results, SCORES["normalised_return"])
    assert len(scores["cpq"]["CarPush1"]) == 2
    assert len(scores["cpq"]["CarPush2"]) == 3
    assert len(scores["bc"]["CarPush1"]) == 3
    assert {each.agent: each.runs["normalised_cost"] for each in summaries(results)} == {"bc": 6, "cpq": 5}


def test_judging_one_policy_at_more_limits_makes_no_interval_shorter():
    once = benchmark(agents=("bc",), limits=(20.0,))
    thrice = [replace(each, limit=limit) for each in once for limit in (20.0, 40.0, 80.0)]
    (one,), (three,) = summaries(once), summaries(thrice)
    ends = [(each.low, each.high) for each in (one.iqms["normalised_return"], three.iqms["normalised_return"])]
    assert ends[0] == pytest.approx(ends[1])


def test_agents_come_by_their_safe_return():
    # bc earns most and is the only one that breaks a limit: 2.5 of it, then 1.25.
    assert [each.agent for each in summaries(benchmark())] == ["cpq", "fisor", "bc"]


def test_the_share_of_safe_results_counts_every_limit():
    results = benchmark(agents=("bc",), limits=(20.0, 80.0))  # cost 50
    assert summaries(results)[0].safe_share == 0.5


def test_an_agent_that_lacks_a_task_says_so():
    results = [each for each in benchmark() if (each.agent, each.task) != ("cpq", "CarPush2")]
    tasks = {each.agent: (each.tasks["normalised_cost"], each.all_tasks) for each in summaries(results)}
    assert tasks == {"bc": (2, 2), "cpq": (1, 2), "fisor": (2, 2)}


def test_without_reference_returns_only_the_cost_is_known():
    (summary,) = summaries(benchmark(agents=("bc",), normalised_returns=None))
    assert list(summary.iqms) == ["normalised_cost"]
    assert {each.score for each in improvements(benchmark(normalised_returns=None))} == {"normalised_cost"}


def test_of_costs_the_smaller_is_the_improvement():
    chance = {(each.score, each.agent, each.over): each.probability.value for each in improvements(benchmark())}
    assert chance["normalised_cost", "fisor", "bc"] == 1
    assert chance["normalised_return", "fisor", "bc"] == 0
    assert chance["safe_return", "fisor", "bc"] == 1
    assert len(chance) == 3 * 3 * 2


def test_agents_that_share_no_task_are_not_compared():
    results = benchmark(agents=("bc",), tasks=("CarPush1",)) + benchmark(agents=("cpq",), tasks=("CarPush2",))
    assert improvements(results) == []


def test_the_statistics_file_has_a_row_for_each_family_and_for_all():
    results = benchmark(agents=("bc",)) + benchmark(("bc",), ("BallRun",), family="bullet_safety_gym", seeds=1)
    table = {(row["family"], row["score"]): row for row in rows(statistics_csv(results))}
    assert {family for family, _ in table} == {"all", "bullet_safety_gym", "safety_gymnasium_navigation"}
    assert float(table["safety_gymnasium_navigation", "normalised_return"]["mean"]) == pytest.approx(0.82)
    assert float(table["all", "normalised_return"]["mean"]) == pytest.approx(np.mean([0.82, 0.82, 0.8]), abs=1e-5)
    assert table["bullet_safety_gym", "normalised_return"]["iqm_low"] == ""  # one seed has no interval


def test_the_improvements_file_holds_every_ordered_pair():
    table = rows(improvements_csv(improvements(benchmark(agents=("bc", "cpq")))))
    assert {(row["score"], row["agent"], row["over"]) for row in table} == {
        (score, *pair) for score in SCORES for pair in (("bc", "cpq"), ("cpq", "bc"))
    }
