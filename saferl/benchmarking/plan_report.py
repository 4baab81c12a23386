"""A plan for people, as tables, and for programs, as plan.json."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from saferl.benchmarking.estimate import Estimator
from saferl.benchmarking.plan import Plan
from saferl.benchmarking.runs import Run


def plan_tables(plan: Plan, estimator: Estimator) -> list[Table]:
    """What there is to do: a row for each task, then a row for each agent."""
    return [_task_table(plan), _agent_table(plan, estimator)]


def summary(plan: Plan, estimator: Estimator, slots: int) -> str:
    """One line: how much, how long on ``slots`` cores, and how much disk."""
    runs = plan.open_runs()
    whole = estimator.of_all(runs)
    trainings = sum(not run.is_trained for run in runs)
    evaluations = sum(len(run.missing) for run in runs)
    if not runs:
        return "nothing to compute: all that can be run is there."
    line = f"to do: {_count(trainings, 'training')} and {_count(evaluations, 'evaluation')}"
    if whole.seconds is None or whole.bytes is None:
        return f"{line}; how long they take could not be measured."
    free = shutil.disk_usage(_existing(Path(plan.config.out))).free
    hours = duration(whole.seconds / min(slots, len(runs)))
    warning = ", WHICH IS MORE" if whole.bytes > free else ""
    return (
        f"{line}: about {hours} on {_count(slots, 'core')}, {size(whole.bytes)} of disk ({size(free)} free{warning})."
    )


def problem_lines(plan: Plan) -> list[str]:
    """A line for each thing that will fail."""
    return [
        f"will fail: {'everything' if each.agent is None else each.agent} on {each.task}: {each.cause}"
        for each in plan.problems
    ]


def _task_table(plan: Plan) -> Table:
    table = Table(title="Tasks", box=box.SIMPLE_HEAD, title_justify="left")
    for column in ("task", "family", "cost limits", "transitions", "state"):
        table.add_column(column, justify="right" if column == "transitions" else "left")
    failing = {each.task for each in plan.problems if each.agent is None}
    for task in plan.tasks:
        facts = plan.facts.get(task.name)
        state = "will fail" if task.name in failing else "data to be fetched" if facts is None else "ready"
        limits = ", ".join(f"{limit:g}" for limit in task.limits)
        table.add_row(task.name, task.family, limits, "" if facts is None else f"{facts.transitions:,}", state)
    return table


def _agent_table(plan: Plan, estimator: Estimator) -> Table:
    title = f"Plan: {_count(len(plan.config.seed_list), 'seed')}, {plan.config.episodes} episodes each"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for column in ("agent", "limit enters", "updates", "trainings", "evaluations", "will fail", "one core", "disk"):
        table.add_column(column, justify="left" if column in ("agent", "limit enters") else "right")
    for name in plan.config.agent_names:
        runs = [run for run in plan.runs if run.agent == name]
        table.add_row(name, _limit_use(runs[0]), f"{runs[0].config.steps:,}", *_counts(plan, runs, estimator))
    if len(plan.config.agent_names) > 1:
        table.add_row("all", "", "", *_counts(plan, list(plan.runs), estimator), style="bold")
    return table


def _limit_use(run: Run) -> str:
    return {"none": "nowhere", "training": "training", "acting": "acting"}[run.config.agent.limit_use]


def _counts(plan: Plan, runs: list[Run], estimator: Estimator) -> list[str]:
    """Cells from "trainings" on, as "12 (4 cached)"."""
    failing = [run for run in runs if plan.problem_of(run) is not None and not run.is_complete]
    evaluations = sum(len(run.evaluations) for run in runs)
    whole = estimator.of_all([run for run in runs if plan.problem_of(run) is None])
    return [
        _cached(len(runs), sum(run.is_trained for run in runs)),
        _cached(evaluations, evaluations - sum(len(run.missing) for run in runs)),
        str(len(failing) or ""),
        "?" if whole.seconds is None else duration(whole.seconds),
        "?" if whole.bytes is None else size(whole.bytes),
    ]


def _cached(total: int, cached: int) -> str:
    return f"{total} ({cached} cached)" if cached else str(total)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """12 s, 3.4 min or 5.6 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Bytes as 120 kB, 3.4 MB or 5.6 GB."""
    for unit, factor in (("kB", 1e3), ("MB", 1e6)):
        if count < 1000 * factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count / 1e9:.3g} GB"


def _existing(path: Path) -> Path:
    path = path.resolve()
    return next(each for each in (path, *path.parents) if each.exists())


def plan_record(plan: Plan, causes: Mapping[str, str], command: str) -> dict[str, Any]:
    """What plan.json holds.

    Args:
        plan: the plan.
        causes: by digest, why a run failed.
        command: that makes the plan.
    Returns: plain values; folders are relative to the one that plan.json lies in.
    """
    return {
        "command": command,
        "protocol": plan.config.protocol,
        "episodes": plan.config.episodes,
        "seeds": list(plan.config.seed_list),
        "tasks": [
            {"name": task.name, "env": task.env, "family": task.family, "limits": list(task.limits)}
            for task in plan.tasks
        ],
        "problems": [{"task": each.task, "agent": each.agent, "cause": each.cause} for each in plan.problems],
        "runs": [_run_record(plan, run, causes) for run in plan.runs],
    }


def relative_folder(plan: Plan, run: Run) -> str:
    """A run's folder, seen from the plan's ``out``."""
    return run.folder.relative_to(Path(plan.config.out).resolve()).as_posix()


def _run_record(plan: Plan, run: Run, causes: Mapping[str, str]) -> dict[str, Any]:
    problem = plan.problem_of(run)
    cause = causes.get(run.digest, None if problem is None else problem.cause)
    missing = run.missing
    return {
        "agent": run.agent,
        "task": run.task.name,
        "seed": run.config.seed,
        "limit": run.limit,
        "steps": run.config.steps,
        "digest": run.digest,
        "folder": relative_folder(plan, run),
        "state": "complete" if run.is_complete else "failed" if cause is not None else "open",
        "cause": None if run.is_complete else cause,
        "updates_done": run.done,
        "evaluations": [
            {"file": each.file_name, "limit_told": each.limit, "judged": list(each.judged), "done": each not in missing}
            for each in run.evaluations
        ],
    }
