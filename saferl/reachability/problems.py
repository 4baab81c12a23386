"""Problems that are ready to solve: for each system a box, a grid, what to avoid, and how far to look ahead.

``PROBLEMS["dubins_car"]`` goes with ``SYSTEMS["dubins_car"]``. For problems of one's own, ``avoid_discs`` is the most
usual constraint h and ``reach_discs`` the most usual target l.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from saferl.reachability.grid import Grid

StateFunction = Callable[..., Any]  # of the d states, on arrays that broadcast


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Where and what to solve for one system.

    Args:
        about: one line for people.
        low, high: (d,) corners of the box, in the units of the states.
        shape: (d,) nodes that resolve the problem well in seconds to a minute on a CPU.
        periodic: axes that wrap around.
        constraint: h of the states; h > 0 is violated. None: nothing to avoid.
        target: l of the states; l <= 0 is inside. None: nothing to reach.
        unit: of h and l.
        horizon: s, after which the tube hardly grows any more, unless ``about`` says otherwise.
        axes: the two states that a picture shows.
        at: values of the other states in a picture, by axis; the picture chooses where none are given.
    """

    about: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    shape: tuple[int, ...]
    horizon: float
    periodic: tuple[int, ...] = ()
    constraint: StateFunction | None = None
    target: StateFunction | None = None
    unit: str = "m"
    axes: tuple[int, ...] = (0, 1)
    at: Mapping[int, tuple[float, ...]] = field(default_factory=dict)

    def grid(self, shape: Sequence[int] | None = None) -> Grid:
        """The problem's grid, or one of another shape over the same box. Raises: ValueError as ``Grid``."""
        return Grid(self.low, self.high, tuple(self.shape if shape is None else shape), self.periodic)


def avoid_discs(discs: Sequence[Sequence[float]]) -> StateFunction:
    """h = max over discs of (radius - distance to the centre), of the first two states: > 0 inside a disc.

    h has slope one. It has a kink at each centre and where two discs are equally far; away from those it is smooth.

    Args:
        discs: (K, 3) x, y and radius of each, in the unit of the first two states.
    Raises: ValueError for no disc, rows of another length, numbers that are not finite, or a radius that is not > 0.
    """
    table = _checked(discs)

    def h(x: Any, y: Any, *others: Any) -> Any:
        return np.max([radius - np.hypot(x - a, y - b) for a, b, radius in table], axis=0)

    return h


def reach_discs(discs: Sequence[Sequence[float]]) -> StateFunction:
    """l = min over discs of (distance to the centre - radius), of the first two states: <= 0 inside a disc.

    Args, Raises: as ``avoid_discs``, of which it is the negative.
    """
    inside = avoid_discs(discs)
    return lambda *states: -inside(*states)


def _checked(discs: Sequence[Sequence[float]]) -> list[tuple[float, float, float]]:
    table = [tuple(float(number) for number in disc) for disc in discs]
    for disc in table:
        if len(disc) != 3 or not all(map(math.isfinite, disc)) or not disc[2] > 0:
            raise ValueError(f"a disc is [x, y, radius] with radius > 0; got {list(disc)}.")
    if not table:
        raise ValueError("give at least one disc [x, y, radius].")
    return table  # type: ignore[return-value]


PROBLEMS: dict[str, Problem] = {
    "double_integrator": Problem(
        about="stay within |x| <= 1 m",
        low=(-2, -2.5),
        high=(2, 2.5),
        shape=(201, 201),
        constraint=lambda x, v: np.abs(x) - 1,
        horizon=2.5,
    ),
    "dubins_car": Problem(
        about="keep out of the disc of 1 m about the origin",
        low=(-3, -3, -math.pi),
        high=(3, 3, math.pi),
        shape=(101, 101, 100),
        periodic=(2,),
        constraint=avoid_discs([(0, 0, 1)]),
        horizon=2.0,
        at={2: (0.0, math.pi / 4, math.pi / 2)},
    ),
    # The game of Mitchell, Bayen and Tomlin (2005); its barrier is open at 2.8 s for some headings.
    "air3d": Problem(
        about="keep 5 m away from an identical pursuer",
        low=(-6, -10, 0),
        high=(20, 10, 2 * math.pi),
        shape=(101, 101, 100),
        periodic=(2,),
        constraint=avoid_discs([(0, 0, 5)]),
        horizon=2.8,
        at={2: (math.pi / 2, math.pi, 3 * math.pi / 2)},
    ),
    "car4d": Problem(
        about="keep out of the disc of 1 m about the origin, by steering and braking",
        low=(-4, -4, -2, -math.pi),
        high=(4, 4, 2, math.pi),
        shape=(41, 41, 21, 40),
        periodic=(3,),
        constraint=avoid_discs([(0, 0, 1)]),
        horizon=2.0,  # braking from 2 m/s at 1 m/s^2
        at={2: (0.8, 1.6), 3: (0.0, math.pi / 4, math.pi / 2)},
    ),
    "bicycle": Problem(
        about="keep the rear axle 3 m away from the origin, by steering and braking",
        low=(-15, -15, -2, -math.pi),
        high=(15, 15, 8, math.pi),
        shape=(41, 41, 21, 32),
        periodic=(3,),
        constraint=avoid_discs([(0, 0, 3)]),
        horizon=2.7,  # braking from 8 m/s at 3 m/s^2
        at={2: (3.0, 6.0), 3: (0.0, math.pi / 4, math.pi / 2)},
    ),
    # x and vx do not matter for this constraint, so they have few nodes; they do for discs in x and z.
    "planar_quadrotor": Problem(
        about="stay above the ground z = 0 for 1 s",
        low=(-2, -0.5, -math.pi, -3, -5, -6),
        high=(2, 4, math.pi, 3, 3, 6),
        shape=(4, 19, 20, 4, 17, 13),
        periodic=(2,),
        constraint=lambda x, z, roll, vx, vz, w: -z,
        horizon=1.0,
        axes=(1, 4),
        at={0: (0.0,), 2: (0.0, math.pi / 2, math.pi), 3: (0.0,), 5: (0.0, 3.0)},
    ),
    # Beyond asin(5 / 9.81) = 0.53 rad the torque no longer holds the weight: only speed brings it back. What falls,
    # falls exponentially; h is capped before the edge of the box, or V would grow likewise and smear the border.
    "inverted_pendulum": Problem(
        about="keep |angle| <= 0.8 rad",
        low=(-1.3, -3),
        high=(1.3, 3),
        shape=(201, 201),
        constraint=lambda angle, rate: np.minimum(np.abs(angle) - 0.8, 0.3),
        unit="rad",
        horizon=3.0,
    ),
    # The hazards of saferl/PointRobot-v0, whose margin this is.
    "point_robot": Problem(
        about="keep out of PointRobot's two hazards",
        low=(-3, -3, -1, -math.pi),
        high=(3, 3, 2.5, math.pi),
        shape=(61, 61, 22, 40),
        periodic=(3,),
        constraint=avoid_discs([(0.4, -1.2, 0.8), (-0.4, 1.2, 0.8)]),
        horizon=2.5,  # braking from 2.5 m/s at 1 m/s^2
        at={2: (1.0, 1.5, 2.0), 3: (math.pi / 4, math.pi / 2)},
    ),
}
