import json

import pytest
import torch

from saferl.agents import BC
from saferl.training.checkpoint import checkpoints
from saferl.training.logging import clock, read_metrics, truncate
from tests.training.small import runs, trained, words


def test_a_log_line_holds_the_mean_of_the_updates_since_the_last(tmp_path, monkeypatch):
    values = iter(range(1, 100))
    monkeypatch.setattr(BC, "update", lambda self, batch: {"x/loss": torch.tensor(float(next(values)))})
    run = trained(tmp_path, "steps=25", "log_every=10")
    lines = read_metrics(run / "metrics.jsonl")
    assert [(line["step"], line["x/loss"]) for line in lines] == [(10, 5.5), (20, 15.5), (25, 23.0)]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run(bad, tmp_path, monkeypatch, capsys):
    from saferl.train import main

    values = iter([1.0] * 36 + [bad] + [1.0] * 100)
    update = BC.update

    def poisoned(self, batch):
        return {**update(self, batch), "critic/loss": torch.tensor(next(values))}

    monkeypatch.setattr(BC, "update", poisoned)
    code = main(words(tmp_path, "steps=100", "checkpoint_every=15", "log_every=50"))
    assert code == 1
    (run,) = runs(tmp_path)
    last = checkpoints(run / "checkpoints")[-1]
    assert last.name == "step-0000000030"  # the one of step 45 would have come after the bad update
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line == (
        f"saferl.train: step 37: critic/loss is NaN or infinite; the run is stopped; last good checkpoint: {last}."
    )


def test_evaluations_come_at_their_steps_and_the_end_has_its_own_file(tmp_path):
    run = trained(tmp_path, "steps=30", "eval_every=10")
    steps = [line["step"] for line in read_metrics(run / "metrics.jsonl") if "eval/return" in line]
    assert steps == [10, 20]
    facts = json.loads((run / "eval.json").read_text())
    assert facts["step"] == 30
    assert len(facts["per_episode"]["returns"]) == 3


def test_truncate_drops_later_and_broken_lines(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"step": 10}\n{"step": 20}\n{"step": 30}\n{"step": 4')
    truncate(metrics, 20)
    assert metrics.read_text() == '{"step": 10}\n{"step": 20}\n'


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (59.6, "1:00"), (187, "3:07"), (3723, "1:02:03")])
def test_clock(seconds, shown):
    assert clock(seconds) == shown
