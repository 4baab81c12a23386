"""What a training shows and keeps: metrics.jsonl, TensorBoard and one progress line."""

import collections
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from torch.utils.tensorboard import SummaryWriter

from saferl.training.run_folder import write_atomically

_BAR = 12  # characters
PLAIN_INTERVAL = 5.0  # s between two lines where the output is not a terminal


class MetricsLog:
    """JSON lines and TensorBoard events of one run.

    Args:
        folder: the run's folder.
        metrics: its metrics.jsonl.
        step: updates done; lines of later steps (of a run that was killed) are removed.
    """

    def __init__(self, folder: Path, metrics: Path, step: int) -> None:
        if metrics.exists():
            truncate(metrics, step)
        self._file = metrics.open("a", encoding="utf-8")
        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line, on disk before this returns as far as a killed process is concerned."""
        self._file.write(json.dumps({"step": step, **{key: _rounded(value) for key, value in values.items()}}) + "\n")
        self._file.flush()
        for key, value in values.items():
            self._writer.add_scalar(key, value, step)

    def close(self) -> None:
        """Close both files."""
        self._file.close()
        self._writer.close()


def truncate(metrics: Path, step: int) -> None:
    """Drop the lines behind ``step``, and a last line that was cut off."""
    kept = []
    for line in metrics.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] > step:
                continue
        except (ValueError, KeyError, TypeError):
            continue
        kept.append(line + "\n")
    write_atomically(metrics, "".join(kept).encode())


def read_metrics(metrics: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; one that is still being written is left out."""
    lines = []
    for line in metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def _rounded(value: float) -> float:
    return float(f"{value:.7g}")


class ProgressLine:
    """Steps per second, time left and losses: a live bar on a terminal, a line every few seconds elsewhere.

    Args:
        title: what stands in front.
        total: updates of the whole run.
        done: updates done before.
        stream: where to write; standard error as a rule, so that results can be piped.
    """

    def __init__(self, title: str, total: int, done: int = 0, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._title, self._total, self._done = title, total, done
        self._console = Console(file=self._stream)
        self._last = time.monotonic()
        self._idle = 0.0  # s that were not spent on updates
        # (s spent on updates, update) at the last log lines: a slow start, such as compiling, is soon forgotten
        self._marks = collections.deque([(self._last, done)], maxlen=20)
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=_BAR), TextColumn("{task.fields[state]}"))
            self._bar = Progress(*columns, console=self._console, refresh_per_second=4)
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=self._total, completed=self._done, state="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def pause(self, seconds: float) -> None:
        """Leave an evaluation's time out of the rate."""
        self._idle += seconds

    def rate(self, step: int) -> float:
        """Updates per second lately; called once for each log line."""
        now = time.monotonic() - self._idle
        first, before = self._marks[0]
        self._marks.append((now, step))
        return (step - before) / max(now - first, 1e-9)

    def show(self, step: int, losses: Mapping[str, float], rate: float) -> None:
        """Show the state after ``step``, at ``rate`` updates per second."""
        left = (self._total - step) / rate if rate > 0 else 0.0
        state = f"{step}/{self._total}  {rate:.3g} steps/s  {clock(left)} left"
        width = self._console.width - len(self._title) - _BAR - 3 if self._bar is not None else 10_000
        for key in [key for key in losses if key.endswith("loss")][:4]:
            number = f"  {key.removesuffix('loss').rstrip('/_')} {losses[key]:.2g}"
            state += number if len(state) + len(number) <= width else ""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=step, state=state)
        elif time.monotonic() - self._last >= PLAIN_INTERVAL or step >= self._total:
            self._last = time.monotonic()
            self.note(f"{self._title}  {state}")

    def note(self, line: str) -> None:
        """One line that stays."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=self._stream, flush=True)


def clock(seconds: float) -> str:
    """Seconds as 3:07 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
