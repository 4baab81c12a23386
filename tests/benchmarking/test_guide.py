"""docs/benchmark.md: its commands are understood, its numbers are right, its environment and data work."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from saferl.agents.bellman import cost_value_threshold
from saferl.benchmark import main
from saferl.benchmarking.config import parse_benchmark, quoted
from saferl.benchmarking.plan import agent_settings
from saferl.benchmarking.tasks import SUITES, chosen_tasks
from saferl.command_line import check_flags, composed

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python -m saferl\.benchmark (.*)$", GUIDE, re.MULTILINE)
HELP = re.findall(
    r"^ +python -m saferl\.benchmark (agents=\[[a-z].*)$",
    (ROOT / "saferl" / "conf" / "benchmark.yaml").read_text(),
    re.MULTILINE,
)
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder with the guide's environment and data in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_lab.py").write_text(BLOCKS[0])
    subprocess.run([sys.executable, "-c", BLOCKS[1]], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.parametrize("line", [*COMMANDS, *HELP])
def test_a_command_of_the_guide_is_understood(line, lab):
    config = parse_benchmark(OmegaConf.to_container(composed("benchmark", check_flags(quoted(line.split())).overrides)))
    agent_settings(config)
    words = SUITES[config.suite] if config.tasks is None else config.tasks
    assert chosen_tasks(words, config.protocol, config.limit_list, config.data or {})


def test_the_guides_environment_and_data_make_a_table(lab):
    (line,) = [line for line in COMMANDS if "my_lab" in line]
    small = "overrides=[agent.hidden=16,agent.batch_size=32]"
    assert main([*line.split(), "steps=10", "episodes=2", "seeds=1", "workers=1", "agents=[bc]", small]) == 0
    with (lab / "results" / "cart" / "results.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert [(row["agent"], row["task"], row["limit"]) for row in found] == [
        ("bc", "lab/Cart-v0", "5"), ("bc", "lab/Cart-v0", "20"),
    ]  # fmt: skip


def test_the_guides_threshold_is_right():
    assert "L = 10 is kappa = 1.00" in GUIDE
    assert cost_value_threshold(10, 0.99, 1000) == pytest.approx(1.00, abs=0.005)


@pytest.mark.parametrize("use", ["nowhere", "training", "acting"])
def test_the_guides_examples_take_their_limit_where_it_says(use):
    (line,) = [line for line in GUIDE.splitlines() if line.startswith(f"| {use} |")]
    names = re.findall(r"`([a-z_]+)`", line.split("|")[-2])
    settings = agent_settings(parse_benchmark({"agents": names}))
    from saferl.training.config import parse_training

    for values in settings.values():
        assert parse_training(values).agent.limit_use == {"nowhere": "none"}.get(use, use)


def test_every_file_that_the_guide_names_is_written_by_somebody():
    source = "".join(path.read_text() for path in (ROOT / "saferl").rglob("*.py") if "benchmark" in str(path))
    for name in re.findall(r"`(\w+\.(?:csv|md|tex|json|log|html))`", GUIDE):
        assert f'"{name}"' in source, name
