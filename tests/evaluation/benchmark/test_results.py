"""What a benchmark's folder holds, from results made up by hand."""

import csv
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from saferl.evaluation.benchmark import Failure, write_results
from saferl.evaluation.benchmark import published as published_module
from saferl.evaluation.benchmark.figures import COLOURS, MARKERS, _colour, _marker, frontier
from saferl.evaluation.benchmark.page import report_page
from saferl.evaluation.benchmark.published import published, published_for, published_scores
from saferl.evaluation.benchmark.results import episodes_csv, results_csv
from saferl.evaluation.benchmark.summary import summaries
from tests.evaluation.benchmark.made_up import benchmark, result

ORACLE = Path(__file__).resolve().parents[4] / "shared" / "oracles" / "dsrl" / "dsrl_paper_results.csv"
VOID = {"meta", "br", "hr", "img", "input", "link"}
PICTURES = {"pareto.png", "means.png", "profiles.png", "improvement.png", "pairs.png"}


class Balance(HTMLParser):
    """Fails at a tag that closes another one than the last opened; counts what a page holds."""

    def __init__(self):
        super().__init__()
        self.opened, self.ids = [], []

    def handle_starttag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.opened.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag):
        assert self.opened.pop() == tag


def page_of(folder):
    return checked((folder / "report.html").read_text())


def published_page(rows, published=True):
    """A page without pictures."""
    return checked(report_page(rows, [], "A title", "command", summaries(rows), [], published, {}))


def checked(page):
    """The page, if it is what every page must be."""
    parser = Balance()
    parser.feed(page)
    assert parser.opened == []
    assert len(set(parser.ids)) == len(parser.ids)
    assert set(re.findall(r'href="#([^"]*)"', page)) <= set(parser.ids)
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)  # nothing is loaded
    assert "nan" not in re.sub(r"<svg.*?</svg>|<script.*?</script>", "", page, flags=re.DOTALL).split("<body>")[1]
    return page


def test_scores_of_a_result_by_hand():
    assert result(cost=30.0).normalised_cost == 1.5
    assert not result(cost=30.0).safe
    assert result(cost=30.0, gain=0.7).safe_return == 0
    assert result(cost=30.0, gain=-0.2).safe_return == -0.2
    assert result(cost=20.0, gain=0.7).safe_return == 0.7
    hard = result(limit=0.0, costs=(0.0, 0.0))
    assert (hard.normalised_cost, hard.safe) == (1, True)


def test_a_result_of_no_known_family_or_of_episodes_that_do_not_match_is_refused():
    with pytest.raises(ValueError, match=r"result.family must be one of bullet_safety_gym, .*; got 'mujoco'"):
        result(family="mujoco")
    with pytest.raises(ValueError, match=r"bc on PointCircle1: .*2 returns, 1 costs"):
        result(costs=(1.0,))
    with pytest.raises(ValueError, match="one at least"):
        result(returns=(), costs=(), violations=(), start_seeds=(), normalised_returns=())


def test_the_folder_holds_tables_pictures_and_a_page_that_needs_nothing_else(tmp_path):
    rows = benchmark()
    failure = Failure(agent="cql", task="CarCircle1", seed=1, limit=20.0, cause="loss is <NaN>")
    facts = {"machine": "2 cores"}
    paths = write_results(tmp_path, rows, [failure], "A <title>", "python -m saferl.benchmark", True, facts)
    assert all(path.stat().st_size > 0 for path in paths)
    assert {path.name for path in paths} == {path.name for path in tmp_path.iterdir()}
    tables = {"results.csv", "episodes.csv", "statistics.csv", "improvements.csv", "table.md", "table.tex"}
    assert {path.name for path in paths} == PICTURES | tables | {"report.html"}
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in PICTURES)

    page = page_of(tmp_path)
    assert "A &lt;title&gt;</h1>" in page
    assert "loss is &lt;NaN&gt;" in page
    assert "<dt>machine</dt><dd>2 cores</dd>" in page
    assert page.count("<svg") == len(PICTURES)


