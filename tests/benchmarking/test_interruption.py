"""Ctrl-C: trainings save, the command says how to go on, and goes on as if it had never been stopped."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from saferl.benchmarking.runs import complete_run
from saferl.training.checkpoint import checkpoint_step, checkpoints
from tests.benchmarking.small import planned, words

ROOT = Path(__file__).resolve().parents[2]
STEPS = 3_000
WEIGHTS = "weights.safetensors"


def arguments(folder):
    small = "agent.hidden=16,agent.batch_size=32,log_every=100,checkpoint_every=200"
    return words(folder, f"overrides=[{small}]", "seeds=1", f"steps={STEPS}")


def started(folder):
    command = [sys.executable, "-m", "saferl.benchmark", *arguments(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A session of its own: the signal to its group is what a terminal's Ctrl-C is.
    return subprocess.Popen(command, env=environment, start_new_session=True, **pipes)


def saved(folder):
    return sorted((folder / "out" / "runs").glob("*/*/*/checkpoints/step-*"))


@pytest.mark.parametrize("stop", ["ctrl-c", pytest.param("sigterm", marks=pytest.mark.slow)])
def test_a_stopped_benchmark_goes_on_with_the_same_command_bit_for_bit(tmp_path, stop):
    process = started(tmp_path)
    deadline = time.monotonic() + 100
    while not saved(tmp_path):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    if stop == "ctrl-c":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.strip().splitlines()[-1] == "saferl.benchmark: stopped; the same command goes on where it was."
    assert "Traceback" not in errors
    assert "0 of 1 runs are complete" in out
    assert "not finished; the same command goes on" in (tmp_path / "out" / "report.html").read_text()
    (folder,) = {path.parent for path in saved(tmp_path)}
    step = checkpoint_step(checkpoints(folder)[-1])
    assert 0 < step < STEPS
    if stop == "sigterm":
        return  # once is enough for what follows
    process = started(tmp_path)
    out, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    assert "1 of 1 runs are complete" in out
    (run,) = planned(tmp_path, *arguments(tmp_path)).runs
    straight = replace(run, folder=tmp_path / "straight", evaluations=())
    complete_run(straight)
    ours, theirs = (load_file(checkpoints(each.folder / "checkpoints")[-1] / WEIGHTS) for each in (run, straight))
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
