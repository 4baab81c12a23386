"""Behaviour: what an adversary may want, whether an episode shows it and how much a step is as wanted."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saferl.adversaries.stepping import Steps
from saferl.adversaries.trajectories import Trajectory

Target = Callable[[Trajectory], bool]
Score = Callable[[Steps], NDArray[np.float64]]  # (N,) in [0, 1] for N steps: how much each is as wanted


@dataclass(frozen=True)
class Behaviour:
    """A target whose steps can be scored.

    Scores are never negative, or an adversary that adds them up would rather end the episode.
    """

    success: Target
    score: Score
    envs: tuple[str, ...] = ()  # parts of ids, one of which an environment's has; none: any environment

    def __call__(self, episode: Trajectory) -> bool:
        """Whether it happened."""
        return self.success(episode)

    def fits(self, env_id: str) -> bool:
        """Whether it means something in this environment."""
        return not self.envs or any(part in env_id for part in self.envs)
