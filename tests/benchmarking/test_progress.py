"""How far a list of calls is, and how long it still takes."""

import io

import pytest

import saferl.benchmarking.progress as module
from saferl.benchmarking.calls import Event
from saferl.benchmarking.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

    monkeypatch.setattr(module.time, "monotonic", lambda: Clock.now)
    return Clock


def progress(expected, slots, stream=None):
    return Progress("run", [f"run {index}" for index in range(len(expected))], expected, slots, stream or io.StringIO())


def test_the_time_left_is_what_was_expected_times_how_wrong_that_was(clock):
    each = progress([10.0, 10.0, 30.0, 50.0], slots=2)
    assert each.seconds_left() == pytest.approx(100 / 2)
    each.tell(Event(0, "started"))
    each.tell(Event(1, "started"))
    clock.now = 20.0
    each.tell(Event(0, "finished"))  # took twice as long as expected
    each.tell(Event(2, "started"))
    # Run 1 has had its 2 x 10 s, run 2 needs 60 s and run 3 100 s.
    assert each.seconds_left() == pytest.approx((0 + 60 + 100) / 2)
    clock.now = 30.0
    assert each.seconds_left() == pytest.approx((0 + 50 + 100) / 2)


def test_without_expectations_the_calls_so_far_tell_and_before_them_nothing(clock):
    each = progress([None, None, None], slots=1)
    assert each.seconds_left() is None
    each.tell(Event(0, "started"))
    clock.now = 4.0
    each.tell(Event(0, "finished"))
    assert each.seconds_left() == pytest.approx(8.0)


def test_one_call_that_is_left_does_not_gain_from_many_slots(clock):
    assert progress([60.0], slots=16).seconds_left() == pytest.approx(60.0)


def test_a_line_for_each_end_and_the_cause_of_each_failure(clock):
    stream = io.StringIO()
    with progress([5.0, 5.0], slots=1, stream=stream) as each:
        each.tell(Event(0, "started"))
        clock.now = 5.0
        each.tell(Event(0, "finished"))
        each.tell(Event(1, "started"))
        each.tell(Event(1, "failed", cause="the reason"))
    first, failure, last = stream.getvalue().splitlines()
    assert first == "1 of 2 runs ended, about 0:05 left; last: run 0 in 0:05"
    assert failure == "failed: run 1: the reason"
    assert last == "2 of 2 runs ended, 1 failed, about 0:00 left; last: run 1 in 0:00"
