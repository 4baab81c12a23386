"""A training that is killed and resumed ends with the weights of one that was not."""

import json
import signal
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

import saferl.train
from saferl.offline_data.hdf5 import save_hdf5
from saferl.offline_data.point_robot import generate
from saferl.training.checkpoint import checkpoints
from tests.training.small import FISOR, runs, started, trained, words

STEPS = 400


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    process = started(*arguments(folder))
    assert process.wait(timeout=600) == 0, process.stderr.read()
    return runs(folder)[0]


def arguments(folder: Path) -> list[str]:
    # FISOR: its dropout and diffusion noise come from torch's global generator, its batches from the sampler's own.
    return words(folder, f"steps={STEPS}", "checkpoint_every=25", "log_every=25", agent=FISOR)


def wait_for_checkpoint(process, folder: Path) -> Path:
    """The run as soon as it has its third checkpoint."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        assert process.poll() is None, f"it ended before it could be stopped: {process.stderr.read()}"
        saved = [path for run in runs(folder) for path in checkpoints(run / "checkpoints")]
        if saved and saved[-1].name >= "step-0000000075":
            return runs(folder)[0]
        time.sleep(0.005)
    raise AssertionError("no checkpoint in time")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_a_stopped_training_continues_to_the_same_weights(how, uninterrupted, tmp_path):
    process = started(*arguments(tmp_path))
    run = wait_for_checkpoint(process, tmp_path)
    process.send_signal(how)
    _, errors = process.communicate(timeout=120)
    stopped = checkpoints(run / "checkpoints")[-1]
    assert stopped.name < f"step-{STEPS:010d}", "it was not stopped in the middle"
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert f"resume={run}" in errors.strip().splitlines()[-1]
    resumed = started(f"resume={run}")
    assert resumed.wait(timeout=600) == 0, resumed.stderr.read()

    assert len(runs(tmp_path)) == 1
    expected, got = (load_file(last_weights(each)) for each in (uninterrupted, run))
    assert expected.keys() == got.keys()
    for name, tensor in expected.items():
        assert tensor.tobytes() == got[name].tobytes(), name
    regular = [line for line in steps_logged(run) if line % 25 == 0]
    assert regular == steps_logged(uninterrupted)


def last_weights(run: Path) -> Path:
    last = checkpoints(run / "checkpoints")[-1]
    assert last.name == f"step-{STEPS:010d}"
    return last / "weights.safetensors"


def steps_logged(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_goes_on_with_the_data_it_began_with_alone(tmp_path, capsys):
    run = trained(tmp_path, "steps=2")
    known = (run / "data.json").read_bytes()
    save_hdf5(generate(n=2_000, seed=1), tmp_path / "small.hdf5")
    assert saferl.train.main([f"resume={run}", "steps=4"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert "small.hdf5 does not hold the data that this run began with" in line
    assert (run / "data.json").read_bytes() == known
    save_hdf5(generate(n=2_000, seed=0), tmp_path / "small.hdf5")
    assert saferl.train.main([f"resume={run}", "steps=4"]) == 0
