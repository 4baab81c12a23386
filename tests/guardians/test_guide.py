"""docs/guardians.md: its commands are understood, its code runs, its numbers are right."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from saferl.command_line import check_flags, composed
from saferl.guard import GuardConfig, main
from saferl.guardians import GuardianConfig, fit_guardian, load_guardian, rows_needed
from saferl.guardians.guardian import KINDS
from saferl.policy import CallablePolicy
from saferl.training.config import build, parse_training
from tests.guardians.clouds import cloud
from tests.guardians.test_acting import Line
from tests.training.small import small_data, trained

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "guardians.md").read_text(encoding="utf-8")
FITTING, ACTING = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


COMMANDS = re.findall(r"^python -m saferl\.guard (.*)$", GUIDE, re.MULTILINE)


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


@pytest.mark.parametrize("words", re.findall(r"^python -m saferl\.train (.*)$", GUIDE, re.MULTILINE))
def test_a_training_is_understood_and_guarded(words):
    config = parse_training(OmegaConf.to_container(composed("config", check_flags(words.split()).overrides)))
    assert f"agent.guardian={config.agent.guardian}" in words


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
