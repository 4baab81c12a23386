"""python -m saferl.train: one training from settings to a run folder; --help is the manual."""

import os
import sys
from typing import Any

import gymnasium
import hydra
import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

import saferl.envs
from saferl.agents import AGENTS, Agent
from saferl.command_line import (
    CONFIG_MODULE,
    HYDRA_VERSION_BASE,
    UsageError,
    check_flags,
    composed,
    guarded,
    sweep_choices,
)
from saferl.envs.tasks import find_task
from saferl.evaluation.rollout import episode_seeds, rollout
from saferl.offline_data import OfflineDataset, Sampler
from saferl.training.checkpoint import NotFiniteError, checkpoints, load_checkpoint
from saferl.training.config import TrainConfig, parse_training, plain
from saferl.training.loop import Interrupted, run_updates
from saferl.training.run_folder import RunFolder, create_run, write_json


def train(config: TrainConfig, run: RunFolder) -> None:
    """Train in a run folder, from its last checkpoint if there is one.

    Raises: UsageError for what the user can mend before the first update.
    """
    env, dataset, agent, sampler = _made(config)
    low, high = env.action_space.low, env.action_space.high
    _write_data_facts(run, dataset)
    saved = checkpoints(run.checkpoints)
    done = load_checkpoint(saved[-1], agent, sampler) if saved else 0
    seeds = episode_seeds(config.seed, config.eval_episodes)

    def evaluate() -> dict[str, float]:
        episodes = rollout(agent.policy(low, high), config.env, seeds)
        return {
            "eval/return": float(episodes.returns.mean()),
            "eval/cost": float(episodes.costs.mean()),
            "eval/violations": float(episodes.violations.mean()),
        }

    run_updates(agent, sampler, config, run, done, evaluate)
    print(f"{run.path}: {evaluate()}")


def _made(config: TrainConfig) -> tuple[gymnasium.Env[Any, Any], OfflineDataset, Agent, Sampler]:
    """Environment, dataset, agent and sampler. Raises: UsageError."""
    from saferl.offline_data.loading import load_dataset

    try:
        env = saferl.envs.make(config.env)
        dataset = load_dataset(saferl.envs.full_id(config.env), config.data.path)
        dataset.check_matches(env)
        device = config.torch_device()
        torch.manual_seed(config.seed)
        agent = AGENTS[config.agent_name][1](config.agent, dataset.obs_dim, dataset.act_dim, device)
        low, high = env.action_space.low, env.action_space.high
        sampler = Sampler(dataset, config.agent.batch_size, device, config.seed, low, high, reward_scale(config))
    except (ValueError, gymnasium.error.Error) as error:
        raise UsageError(str(error)) from error
    return env, dataset, agent, sampler


def reward_scale(config: TrainConfig) -> float:
    """Factor on the rewards: FISOR's horizon / (greatest - least return) for DSRL's tasks, 1 elsewhere."""
    if not isinstance(config.data.reward_scale, str):
        return config.data.reward_scale
    task = find_task(config.env)
    return 1.0 if task is None else task.horizon / (task.max_return - task.min_return)


def _write_data_facts(run: RunFolder, dataset: OfflineDataset) -> None:
    returns, costs = dataset.episode_returns()
    facts = {
        "source": dataset.source,
        "metadata": dataset.metadata,
        "transitions": len(dataset),
        "episodes": dataset.n_episodes,
        "violating_share": float(np.mean(dataset.costs > 0)),
        "min_return": float(returns.min()),
        "max_return": float(returns.max()),
        "returns": [round(float(each), 6) for each in returns],
        "costs": [round(float(each), 6) for each in costs],
    }
    write_json(run.data, facts)


def job(settings: DictConfig) -> None:
    """One training of a command or of a sweep."""
    config = parse_training(OmegaConf.to_container(settings, resolve=True))  # type: ignore[arg-type]
    label = HydraConfig.get().runtime.choices["agent"]
    train(config, create_run(config.out, config.env, label, config.seed, plain(config)))


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    return guarded("train", lambda: _main(words))


def _main(words: list[str]) -> int:
    flags = check_flags(words)
    if not (flags.help or flags.hydra_help or flags.cfg or flags.info or flags.shell_completion):
        for overrides in sweep_choices(flags.overrides) if flags.multirun else [flags.overrides]:
            parse_training(OmegaConf.to_container(composed("config", overrides)))  # type: ignore[arg-type]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that errors come here as they are
    sys.argv = [sys.argv[0], *words]
    try:
        hydra.main(f"pkg://{CONFIG_MODULE}", "config", HYDRA_VERSION_BASE)(job)()
    except NotFiniteError as error:
        print(f"saferl.train: {error}", file=sys.stderr)
        return 1
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
