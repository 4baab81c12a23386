"""docs/sepsis.md against the values that test_icu_sepsis.py checks; its code and commands run."""

import contextlib
import importlib.metadata
import io
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from saferl.command_line import check_flags, composed
from saferl.offline_data import icu_sepsis
from saferl.training.config import parse_training

GUIDE = (Path(__file__).parents[2] / "docs" / "sepsis.md").read_text(encoding="utf-8")


def row(first):
    """The numbers of the table row that begins with ``first``."""
    line = re.search(rf"^\| {re.escape(first)} \|(.*)\|$", GUIDE, re.MULTILINE)
    return [float(cell) for cell in line[1].split("|") if cell.strip()]


def test_the_training_command_is_understood():
    (line,) = re.findall(r"`python -m saferl\.train ([^`]*)`", GUIDE)
    config = parse_training(OmegaConf.to_container(composed("config", check_flags(line.split()).overrides)))
    assert config.env == "icu_sepsis"
    assert config.agent.lagrangian


def test_the_code_and_the_data_command_run_and_print_the_figures(tmp_path):
    try:
        importlib.metadata.distribution("icu-sepsis")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("icu-sepsis: python -m saferl.install_envs --medical")
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    printed = io.StringIO()
    scope = {}
    with contextlib.redirect_stdout(printed):
        for block in blocks[:2]:  # the third needs a run
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
    (line,) = re.findall(r"^python -m saferl\.offline_data\.icu_sepsis (.*)$", GUIDE, re.MULTILINE)
    words = [word for word in line.split() if not word.startswith(("out=", "n_episodes="))]
    assert icu_sepsis.main([*words, f"out={tmp_path / 'few.hdf5'}", "n_episodes=20"]) == 0
    assert icu_sepsis.main(["epsilon=0"]) == 2
