"""What a training is put together from: action box, dataset, agent and sampler."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch

import saferl.envs
from saferl.agents import AGENTS, Agent, BatchSource
from saferl.command_line import UsageError
from saferl.envs.errors import MissingPackageError
from saferl.envs.tasks import find_task
from saferl.evaluation.scores import cost_limits
from saferl.offline_data import OfflineDataset
from saferl.offline_data.filters import filtered
from saferl.offline_data.loading import load_dataset
from saferl.training.config import TrainConfig, device_named
from saferl.training.run_folder import RunFolder, read_json, write_json


class Parts(NamedTuple):
    """Everything that the loop needs."""

    config: TrainConfig  # with the values that the task and the data decide
    box: tuple[np.ndarray, np.ndarray]  # low and high (act_dim,) of the actions
    dataset: OfflineDataset
    agent: Agent
    sampler: BatchSource


def make_parts(config: TrainConfig, load: Callable[[str, str | None], OfflineDataset] = load_dataset) -> Parts:
    """Put a training together; seeds torch.

    Args:
        config: the settings.
        load: gives the data of an environment's id and a path; a process with many trainings may keep the last ones.
    Raises: UsageError for what the user can mend.
    """
    try:
        env = environment(config)
        dataset = load(saferl.envs.full_id(config.env), config.data.path)
        dataset = replace(dataset, metadata={**dataset.metadata, "sha256": dataset.sha256()})  # before any filter
        dataset = filtered(dataset, config.data.filters, config.data.filter_seed, config.env)
        if env is None:  # only for DSRL's tasks, whose action boxes are all [-1, 1]; load_dataset checked the sizes
            low, high = np.full(dataset.act_dim, -1.0, np.float32), np.full(dataset.act_dim, 1.0, np.float32)
        else:
            dataset.check_matches(env)
            low, high = env.action_space.low, env.action_space.high
            env.close()
        device = device_named(config.device)
        config = replace(config, agent=with_task_values(config, dataset))
        torch.manual_seed(config.seed)
        agent = AGENTS[config.agent_name][1](config.agent, dataset.obs_dim, dataset.act_dim, device)
        sampler = agent.sampler(dataset, config.seed, low, high, reward_scale(config))
    except (ValueError, gymnasium.error.Error) as error:
        raise UsageError(str(error)) from error
    return Parts(config, (low, high), dataset, agent, sampler)


def with_task_values(config: TrainConfig, dataset: OfflineDataset) -> Any:
    """The agent's settings, with the cost limit and the episode length that the task has where they are null.

    The limit is the smallest at which the task is judged; the length is DSRL's horizon, elsewhere that of the data's
    longest episode.
    """
    agent, task = config.agent, find_task(config.env)
    values: dict[str, Any] = {}
    if agent.limit_use != "none" and agent.cost_limit is None:
        values["cost_limit"] = min(cost_limits(config.env))
    if getattr(agent, "episode_length", 0) is None:
        values["episode_length"] = task.horizon if task is not None else int(dataset.episode_lengths.max())
    return replace(agent, **values) if values else agent


def environment(config: TrainConfig) -> Any:
    """The environment, None where it is not wanted (eval_episodes=0).

    Raises: UsageError if agents can't act in it, or if only the environment would tell the action box.
    """
    if config.eval_episodes == 0:
        if find_task(config.env) is None:
            raise UsageError(f"eval_episodes=0 trains without an environment: DSRL's tasks only; env={config.env}.")
        return None
    try:
        env = saferl.envs.make(config.env)
    except MissingPackageError as error:
        hint = " (eval_episodes=0 trains without it.)" if find_task(config.env) is not None else ""
        raise UsageError(f"{error}{hint}") from error
    if not isinstance(env.action_space, gymnasium.spaces.Box):
        raise UsageError(f"env={config.env} has actions {env.action_space}; agents act in a Box.")
    return env


def reward_scale(config: TrainConfig) -> float:
    """Factor on the rewards: FISOR's horizon / (greatest - least return) for DSRL's tasks, 1 elsewhere."""
    if not isinstance(config.data.reward_scale, str):
        return config.data.reward_scale
    task = find_task(config.env)
    return 1.0 if task is None else task.horizon / (task.max_return - task.min_return)


def note_data(run: RunFolder, facts: dict[str, Any]) -> None:
    """Write data.json of a run that begins, or make sure that one which goes on has the data it began with.

    Raises: UsageError for other data: what the run was trained on could not be told any more.
    """
    if run.data.exists():
        known = read_json(run.data)["metadata"].get("sha256")
        if known is not None and known != facts["metadata"]["sha256"]:
            raise UsageError(
                f"{run.path}: {facts['source']} does not hold the data that this run began with (SHA-256 {known} then, "
                f"{facts['metadata']['sha256']} now); give those again, or train a new run."
            )
        return
    write_json(run.data, facts)


def data_facts(dataset: OfflineDataset, low: np.ndarray, high: np.ndarray) -> dict[str, Any]:
    """What evaluation and deployment need to know of the data and the action box (low, high: (act_dim,))."""
    returns, costs = dataset.episode_returns()
    return {
        "source": dataset.source,
        "metadata": dataset.metadata,
        "transitions": len(dataset),
        "episodes": dataset.n_episodes,
        "obs_dim": dataset.obs_dim,
        "act_dim": dataset.act_dim,
        "action_low": low.tolist(),
        "action_high": high.tolist(),
        "min_return": float(returns.min()),
        "max_return": float(returns.max()),
        "returns": [round(float(each), 6) for each in returns],
        "costs": [round(float(each), 6) for each in costs],
    }
