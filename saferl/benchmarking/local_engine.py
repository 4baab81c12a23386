"""LocalEngine: processes on this machine, one thread each, that live across calls and may die without harm.

A worker is started by "spawn", so that it inherits no locks, and keeps what it imported and cached for the next call.
Ctrl-C reaches the main process alone; that one sends SIGTERM, on which a training saves and stops.
"""

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

from saferl.benchmarking.calls import Call, Event, cause_of

STOP_SECONDS = 120.0  # for a training to finish its update and write a checkpoint
_ONE_THREAD = {
    name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
}


class Stopped(KeyboardInterrupt):
    """The main process asked a worker to stop."""


@dataclass
class _Worker:
    process: Any  # a process of the context "spawn"
    pipe: Connection
    index: int | None = None  # of the call that it is doing
    group: str = ""  # of its last call


class LocalEngine:
    """Args: workers: processes; log: where what they print goes."""

    def __init__(self, workers: int, log: Path) -> None:
        self.slots = workers
        self._log = log
        self._workers: list[_Worker] = []

    def run(self, calls: Sequence[Call]) -> Iterator[Event]:
        """Do all calls in their order, as far as a worker does not find one of its last call's group first."""
        pending = list(range(len(calls)))
        while True:
            for worker in self._free(len(pending)):
                place = next((at for at, index in enumerate(pending) if calls[index].group == worker.group), 0)
                worker.index = pending.pop(place)
                worker.group = calls[worker.index].group
                with suppress(OSError):  # dead by now; found below
                    worker.pipe.send((calls[worker.index].function, calls[worker.index].arguments))
                yield Event(worker.index, "started")
            busy = [worker for worker in self._workers if worker.index is not None]
            if not busy:
                return
            ready = connection.wait([worker.pipe for worker in busy])
            for worker in [worker for worker in busy if worker.pipe in ready]:
                yield self._answer(worker)

    def stop(self) -> None:
        """Send SIGTERM to the workers that are busy, and wait for them."""
        busy = [worker for worker in self._workers if worker.index is not None]
        for worker in busy:
            worker.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for worker in busy:
            if worker.pipe.poll(max(deadline - time.monotonic(), 0)):
                self._answer(worker)

    def close(self) -> None:
        """End all workers; those that are still busy lose what they do."""
        for worker in self._workers:
            worker.pipe.close()  # an idle worker ends where its pipe ends
        for worker in self._workers:
            worker.process.join(0.0 if worker.index is not None else 5.0)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers.clear()

    def _free(self, wanted: int) -> list[_Worker]:
        """At most ``wanted`` workers without a call; new ones are started up to the number of slots."""
        free = [worker for worker in self._workers if worker.index is None][:wanted]
        while len(free) < wanted and len(self._workers) < self.slots:
            free.append(self._start())
            self._workers.append(free[-1])
        return free

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(there, self._log), daemon=True)
        with _started_quietly():
            process.start()
        there.close()
        return _Worker(process, here)

    def _answer(self, worker: _Worker) -> Event:
        """What a worker that is ready says of its call, or that it died."""
        assert worker.index is not None
        index, worker.index = worker.index, None
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            self._workers.remove(worker)
            return Event(index, "failed", cause=_death(worker.process.exitcode))
        return Event(index, "finished", content) if kind == "finished" else Event(index, "failed", cause=content)


def _death(exit_code: int) -> str:
    if exit_code >= 0:
        return f"its process ended by itself with code {exit_code}"
    name = signal.Signals(-exit_code).name
    hint = "; the machine may be out of memory: give fewer workers" if name == "SIGKILL" else ""
    return f"its process was killed by {name}{hint}"


@contextmanager
def _started_quietly() -> Iterator[None]:
    """What a process inherits that is started in here: one thread for sums, and a blocked SIGINT."""
    before = dict(os.environ)
    resource_tracker.ensure_running()  # else it starts with the first process, and unblocks the signal
    os.environ.update(_ONE_THREAD)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        for name in _ONE_THREAD:
            os.environ.pop(name)
            if name in before:
                os.environ[name] = before[name]


def serve(pipe: Connection, log: Path) -> None:
    """What a worker does: answer calls until its pipe or its parent ends."""
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_follow_parent, daemon=True).start()
    faulthandler.enable()  # a crash of a simulator leaves its traceback in the log
    with suppress(EOFError, OSError, Stopped), output_to(log):
        while True:
            function, arguments = pipe.recv()
            try:
                answer = ("finished", function(*arguments))
            except KeyboardInterrupt:  # of a training behind its checkpoint, or of anything else at once
                answer = ("failed", "stopped")
            except Exception as error:
                answer = ("failed", cause_of(error))
            pipe.send(answer)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped


def _follow_parent() -> None:
    """Stop as if asked to when the main process dies, whatever killed it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Append all that this process prints to a file, what its C libraries print included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in enumerate(kept, start=1):
            os.dup2(copy, number)
            os.close(copy)
        os.close(handle)
