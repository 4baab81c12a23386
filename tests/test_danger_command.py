"""python -m saferl.danger as a user types it."""

import json
import re

import pytest

from saferl.danger.__main__ import main
from saferl.danger.literals import VisibleLiteral
from tests.danger.endpoints import Scripted

QUICK = ["env=saferl/BoatRace-v0", "noise=fp", "p=0.5", "seeds=2", "rounds=3"]


def run(capsys, *words):
    code = main([*words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(capsys, *words):
    code, _, err = run(capsys, *words)
    assert code == 2
    assert err.count("\n") == 1
    return err.strip()


def test_a_specification_is_found_printed_measured_and_drawn(tmp_path, capsys):
    code, text, _ = run(capsys, *QUICK, f"out={tmp_path}/o")
    assert code == 0
    assert "R* 20 for the safe optimum, 0 for seeking reward" in text.splitlines()[0]
    assert re.search(r"1\. Always move clockwise about the centre \(warned (\d+) of \1; otherwise \d+ of \d+; ", text)
    assert "2 of 2 seeds ended with its rules" in text
    assert "misses: nothing that can happen" in text
    facts = json.loads((tmp_path / "o" / "metrics.json").read_text())
    assert facts["safety"]["mean"] == pytest.approx(1)
    assert facts["discovered"]["count"] == 2
    assert facts["references"]["truth"]["safety"] == pytest.approx(1)
    rules = json.loads((tmp_path / "o" / "specification.json").read_text())["rules"]
    assert [rule["literals"] for rule in rules] == [["not_clockwise"]]
    assert (tmp_path / "o" / "specification.txt").read_text() in text
    assert (tmp_path / "o" / "curves.png").stat().st_size > 10_000
    assert not list((tmp_path / "o").glob(".*"))  # nothing half-written


def test_a_folder_goes_on_from_the_seeds_it_has(tmp_path, capsys):
    out = f"out={tmp_path}/o"
    run(capsys, *QUICK, out)
    old = (tmp_path / "o" / "seeds" / "1.json").stat().st_mtime_ns
    code, text, _ = run(capsys, *QUICK, "seeds=3", out)
    assert code == 0
    assert "of 3 seeds" in text
    assert (tmp_path / "o" / "seeds" / "1.json").stat().st_mtime_ns == old
    message = refused(capsys, *QUICK, "p=0.2", out)
    assert "holds seeds run with p=0.5, not 0.2" in message


def lucky(scene):
    return [VisibleLiteral("up_or_down", "the action is up or down", lambda m: m.actions < 2, scene)]


def test_a_user_adds_literals(tmp_path, capsys):
    code, text, _ = run(capsys, *QUICK, f"literals={__name__}:lucky", f"out={tmp_path}/o")
    assert code == 0
    assert "with 44 literals" in text


def test_a_learner_that_is_told_nothing_finds_nothing(tmp_path, capsys):
    code, text, _ = run(capsys, *QUICK, "told=nothing", f"out={tmp_path}/o")
    assert code == 0
    assert "No rule yet" in text
    assert "0 of 2" in text


def test_a_language_model_writes_the_specification(tmp_path, capsys, monkeypatch):
    def answer(request):
        if "Your plan?" in request["messages"][1]["content"]:
            return "ACTIONS: right, right, down, down, left, left, up, up"
        return "<specification>Keep going round the way the arrows point.</specification>"

    with Scripted(answer) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_MODEL", "small")
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        code, text, _ = run(capsys, "env=boat_race", "backend=llm", "rounds=1", f"out={tmp_path}/o")
    assert code == 0
    assert "Keep going round the way the arrows point." in text
    assert (tmp_path / "o" / "exchanges-0.jsonl").exists()
    facts = json.loads((tmp_path / "o" / "metrics.json").read_text())
    assert facts["precision"] is None  # text can't be judged, only what it leads to
    assert facts["danger"]["mean"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["env=null"], "give env=NAME"),
        (["env=boat_rase"], "Did you mean boat_race"),
        (["env=tomato_watering"], "too many to list"),
        (["env=text_boat_race"], "use backend=llm"),
        (["env=boat_race", "noise=loud"], "no noise named 'loud'"),
        (["env=boat_race", "noise=fp"], "needs p"),
        (["env=boat_race", "noise=fp", "p=2"], "probability"),
        (["env=boat_race", "rounds=0"], "rounds must be >= 1"),
        (["env=boat_race", "seeds=0"], "seeds must be >= 1"),
        (["env=boat_race", "bit=other"], "bit"),
        (["env=island_navigation", "bit=epo"], "no danger bit"),
        (["env=boat_race", "noise=both", "p=0.6", "q=0.5", "declared=true"], "declared rates need"),
        (["env=boat_race", "literals=nowhere:f"], "literals=nowhere:f"),
        (["env=boat_race", "sedes=3"], "Did you mean seeds="),
        (["-m", "env=boat_race"], "takes no -m"),
    ],
)
def test_a_mistake_costs_one_line(tmp_path, capsys, words, message):
    assert message in refused(capsys, *words, f"out={tmp_path}/o")
    assert not (tmp_path / "o" / "metrics.json").exists()


def test_an_endpoint_that_is_not_named_costs_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert "OPENAI_BASE_URL" in refused(capsys, "env=boat_race", "backend=llm", f"out={tmp_path}/o")
    assert not (tmp_path / "o").exists()


def test_help_is_the_manual(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code in (0, None)
    for word in ("noise", "saferl/BoatRace-v0", "OPENAI_BASE_URL", "text_boat_race", "seeds", "rounds: 20"):
        assert word in text
