"""Checkpoints of a training run: everything the next stage depends on, as safetensors and JSON, nothing pickled."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from saferl.offline_data.collection.files import write_atomically
from saferl.offline_data.collection.ppo_lagrangian import PPOLagrangian


def save_checkpoint(model: PPOLagrangian, normaliser: VecNormalize, path: Path, notes: dict[str, Any]) -> None:
    """Write ``path`` (safetensors) and, beside it, a JSON file with the controller's state and ``notes``."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, module in (("policy", model.policy), ("cost_critic", model.cost_critic)):
        arrays |= {f"{name}.{key}": value.numpy() for key, value in module.state_dict().items()}
    for name, optimizer in (("policy", model.policy.optimizer), ("cost_critic", model.cost_optimizer)):
        for index, moments in optimizer.state_dict()["state"].items():
            arrays |= {f"adam.{name}.{index}.{key}": value.numpy() for key, value in moments.items()}
    for name, statistics in (("observations", normaliser.obs_rms), ("returns", normaliser.ret_rms)):
        for key in ("mean", "var", "count"):
            arrays[f"{name}.{key}"] = np.asarray(getattr(statistics, key), dtype=np.float64)
    state = {
        "num_timesteps": model.num_timesteps,
        "pid": None if model.multiplier is None else model.multiplier.state_dict(),
        **notes,
    }
    write_atomically(path.with_suffix(".json"), lambda temporary: temporary.write_text(json.dumps(state, indent=1)))
    arrays = {key: np.array(value, order="C") for key, value in arrays.items()}
    write_atomically(path, lambda temporary: save_file(arrays, temporary))


def load_checkpoint(model: PPOLagrangian, normaliser: VecNormalize, path: Path) -> None:
    """Put the state of ``path`` into a fresh ``model`` and ``normaliser`` of the same settings.

    Raises: ValueError naming the file if it is missing, damaged or of other settings.
    """
    try:
        arrays = load_file(path)
        state = json.loads(path.with_suffix(".json").read_text())
        for name, module in (("policy", model.policy), ("cost_critic", model.cost_critic)):
            module.load_state_dict(_below(arrays, name))
        for name, optimizer in (("policy", model.policy.optimizer), ("cost_critic", model.cost_optimizer)):
            _load_adam(optimizer, _below(arrays, f"adam.{name}"))
        for name, statistics in (("observations", normaliser.obs_rms), ("returns", normaliser.ret_rms)):
            assert isinstance(statistics, RunningMeanStd)
            statistics.mean, statistics.var = arrays[f"{name}.mean"], arrays[f"{name}.var"]
            statistics.count = float(arrays[f"{name}.count"])
        model.num_timesteps = int(state["num_timesteps"])
        if model.multiplier is not None:
            model.multiplier.load_state_dict(state["pid"])
    except (KeyError, TypeError, OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path}: not a checkpoint of this training ({reason}); start anew in another folder."
        ) from error


def _below(arrays: dict[str, NDArray[Any]], name: str) -> dict[str, torch.Tensor]:
    prefix = f"{name}."
    return {
        key.removeprefix(prefix): torch.from_numpy(value) for key, value in arrays.items() if key.startswith(prefix)
    }


def _load_adam(optimizer: torch.optim.Optimizer, flat: dict[str, torch.Tensor]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in flat.items():
        index, moment = key.split(".")
        state.setdefault(int(index), {})[moment] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
