"""python -m saferl.benchmark: agents x tasks x limits x seeds, planned, cached, run side by side; --help tells all."""

import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import gymnasium
import hydra
from omegaconf import OmegaConf

import saferl.envs
from saferl.benchmarking.calls import Engine
from saferl.benchmarking.config import BenchmarkConfig, parse_benchmark, quoted
from saferl.benchmarking.data import DataCatalogue, DataFacts, data_file
from saferl.benchmarking.estimate import Estimator
from saferl.benchmarking.execution import execute, probed
from saferl.benchmarking.local_engine import LocalEngine
from saferl.benchmarking.plan import Plan, Problem, agent_settings, make_plan
from saferl.benchmarking.plan_report import plan_record, plan_tables, problem_lines, summary
from saferl.benchmarking.probe import Probes
from saferl.benchmarking.ray_engine import RayEngine
from saferl.benchmarking.results import results_of
from saferl.benchmarking.tasks import SUITES, BenchmarkTask, chosen_tasks
from saferl.command_line import CONFIG_MODULE, HYDRA_VERSION_BASE, UsageError, check_flags, composed, guarded
from saferl.evaluation.benchmark import write_results
from saferl.evaluation.report import show
from saferl.training.run_folder import environment_facts, write_json


def benchmark(config: BenchmarkConfig, config_dir: str | None, command: str) -> int:
    """Plan, compute what is missing, write the results; returns the exit code.

    Args:
        config: what to compare.
        config_dir: a folder of the user's own agents' YAML.
        command: as the user typed it, for the report.
    Raises: UsageError for what the user can mend, before anything is trained.
    """
    tasks, settings = checked(config, config_dir)
    out = Path(config.out)
    with _alone(out), _terminated_as_interrupted():
        try:
            facts, problems = survey(tasks, DataCatalogue(out / "data.json"), fetch=not config.plan_only)
            plan = make_plan(config, settings, tasks, facts, problems)
            with _engine(config, plan) as engine:
                probes = Probes(out / "probes.json")
                plan = probed(plan, engine, probes)
                estimator = Estimator(facts, probes)
                _show_plan(plan, estimator, engine.slots)
                write_json(out / "plan.json", plan_record(plan, {}, command))
                if config.plan_only:
                    return 1 if plan.problems else 0
                causes, stopped = _executed(plan, engine, estimator)
        except KeyboardInterrupt:
            print("saferl.benchmark: stopped while planning; nothing was trained.", file=sys.stderr)
            return 130
        return _finish(plan, causes, stopped, command)


def checked(config: BenchmarkConfig, config_dir: str | None) -> tuple[list[BenchmarkTask], dict[str, dict[str, Any]]]:
    """The tasks and the agents' settings, after everything that can be checked without data was.

    Raises: UsageError in one line.
    """
    settings = agent_settings(config, config_dir)
    words = SUITES[config.suite] if config.tasks is None else config.tasks
    names = [words] if isinstance(words, str) else words
    tasks = chosen_tasks(names, config.protocol, config.limit_list, config.data or {})
    for task in tasks:
        if task.data is not None and not Path(str(task.data)).expanduser().exists():
            raise UsageError(f"data={{{task.name}: {task.data}}}: no such file or folder.")
    make_plan(config, settings, tasks, {})  # parses every training
    return tasks, settings


def survey(
    tasks: Sequence[BenchmarkTask], catalogue: DataCatalogue, fetch: bool
) -> tuple[dict[str, DataFacts], list[Problem]]:
    """Facts about the data of each task, by name, and the tasks whose data can't be had.

    Args:
        tasks: to look up.
        catalogue: of what is known.
        fetch: whether what is not here is downloaded, unless its environment can't be made anyway.
    """
    facts: dict[str, DataFacts] = {}
    problems = []
    for task in tasks:
        try:
            if fetch and data_file(task.env, task.data) is None:
                saferl.envs.make(task.env).close()
            found = catalogue.facts(task.env, task.data, fetch)
        except (ValueError, ImportError, gymnasium.error.Error) as error:
            problems.append(Problem(task.name, None, " ".join(str(error).split())))
            continue
        if found is not None:
            facts[task.name] = found
    return facts, problems