def test_the_csv_files_have_a_row_for_each_result_and_episode():
    rows = benchmark()
    table = list(csv.DictReader(results_csv(rows).splitlines()))
    assert len(table) == len(rows)
    assert (table[0]["normalised_cost"], table[0]["safe"], table[0]["safe_return"]) == ("2.5", "False", "0")
    episodes = list(csv.DictReader(episodes_csv(rows).splitlines()))
    assert len(episodes) == 2 * len(rows)
    assert [(each["start_seed"], each["cost"]) for each in episodes[:2]] == [("0", "49"), ("1", "51")]


def test_published_scores_stand_beside_our_own_with_their_source():
    page = published_page(benchmark(agents=("fisor",), limits=(10.0,)))
    row = next(line for line in page.split("<tr>") if "<i>0.28 / 0.28</i>" in line)
    assert ">CarPush1<" in row
    assert "0.82 / 5.00" in row
    assert "<td>10</td>" in row
    assert "FISOR (ICLR 2024) Table 1" in page
    assert "published by others" in page


def test_limits_that_differ_from_the_published_ones_are_marked():
    assert '<td class="warn">10</td>' in published_page(benchmark(agents=("fisor",), limits=(20.0,)))


def test_published_scores_are_shown_only_if_asked_for_and_none_known_is_said():
    assert "FISOR (ICLR 2024)" not in published_page(benchmark(agents=("fisor",)), published=False)
    assert "None is known for these agents and tasks." in published_page(benchmark(agents=("o3srl",)))


@pytest.mark.parametrize(
    "rows",
    [
        benchmark(seeds=1),
        benchmark(agents=("bc",), tasks=("CarPush1",), seeds=1, limits=(20.0,)),
        benchmark(tasks=("CarPush1",)),
        [each for each in benchmark() if (each.agent, each.task) != ("cpq", "CarPush2")],
        [each for each in benchmark() if (each.agent, each.limit) != ("cpq", 40.0)],
        [result(agent, cost=500.0) for agent in ("bc", "cpq")],
        benchmark(limits=(0.0,)),
        benchmark(normalised_returns=None, family="other"),
        benchmark(tasks=("CarPush1",)) + benchmark(tasks=("Mine",), normalised_returns=None, family="other"),
    ],
    ids=[
        "one seed", "one of everything", "one task", "a task missing", "a limit missing", "all unsafe", "limit 0",
        "no reference", "a task without reference",
    ],
)  # fmt: skip
def test_any_shape_of_benchmark_has_a_page(tmp_path, rows):
    paths = write_results(tmp_path, rows, [], "A title", "command", published=True)
    page_of(tmp_path)
    assert {"pareto.png", "means.png", "profiles.png"} <= {path.name for path in paths}


def test_a_benchmark_in_which_all_failed_has_a_page_and_keeps_no_older_pictures(tmp_path):
    write_results(tmp_path, benchmark(), [], "A title", "command")
    failure = Failure(agent="cql", task="CarCircle1", seed=1, limit=None, cause="no data")
    write_results(tmp_path, [], [failure], "A title", "command")
    assert "no data" in page_of(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"results.csv", "episodes.csv", "report.html"}


def test_the_frontier_is_what_no_other_point_beats():
    points = [(1.0, 0.5), (0.5, 0.2), (2.0, 0.5), (0.5, 0.1), (3.0, 0.9), (2.5, 0.4)]
    assert frontier(points) == [(0.5, 0.2), (1.0, 0.5), (3.0, 0.9)]


def test_forty_nine_agents_look_different():
    assert len({(_colour(index), _marker(index)) for index in range(len(COLOURS) * len(MARKERS))}) == 49


def test_published_scores_are_the_recorded_ones():
    if not ORACLE.exists():
        pytest.skip("no recorded scores beside the repository")
    packaged = Path(published_module.__file__).with_name("published_results.csv")
    assert packaged.read_bytes() == ORACLE.read_bytes()
    with ORACLE.open() as file:
        assert len(published_scores()) == len(list(csv.DictReader(file)))


def test_a_published_score_is_found_by_environment_and_method():
    env = "OfflineCarPush1Gymnasium-v0"
    (fisor,) = published(env, "FISOR")  # FISOR (Zheng et al., 2024), Table 1
    assert (fisor.normalised_return, fisor.normalised_cost, fisor.limits) == (0.28, 0.28, (10.0,))
    assert published_for("fisor (steps=100)", env) == published_for("fisor_small", env) == [fisor]
    assert published_for("o3srl", env) == published_for("", env) == published("PointCircle1", "FISOR") == []
