"""How far a list of calls is: a live block on a terminal, a line for each call that ends elsewhere; on stderr."""

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape

from saferl.benchmarking.calls import Event
from saferl.training.logging import clock

SHOWN = 8  # running calls that a terminal shows by name


class Progress:
    """Counts events.

    Args:
        noun: what a call is, for people.
        labels: a name for each call.
        expected: seconds that each call is expected to take; None where that is not known.
        slots: calls that run at once.
        stream: where to write; standard error as a rule.
    """

    def __init__(
        self,
        noun: str,
        labels: Sequence[str],
        expected: Sequence[float | None],
        slots: int,
        stream: TextIO | None = None,
    ) -> None:
        self._noun, self._labels, self._expected, self._slots = noun, labels, expected, slots
        self._stream = stream or sys.stderr
        self._console = Console(file=self._stream)
        self._running: dict[int, float] = {}  # index to when it started
        self._waiting = set(range(len(labels)))
        self._took: dict[int, float] = {}  # s, of calls that ended
        self._failed = 0
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal and self._labels:
            self._live = Live(get_renderable=self._block, console=self._console, refresh_per_second=2, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def tell(self, event: Event) -> None:
        """Take an event in; a failure is told at once, with its cause."""
        now = time.monotonic()
        if event.kind == "started":
            self._waiting.discard(event.index)
            self._running[event.index] = now
            return
        took = now - self._running.pop(event.index, now)
        self._took[event.index] = took
        if event.kind == "failed":
            self._failed += 1
            self._note(f"failed: {self._labels[event.index]}: {event.cause}")
        if self._live is None:
            self._note(f"{self._state()}; last: {self._labels[event.index]} in {clock(took)}")

    def seconds_left(self) -> float | None:
        """Until all calls have ended, if they go on as fast as those so far; None while nothing tells.

        A call is taken to need its expected time, times what calls have needed so far over what was expected of them.
        """
        known = [each for each in self._expected if each is not None]
        typical = sum(known) / len(known) if known else None
        if typical is None and self._took:
            typical = sum(self._took.values()) / len(self._took)
        if typical is None:
            return None
        now = time.monotonic()
        needs = [each if each is not None else typical for each in self._expected]
        done = sum(needs[index] for index in self._took)
        factor = sum(self._took.values()) / done if done > 0 else 1.0
        left = sum(needs[index] * factor for index in self._waiting)
        left += sum(max(needs[index] * factor - (now - started), 0.0) for index, started in self._running.items())
        return left / min(self._slots, max(len(self._waiting) + len(self._running), 1))

    def _state(self) -> str:
        left = self.seconds_left()
        words = [f"{len(self._took)} of {len(self._labels)} {self._noun}s ended"]
        words += [f"{self._failed} failed"] if self._failed else []
        words += [f"about {clock(left)} left"] if left is not None else []
        return ", ".join(words)

    def _block(self) -> Group:
        now = time.monotonic()
        shown = sorted(self._running.items(), key=lambda each: each[1])
        lines = [f"  {escape(self._labels[index])}  {clock(now - started)}" for index, started in shown[:SHOWN]]
        if len(shown) > SHOWN:
            lines.append(f"  and {len(shown) - SHOWN} more")
        return Group(f"{self._state()}; {min(len(self._running), self._slots)} running", *lines)

    def _note(self, line: str) -> None:
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=self._stream, flush=True)
