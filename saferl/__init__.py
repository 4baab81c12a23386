"""saferl: learn policies that stay inside the feasible region, from offline data.

Importing saferl registers its environment ids with gymnasium; no simulator is imported before one is made.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from saferl import envs as envs

if TYPE_CHECKING:
    from saferl.policy import Policy

__version__ = "0.1.0"


def load_policy(run: str | Path, device: str = "cpu", cost_limit: float | None = None) -> "Policy":
    """The trained policy of a run folder.

        policy = saferl.load_policy("runs/point_robot/fisor_small/0-20260101-120000")
        actions = policy.act(observations)  # (B, obs_dim) float32 -> (B, act_dim), in the environment's units

    ``cost_limit`` is for agents that take one when they act; None keeps that of their training. Needs neither the
    environment nor the data.

    Raises: ValueError in one line if the folder is not a run, has no checkpoint or is damaged.
    """
    from saferl.training.trained import load_policy as load  # torch and Hydra only for those who load

    return load(run, device, cost_limit)
