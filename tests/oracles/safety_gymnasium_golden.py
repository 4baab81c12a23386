"""The recorded trajectories of Safety-Gymnasium on its original stack, and how to follow them.

Recorded on gymnasium 0.28.1, mujoco 2.3.3, numpy 1.23.5: 8 tasks x 2 seeds x 300 steps, with the simulator state after
each step. Format: the README beside the data.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "oracles" / "safety_gym"

TASKS = (
    "SafetyPointGoal1-v0",
    "SafetyPointPush1-v0",
    "SafetyCarButton1-v0",
    "SafetyRacecarRun0-v0",
    "SafetyAntCircle1-v0",
    "SafetyHalfCheetahVelocity-v1",
    "SafetyHopperVelocity-v1",
    "SafetySwimmerVelocity-v1",
)
SEEDS = (0, 1)


def recording(task_id: str, seed: int) -> dict[str, np.ndarray]:
    """The arrays of one recording; skips the test where the reference data is not there."""
    path = FOLDER / f"{task_id}_s{seed}.npz"
    if not path.exists():
        pytest.skip(f"reference data {path.name} is not beside the repository")
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def set_state(env: gymnasium.Env, qpos: np.ndarray, qvel: np.ndarray) -> None:
    """Write the simulator state and nothing else, and let an ended episode go on."""
    env.unwrapped.data.qpos[:] = qpos
    env.unwrapped.data.qvel[:] = qvel
    builder = getattr(env.unwrapped, "_builder", None)
    if builder is not None:
        builder.terminated = builder.truncated = False


@dataclass
class Deviation:
    """Differences to a recording, one row per step (or per reset)."""

    qpos: np.ndarray  # (T,) greatest over the state
    qvel: np.ndarray  # (T,)
    observation: np.ndarray  # (T,)
    reward: np.ndarray  # (T,)
    cost: np.ndarray  # (T,)

    def row(self, name: str) -> str:
        q50, q95, q100 = np.quantile(self.qpos, [0.5, 0.95, 1.0])
        return (
            f"{name:34s} {q50:8.0e} {q95:8.0e} {q100:8.0e} {np.quantile(self.observation, 0.95):8.0e} "
            f"{self.observation.max():8.0e} {np.quantile(self.reward, 0.95):8.0e} {self.reward.max():8.0e} "
            f"{int((self.cost > 0).sum()):5d}"
        )


HEADER = (
    f"{'one step from the recorded state':34s} {'qpos 50%':>8s} {'95%':>8s} {'max':>8s} {'obs 95%':>8s} "
    f"{'max':>8s} {'rew 95%':>8s} {'max':>8s} {'cost':>5s}"
)


def follow(env: gymnasium.Env, record: dict[str, np.ndarray], inject: bool) -> Deviation:
    """Replay the recorded resets and actions; with ``inject`` each step starts at the recorded state."""
    resets = dict(zip(record["reset_step"].tolist(), range(len(record["reset_step"]))))
    rows: list[tuple[Any, ...]] = []
    for t, action in enumerate(record["actions"]):
        k = resets.get(t)
        if k is not None:
            env.reset(seed=int(record["reset_seed"][k]))
        if inject:
            before = (
                (record["reset_qpos"][k], record["reset_qvel"][k])
                if k is not None
                else (record["qpos"][t - 1], record["qvel"][t - 1])
            )
            set_state(env, *before)
        observation, reward, _, _, info = env.step(action)
        rows.append(
            (
                np.abs(env.unwrapped.data.qpos - record["qpos"][t]).max(),
                np.abs(env.unwrapped.data.qvel - record["qvel"][t]).max(),
                np.abs(observation - record["obs"][t]).max(),
                abs(reward - record["reward"][t]),
                abs(info["cost"] - record["cost"][t]),
            )
        )
    return Deviation(*np.array(rows).T)
