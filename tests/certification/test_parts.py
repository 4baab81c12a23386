"""What else a safety case shows, and the page as a whole."""

import html.parser
import json
import re

import numpy as np
import pytest

from saferl.adversaries.report import label
from saferl.certification.gate import Constraint, decide
from saferl.certification.parts import cut, parts_of, shown
from saferl.certification.pictures import checks_figure
from saferl.certification.safety_case import safety_case_page
from saferl.command_line import UsageError
from saferl.evaluation.figures import new_figure, save_figure
from saferl.evaluation.report import evaluation_facts
from saferl.evaluation.rollout import Episodes
from saferl.training.run_folder import RunFolder

HEADINGS = ["Guardian coverage", "Attack curve", "Reachability audit"]


def evaluation(costs):
    costs = np.asarray(costs, np.float64)
    counts = np.asarray(costs > 0, np.int64)
    return evaluation_facts(Episodes(counts, costs, costs, counts, counts + 1), None, [1.0])


def rate(share):
    return {"count": 1, "total": 10, "rate": share, "low": share / 2, "high": 2 * share}


AUDIT = {
    "samples": [
        {
            "overall": {
                "name": "uniform over the box",
                **{key: rate(0.01 * i) for i, key in enumerate(("infeasible", "iou", "false_safe", "false_unsafe"), 3)},
            }
        }
    ]
}


def test_nothing_there_is_said():
    assert parts_of(None) == ([], HEADINGS)


def test_each_part_is_read_from_the_run_or_from_evidence(tmp_path):
    run, other = tmp_path / "run", tmp_path / "attack"
    for folder in (run, other):
        folder.mkdir()
    (run / "guardian.json").write_text(json.dumps({"coverage": {"data": 0.95}, "threshold": 0.1}))
    (run / "eval.json").write_text(json.dumps({"per_episode": {}, "audit": AUDIT}))
    attacked = [{"adversary": "mc", "eps": 0.1, **evaluation([0, 3, 3])}]
    (other / "attacks.json").write_text(json.dumps(attacked))
    for path in (run / "audit.png", other / "curves.png"):
        save_figure(new_figure(1, 1, 1, 1), path, "")
    parts, absent = parts_of(RunFolder(run), [other])
    assert [part.title for part in parts] == HEADINGS
    assert absent == []
    guardian, attack, audit = parts
    assert guardian.facts == {"coverage data": 0.95, "threshold": 0.1}
    (row,) = attack.tables[""]
    assert (row["adversary"], row["eps"], row["cost"]) == ("mc", 0.1, 2.0)
    assert row["episodes that cost anything"].startswith("66.67 % [")
    assert label(attacked[0]) == "mc, eps 0.1"  # what the attack's own report calls it
    (row,) = audit.tables[""]
    assert row["false-safe (learned safe, truly unsafe)"] == "5.00 % [2.50, 10.00]"
    assert [[path.name for path in part.pictures] for part in parts] == [[], ["curves.png"], ["audit.png"]]


def test_an_evaluation_without_an_audit_is_none(tmp_path):
    (tmp_path / "eval.json").write_text(json.dumps(evaluation([0, 1])))
    assert parts_of(RunFolder(tmp_path))[1] == HEADINGS


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "holds nothing that a safety case shows; known: guardian.json"), ([{"a": 1}], "not what its name says")],
)
def test_wrong_evidence_costs_one_line(content, message, tmp_path):
    if content is not None:
        (tmp_path / "attacks.json").write_text(json.dumps(content))
    with pytest.raises(UsageError) as error:
        parts_of(None, [tmp_path])
    assert message in str(error.value)


def test_a_foreign_file_shows_its_plain_values_and_its_records():
    values = {"name": "x", "rates": {"low": 0.25}, "curve": [{"eps": 1, "cost": {"mean": 2.0}}], "list": [1, 2]}
    assert shown(values) == ({"name": "x", "rates low": 0.25}, {"curve": [{"eps": 1, "cost mean": 2.0}]})
    assert cut([{"a": 1}] * 70)[1] == 10


def certificate(**changes):
    constraint = Constraint(kind="event", limit=0.1, delta=0.05, bound="clopper_pearson")
    decision = decide([constraint], np.arange(100) < 20)
    facts = {
        "verdict": decision.verdict,
        "reasons": ["it <b>isn't</b> shown"],
        "statement": "Not shown.",
        "approximate": False,
        "checks": [check.as_facts() for check in decision.checks],
        "policy": {"given": "x", "name": "<script>", "sha256": "0" * 64, "sha256_of": "the file"},
        "env": "point_robot",
        "env_kwargs": {},
        "test": evaluation(np.arange(100) < 20),
        "split": {"sha256": "1" * 64},
        "assumptions": ["that"],
        "environment": {"time": "now", "saferl": "1", "commit": None, "system": "s", "python": "3"},
    }
    return {**facts, **changes}


class Balanced(html.parser.HTMLParser):
    """Whether every tag that is opened is closed in order; ids that are used twice."""

    def __init__(self):
        super().__init__()
        self.open, self.ids = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "path", "use"):
            self.open.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_startendtag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        if tag not in ("meta", "img", "path", "use"):
            assert self.open.pop() == tag


def test_the_page_is_whole_safe_and_stands_alone():
    facts = certificate()
    pictures = {"checks": (checks_figure(facts["checks"]), "checks")}
    page = safety_case_page(facts, pictures, [], HEADINGS, "python -m saferl.certify policy=<x>")
    reader = Balanced()
    reader.feed(page)
    assert reader.open == []
    assert len(set(reader.ids)) == len(reader.ids) > 0
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)  # nothing is fetched
    assert "<script>" not in page
    assert "it &lt;b&gt;isn&#x27;t&lt;/b&gt; shown" in page
    assert "Guardian coverage; Attack curve; Reachability audit: none found." in page
    assert f"<td>{0.2772:.4g}</td>" in page  # the recorded bound of 20 in 100 at delta 0.05


def test_a_test_that_was_not_opened_says_so():
    facts = certificate(checks=[], test=None)
    assert "The test half was not opened." in safety_case_page(facts, {}, [], [], "x")
