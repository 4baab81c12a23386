"""The training loop: updates, log lines, evaluations and checkpoints; it knows no agent and no environment by name."""

import signal
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Self

import torch
from torch import Tensor

from saferl.agents import Agent, BatchSource
from saferl.training.checkpoint import not_finite, save_checkpoint
from saferl.training.config import TrainConfig
from saferl.training.logging import MetricsLog, ProgressLine
from saferl.training.run_folder import RunFolder


class Interrupted(KeyboardInterrupt):
    """The user (or the cluster) asked the run to stop; a checkpoint was written."""

    def __init__(self, step: int, run: RunFolder) -> None:
        super().__init__(f"stopped at step {step}; continue with: python -m saferl.train resume={run.path}")


def run_updates(
    agent: Agent,
    sampler: BatchSource,
    config: TrainConfig,
    run: RunFolder,
    done: int = 0,
    evaluate: Callable[[], Mapping[str, float]] | None = None,
) -> None:
    """Train from update ``done`` + 1 to ``config.steps``.

    Args:
        agent, sampler: in the state after ``done`` updates.
        config: how long, and how often to log, evaluate and save.
        run: where to write.
        evaluate: measures the agent; called every ``config.eval_every`` updates before the last one.
    Raises: NotFiniteError as soon as a log line or a checkpoint sees a loss or weight that is not finite; Interrupted
        behind a checkpoint after SIGINT or SIGTERM.
    """
    log = MetricsLog(run.path, run.metrics, done)
    history = _History(run)
    title = f"{config.preset}, seed {config.seed}"
    try:
        with _StopSignal() as stop, ProgressLine(title, config.steps, done) as progress:
            for step in range(done + 1, config.steps + 1):
                history.add(step, agent.update(sampler.sample()))
                last = step == config.steps
                if step % config.log_every == 0 or last or stop.asked:
                    means, rate = history.means(), progress.rate(step)
                    log.write(step, {**means, "steps_per_second": rate})
                    progress.show(step, means, rate)
                if evaluate is not None and config.eval_every and step % config.eval_every == 0 and not last:
                    started = time.monotonic()
                    measured = evaluate()
                    log.write(step, measured)
                    progress.note(f"step {step}: " + "  ".join(f"{key} {value:.4g}" for key, value in measured.items()))
                    progress.pause(time.monotonic() - started)
                if step % config.checkpoint_every == 0 or last or stop.asked:
                    history.check()
                    save_checkpoint(run.checkpoints, step, agent, sampler)
                if stop.asked and not last:
                    raise Interrupted(step, run)
    finally:
        log.close()


class _History:
    """Metrics since the last log line, kept on the device: one small copy per update, one transfer per log line."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._rows: list[tuple[int, tuple[str, ...], Tensor]] = []

    def add(self, step: int, metrics: dict[str, Tensor]) -> None:
        # The copy matters: an agent that replays a CUDA graph returns the same tensors each time.
        self._rows.append((step, tuple(metrics), torch.stack([each.detach() for each in metrics.values()])))

    def check(self) -> dict[str, list[float]]:
        """The values by name. Raises: NotFiniteError for the first one that is not finite."""
        values: dict[str, list[float]] = {}
        if not self._rows:
            return values
        numbers = torch.cat([row for _, _, row in self._rows]).cpu()
        finite = torch.isfinite(numbers).tolist()
        place = 0
        for step, names, _ in self._rows:
            for name in names:
                if not finite[place]:
                    raise not_finite(step, name, self._run.checkpoints)
                values.setdefault(name, []).append(float(numbers[place]))
                place += 1
        return values

    def means(self) -> dict[str, float]:
        """Mean of each metric since the last call."""
        values = self.check()
        self._rows.clear()
        return {name: sum(each) / len(each) for name, each in values.items()}


class _StopSignal:
    """Turns the first SIGINT or SIGTERM into a request that the loop sees; the second acts at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python can't set handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def __exit__(self, *_: object) -> None:
        self._restore()
