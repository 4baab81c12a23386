"""How long things take on this machine: a few updates of each agent, a few steps of each environment; kept on disk."""

import hashlib
import json
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

import saferl.envs
from saferl.benchmarking.calls import CallError
from saferl.benchmarking.data import DataFacts
from saferl.benchmarking.runs import Run, kept_dataset
from saferl.command_line import UsageError
from saferl.envs.tasks import find_task
from saferl.evaluation.rollout import MAX_ENVS
from saferl.offline_data import OfflineDataset
from saferl.policy import FeedbackPolicy
from saferl.training.checkpoint import save_checkpoint
from saferl.training.config import plain
from saferl.training.parts import make_parts
from saferl.training.run_folder import read_json, write_json

WARM_UP = 2  # calls that are not timed: the first ones allocate
LEAST = 3  # calls that are timed
EPISODES = 20  # of made-up data
SECONDS = 0.5  # and more of them until this time is over


@dataclass(frozen=True)
class AgentTimes:
    """Of one agent on data of one shape, one thread."""

    setup: float  # s to read the data and build the agent
    update: float  # s
    act: float  # s for the actions of all environments that an evaluation steps together
    checkpoint: int  # bytes


@dataclass(frozen=True)
class EnvTimes:
    """Of the environments that an evaluation steps together."""

    make: float  # s to make and reset them
    step: float  # s for one step of all


class Probes:
    """Measured times, kept in a JSON file.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, dict[str, Any]] = read_json(path) if path.exists() else {}

    def __contains__(self, key: str) -> bool:
        """Whether something was measured under this key."""
        return key in self._known

    def agent(self, key: str) -> AgentTimes | None:
        """Times by ``agent_key``, None if they were not measured."""
        return AgentTimes(**self._known[key]) if key in self._known else None

    def env(self, key: str) -> EnvTimes | None:
        """Times by ``env_key``, None if they were not measured."""
        return EnvTimes(**self._known[key]) if key in self._known else None

    def add(self, key: str, times: AgentTimes | EnvTimes) -> None:
        """Keep what was measured."""
        self._known[key] = asdict(times)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._path, self._known)


class Shape(NamedTuple):
    """What the times of an agent depend on, beside its settings."""

    obs_dim: int
    act_dim: int
    steps: int  # of an episode


def shape_of(run: Run, facts: DataFacts | None) -> Shape | None:
    """The shape of a run's data: DSRL's own, or that of the data's longest episode; None if neither is known."""
    task = find_task(run.task.env)
    if task is not None:
        return Shape(task.obs_dim, task.act_dim, task.horizon)
    return None if facts is None else Shape(facts.obs_dim, facts.act_dim, facts.longest)


def agent_key(run: Run, shape: Shape, stand_in: bool = False) -> str:
    """Name of an agent's times: its settings, the shape of the data and the machine; ``stand_in``: on made-up data."""
    values: Mapping[str, Any] = plain(run.config)
    agent = {key: value for key, value in values["agent"].items() if key != "cost_limit"}
    return _key("agent", agent, shape, stand_in, run.config.device, run.evaluations[0].episodes)


def env_key(run: Run) -> str:
    """Name of an environment's times."""
    return _key("env", run.task.env, run.evaluations[0].episodes)


def _key(*parts: Any) -> str:
    text = json.dumps([*parts, platform.node(), platform.processor()], sort_keys=True)
    return f"{parts[0]} {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def probe_agent(run: Run, stand_in: Shape | None = None) -> AgentTimes:
    """Measure an agent.

    Args:
        run: whose agent. Measured on the run's own data, so that what will fail later fails here.
        stand_in: shape of made-up data that are taken instead, where the run's own are not here yet.
    Raises: CallError with the cause for settings and data that do not fit.
    """
    torch.set_num_threads(1)
    started = time.perf_counter()
    try:
        load = kept_dataset if stand_in is None else lambda env, path: made_up(stand_in)
        _, (low, high), dataset, agent, sampler = make_parts(run.config, load)
    except UsageError as error:
        raise CallError(str(error)) from error
    setup = time.perf_counter() - started
    update = _seconds_of(lambda: agent.update(sampler.sample()))
    with tempfile.TemporaryDirectory() as folder:
        saved = save_checkpoint(Path(folder), 1, agent, sampler)
        size = sum(file.stat().st_size for file in saved.iterdir())
    evaluation = run.evaluations[0]
    policy = agent.policy(low, high, cost_limit=evaluation.limit)
    count = min(evaluation.episodes, MAX_ENVS)
    observations = np.resize(dataset.observations, (count, dataset.obs_dim))
    policy.reset(seed=0)

    def act() -> None:
        policy.act(observations)
        if isinstance(policy, FeedbackPolicy):
            policy.observe(np.zeros(count), np.zeros(count))

    return AgentTimes(setup, update, _seconds_of(act), size)


def made_up(shape: Shape) -> OfflineDataset:
    """Random data of a shape: 20 episodes, every other one with costs."""
    generator = np.random.default_rng(0)
    rows = EPISODES * shape.steps
    episode = np.arange(rows) // shape.steps  # (N,)

    def noise(*size: int) -> NDArray[np.float32]:
        return generator.uniform(-1, 1, size).astype(np.float32)

    return OfflineDataset(
        observations=noise(rows, shape.obs_dim),
        next_observations=noise(rows, shape.obs_dim),
        actions=noise(rows, shape.act_dim),
        rewards=noise(rows),
        costs=((noise(rows) > 0.8) * (episode % 2)).astype(np.float32),
        terminals=np.zeros(rows, bool),
        timeouts=np.arange(rows) % shape.steps == shape.steps - 1,
        source="made-up data",
    )


def probe_env(run: Run) -> EnvTimes:
    """Measure the environment of a run.

    Raises: CallError with the cause if it can't be made.
    """
    count = min(run.evaluations[0].episodes, MAX_ENVS)
    mode = {"autoreset_mode": AutoresetMode.SAME_STEP}
    started = time.perf_counter()
    try:
        env_id = saferl.envs.full_id(run.task.env)
        envs: Any = gymnasium.make_vec(env_id, count, vectorization_mode="sync", vector_kwargs=mode)
    except (ValueError, ImportError, gymnasium.error.Error) as error:
        raise CallError(str(error)) from error
    try:
        envs.reset(seed=0)
        make = time.perf_counter() - started
        envs.action_space.seed(0)
        info = envs.step(envs.action_space.sample())[4]
        if "cost" not in info:
            raise CallError(f"{run.task.env} gives no info['cost']; wrap it in an environment that declares a cost.")
        return EnvTimes(make, _seconds_of(lambda: envs.step(envs.action_space.sample())))
    finally:
        envs.close()


def _seconds_of(function: Callable[[], object]) -> float:
    """Mean wall-clock time of a call."""
    for _ in range(WARM_UP):
        function()
    started, count = time.perf_counter(), 0
    while count < LEAST or time.perf_counter() - started < SECONDS:
        function()
        count += 1
    return (time.perf_counter() - started) / count
