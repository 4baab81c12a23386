"""docs/attacks.md, conf/attack.yaml and the code say the same."""

import dataclasses
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import saferl.adversaries.config as config_module
from benchmarks import attack_table
from saferl.adversaries.catalogue import ADVERSARIES
from saferl.adversaries.config import SECTIONS, AttackConfig, parse_attack
from saferl.adversaries.robust.config import METHODS, HardenConfig, parse_hardening
from saferl.adversaries.robust.config import SECTIONS as ROBUST_SECTIONS
from saferl.adversaries.targets import TARGETS
from saferl.attack import main
from saferl.command_line import check_flags, composed

GUIDE = (Path(__file__).parents[2] / "docs" / "attacks.md").read_text(encoding="utf-8").replace("\\\n", "")
COMMANDS = [
    line for line in re.findall(r"^python -m saferl\.attack (.*)$", GUIDE, re.MULTILINE) if "resume" not in line
]


HARDEN = re.findall(r"^python -m saferl\.harden (.*)$", GUIDE, re.MULTILINE)


@pytest.mark.parametrize("line", HARDEN)
def test_a_command_of_the_guide_for_robust_training_is_understood(line):
    flags = check_flags(line.replace("'", "").split())
    parse_hardening(OmegaConf.to_container(composed("harden", flags.overrides)))


def test_the_settings_file_of_robust_training_names_every_setting():
    shown = OmegaConf.to_container(composed("harden", ["env=point_robot"]))
    assert set(shown) == {field.name for field in dataclasses.fields(HardenConfig)} | {"resume"}
    assert parse_hardening(shown) == HardenConfig(env="point_robot")
    for name, kind in ROBUST_SECTIONS.items():
        assert set(shown[name]) == {field.name for field in dataclasses.fields(kind)}
    for word in METHODS:
        assert f"`{word}`" in GUIDE


def test_the_guide_names_every_target():
    table = GUIDE.split("## Targets")[1].split("HalfCheetah and Hopper are")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(TARGETS)


@pytest.mark.parametrize("line", re.findall(r"^python -m benchmarks\.attack_table ?(.*)$", GUIDE, re.MULTILINE))
def test_a_command_of_the_guide_for_the_tables_is_understood(line):
    asked = attack_table.parser().parse_args(line.split())
    names = attack_table.TWINS if asked.hardened else attack_table.VICTIMS
    assert set(names) <= set(attack_table.CASES)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_guide_is_understood(line):
    flags = check_flags(line.replace("'", "").split())
    parse_attack(OmegaConf.to_container(composed("attack", flags.overrides)))


def test_the_guide_names_every_adversary():
    table = GUIDE.split("## Adversaries")[1].split("Critics are asked")[0]
    assert set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|([^|]*)\|", table, re.MULTILINE)))) == set(ADVERSARIES)


def test_the_settings_file_holds_the_defaults_of_the_code():
    shown = OmegaConf.to_container(composed("attack", ["victim=x"]))
    shown.pop("resume")
    own = parse_attack({"victim": "x"})
    assert config_module.plain(parse_attack(shown)) == config_module.plain(own)
    assert set(shown) == {field.name for field in dataclasses.fields(AttackConfig)}
    for name, kind in SECTIONS.items():
        assert set(shown[name]) == {field.name for field in dataclasses.fields(kind)}


def test_help_names_every_adversary(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(re.search(rf"^\s+{name}\s+\w", text, re.MULTILINE) for name in ADVERSARIES)
