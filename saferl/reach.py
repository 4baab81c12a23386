"""python -m saferl.reach: which states of a system can be kept safe, computed on a grid; --help is the manual."""

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from saferl.command_line import UsageError, guarded, single_run
from saferl.evaluation.reach_figures import value_slices
from saferl.evaluation.reach_report import hidden_unviolated, reach_facts, reach_table, remarks, shares
from saferl.evaluation.report import show
from saferl.progress_bar import Report, progress_bar
from saferl.reach_settings import Task, parse_reach
from saferl.reachability import SYSTEMS, Value, discounted, hamilton_jacobi
from saferl.reachability.problems import PROBLEMS
from saferl.training.run_folder import environment_facts, make_folder, write_json

StateFunction = Callable[..., Any] | None


@dataclass(frozen=True, kw_only=True)
class Solution:
    """The value, those of shorter horizons with their labels, and the undiscounted one."""

    value: Value
    earlier: tuple[tuple[str, Value], ...] = ()
    limit: Value | None = None


def systems_for_help() -> str:
    """The shipped systems, one a line, and what their ready problems are."""
    width = max(map(len, SYSTEMS))
    lines = []
    for name in SYSTEMS:
        about = "no ready problem: give low, high, shape, horizon, and what to avoid or reach"
        if name in PROBLEMS:
            ready = PROBLEMS[name]
            about = f"{ready.about} ({' x '.join(map(str, ready.shape))} nodes, {ready.horizon:g} s)"
        lines.append(f"  {name:{width}}  {about}")
    return "\n".join(lines) + "\n"


OmegaConf.register_new_resolver("reach_systems", lambda *_: systems_for_help(), replace=True)


def reach(task: Task) -> Path:
    """Compute, save, draw and print. Returns: the folder of the value.

    Raises: UsageError for what the user can mend; SystemExit(130) after Ctrl-C.
    """
    h, l = (at_nodes(task, name) for name in ("constraint", "target"))  # noqa: E741  the literature's letter
    with _folder(task) as folder:
        print(task.plan, flush=True)
        start = time.perf_counter()
        try:
            with progress_bar("compiling") as report, np.errstate(over="ignore"):  # not finite is an error by itself
                solution = solution_of(task, h, l, report)
        except (ValueError, MemoryError, FloatingPointError) as error:
            raise UsageError(str(error)) from error
        except KeyboardInterrupt:
            print("saferl.reach: stopped; nothing was saved.", file=sys.stderr)
            raise SystemExit(130) from None
        seconds = time.perf_counter() - start
        problem, value = task.problem, solution.value
        value.facts.update(about=problem.about, unit=problem.unit)
        try:
            value.save(folder)
            _draw(task, solution, folder / "slices.png")
            parts = shares(value, h, l, solution.limit)
            facts = reach_facts(value, parts, seconds)
            settings = {key: each for key, each in dataclasses.asdict(task.config).items() if each is not None}
            write_json(folder / "reach.json", {**facts, "settings": settings, "environment": environment_facts()})
        except OSError as error:
            raise UsageError(f"out={folder}: {error.strerror or error}.") from error
    show(reach_table(f"{task.system.name}: {problem.about}", value, parts, seconds, problem.unit))
    for line in remarks(value, h, l):
        print(f"note: {line}")
    print(f"written: {folder}/ with value.safetensors, value.json, slices.png, reach.json")
    print(loading(task, folder))
    return folder


def at_nodes(task: Task, name: str) -> NDArray[np.float64] | None:
    """h or l at the nodes, None if there is none. Raises: UsageError if the function does not fit."""
    function = getattr(task.problem, name)
    if function is None:
        return None
    try:
        return task.grid.evaluate(function, name)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{name} must be a function of {', '.join(task.system.states)} on arrays that broadcast: {error}"
        ) from error


def solution_of(
    task: Task, constraint: NDArray[np.float64] | None, target: NDArray[np.float64] | None, report: Report
) -> Solution:
    """The computation itself, by either method; raises what the solvers raise."""
    config = task.config
    shared: dict[str, Any] = {
        "constraint": constraint,
        "target": target,
        "dtype": config.dtype,
        "device": config.device,
    }
    if config.method == "hamilton_jacobi":
        shared["progress"] = lambda share: report(share, "march")
        values = list(hamilton_jacobi.snapshots(task.system, task.grid, **shared, **task.settings))
        labels = [f"{each.facts['horizon']:g} s" for each in values]
        return Solution(value=values[-1], earlier=tuple(zip(labels[:-1], values)))
    settings = dict(task.settings)
    discounts = settings.pop("discounts")

    def solved(index: int, start: Value | None) -> Value:
        def progress(share: float) -> None:
            report((index + share) / len(discounts), f"discount {discounts[index]:g}")

        parts = {**shared, **settings, "discount": discounts[index], "start": start, "progress": progress}
        return discounted.solve(task.system, task.grid, **parts)

    first = last = solved(0, None)
    for index in range(1, len(discounts)):  # as discounted.anneal, which keeps all values; two are plenty here
        last = solved(index, last)
    if first is last:
        return Solution(value=first)
    first.facts["discount_bias"] = discounted.discount_bias(first, last) | hidden_unviolated(first, last, constraint)
    return Solution(value=first, limit=last)


def loading(task: Task, folder: Path) -> str:
    """The Python that loads the value as a function of the state."""
    name = task.config.system
    if name not in SYSTEMS:
        return f'from saferl.reachability import Value; V = Value.load("{folder}")  # V(states (B, {task.grid.ndim}))'
    arguments = ", ".join(f"{key}={each!r}" for key, each in (task.config.system_kwargs or {}).items())
    return (
        f'from saferl.reachability import SYSTEMS, Value; V = Value.load("{folder}", SYSTEMS["{name}"]({arguments}))'
        f"  # V(states (B, {task.grid.ndim})), V.safe_control(states)"
    )


def _draw(task: Task, solution: Solution, path: Path) -> None:
    problem, facts = task.problem, solution.value.facts
    how = f"horizon {facts['horizon']:g} s" if "horizon" in facts else f"discount {facts['discount']:g}"
    value_slices(
        solution.value,
        path,
        f"{task.system.name}: {problem.about}, {how}",
        axes=problem.axes,
        at=problem.at,
        constraint=problem.constraint,
        target=problem.target,
        unit=problem.unit,
        earlier=solution.earlier,
        limit=solution.limit,
    )


@contextmanager
def _folder(task: Task) -> Iterator[Path]:
    """The folder of the value, made before the long computation; gone again if nothing came of it."""
    if task.config.out is None:
        folder = make_folder("runs", task.system.name, task.config.method, 0)
    else:
        folder = Path(task.config.out)
        if (folder / "value.json").exists():
            raise UsageError(f"out={folder} already holds a value; give another folder.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"out={folder}: {error.strerror or error}; give another folder.") from error
    try:
        yield folder
    finally:
        with suppress(OSError):  # it is not empty
            folder.rmdir()


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    return guarded("reach", lambda: single_run("reach", words, _task, job, "run it once for each value"))


def job(settings: DictConfig) -> None:
    """One computation from Hydra's settings."""
    reach(_task(settings))


def _task(settings: DictConfig) -> Task:
    values: Mapping[str, Any] = OmegaConf.to_container(settings, resolve=True)  # type: ignore[assignment]
    return parse_reach(values)


if __name__ == "__main__":
    raise SystemExit(main())
