"""A bar for work whose share is known, with the time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Report = Callable[[float, str], None]  # share of the work that is done, what is being done


@contextmanager
def progress_bar(doing: str) -> Iterator[Report]:
    """A bar on standard error where that is a terminal, nothing elsewhere.

    Args:
        doing: shown until the first report.
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
        yield lambda share, what: bar.update(job, completed=share, description=what)
