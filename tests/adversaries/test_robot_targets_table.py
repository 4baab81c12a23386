"""The table of targets on robots: a whole small run, and the picture of what lies on disk."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import robot_targets
from benchmarks.measured import unpack
from benchmarks.robot_targets import Robot, main

TINY = [
    "learned.steps=32", "learned.envs=2", "learned.rollout=8", "learned.epochs=1", "learned.width=8", "rat.steps=60",
    "rat.envs=2", "rat.random_steps=10", "rat.explore_steps=10", "rat.batch=4", "rat.width=8", "rat.labels=2",
    "rat.questions=2", "rat.segment=3", "rat.epochs=1", "rat.inner_every=10", "reference_episodes=2",
]  # fmt: skip
TRAINING = ("steps=40", "envs=2", "ppo.rollout=20", "ppo.batch=20", "ppo.epochs=1", "ppo.width=8")


def test_a_case_is_trained_attacked_and_told_once(tmp_path, capsys, monkeypatch):
    robot = Robot("point_robot", "start:feasible,max_episode_steps:6", TRAINING)
    monkeypatch.setattr(robot_targets, "ROBOTS", {"robot": robot})
    monkeypatch.setattr(robot_targets, "SETTINGS", TINY)
    words = ["--out", str(tmp_path), "--seeds", "0", "1", "--cases", "robot-reaches_wrong_goal"]
    main(words)
    table = capsys.readouterr().out.splitlines()
    rows = [line for line in table if line.startswith("| robot: reaches_wrong_goal |")]
    assert [row.split("|")[2].strip() for row in rows] == ["0.3", "1"]
    assert all(row.split("|")[3].strip() == "2" for row in rows)  # trainings
    (victim,) = (tmp_path / "victims").rglob("policy.safetensors")
    comparisons = sorted(tmp_path.glob("robot-*/*/attack-*/*/attacks.json"))
    written = [path.stat().st_mtime_ns for path in (victim, *comparisons)]
    main(words)
    assert [path.stat().st_mtime_ns for path in (victim, *comparisons)] == written
    settings = (comparisons[0].parent / "attack.yaml").read_text()
    assert "start: feasible" in settings  # where the victim was trained


def test_the_picture_has_a_clean_row_for_each_robot_and_one_for_each_case(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(robot_targets, "film_strips", lambda rows, films, path, title: drawn.append((rows, films)))
    for case in ("cheetah-stands", "cheetah-runs_backward"):
        folder = tmp_path / case / "env" / "attack-a" / "0-20260101-000000"
        (folder / "films").mkdir(parents=True)
        results = [{"adversary": name, "eps": eps} for name, eps in (("none", 0.0), ("rat", 0.3), ("rat", 1.0))]
        (folder / "attacks.json").write_text(json.dumps(results))
        for each in results:
            film = np.full((6, 4, 4, 3), len(case), np.uint8)
            np.save(folder / "films" / f"{each['adversary']}-{each['eps']:g}.npy", film)
    robot_targets.picture(("cheetah-stands", "cheetah-runs_backward"), tmp_path, tmp_path / "a.png")
    ((rows, films),) = drawn
    names = ["cheetah\nno attack", "cheetah\nRAT: stands", "cheetah\nRAT: runs_backward"]
    assert [row["adversary"] for row in rows] == names
    assert [row["eps"] for row in rows] == [0.0, 1.0, 1.0]
    assert [int(films[name].flat[0]) for name in names] == [14, 14, 21]


def test_without_films_there_is_no_picture(tmp_path):
    folder = tmp_path / "cheetah-stands" / "env" / "attack-a" / "0-20260101-000000"
    folder.mkdir(parents=True)
    (folder / "attacks.json").write_text(json.dumps([{"adversary": "none", "eps": 0.0}]))
    with pytest.raises(SystemExit, match="no films"):
        robot_targets.picture(("cheetah-stands", "hopper-stands"), tmp_path, tmp_path / "a.png")


def test_the_guides_table_is_what_the_kept_results_say(tmp_path, capsys):
    unpack(tmp_path)
    main(["--out", str(tmp_path / "results/robot_targets"), "--report"])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) > 10
    guide = (Path(__file__).resolve().parents[2] / "docs" / "attacks.md").read_text(encoding="utf-8")
    assert "\n".join(rows) in guide
