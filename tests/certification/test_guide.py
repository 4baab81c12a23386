"""docs/certify.md: its commands run, its tables are right."""

import importlib
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import stable_baselines3 as sb3

import saferl.certify
import saferl.envs
from benchmarks import false_release
from saferl.certification.bounds import BOUNDS
from saferl.guardians import GuardianConfig, fit_guardian
from saferl.offline_data.point_robot import generate
from saferl.training.run_folder import RunFolder
from saferl.training.trained import load_agent
from tests.training.small import BC, FISOR, trained

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "certify.md").read_text(encoding="utf-8")
GUARDED, FLEET = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
COMMANDS = [shlex.split(line)[2:] for line in re.findall(r"^(python -m saferl\.(?!train).*)$", GUIDE, re.MULTILINE)]
ROLLOUTS = [words for words in COMMANDS if not any(word.startswith("data=") for word in words)]
RECORDED = [words for words in COMMANDS if words not in ROLLOUTS]
SMALL = {
    "saferl.guard": ["rows=500", "updates=5"],
    "saferl.attack": ["env_kwargs={max_episode_steps:10}", "reference_episodes=2", "ascent.steps=1"],
}
TEN_STEPS = ["steps=10", "eval_episodes=1"]


def run_guardian():
    """As saferl.guard fits one."""
    data = generate(n=500, seed=0)
    return fit_guardian(data.observations, data.actions, GuardianConfig(kind="density_ratio", updates=5))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with small runs under the names of the guide, its module, and an SB3 model."""
    folder = tmp_path_factory.mktemp("guide")
    for name, agent in (("bc", BC), ("fisor_small", FISOR)):
        (folder / name).mkdir()
        run = trained(folder / name, *TEN_STEPS, agent=agent)
        shutil.copytree(run, folder / "runs" / "point_robot" / name / "0-20260101-120000")
    guardian = run_guardian()
    guardian.save(folder / "runs" / "point_robot" / "fisor_small" / "0-20260101-120000" / "guardian")
    (folder / "fleet.py").write_text(FLEET)
    (folder / "guarded.py").write_text(GUARDED)
    (folder / "my_lab.py").write_text("from fleet import driver as policy\n")
    sb3.PPO("MlpPolicy", saferl.envs.make("point_robot"), device="cpu", seed=0).save(folder / "model.zip")
    return folder


@pytest.fixture
def inside(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    monkeypatch.syspath_prepend(workplace)
    yield workplace
    for name in ("fleet", "my_lab", "guarded"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("words", ROLLOUTS, ids=lambda words: " ".join(words[1:])[:60])
def test_a_command_of_the_guide_runs(words, inside):
    command, words = words[0], [word for word in words[1:] if not word.startswith("episodes=")]
    words = ["env=point_robot" if word == "env=SafetyPointGoal1-v0" else word for word in words]  # no simulator needed
    assert importlib.import_module(command).main([*words, *SMALL.get(command, []), "episodes=4"]) in (0, 1)


def test_the_recorded_example_runs_from_the_first_line_to_the_last(inside, capsys):
    fleet = importlib.import_module("fleet")
    assert "fleet.record(6000, 'fleet.hdf5')" in GUIDE
    fleet.record(60, "fleet.hdf5")
    codes = [saferl.certify.main(words[1:]) for words in RECORDED]
    assert codes == [0, 1, 1]  # 30 episodes are too few for what 3,000 show
    out = capsys.readouterr().out
    assert "no bound: the density of the behaviour is fitted" in out
    assert (inside / "halves" / "certificate.json").exists()


@pytest.mark.parametrize("line", re.findall(r"`python -m saferl\.train (.*?)`", GUIDE))
def test_a_training_of_the_guide_runs(line, workplace):
    words = line.split()
    run = trained(workplace, "steps=2", "eval_episodes=1", agent=[*words, *BC[1:]])
    _, config, steps = load_agent(RunFolder(run))
    assert (f"agent={config.preset}", f"env={config.env}", steps) == (*words[:2], 2)


def test_the_table_of_false_releases_is_what_the_benchmark_prints(capsys):
    assert "(`python -m benchmarks.false_release`;" in GUIDE
    false_release.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(BOUNDS)
    for row in rows:
        assert f"\n{row}\n" in GUIDE


def test_every_command_is_run_above():
    modules = {words[0] for words in COMMANDS} | {"saferl.train", "benchmarks.false_release"}
    assert set(re.findall(r"python -m ([\w.]+)", GUIDE)) == modules


def test_every_bound_is_explained():
    for name in BOUNDS:
        assert f"| `{name}` |" in GUIDE
    for page in re.findall(r"\]\(([\w/]+\.html)\)", GUIDE):
        assert (ROOT / "docs" / page).is_file()
