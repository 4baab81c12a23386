"""Calls that run side by side, and what an engine tells of them. Light to import: every worker starts with it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class Call:
    """A function of a module, its arguments, and the group whose calls gain from one process, as one task's do."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    group: str = ""


@dataclass(frozen=True)
class Event:
    """What happened to the call at ``index``.

    Attributes:
        index: place in the list of calls.
        kind: "started", "finished" or "failed".
        value: what the function returned.
        cause: why it failed, in one line.
    """

    index: int
    kind: Literal["started", "finished", "failed"]
    value: Any = None
    cause: str = ""


class CallError(Exception):
    """A failure whose message says it all; any other exception is named with its type."""


class Engine(Protocol):
    """Runs calls side by side."""

    @property
    def slots(self) -> int:
        """Calls that run at once."""
        ...

    def run(self, calls: Sequence[Call]) -> Iterator[Event]:
        """Do all calls; each ends with one event, finished or failed."""
        ...

    def stop(self) -> None:
        """Ask the calls that run to save and stop, and wait for them."""
        ...

    def close(self) -> None:
        """End the processes."""
        ...


def cause_of(error: Exception) -> str:
    """An exception in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, CallError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
