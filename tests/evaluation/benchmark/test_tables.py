"""The main table by hand, and as Markdown and LaTeX."""

import numpy as np
import pytest

from saferl.evaluation.benchmark.tables import as_latex, as_markdown, caption, latex_text, main_table
from tests.evaluation.benchmark.made_up import benchmark, result

MEAN = "Safety-Gymnasium navigation mean"


def test_a_cell_averages_seeds_and_limits_and_the_best_is_the_best_safe_one():
    pairs = [(seed, limit) for seed in (0, 1) for limit in (20.0, 40.0)]
    rows = [
        result(agent, seed=seed, limit=limit, gain=gain, cost=cost)
        for agent, gain, cost in (("bc", 0.9, 60.0), ("cpq", 0.4, 10.0), ("cql", 0.3, 1.0))
        for seed, limit in pairs
    ]
    table = main_table(rows)
    assert table.cells["bc", "PointCircle1"].normalised_cost == pytest.approx((3 + 1.5) / 2)
    assert table.best("PointCircle1") == "cpq"


def test_limits_weigh_the_same_though_seeds_are_missing_and_the_cell_is_marked_and_not_ranked():
    rows = [result("bc", seed=seed, limit=limit, cost=1.0, gain=0.1) for seed in (0, 1, 2) for limit in (20.0, 40.0)]
    rows += [result("cpq", seed=seed, limit=40.0, cost=20.0) for seed in (0, 1, 2)] + [result("cpq", cost=20.0)]
    table = main_table(rows)
    assert table.cells["cpq", "PointCircle1"].normalised_cost == pytest.approx((1 + 0.5) / 2)
    assert table.best("PointCircle1") == "bc"
    assert "0.50 / 0.75†" in as_markdown(rows)
    assert r"0.50 / 0.75$^\dagger$" in as_latex(rows)
    assert "†: mean of what there is" in caption(rows, "Grey")


def test_nobody_is_best_where_all_are_unsafe():
    rows = [result("bc", cost=90.0), result("cpq", cost=50.0)]
    assert main_table(rows).best("PointCircle1") is None
    assert "**" not in as_markdown(rows)


def test_a_family_has_a_mean_only_of_agents_that_did_all_its_tasks():
    rows = [result("bc"), result("bc", task="CarCircle1", gain=0.1), result("cpq")]
    table = main_table(rows)
    assert table.cells["bc", MEAN].normalised_return == pytest.approx(0.3)
    assert ("cpq", MEAN) not in table.cells


def test_the_limit_zero_is_kept_by_no_cost_alone():
    rows = [result("bc", limit=0.0, costs=(0.0, 0.0)), result("cpq", limit=0.0, costs=(0.0, 1.0))]
    cells = main_table(rows).cells
    assert (str(cells["bc", "PointCircle1"]), cells["bc", "PointCircle1"].safe) == ("0.50 / 1.00", True)
    assert (str(cells["cpq", "PointCircle1"]), cells["cpq", "PointCircle1"].safe) == ("0.50 / 1.50", False)


def test_returns_without_reference_are_shown_as_they_are_and_averaged_with_no_others():
    rows = [result("bc", normalised_returns=None), result("bc", task="CarCircle1"), result("cpq", cost=1.0)]
    rows += [result("cpq", task="CarCircle1")]
    table = main_table(rows)
    assert str(table.cells["bc", "PointCircle1"]) == "25 / 0.50"
    assert ("bc", MEAN) not in table.cells
    assert "The return is not normalised on PointCircle1." in caption(rows, "Grey")
    assert "nan" not in as_markdown(rows) + as_latex(rows)


def test_every_limit_has_a_table_beside_the_mean_over_them():
    text = as_markdown(benchmark())
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "### Mean over cost limits", "### Cost limit 20", "### Cost limit 40",
    ]  # fmt: skip
    assert "| cpq | **0.62 / 0.62** |" in text.split("### ")[2]
    assert "| bc | 0.82 / 2.50 ✗ |" in text.split("### ")[2]
    assert "| bc | 0.82 / 1.25 ✗ |" in text.split("### ")[3]
    assert "Mean over" not in as_markdown(benchmark(limits=(20.0,)))


def test_tasks_go_down_below_their_family_unless_agents_are_more():
    families = benchmark(agents=("bc",)) + benchmark(("bc",), ("BallRun",), family="bullet_safety_gym")
    down = [line.split("|")[1].strip() for line in as_markdown(families).splitlines()[2:9]]
    assert down == [
        "task", "---", "**Bullet Safety Gym**", "BallRun", "**Safety-Gymnasium navigation**", "CarPush1", "CarPush2",
    ]  # fmt: skip
    across = as_markdown(benchmark(tasks=("CarPush1",))).splitlines()
    assert [line.split("|")[1].strip() for line in across[2:7]] == ["agent", "---", "bc", "cpq", "fisor"]


def test_the_caption_tells_seeds_episodes_limits_of_each_family_and_updates():
    rows = benchmark() + benchmark(tasks=("BallRun",), family="bullet_safety_gym", limits=(10.0,), steps=100_000)
    text = caption(rows, "Grey")
    assert "3 training seeds; 2 episodes for each seed and limit, from the same start seeds for all agents" in text
    assert "cost limits 10 (Bullet Safety Gym); 20, 40 (Safety-Gymnasium navigation); 10, 100,000 updates" in text
    assert "Grey: unsafe." in text


def test_latex_rows_have_as_many_cells_as_columns_and_no_bare_special_character():
    rows = benchmark(agents=("bc", "cpq_50%", r"a&b#{x}~^\ ")) + [result("bc", task="CarPush3")]
    lines = as_latex(rows).splitlines()
    heads = [line for line in lines if line.startswith("task &")]
    assert heads[0] == r"task & bc & cpq\_50\% & a\&b\#\{x\}\textasciitilde{}\textasciicircum{}\textbackslash{}  \\"
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    assert {line.replace(r"\&", "").count("&") for line in body} == {3}
    assert all(line.endswith(r"\\") for line in body)


def test_latex_text_of_a_command_is_harmless():
    assert latex_text(r"\input{x_y}") == r"\textbackslash{}input\{x\_y\}"


def test_a_bar_in_a_name_breaks_no_markdown_row():
    assert r"a\|b" in as_markdown(benchmark(agents=("a|b", "c", "d")))


def test_the_table_says_nothing_of_an_agent_without_results_there():
    rows = [*benchmark(agents=("bc", "cpq")), result("bc", task="CarCircle1", seed=0)]
    assert ("cpq", "CarCircle1") not in main_table(rows).cells
    assert np.isnan(main_table(rows).cells["bc", MEAN].mean_return)
