"""RayEngine: calls as Ray tasks of one core each, on the machines of a cluster; Ray does the scheduling."""

import logging
import signal
import socket
from collections.abc import Iterator, Sequence
from typing import Any

from saferl.benchmarking.calls import Call, Event, cause_of
from saferl.command_line import UsageError

STOP_SECONDS = 120.0  # for the trainings to finish their updates and write checkpoints
_CONNECT_SECONDS = 10.0  # to an address that was given
RETRIES = 1  # of a call whose machine went away; a training goes on from its checkpoint


class RayEngine:
    """Args: address: of a cluster; None takes $RAY_ADDRESS or a cluster of this machine, else starts one.

    Raises: UsageError if Ray is not installed or the cluster can't be reached.
    """

    def __init__(self, address: str | None) -> None:
        try:
            import ray
        except ImportError as error:
            raise UsageError('engine=ray needs Ray: pip install "saferl[ray]".') from error
        self._ray = ray
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            _check_reachable(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise UsageError(f"engine=ray ray_address={address}: can't be reached ({line}).") from error
        signal.signal(signal.SIGTERM, on_sigterm)  # ray.init puts its own there, which saves nothing
        self._running: dict[Any, int] = {}  # reference to index

    @property
    def slots(self) -> int:
        """Cores of the cluster as it is now."""
        return max(int(self._ray.cluster_resources().get("CPU", 1)), 1)

    def run(self, calls: Sequence[Call]) -> Iterator[Event]:
        """Do all calls; a call counts as started when Ray has it."""
        remote = self._ray.remote(num_cpus=1, max_retries=RETRIES)(_answer)
        for index, call in enumerate(calls):
            self._running[remote.remote(call.function, call.arguments)] = index
            yield Event(index, "started")
        while self._running:
            for reference in self._ray.wait(list(self._running), num_returns=1)[0]:
                yield self._event(self._running.pop(reference), reference)

    def stop(self) -> None:
        """Raise KeyboardInterrupt in the tasks, on which a training saves, and wait for them."""
        references = list(self._running)
        for reference in references:
            self._ray.cancel(reference)
        self._ray.wait(references, num_returns=len(references), timeout=STOP_SECONDS) if references else None
        self._running.clear()

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        self._ray.shutdown()

    def _event(self, index: int, reference: Any) -> Event:
        try:
            kind, content = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:  # the process or its machine died
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            return Event(index, "failed", cause=f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}")
        return Event(index, "finished", content) if kind == "finished" else Event(index, "failed", cause=content)


def _check_reachable(address: str | None) -> None:
    """Fail in seconds, where Ray tries for minutes. Raises: OSError; ValueError for a port that is no number."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()


def _answer(function: Any, arguments: tuple[Any, ...]) -> tuple[str, Any]:
    """The call, inside Ray."""
    try:
        return "finished", function(*arguments)
    except Exception as error:
        return "failed", cause_of(error)
