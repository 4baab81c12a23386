"""Batch: the rows of a dataset that an agent's update sees."""

from dataclasses import dataclass
from typing import Self

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Transitions on the training device, float32; B rows."""

    observations: Tensor  # (B, obs_dim)
    actions: Tensor  # (B, act_dim), scaled to [-1, 1]
    rewards: Tensor  # (B,)
    costs: Tensor  # (B,), >= 0
    next_observations: Tensor  # (B, obs_dim)
    terminals: Tensor  # (B,), 1 where the task ended: no bootstrap
    timeouts: Tensor  # (B,), 1 where only the time ran out
    margins: Tensor | None = None  # (B,), h of the next state: <= 0 safe, > 0 violated
    # Only where an agent's sampler adds them:
    margins_before: Tensor | None = None  # (B,), h of the state itself
    starts: Tensor | None = None  # (B,), 1 where an episode begins (COptiDICE: 1 / their share)
    episode_costs: Tensor | None = None  # (B,), undiscounted cost of the row's whole episode
    costs_to_go: Tensor | None = None  # (B,), undiscounted cost from this row to the end of its episode

    def head(self, rows: int) -> Self:
        """The leading ``rows``."""
        return type(self)(**{key: value[:rows] for key, value in vars(self).items() if value is not None})
