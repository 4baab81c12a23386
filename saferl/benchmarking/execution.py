"""What a plan's engine does: probes first, then the runs; a failure is noted and stops nothing else."""

from collections.abc import Sequence
from dataclasses import replace

from saferl.benchmarking.calls import Call, Engine
from saferl.benchmarking.estimate import Estimator, longest_first
from saferl.benchmarking.plan import Plan, Problem
from saferl.benchmarking.probe import Probes, agent_key, env_key, probe_agent, probe_env, shape_of
from saferl.benchmarking.progress import Progress
from saferl.benchmarking.runs import Run, complete_run


def probed(plan: Plan, engine: Engine, probes: Probes) -> Plan:
    """The plan with what the probes found out to fail: environments that can't be made, data that do not fit.

    Args:
        plan: with facts of the data that are here; for the others, DSRL's sizes are filled with random numbers.
        engine: measures on its own processes.
        probes: takes what is measured, and knows what was measured before.
    """
    envs = {env_key(run): run for run in plan.open_runs() if run.missing}
    plan = _measured(plan, engine, probes, {key: Call(probe_env, (run,), run.task.name) for key, run in envs.items()})
    real: dict[str, Call] = {}
    made_up: dict[str, Call] = {}
    for run in plan.open_runs():
        facts = plan.facts.get(run.task.name)
        shape = shape_of(run, facts)
        if facts is not None and shape is not None:
            real.setdefault(agent_key(run, shape), Call(probe_agent, (run,), run.task.name))
        elif shape is not None and agent_key(run, shape) not in probes:
            made_up.setdefault(agent_key(run, shape, stand_in=True), Call(probe_agent, (run, shape), run.task.name))
    plan = _measured(plan, engine, probes, real)
    _measured(plan, engine, probes, made_up)  # what fails on made-up data may do well on those to come
    return plan


def _measured(plan: Plan, engine: Engine, probes: Probes, calls: dict[str, Call]) -> Plan:
    """Do the calls whose times are not known; those that fail become problems."""
    keys = [key for key in calls if key not in probes]
    runs: list[Run] = [calls[key].arguments[0] for key in keys]
    alone = [run.agent if calls[key].function is probe_agent else None for key, run in zip(keys, runs)]
    labels = [f"{agent or 'environment'} on {run.task.name}" for agent, run in zip(alone, runs)]
    problems: list[Problem] = []
    with Progress("probe", labels, [None] * len(keys), engine.slots) as progress:
        for event in engine.run([calls[key] for key in keys]):
            progress.tell(event)
            if event.kind == "finished":
                probes.add(keys[event.index], event.value)
            elif event.kind == "failed":
                problems.append(Problem(runs[event.index].task.name, alone[event.index], event.cause))
    return replace(plan, problems=(*plan.problems, *problems))


def execute(plan: Plan, engine: Engine, estimator: Estimator, causes: dict[str, str]) -> None:
    """Do all runs of a plan that are open.

    Args:
        plan: what to do.
        engine: where.
        estimator: for the order and the time left.
        causes: takes, by the run's digest, why a run failed; filled on the way, so that it is right after Ctrl-C.
    """
    runs = longest_first(plan, estimator)
    expected = [estimator.of(run).seconds for run in runs]
    calls = [Call(complete_run, (run,), run.task.name) for run in runs]
    with Progress("run", _labels(runs), expected, engine.slots) as progress:
        for event in engine.run(calls):
            progress.tell(event)
            if event.kind == "failed":
                causes[runs[event.index].digest] = event.cause


def _labels(runs: Sequence[Run]) -> list[str]:
    return [run.label for run in runs]