@contextmanager
def _engine(config: BenchmarkConfig, plan: Plan) -> Iterator[Engine]:
    """The engine that the settings ask for; a cluster is not troubled if nothing is to be done."""
    local = config.engine == "local" or not plan.open_runs()
    engine: Engine = (
        LocalEngine(config.cores, Path(config.out) / "workers.log") if local else RayEngine(config.ray_address)
    )
    try:
        yield engine
    finally:
        engine.close()


def _show_plan(plan: Plan, estimator: Estimator, slots: int) -> None:
    show(*plan_tables(plan, estimator))
    for line in [*problem_lines(plan), summary(plan, estimator, slots)]:
        print(line)


def _executed(plan: Plan, engine: Engine, estimator: Estimator) -> tuple[dict[str, str], bool]:
    """Why runs failed, by digest, and whether the user stopped the command."""
    causes: dict[str, str] = {}
    try:
        execute(plan, engine, estimator, causes)
    except KeyboardInterrupt:
        print("saferl.benchmark: stopping; trainings write a checkpoint first (again: at once).", file=sys.stderr)
        with suppress(KeyboardInterrupt):
            engine.stop()
        return causes, True
    return causes, False


def _finish(plan: Plan, causes: dict[str, str], stopped: bool, command: str) -> int:
    out = Path(plan.config.out)
    write_json(out / "plan.json", plan_record(plan, causes, command))
    results, failures = results_of(plan, causes)
    write_results(out, results, failures, f"Benchmark {out.name}", command, published=True, extra_facts=_facts(plan))
    finished = sum(run.is_complete for run in plan.runs)
    print(f"{finished} of {len(plan.runs)} runs are complete; results: {out}")
    if stopped:
        print("saferl.benchmark: stopped; the same command goes on where it was.", file=sys.stderr)
        return 130
    for run in plan.runs:
        if run.digest in causes:
            print(f"saferl.benchmark: {run.label}: {causes[run.digest]}", file=sys.stderr)
    return 1 if failures else 0


def _facts(plan: Plan) -> dict[str, str]:
    """What the report says beside the results."""
    machine = environment_facts()
    steps = {run.agent: run.config.steps for run in plan.runs}
    return {
        "cost limits": "given" if plan.config.limits is not None else f"protocol {plan.config.protocol}",
        "episodes of an evaluation": str(plan.config.episodes),
        "seeds": ", ".join(map(str, plan.config.seed_list)),
        "updates": ", ".join(f"{agent} {count:,}" for agent, count in steps.items()),
        "filters": str(plan.config.filters or "none"),
        "machine": f"{machine['processor']}, {machine['cores']} cores",
        "software": f"saferl {machine['saferl']} ({machine['commit']}), torch {machine['packages']['torch']}",
    }


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Refuse a folder that another benchmark works in. Raises: UsageError."""
    import fcntl  # not on Windows

    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / ".lock").open("w")
    except OSError as error:
        raise UsageError(f"out={out}: {error.strerror or error}; give another folder.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"out={out}: another benchmark works in this folder; wait, or give another.") from error
        yield


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, which clusters send, does what Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    return guarded("benchmark", lambda: _main(words))


def _main(words: list[str]) -> int:
    flags = check_flags(quoted(words))
    if flags.multirun:
        raise UsageError("a benchmark takes no -m; agents, tasks, limits and seeds are lists.")
    if flags.help or flags.hydra_help or flags.cfg or flags.info or flags.shell_completion:
        sys.argv = [sys.argv[0], *flags.words, *flags.overrides]
        hydra.main(f"pkg://{CONFIG_MODULE}", "benchmark", HYDRA_VERSION_BASE)(lambda settings: None)()
        return 0
    # Composed here and not by hydra.main, inside of which the agents' settings could not be composed.
    values: Any = OmegaConf.to_container(composed("benchmark", flags.overrides, flags.config_dir))
    command = shlex.join(["python", "-m", "saferl.benchmark", *words])
    return benchmark(parse_benchmark(values), flags.config_dir, command)


if __name__ == "__main__":
    raise SystemExit(main())
