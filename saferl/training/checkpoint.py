"""Checkpoints: everything that continues a training bit for bit, written so that a kill never leaves half of one.

A checkpoint is a folder ``step-0000005000`` with ``weights.safetensors`` (the agent's parameters and buffers) and
``state.pt`` (optimisers, random states, sampler; tensors, numbers and names only, so that it is read without
unpickling). It is filled under a temporary name, synced and renamed.
"""

import io
import os
import re
import shutil
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from saferl.agents import Agent, BatchSource
from saferl.command_line import UsageError
from saferl.training.run_folder import sync_folder

KEEP = 2  # the last one, and one before it in case the disk damages the last
_NAME = re.compile(r"step-(\d{10})")


class NotFiniteError(RuntimeError):
    """A loss or a weight became NaN or infinite; the message names step, tensor and last good checkpoint."""


def save_checkpoint(folder: Path, step: int, agent: Agent, sampler: BatchSource) -> Path:
    """Write the checkpoint of ``step`` into ``folder`` and drop all but the last ones.

    Raises: NotFiniteError if a weight is not finite: a poisoned checkpoint would replace a good one.
    """
    weights = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in agent.state_dict().items()}
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise not_finite(step, name, folder)
    state = io.BytesIO()
    torch.save(
        {
            "step": step,
            "optimizers": agent.optimizer_state(),
            "sampler": sampler.state_dict(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(agent.device) if agent.device.type == "cuda" else None,
        },
        state,
    )
    final = folder / f"step-{step:010d}"
    if final.exists():  # whole, as it has its name
        return final
    temporary = folder / f".{final.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name, content in (("weights.safetensors", safetensors.torch.save(weights)), ("state.pt", state.getvalue())):
        with (temporary / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    sync_folder(temporary)
    temporary.rename(final)
    sync_folder(folder)
    for old in checkpoints(folder)[:-KEEP]:
        shutil.rmtree(old)
    return final


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in ``folder``, oldest first."""
    return sorted(path for path in folder.glob("step-*") if _NAME.fullmatch(path.name))


def checkpoint_step(path: Path) -> int:
    """Updates done when the checkpoint was written."""
    match = _NAME.fullmatch(path.name)
    assert match is not None, path
    return int(match.group(1))


def load_weights(path: Path, agent: Agent) -> None:
    """Put a checkpoint's weights into the agent.

    Raises: UsageError if the file is damaged or belongs to an agent of other sizes.
    """
    try:
        weights = safetensors.torch.load_file(path / "weights.safetensors")
        agent.load_state_dict(weights)
    except (OSError, safetensors.SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{path / 'weights.safetensors'}: can't be loaded ({reason}).") from error


def load_checkpoint(path: Path, agent: Agent, sampler: BatchSource) -> int:
    """Restore agent, sampler and random states; returns the number of updates done.

    Raises: UsageError if a file is damaged or does not fit.
    """
    load_weights(path, agent)
    try:
        state: dict[str, Any] = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for a damaged file
        raise UsageError(f"{path / 'state.pt'}: can't be loaded ({type(error).__name__}).") from error
    try:
        agent.load_optimizer_state(state["optimizers"])
        sampler.load_state_dict(state["sampler"])
    except (ValueError, KeyError) as error:
        raise UsageError(f"{path / 'state.pt'}: does not fit this run ({error}).") from error
    torch.set_rng_state(state["torch"])
    if agent.device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], agent.device)
    return int(state["step"])


def not_finite(step: int, name: str, folder: Path) -> NotFiniteError:
    """The error for a tensor that is NaN or infinite after ``step``."""
    good = checkpoints(folder)
    last = f"last good checkpoint: {good[-1]}" if good else "no checkpoint was written before"
    return NotFiniteError(f"step {step}: {name} is NaN or infinite; the run is stopped; {last}.")
