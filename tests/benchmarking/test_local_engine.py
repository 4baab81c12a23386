"""LocalEngine: calls in processes that live on, may fail, and may die."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from saferl.benchmarking.calls import Call
from saferl.benchmarking.local_engine import LocalEngine, output_to
from tests.benchmarking import calls


@pytest.fixture
def engine(tmp_path):
    engine = LocalEngine(2, tmp_path / "workers.log")
    yield engine
    engine.close()


def ended(engine, these):
    """The last event of each call, by index."""
    events = list(engine.run(these))
    last = {event.index: event for event in events if event.kind != "started"}
    assert len(events) == 2 * len(these)
    assert sorted(last) == list(range(len(these)))
    return last


def test_every_call_gives_its_own_value(engine):
    last = ended(engine, [Call(calls.double, (number,)) for number in range(7)])
    assert [last[index].value for index in range(7)] == [0, 2, 4, 6, 8, 10, 12]


def test_workers_are_kept_from_call_to_call_and_from_list_to_list(engine):
    seen = [ended(engine, [Call(calls.visits, ())] * 4) for _ in range(2)]
    pids = {event.value[0] for last in seen for event in last.values()}
    assert len(pids) <= 2
    assert max(event.value[1] for event in seen[1].values()) > 2


@pytest.mark.parametrize(
    ("call", "cause"),
    [
        (Call(calls.fail, ("two\nlines",)), "ValueError: two lines"),
        (Call(calls.fail_with_cause, ("the file is gone.",)), "the file is gone."),
        (Call(calls.die, (signal.SIGKILL,)), "its process was killed by SIGKILL; the machine may be out of memory"),
        (Call(calls.die, (signal.SIGSEGV,)), "its process was killed by SIGSEGV"),
        (Call(calls.leave, (3,)), "its process ended by itself with code 3"),
    ],
)
def test_a_call_that_fails_or_dies_stops_no_other(engine, call, cause):
    last = ended(engine, [Call(calls.double, (1,)), call, *[Call(calls.double, (number,)) for number in (2, 3, 4)]])
    assert last[1].kind == "failed"
    assert last[1].cause.startswith(cause)
    assert "\n" not in last[1].cause
    assert [last[index].value for index in (0, 2, 3, 4)] == [2, 4, 6, 8]


def test_a_worker_takes_the_next_call_of_its_group(engine):
    groups = ["a", "b"] * 4
    last = ended(engine, [Call(calls.where, (group,), group) for group in groups])
    assert len({event.value for event in last.values()}) == 2  # each group stayed in one process


def test_a_worker_has_one_thread_no_interrupt_from_the_terminal_and_prints_to_the_log(engine, tmp_path):
    threads, blocked, output = ended(engine, [Call(calls.surroundings, ())])[0].value
    assert (threads, blocked, output) == ("1", True, "workers.log")
    assert "said by a worker" in (tmp_path / "workers.log").read_text()


def test_stopping_waits_for_what_is_being_saved(engine, tmp_path):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what runs in its background ignore it

    def interrupt():  # as Ctrl-C does, in the main thread, while it waits
        _wait_for(tmp_path / "started")
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        list(engine.run([Call(calls.save_when_stopped, (str(tmp_path),))]))
    thread.join()
    assert not (tmp_path / "saved").exists()
    engine.stop()
    assert (tmp_path / "saved").exists()


def test_workers_save_and_end_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"""
from pathlib import Path
from saferl.benchmarking.calls import Call
from saferl.benchmarking.local_engine import LocalEngine
from tests.benchmarking import calls

if __name__ == "__main__":
    engine = LocalEngine(1, Path({str(tmp_path)!r}, "log"))
    list(engine.run([Call(calls.save_when_stopped, ({str(tmp_path)!r},))]))
"""
    )
    parent = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": os.getcwd()})
    _wait_for(tmp_path / "started")
    parent.kill()
    parent.wait()
    _wait_for(tmp_path / "saved")


def _wait_for(path, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not appear"
        time.sleep(0.02)


def test_what_c_and_other_programs_print_goes_to_the_file_and_then_back(tmp_path, capfd):
    with output_to(tmp_path / "new" / "log.txt"):
        os.write(1, b"inside\n")
        subprocess.run(["echo", "and here"], check=True)
    os.write(1, b"outside\n")
    assert (tmp_path / "new" / "log.txt").read_text() == "inside\nand here\n"
    assert capfd.readouterr().out == "outside\n"
