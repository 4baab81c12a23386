"""How well a learned feasible value finds PointRobot's infeasible set, on the three maps of the FISOR paper."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saferl.envs.point_robot import ARENA, SLICES, analytic_infeasible, observation

GRID = 201  # nodes along x and along y

ValueFunction = Callable[[NDArray[np.float32]], NDArray[Any]]  # observations (N, 11) -> V_h (N,), > 0 infeasible


@dataclass(frozen=True)
class RegionMap:
    """One map: all positions at one speed and heading. Masks (GRID, GRID), rows along y, true where infeasible."""

    speed: float  # m/s
    heading: float  # rad
    learned: NDArray[np.bool_]
    true: NDArray[np.bool_]

    @property
    def iou(self) -> float:
        """Intersection over union of the learned and the true infeasible set."""
        return float((self.learned & self.true).sum() / max((self.learned | self.true).sum(), 1))

    def scores(self) -> "RegionScores":
        """The map's figures of merit."""
        missed = (self.true & ~self.learned).sum() / self.true.sum()
        alarms = (self.learned & ~self.true).sum() / (~self.true).sum()
        return RegionScores(self.speed, self.heading, self.iou, float(missed), float(alarms))


@dataclass(frozen=True)
class RegionScores:
    """Figures of merit of one map."""

    speed: float  # m/s
    heading: float  # rad
    iou: float  # of the infeasible sets
    missed_share: float  # of the infeasible set, called feasible: the dangerous error
    false_alarm_share: float  # of the feasible set, called infeasible

    def as_dict(self) -> dict[str, float]:
        """Plain values for JSON."""
        return asdict(self)


def region_maps(value: ValueFunction) -> list[RegionMap]:
    """The maps of the paper's three (speed, heading) slices.

    Args:
        value: the learned feasible value V_h, for observations (N, 11) at once.
    """
    axis = np.linspace(-ARENA, ARENA, GRID)
    x, y = np.meshgrid(axis, axis)  # (GRID, GRID), x along columns
    maps = []
    for speed, heading in SLICES:
        states = np.stack([x, y, np.full_like(x, speed), np.full_like(x, heading)], axis=-1).reshape(-1, 4)
        learned = np.asarray(value(observation(states))).reshape(x.shape) > 0
        maps.append(RegionMap(speed, heading, learned, analytic_infeasible(states).reshape(x.shape)))
    return maps
