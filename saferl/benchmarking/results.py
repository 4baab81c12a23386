"""From run folders to the rows of the tables: a Result for each run and limit that is there, a Failure for the rest."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import saferl.envs
from saferl.benchmarking.plan import Plan
from saferl.benchmarking.plan_report import relative_folder
from saferl.benchmarking.runs import Evaluation, Run
from saferl.evaluation.benchmark import Failure, Result
from saferl.evaluation.scores import normalised_return, reference_returns
from saferl.training.run_folder import read_json

NOT_FINISHED = "not finished; the same command goes on"


def results_of(plan: Plan, causes: Mapping[str, str]) -> tuple[list[Result], list[Failure]]:
    """What a plan's folders hold.

    Args:
        plan: the runs.
        causes: by digest, why a run failed.
    """
    results: list[Result] = []
    failures: list[Failure] = []
    for run in plan.runs:
        problem = plan.problem_of(run)
        cause = causes.get(run.digest, NOT_FINISHED if problem is None else problem.cause)
        missing = run.missing
        for evaluation in run.evaluations:
            if evaluation in missing:
                failures += [
                    Failure(agent=run.agent, task=run.task.name, seed=run.config.seed, limit=limit, cause=cause)
                    for limit in evaluation.judged
                ]
            else:
                results += _results(plan, run, evaluation)
    return results, failures


def _results(plan: Plan, run: Run, evaluation: Evaluation) -> list[Result]:
    """One for each limit that the episodes are judged at."""
    facts = plan.facts.get(run.task.name)
    measured: dict[str, Any] = read_json(run.folder / evaluation.file_name)
    reference = reference_returns(run.task.env, None if facts is None else asdict(facts))
    normalised = None if reference is None else tuple(normalised_return(measured["returns"], reference).tolist())
    return [
        Result(
            agent=run.agent,
            task=run.task.name,
            env=saferl.envs.full_id(run.task.env),
            family=run.task.family,
            seed=run.config.seed,
            limit=limit,
            returns=tuple(measured["returns"]),
            costs=tuple(measured["costs"]),
            violations=tuple(measured["violations"]),
            start_seeds=tuple(measured["seeds"]),
            normalised_returns=normalised,
            steps=run.config.steps,
            train_seconds=run.train_seconds,
            run=str(Path(plan.config.out) / relative_folder(plan, run)),
        )
        for limit in evaluation.judged
    ]
