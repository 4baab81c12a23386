"""One run of a benchmark: a training in its folder and the evaluations of its policy, as a worker completes them."""

import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from saferl.benchmarking.calls import CallError
from saferl.benchmarking.local_engine import output_to
from saferl.benchmarking.tasks import BenchmarkTask
from saferl.command_line import UsageError
from saferl.offline_data import OfflineDataset
from saferl.offline_data.loading import load_dataset
from saferl.training.checkpoint import NotFiniteError, checkpoint_step, checkpoints, load_checkpoint
from saferl.training.config import TrainConfig, device_named, plain
from saferl.training.loop import run_updates
from saferl.training.parts import data_facts, make_parts, note_data
from saferl.training.run_evaluation import Protocol
from saferl.training.run_folder import RunFolder, environment_facts, read_json, save_settings, write_json
from saferl.training.trained import action_bounds, load_agent


@dataclass(frozen=True)
class Evaluation:
    """Episodes of a run's policy.

    Attributes:
        episodes: how many; episode i starts from seed i.
        limit: the cost limit that the policy is told; None if it takes none.
        judged: the limits that its costs are compared with.
    """

    episodes: int
    limit: float | None
    judged: tuple[float, ...]

    @property
    def file_name(self) -> str:
        """Where it lies in the run's folder."""
        told = "" if self.limit is None else f"-limit{self.limit:g}"
        return f"evaluations/episodes{self.episodes}{told}.json"


@dataclass(frozen=True)
class Run:
    """A training, and the evaluations of what it trains.

    Attributes:
        config: the training's settings; ``agent`` still without the values that task and data decide.
        task: where it belongs in the tables.
        limit: the cost limit that enters the training, or None.
        digest: of all that its numbers depend on.
        folder: absolute path of its run folder.
        evaluations: of the policy.
    """

    config: TrainConfig
    task: BenchmarkTask
    limit: float | None
    digest: str
    folder: Path
    evaluations: tuple[Evaluation, ...]

    @property
    def agent(self) -> str:
        """Name of the agent's preset."""
        return self.config.preset

    @property
    def label(self) -> str:
        """For people."""
        at = "" if self.limit is None else f", limit {self.limit:g}"
        return f"{self.agent} on {self.task.name}, seed {self.config.seed}{at}"

    @property
    def log(self) -> Path:
        """What its process printed, tracebacks included."""
        return self.folder / "log.txt"

    @property
    def done(self) -> int:
        """Updates in its last checkpoint."""
        saved = checkpoints(RunFolder(self.folder).checkpoints)
        return checkpoint_step(saved[-1]) if saved else 0

    @property
    def is_trained(self) -> bool:
        """Whether the last update is in a checkpoint."""
        return self.done >= self.config.steps

    @property
    def missing(self) -> list[Evaluation]:
        """Evaluations that are not there."""
        return [each for each in self.evaluations if not (self.folder / each.file_name).exists()]

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.is_trained and not self.missing

    @property
    def train_seconds(self) -> float:
        """Wall-clock time of the updates so far, over all sessions that were not killed."""
        path = self.folder / "training.json"
        return float(read_json(path)["seconds"]) if path.exists() else 0.0


def complete_run(run: Run) -> None:
    """Do what a run lacks: updates from its last checkpoint on, then evaluations.

    Raises: CallError with a whole cause; KeyboardInterrupt behind a checkpoint if asked to stop.
    """
    torch.set_num_threads(1)
    with output_to(run.log):
        try:
            if not run.is_trained:
                _train(run)
            for evaluation in run.missing:
                _evaluate(run, evaluation)
        except (UsageError, NotFiniteError) as error:
            raise CallError(str(error)) from error
        except Exception as error:
            with run.log.open("a", encoding="utf-8") as log:
                traceback.print_exc(file=log)
            line = (str(error).splitlines() or [""])[0]
            raise CallError(f"{type(error).__name__}: {line} (traceback in {run.log})") from error


def _train(run: Run) -> None:
    folder = RunFolder(run.folder)
    config, (low, high), dataset, agent, sampler = make_parts(run.config, kept_dataset)
    note_data(folder, data_facts(dataset, low, high))
    if not folder.config.exists():
        write_json(folder.path / "environment.json", environment_facts())
        save_settings(folder, plain(config))  # last: with it the folder is a run
    done = run.done
    if done:
        load_checkpoint(checkpoints(folder.checkpoints)[-1], agent, sampler)
    before, started = run.train_seconds, time.monotonic()
    try:
        run_updates(agent, sampler, config, folder, done)
    finally:
        write_json(folder.path / "training.json", {"seconds": before + time.monotonic() - started})


def _evaluate(run: Run, evaluation: Evaluation) -> None:
    folder = RunFolder(run.folder)
    agent, config, step = load_agent(folder, device_named(run.config.device))
    policy = agent.policy(*action_bounds(folder), cost_limit=evaluation.limit)
    started = time.monotonic()
    episodes = Protocol(episodes=evaluation.episodes).run(policy, config.env)
    facts: dict[str, Any] = {
        "env": config.env,
        "step": step,
        "limit": evaluation.limit,
        "seconds": time.monotonic() - started,
        "seeds": episodes.seeds.tolist(),
        "returns": episodes.returns.tolist(),
        "costs": episodes.costs.tolist(),
        "violations": episodes.violations.tolist(),
        "lengths": episodes.lengths.tolist(),
    }
    path = folder.path / evaluation.file_name
    path.parent.mkdir(exist_ok=True)
    write_json(path, facts)


_KEPT: dict[tuple[str, str | None], OfflineDataset] = {}  # the last data of this process


def kept_dataset(env: str, path: str | None) -> OfflineDataset:
    """As ``load_dataset``, but what was read last stays in memory for the next run."""
    if (env, path) not in _KEPT:
        _KEPT.clear()  # before the next ones are read: two do not fit everywhere
        _KEPT[env, path] = load_dataset(env, path)
    return _KEPT[env, path]
