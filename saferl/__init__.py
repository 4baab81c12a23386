"""saferl: learn policies that stay inside the feasible region, from offline data.

Importing saferl registers its environment ids with gymnasium; no simulator is imported before one is made.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from saferl import envs as envs

if TYPE_CHECKING:
    from saferl.policy import Policy

__version__ = "0.1.0"

# Read when torch is first imported. Where other processes hold the cores, GNU OpenMP's threads spin for milliseconds at
# each product while the one that they wait for has no core: on two busy cores training was three times as slow.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


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
