"""Trained agents from their run folders."""

from pathlib import Path

import numpy as np
import torch

from saferl.agents import AGENTS, Agent
from saferl.command_line import UsageError
from saferl.policy import Policy
from saferl.training.checkpoint import checkpoint_step, checkpoints, load_weights
from saferl.training.config import TrainConfig, parse_training
from saferl.training.run_folder import RunFolder, open_run, read_json


def load_agent(run: RunFolder, device: torch.device | str = "cpu") -> tuple[Agent, TrainConfig, int]:
    """The agent of a run's last checkpoint, the run's settings, and the number of updates done.

    No environment is made and no data is read.

    Raises: UsageError if the run has no checkpoint or a file is damaged.
    """
    config = parse_training(run.settings())
    saved = checkpoints(run.checkpoints)
    if not saved:
        raise UsageError(f"{run.path} has no checkpoint yet; continue it with resume={run.path}.")
    data = read_json(run.data)
    agent = AGENTS[config.agent_name][1](config.agent, data["obs_dim"], data["act_dim"], device)
    load_weights(saved[-1], agent)
    return agent, config, checkpoint_step(saved[-1])


def action_bounds(run: RunFolder) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (act_dim,) of the action box that a run was trained for, in the environment's units."""
    data = read_json(run.data)
    return np.asarray(data["action_low"], np.float32), np.asarray(data["action_high"], np.float32)


def load_policy(run: str | Path, device: torch.device | str = "cpu", cost_limit: float | None = None) -> Policy:
    """The policy of a run folder: ``load_policy("runs/...").act(observations (B, obs_dim)) -> (B, act_dim)``.

    Needs neither the environment nor the data, so it runs where only the weights are, on a robot for example.
    ``cost_limit`` is for agents that take one when they act (CDT, CAPS); None keeps that of their training.

    Raises: UsageError if the folder is not a run, has no checkpoint or is damaged.
    """
    folder = open_run(run)
    agent, _, _ = load_agent(folder, device)
    return agent.policy(*action_bounds(folder), cost_limit)
