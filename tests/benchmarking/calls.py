"""Functions for engines to call; a module that imports nothing heavy, so that a worker starts in no time."""

import os
import signal
import time
from pathlib import Path

from saferl.benchmarking.calls import CallError

KEPT: list[int] = []


def double(number: int) -> int:
    return 2 * number


def fail(message: str) -> None:
    raise ValueError(message)


def fail_with_cause(message: str) -> None:
    raise CallError(message)


def die(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def leave(code: int) -> None:
    os._exit(code)


def visits() -> tuple[int, int]:
    """Process, and how often it was called."""
    KEPT.append(0)
    time.sleep(0.05)
    return os.getpid(), len(KEPT)


def where(group: str) -> tuple[str, int]:
    time.sleep(0.1)
    return group, os.getpid()


def surroundings() -> tuple[str | None, bool, str]:
    print("said by a worker", flush=True)
    blocked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    return os.environ.get("OMP_NUM_THREADS"), blocked, os.path.basename(os.readlink(f"/proc/{os.getpid()}/fd/1"))


def save_when_stopped(folder: str) -> None:
    """What a training does: works until it is asked to stop, and then takes a moment to save."""
    _save_behind(signal.SIGTERM, Path(folder))


def node() -> str:
    """The Ray node of this call."""
    import ray

    time.sleep(1.0)
    return ray.get_runtime_context().get_node_id()


def save_when_interrupted(folder: str) -> None:
    """As ``save_when_stopped``, with the signal that Ray's cancel sends."""
    _save_behind(signal.SIGINT, Path(folder))


def _save_behind(number: signal.Signals, folder: Path) -> None:
    asked = []
    signal.signal(number, lambda number, frame: asked.append(number))
    (folder / "started").touch()
    while not asked:
        time.sleep(0.01)
    time.sleep(0.3)
    (folder / "saved").touch()
    raise KeyboardInterrupt
