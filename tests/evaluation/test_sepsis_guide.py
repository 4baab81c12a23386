"""docs/sepsis.md against the values that test_icu_sepsis.py checks; its code and commands run."""

import contextlib
import importlib.metadata
import io
import re
import subprocess
from pathlib import Path

import pytest
import torch

from benchmarks import measured, sepsis_planner, sepsis_table
from saferl import install_envs
from saferl.offline_data import icu_sepsis
from saferl.training.trained import load_policy
from tests.training.small import trained

GUIDE = (Path(__file__).parents[2] / "docs" / "sepsis.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


def commands(module):
    """The words of each command of the guide that runs the module."""
    lines = re.findall(rf"python -m {re.escape(module)}(?![\w.]) ?([^`#\n]*)", GUIDE)
    return [line.split() for line in lines]


def row(first):
    """The numbers of the table row that begins with ``first``."""
    line = re.search(rf"^\| {re.escape(first)} \|(.*)\|$", GUIDE, re.MULTILINE)
    return [float(cell) for cell in line[1].split("|") if cell.strip()]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with a few episodes, recorded by the guide's command."""
    try:
        importlib.metadata.distribution("icu-sepsis")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("icu-sepsis: python -m saferl.install_envs --medical")
    folder = tmp_path_factory.mktemp("guide")
    (words,) = commands("saferl.offline_data.icu_sepsis")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert icu_sepsis.main([*words, "n_episodes=20"]) == 0
    assert (folder / "clinicians.hdf5").exists()
    return folder


@pytest.fixture
def inside(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    return workplace


def test_every_command_is_run_below():
    modules = {"saferl.install_envs", "saferl.train", "saferl.offline_data.icu_sepsis"}
    modules |= {"benchmarks.sepsis_planner", "benchmarks.sepsis_table", "benchmarks.measured"}
    assert set(re.findall(r"python -m ([\w.]+)", GUIDE)) == modules


def test_the_install_command_runs(monkeypatch):
    called = []
    monkeypatch.setattr(subprocess, "call", lambda command: called.append(command) or 0)
    (words,) = commands("saferl.install_envs")
    assert install_envs.main(words) == 0
    assert called == install_envs.commands(bullet=False, medical=True)
    assert f"icu-sepsis {called[-1][-1].partition('==')[2]}," in GUIDE  # the release that the guide names


def test_the_training_command_runs_and_its_policy_is_evaluated_exactly(inside):
    (words,) = commands("saferl.train")
    small = ["agent.hidden=16", "agent.batch_size=32", "agent.candidates=3", "data.path=clinicians.hdf5"]
    run = trained(inside, *small, "steps=2", "eval_episodes=1", agent=words)
    scope = {"run": run}
    exec(BLOCKS[2], scope)
    report, model = scope["report"], scope["model"]
    assert report == scope["exact_report"](model, scope["policy_table"](model, load_policy(run)))
    assert 0.5 < report.survival == pytest.approx(1 - report.mortality)
    assert report.cost > 0.375427  # which no policy goes below


def test_the_code_prints_the_figures(workplace):
    printed = io.StringIO()
    scope = {}
    with contextlib.redirect_stdout(printed):
        for block in BLOCKS[:2]:  # the third needs a run
            exec(block, scope)
    numbers = [float(each) for each in re.findall(r"=(\d*\.\d+)", printed.getvalue())]
    clinicians = row("clinicians")
    assert numbers[:3] == pytest.approx([clinicians[0], clinicians[2], clinicians[1]], abs=1e-6)
    limits, survival = row("SOFA cost"), row("survival")
    assert numbers[4] == pytest.approx(survival[limits.index(0.5)], abs=1e-6)
    model = scope["model"]
    uniform = model.value(model.uniform)
    figures = [uniform.survival, uniform.length, uniform.cost, model.value(model.uniform, "fluid").cost]
    assert row("uniform random") == pytest.approx(figures, abs=1e-6)
    assert icu_sepsis.main(["epsilon=0"]) == 2


def test_the_planner_prints_its_table(workplace, monkeypatch, capsys):
    (words,) = commands("benchmarks.sepsis_planner")
    monkeypatch.setattr(sepsis_planner, "EPISODES", (200,))
    assert sepsis_planner.main(words) == 0
    head, line, *rows = capsys.readouterr().out.splitlines()
    assert f"\n{head}\n{line}\n" in GUIDE
    assert [each.split("|")[2].strip() for each in rows] == ["3", "30", "100"]
    assert float(rows[0].split("|")[3].split("/")[1]) <= 0.5
    assert "no policy has a cost" in rows[-1]  # so few data are drawn far


def test_the_guides_table_is_what_the_benchmark_prints_from_the_kept_results(workplace, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (unpack,) = commands("benchmarks.measured")
    measured.main(unpack)
    table, show = commands("benchmarks.sepsis_table")
    assert table == []
    monkeypatch.setattr(sepsis_table, "references", dict)  # clinicians, chance and the optimum: see test_sepsis.py
    capsys.readouterr()
    assert sepsis_table.main(show) == 0
    head, line, *rows = capsys.readouterr().out.splitlines()
    assert f"\n{head}\n{line}\n" in GUIDE
    assert {each.split(" | ")[1] for each in rows} == {"1"}
    assert sepsis_table.main([*table, "show=true"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert len(rows) >= len(sepsis_table.ROWS)
    for each in rows:
        assert f"\n{each}\n" in GUIDE


def test_the_table_is_trained_where_nothing_is_there(workplace, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, value in {"STEPS": 2, "DATA_EPISODES": 50, "EPISODES": 2, "LIMITS": (0.5, 0.7)}.items():
        monkeypatch.setattr(sepsis_table, name, value)
    monkeypatch.setattr(sepsis_table, "references", dict)
    threads = torch.get_num_threads()
    words = ["agents=[bc,caps]", "seeds=1"]
    try:
        assert sepsis_table.main(words) == 0
    finally:  # few episodes would serve a later table
        torch.set_num_threads(threads)
        sepsis_table.recorded.cache_clear()
        sepsis_table.support.cache_clear()
    first = capsys.readouterr().out
    assert [each.split(" | ")[0] for each in first.splitlines()[2:]] == [
        "| bc",
        "| bc, fallback",
        "| caps",
        "| caps, fallback",
    ]
    monkeypatch.setattr(sepsis_table, "train", None)  # all is there
    assert sepsis_table.main(words) == 0
    assert capsys.readouterr().out == first
