"""A bar for work whose share is known, with the time left."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Report = Callable[[float, str], None]  # share of the work that is done, what is being done


@contextmanager
def progress_bar(doing: str, lines: bool = False) -> Iterator[Report]:
    """A bar on standard error where that is a terminal.

    Args:
        doing: shown until the first report.
        lines: for long work: where it is no terminal, a line for each percent. False: nothing there.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        job = bar.add_task(doing, total=1.0)
        told = -1

        def report(share: float, what: str) -> None:
            nonlocal told
            bar.update(job, completed=share, description=what)
            if lines and not console.is_terminal and int(100 * share) > told:
                told = int(100 * share)
                print(f"{share:4.0%} {what}", file=sys.stderr, flush=True)

        yield report
