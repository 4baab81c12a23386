"""python -m saferl.collect from outside: results, refusals in one line, and going on after a kill."""

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import yaml

import saferl.envs
from saferl import collect
from saferl.offline_data import load_hdf5

SMALL = [
    "env=point_robot",
    "steps=2400",
    "stages=2",
    "envs=4",
    "ppo.rollout=300",
    "limits=[20,[50,0]]",
    "episodes=2",
    "ppo.lr=0.0005",
    "random_episodes=5",
    "trajectories=30",
]


def start(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "saferl.collect", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def collected(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("collected") / "whole"
    with start(*SMALL, f"out={folder}") as process:
        out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert "30 episodes" in out
    assert "100.0% random policy" in err
    return folder


def test_dataset_chains_its_steps_and_ends_episodes_as_the_environment_does(collected):
    dataset = load_hdf5(collected / "dataset.hdf5")
    env = saferl.envs.make("point_robot")
    dataset.check_matches(env)
    assert dataset.n_episodes == 30
    assert dataset.margins is not None
    np.testing.assert_array_equal(dataset.costs, (dataset.margins > 0).astype(np.float32))
    lengths = dataset.episode_lengths
    assert np.all(dataset.timeouts[dataset.episode_ends - 1] == (lengths == 300))  # the time limit of PointRobot
    assert not np.any(dataset.terminals & dataset.timeouts)
    inside = np.setdiff1d(np.arange(len(dataset)), dataset.episode_ends - 1)
    np.testing.assert_array_equal(dataset.next_observations[inside], dataset.observations[inside + 1])
    last = dataset.episode_ends[:-1]  # the first observation of the next episode is never a successor
    assert np.all(np.abs(dataset.next_observations[last - 1] - dataset.observations[last]).max(1) > 1e-3)
    env.close()


def test_card_counts_what_is_in_the_file(collected):
    card = json.loads((collected / "data_card.json").read_text())
    dataset = load_hdf5(collected / "dataset.hdf5")
    returns, costs = dataset.episode_returns()
    assert (card["episodes"], card["transitions"]) == (30, len(dataset))
    assert sum(policy["episodes"] for policy in card["policies"]) == 30
    assert [stage["stage"] for stage in card["stages"]] == [1, 2, 1, 2, 0]
    assert card["reward_return"]["max"] == pytest.approx(returns.max())
    assert card["cost_return"]["max"] == pytest.approx(costs.max())
    words = shlex.split(card["made_with"]["command"])
    assert words[:3] == ["python", "-m", "saferl.collect"]
    assert sorted(words[3:]) == sorted(SMALL)
    assert len(card["episode_sources"]) == 30
    text = (collected / "data_card.md").read_text()
    assert f"{len(dataset)} transitions" in text
    assert str(Path.home()) not in text
    assert (collected / "scatter.png").read_bytes().startswith(b"\x89PNG")


def test_killed_collection_goes_on_to_the_same_data(collected, tmp_path):
    folder = tmp_path / "killed"
    with start(*SMALL, f"out={folder}") as process:
        deadline = time.monotonic() + 300
        while not list(folder.glob("stages/limit0-stage1.safetensors")):  # in the middle of the second training
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert not (folder / "dataset.hdf5").exists()
    with start(f"resume={folder}") as process:
        _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert "limit 20, " not in err  # the finished training was not repeated
    assert (folder / "dataset.hdf5").read_bytes() == (collected / "dataset.hdf5").read_bytes()
    for policy in collected.glob("policies/*.safetensors"):
        assert (folder / "policies" / policy.name).read_bytes() == policy.read_bytes()


def test_limits_added_later_give_what_they_would_have_given_at_once(collected, tmp_path):
    folder = tmp_path / "grown"
    shutil.copytree(collected, folder)
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    settings["limits"] = [20]  # as if the second training had not been asked for
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    for file in folder.glob("*/limit1*"):
        file.unlink()
    assert collect.main([f"resume={folder}"]) == 0
    assert (folder / "dataset.hdf5").read_bytes() != (collected / "dataset.hdf5").read_bytes()
    settings["limits"] = [20, [50, 0]]
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    assert collect.main([f"resume={folder}"]) == 0
    assert (folder / "dataset.hdf5").read_bytes() == (collected / "dataset.hdf5").read_bytes()


def test_another_seed_gives_other_data(collected, tmp_path):
    small = [word for word in SMALL if not word.startswith("limits")] + ["limits=[null]", "seed=1"]
    assert collect.main([*small, f"out={tmp_path}/other"]) == 0
    first, other = load_hdf5(collected / "dataset.hdf5"), load_hdf5(tmp_path / "other" / "dataset.hdf5")
    assert not np.array_equal(first.observations[:100], other.observations[:100])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["env=point_robo"], "no environment named 'point_robo'. Did you mean point_robot"),
        (["env=point_robot", "limit=25"], "no key named 'limit'. Did you mean limits=?"),
        (["env=point_robot", "ppo.learning=1"], "no key named 'ppo.learning'."),
        (["env=point_robot", "limits=[-1]"], "limits: -1 is not a cost limit; allowed:"),
        (["env=point_robot", "limits=25"], "limits must be a list like [1,2]; got 25."),
        (["env=point_robot", "steps=many"], "steps must be a whole number; got 'many'."),
        (["env=point_robot", "pid.kp=-1"], "pid.kp must be a finite number >= 0; got -1.0."),
        ([], "env has no value; give env=..."),
        (["resume=/nowhere"], "resume=/nowhere: no collection there"),
        (["resume=x", "steps=9"], "resume= goes on with the settings that the collection has; leave out steps=."),
        (["env=CartPole-v1"], "env=CartPole-v1 has no info['cost']"),
        (["--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_mistakes_cost_one_line(words, line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert collect.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"saferl.collect: {line}"), err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_taken_folder_is_refused(collected, capsys):
    assert collect.main(["env=point_robot", f"out={collected}"]) == 2
    assert f"resume={collected} goes on with it" in capsys.readouterr().err


def test_help_is_the_manual(capsys):
    with pytest.raises(SystemExit) as stop:
        collect.main(["--help"])
    assert stop.value.code in (0, None)
    text = capsys.readouterr().out
    for word in ("limits", "trajectories", "resume=OUT", "pid.kp", "random_episodes", "dataset.hdf5", "env: ???"):
        assert word in text


def test_costly_episodes_are_dropped_and_counted(tmp_path):
    class Costly(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (1,))
        action_space = gymnasium.spaces.Box(-1, 1, (1,))

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self._cost, self._t = float(self.np_random.integers(2)), 0
            return np.zeros(1, np.float32), {"cost": 0.0}

        def step(self, action):
            self._t += 1
            return np.zeros(1, np.float32), 1.0, False, self._t == 5, {"cost": self._cost}

    if "saferl-test/Costly-v0" not in gymnasium.registry:
        gymnasium.register("saferl-test/Costly-v0", entry_point=Costly)
    small = ["steps=80", "stages=1", "envs=4", "ppo.rollout=20", "ppo.batch=20", "limits=[null]", "max_cost=4"]
    assert collect.main(["env=saferl-test/Costly-v0", *small, f"out={tmp_path}/x", "random_episodes=0"]) == 0
    dataset = load_hdf5(tmp_path / "x" / "dataset.hdf5")
    assert dataset.costs.max() == 0
    assert dataset.margins is None
    (stage,) = json.loads((tmp_path / "x" / "data_card.json").read_text())["stages"]
    assert stage["episodes_seen"] == 16 + 10  # 80 steps of 5, and 2 noises of 5 episodes
    assert stage["episodes_too_costly"] == 26 - dataset.n_episodes > 0
