"""Trainings small enough for tests: 2,000 PointRobot transitions, networks of 16 units."""

import os
import subprocess
import sys
from pathlib import Path

import saferl.train
from saferl.offline_data.hdf5 import save_hdf5
from saferl.offline_data.point_robot import generate

BC = ["agent=bc", "agent.hidden=16", "agent.batch_size=32"]
FISOR = [
    "agent=fisor_small", "agent.hidden=16", "agent.blocks=1", "agent.critic_hidden=16", "agent.batch_size=32",
    "agent.critic_batch_size=16", "agent.candidates=2",
]  # fmt: skip


def small_data(folder: Path) -> str:
    """``data.path=...`` of a small data set."""
    path = folder / "small.hdf5"
    if not path.exists():
        save_hdf5(generate(n=2_000, seed=0), path)
    return f"data.path={path}"


def words(folder: Path, *more: str, agent: list[str] = BC) -> list[str]:
    """Arguments of a small training below ``folder``/runs; ``more`` is added."""
    return [*agent, small_data(folder), f"out={folder / 'runs'}", "eval_episodes=3", "eval_every=0", *more]


def trained(folder: Path, *more: str, agent: list[str] = BC) -> Path:
    """The folder of a small training that this process did."""
    known = set(runs(folder))
    assert saferl.train.main(words(folder, *more, agent=agent)) == 0
    (run,) = set(runs(folder)) - known
    return run


def runs(folder: Path) -> list[Path]:
    """The run folders below ``folder``/runs."""
    return sorted(path.parent for path in (folder / "runs").glob("*/*/*/config.yaml"))


def started(*arguments: str) -> "subprocess.Popen[str]":
    """``python -m saferl.train`` in a process of its own, one thread, so that sums have one order."""
    command = [sys.executable, "-m", "saferl.train", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
