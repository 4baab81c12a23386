import io
import time

import pytest

from saferl.training.logging import ProgressLine


def test_the_rate_leaves_out_evaluations(monkeypatch):
    clock = iter([0.0, 2.0, 12.0, 14.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    line = ProgressLine("run", total=100, stream=io.StringIO())
    assert line.rate(10) == pytest.approx(5)  # 10 updates in 2 s
    line.pause(10)  # evaluated from 2 s to 12 s
    assert line.rate(10) == pytest.approx(5)
    assert line.rate(20) == pytest.approx(5)


def test_a_file_gets_plain_lines_and_always_the_last_one():
    stream = io.StringIO()
    with ProgressLine("run", total=100, stream=stream) as line:
        line.show(10, {"critic/loss": 0.5}, 2.0)  # within the first seconds: no line yet
        line.show(100, {"critic/loss": 0.25, "critic/q": 3.0, "values/safety_loss": 0.1}, 4.0)
    assert stream.getvalue() == "run  100/100  4 steps/s  0:00 left  critic 0.25  values/safety 0.1\n"


def test_time_left_is_what_the_rate_says():
    stream = io.StringIO()
    line = ProgressLine("run", total=1_000, stream=stream)
    line._last -= 60
    line.show(400, {}, 4.0)
    assert stream.getvalue() == "run  400/1000  4 steps/s  2:30 left\n"
