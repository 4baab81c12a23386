"""docs/guardians.md: its commands and its code run, its numbers are right."""

import importlib.util
import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from benchmarks import guardian_table, guardians
from saferl.agents import guarding
from saferl.command_line import check_flags, composed
from saferl.evaluation import figures
from saferl.guard import GuardConfig, main
from saferl.guardians import GuardianConfig, fit_guardian, load_guardian, rows_needed
from saferl.guardians.guardian import KINDS
from saferl.offline_data.hdf5 import save_hdf5
from saferl.policy import CallablePolicy
from saferl.training.config import build
from saferl.training.run_folder import RunFolder
from saferl.training.trained import load_agent
from tests.guardians.clouds import cloud
from tests.guardians.test_acting import Line
from tests.offline_data.arrays import toy
from tests.training.small import FISOR, small_data, trained

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "guardians.md").read_text(encoding="utf-8")
FITTING, ACTING = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
COMMANDS = re.findall(r"^python -m saferl\.guard (.*)$", GUIDE, re.MULTILINE)
(TABLE,) = re.findall(r"^python -m benchmarks\.guardian_table (.*)$", GUIDE, re.MULTILINE)
CQL = {"hidden": 16, "batch_size": 32, "candidates": 3}
SMALL = {
    "cql": CQL,
    "cql_lag": CQL,
    "bcq_lag": {"hidden": 16, "batch_size": 32, "vae_hidden": 16},
    "fisor_small": dict(word.removeprefix("agent.").split("=") for word in FISOR[1:]),
}


def test_every_command_is_run_below():
    modules = {"saferl.guard", "saferl.train", "benchmarks.guardians", "benchmarks.guardian_table"}
    assert set(re.findall(r"python -m ([\w.]+)", GUIDE)) == modules


@pytest.mark.parametrize("words", COMMANDS)
def test_a_guard_command_is_understood(words):
    values = OmegaConf.to_container(composed("guard", check_flags(words.split()).overrides))
    assert build(GuardConfig, values, "").guardian.kind in KINDS


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with a small run under the name of the guide, and small data."""
    folder = tmp_path_factory.mktemp("guide")
    shutil.copytree(
        trained(folder, "steps=10", "eval_episodes=1"), folder / "runs" / "point_robot" / "bc" / "0-20260101-120000"
    )
    return folder


@pytest.mark.parametrize("words", COMMANDS)
def test_a_guard_command_runs(words, workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    data = small_data(workplace).removeprefix("data.path=")
    small = [f"data={data}", "rows=300", "updates=20", "episodes=2", "out=guarded"]
    assert main([*(word for word in words.split() if not word.startswith("rows=")), *small]) == 0
    shown = capsys.readouterr().out
    assert "held-out" in shown
    assert ("with fallback" in shown) == ("run=" in words)
    for name in ("guardian.json", "guardian.png", "guardian/command.json"):
        assert (workplace / "guarded" / name).is_file()


@pytest.fixture
def quick_guards(monkeypatch):
    """Agents' guards are hardly trained."""
    monkeypatch.setattr(guarding, "GuardianConfig", partial(GuardianConfig, updates=20))


@pytest.mark.parametrize("line", re.findall(r"^python -m saferl\.train (.*)$", GUIDE, re.MULTILINE))
def test_a_guarded_training_runs(line, workplace, quick_guards):
    words = line.split()
    preset = words[0].removeprefix("agent=")
    small = [f"agent.{key}={value}" for key, value in SMALL[preset].items()]
    run = trained(workplace, "steps=2", "eval_episodes=1", agent=[*words, *small])
    agent, config, steps = load_agent(RunFolder(run))
    assert (config.preset, steps) == (preset, 2)
    for key, value in (word.removeprefix("agent.").split("=") for word in words if word.startswith("agent.")):
        assert str(getattr(config.agent, key)) == value
    assert agent.guard.settings.kind == config.agent.guardian
    assert torch.isfinite(agent.guard.network.threshold)  # of the data: part of what was saved


def test_the_benchmark_of_searches_runs(monkeypatch, capsys):
    monkeypatch.setattr(guardians, "QUERIES", 32)
    kinds = [partial(type(each), **{**vars(each), "updates": 2})() for each in guardians.KINDS]
    monkeypatch.setattr(guardians, "KINDS", kinds)
    threads = torch.get_num_threads()
    guardians.main(300)
    torch.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()
    for label, package, _ in guardians.SEARCHES:
        rows = [line.split("|") for line in lines if line.startswith(f"| {label} |")]
        assert len(rows) == (2 if importlib.util.find_spec(package) else 0)  # of 30 and of 78 columns
        assert f"\n| {label} |" in GUIDE
        if "all distances" in label or "Tree" in label:
            assert [float(row[4]) for row in rows] == pytest.approx([1.0] * len(rows), abs=0.01)  # exact but for ties
    for kind in {each.kind for each in kinds}:
        assert any(line.startswith(f"| {kind}") for line in lines)


def told(text):
    """Cells of the table's rows by their label."""
    lines = [line.split("|") for line in text.splitlines() if " % [" in line]
    return {cells[1].strip(): cells[2:-1] for cells in lines}


@pytest.mark.parametrize("line", ["", TABLE])
def test_the_table_of_visited_pairs_is_made(line, tmp_path, quick_guards, monkeypatch, capsys):
    words = [*line.split(), "steps=2", "episodes=1"]
    if line:
        path = tmp_path / next(word.removeprefix("data=") for word in words if word.startswith("data="))
        save_hdf5(toy((100,) * 5, obs_dim=28), path)
        words.append("agents=cql")
    else:
        words.append(small_data(tmp_path).replace("data.path", "data"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(guardian_table, "AGENTS", SMALL)
    monkeypatch.setattr(figures, "save_figure", lambda *_: None)  # what takes longest, and is looked at elsewhere
    guardian_table.main(words)
    first = told(capsys.readouterr().out)
    labels = list(told(GUIDE))
    assert len(labels) == 6
    assert list(first) == (labels[:2] if line else labels)
    assert all(len(cells) == 6 for cells in first.values())
    if not line:
        monkeypatch.setattr(guardian_table, "train", None)  # the runs are there
        guardian_table.main([*words, "agents=cql"])
        assert told(capsys.readouterr().out) == {label: first[label] for label in labels[:2]}


def test_the_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    observations, actions = cloud(100)
    names = {"observations": observations, "actions": actions}
    exec(FITTING, names)
    again = load_guardian("guardian")
    assert np.array_equal(again.score(observations, actions), names["guardian"].score(observations, actions))
    line = np.linspace(-1, 1, 50)[:, None]
    back = CallablePolicy(lambda seen: -seen / 2)
    guardian = fit_guardian(line, -line / 2, GuardianConfig(kind="knn"))
    names = {"policy": back, "fallback": back, "guardian": guardian, "env": Line()}
    exec(ACTING, names)
    assert names["policy"].act(line[:3].astype(np.float32)).shape == (3, 1)
    names["env"].reset(seed=0)
    assert "outside" in names["env"].step(np.zeros(1, np.float32))[4]


def test_every_kind_is_explained_and_the_rows_are_right():
    for kind in KINDS:
        assert f"| `{kind}` |" in GUIDE
    assert f"{rows_needed(0.05, 0.1)} rows for 5 % and 10 %" in GUIDE
