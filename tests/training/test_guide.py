"""The commands of docs/training.md are understood."""

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from saferl.agents import AGENTS
from saferl.command_line import check_flags, composed, sweep_choices
from saferl.evaluate import parse_evaluation
from saferl.training.config import parse_training

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
PRESETS = sorted(path.stem for path in (ROOT / "saferl" / "conf" / "agent").glob("*.yaml"))
COMMANDS = re.findall(r"^python -m saferl\.(train|evaluate) ?(.*)$", GUIDE, re.MULTILINE)


@pytest.mark.parametrize(("command", "line"), COMMANDS)
def test_a_command_of_the_guide_is_understood(command, line):
    if "hydra/launcher=ray" in line:
        pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="the extra `ray` is not installed")
    flags = check_flags(line.replace("'", "").split())
    config_name, parse = {"train": ("config", parse_training), "evaluate": ("evaluate", parse_evaluation)}[command]
    for overrides in sweep_choices(flags.overrides) if flags.multirun else [flags.overrides]:
        parse(OmegaConf.to_container(composed(config_name, overrides)))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_every_key_of_its_agent(preset):
    # So that --help, which shows the file, shows them all.
    values = OmegaConf.to_container(composed("config", [f"agent={preset}"]))["agent"]
    fields = set(AGENTS[values["name"]][0].__dataclass_fields__)
    assert set(values) == fields | {"name", "default_steps"}


def test_every_agent_has_a_preset_of_its_name():
    for name in AGENTS:
        assert composed("config", [f"agent={name}"]).agent.name == name
