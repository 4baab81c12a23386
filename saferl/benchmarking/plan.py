"""A plan: every training and evaluation that a table needs, under the name of all that its numbers depend on."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

import saferl.envs
from saferl.agents import AGENTS
from saferl.benchmarking.code_version import code_version
from saferl.benchmarking.config import BenchmarkConfig
from saferl.benchmarking.data import DataFacts
from saferl.benchmarking.runs import Evaluation, Run
from saferl.benchmarking.tasks import BenchmarkTask
from saferl.command_line import UsageError, composed
from saferl.training.config import TrainConfig, device_named, parse_training, plain
from saferl.training.parts import reward_scale

# Settings that change no number of a training or of a benchmark's evaluations.
_NOT_COUNTED = ("out", "log_every", "checkpoint_every", "eval_every", "eval_episodes")


@dataclass(frozen=True)
class Problem:
    """What will fail, known before anything runs.

    Attributes:
        task: name of the task.
        agent: name of the agent, None for all of them.
        cause: one line, with the way out.
    """

    task: str
    agent: str | None
    cause: str


@dataclass(frozen=True)
class Plan:
    """All runs of a benchmark, task by task, and what will fail."""

    config: BenchmarkConfig
    tasks: tuple[BenchmarkTask, ...]
    facts: Mapping[str, DataFacts]  # by task, of data that are here
    runs: tuple[Run, ...]
    problems: tuple[Problem, ...] = ()

    def problem_of(self, run: Run) -> Problem | None:
        """Why a run will fail, if that is known."""
        for each in self.problems:
            if each.task == run.task.name and each.agent in (None, run.agent):
                return each
        return None

    def open_runs(self) -> list[Run]:
        """The runs that have something left to do and are not known to fail."""
        return [run for run in self.runs if not run.is_complete and self.problem_of(run) is None]


def agent_settings(config: BenchmarkConfig, config_dir: str | None = None) -> dict[str, dict[str, Any]]:
    """The nested settings of a training of each agent, with the user's overrides.

    Args:
        config: of the benchmark.
        config_dir: a folder of the user's own YAML that is searched first.
    Raises: UsageError with the close match for a wrong agent, key or value.
    """
    settings = {}
    for name in config.agent_names:
        steps = [] if config.steps is None else [f"steps={config.steps}"]
        words = [f"agent={name}", "device=cpu", *steps, *config.words_for(name)]
        values: Any = OmegaConf.to_container(composed("config", words, config_dir))
        values["agent"]["preset"] = name
        values["eval_every"], values["eval_episodes"] = 0, config.episodes
        if config.filters is not None:
            values["data"]["filters"] = dict(config.filters)
        settings[name] = values
    return settings


def make_plan(
    config: BenchmarkConfig,
    settings: Mapping[str, dict[str, Any]],
    tasks: Sequence[BenchmarkTask],
    facts: Mapping[str, DataFacts],
    problems: Sequence[Problem] = (),
) -> Plan:
    """The plan of a benchmark.

    Args:
        config: of the benchmark.
        settings: of a training of each agent, from ``agent_settings``.
        tasks: with their limits.
        facts: of each task's data; a task without data here has no cached runs.
        problems: tasks that can't be run.
    Raises: UsageError for a setting that an agent or a task refuses.
    """
    runs = []
    for task in tasks:
        digest = facts[task.name].digest if task.name in facts else "not here"
        for name, values in settings.items():
            for seed in config.seed_list:
                runs += _runs(config, name, values, task, seed, digest)
    return Plan(config, tuple(tasks), dict(facts), tuple(runs), tuple(problems))


def _runs(
    config: BenchmarkConfig, name: str, values: Mapping[str, Any], task: BenchmarkTask, seed: int, digest: str
) -> list[Run]:
    """The trainings of one agent on one task with one seed: one, or one for each limit."""
    data = {**values["data"], "path": task.data}
    base = {**values, "env": task.env, "seed": seed, "data": data}
    try:
        first = parse_training(base)
        use = first.agent.limit_use
        if use != "training":
            told: tuple[float | None, ...] = task.limits if use == "acting" else (None,)
            evaluations = tuple(
                Evaluation(config.episodes, limit, task.limits if limit is None else (limit,)) for limit in told
            )
            return [_run(config, first, task, None, digest, evaluations)]
        runs = []
        for limit in task.limits:
            training = parse_training({**base, "agent": {**values["agent"], "cost_limit": limit}})
            evaluation = Evaluation(config.episodes, None, (limit,))
            runs.append(_run(config, training, task, limit, digest, (evaluation,)))
        return runs
    except UsageError as error:
        raise UsageError(f"{name} on {task.name}: {error}") from error


def _run(
    config: BenchmarkConfig,
    training: TrainConfig,
    task: BenchmarkTask,
    limit: float | None,
    data_digest: str,
    evaluations: tuple[Evaluation, ...],
) -> Run:
    digest = identity(training, data_digest)
    at = "" if limit is None else f"-limit{limit:g}"
    name = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in task.name)
    folder = Path(config.out) / "runs" / name / training.preset / f"{training.seed}{at}-{digest[:12]}"
    return Run(training, task, limit, digest, folder.resolve(), evaluations)


def identity(training: TrainConfig, data_digest: str) -> str:
    """Digest of what a training's weights depend on: settings, data and the code of its agent.

    Where the files lie, how often it logs or saves, and comments in the code do not count.
    """
    values = {key: value for key, value in plain(training).items() if key not in _NOT_COUNTED}
    values["env"] = saferl.envs.full_id(training.env)
    values["device"] = device_named(training.device).type
    values["data"] = {key: value for key, value in values["data"].items() if key != "path"}
    values["data"]["reward_scale"] = reward_scale(training)
    values["data"]["digest"] = data_digest
    values["code"] = code_version(AGENTS[training.agent_name][1].__module__)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
