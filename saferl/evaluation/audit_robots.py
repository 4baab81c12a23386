"""The robots whose true feasible region is known: what a grid says is true, where an audit looks, and what is seen."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from saferl.envs import full_id, point_robot
from saferl.evaluation.simulators import (
    POINT_ROBOT,
    PointRobotSimulator,
    SafetyPointSimulator,
    Simulator,
    point_states,
    safety_task,
)
from saferl.reachability import Grid, Value, discounted
from saferl.reachability.problems import avoid_discs
from saferl.reachability.systems import point_robot as point_robot_system
from saferl.reachability.systems import safety_gymnasium_point

Array = NDArray[np.float64]

WALL = 1.125  # m, |x| of the walls of Safety-Gymnasium's Circle1


@dataclass(frozen=True)
class Slice:
    """All positions at one velocity and heading: speed (m/s) along ``course``, body along ``heading`` (rad)."""

    speed: float
    heading: float
    course: float

    @property
    def name(self) -> str:
        """For titles and tables."""
        words = f"v = {self.speed:g} m/s, heading {math.degrees(self.heading):.0f}°"
        return words if self.course == self.heading else f"{words}, moving at {math.degrees(self.course):.0f}°"


class Auditable(Protocol):
    """A robot whose true feasible region a grid gives."""

    slices: tuple[Slice, ...]
    half: float  # m, of the maps
    rollouts: int  # states of the Monte-Carlo check
    simulator: Simulator

    def truth(self, discount: float) -> Value:
        """V on the grid, with a discount per control step."""
        ...

    def columns(self, states: Array) -> Array:
        """What V takes (N, k), of states (N, d)."""
        ...

    def sample(self, count: int, generator: np.random.Generator) -> Array:
        """States (count, d), uniform over the box of the audit."""
        ...

    def at(self, where: Slice, x: Array, y: Array) -> Array:
        """States (N, d) of a slice at positions x, y (N,)."""
        ...

    def speeds(self, states: Array) -> Array:
        """(N,) m/s."""
        ...

    def states_of(self, observations: NDArray[Any]) -> Array:
        """States (N, d) of observations (N, obs_dim)."""
        ...

    def regions(self, states: Array) -> dict[str, NDArray[np.bool_]]:
        """Further regions."""
        ...

    def manoeuvre_infeasible(self, states: Array) -> NDArray[np.bool_] | None:
        """(N,) by a known evasive manoeuvre instead of the grid; None if there is none."""
        ...


class PointRobotAudit:
    """saferl/PointRobot-v0: states x, y, v, heading over |x|, |y| <= 3 m, 0 <= v <= 2 m/s, all headings."""

    slices: tuple[Slice, ...] = tuple(Slice(speed, heading, heading) for speed, heading in point_robot.SLICES)
    half = point_robot.ARENA
    nodes = (121, 121, 26, 64)  # what decides is the resolution of x and y, beside the hazards' curvature
    rollouts = 20_000

    def __init__(self) -> None:
        self.simulator: Simulator = PointRobotSimulator()

    def truth(self, discount: float) -> Value:
        """As ``Auditable``."""
        grid = Grid((-3, -3, -0.5, -math.pi), (3, 3, 2, math.pi), self.nodes, periodic=(3,))
        discs = [(x, y, point_robot.HAZARD_RADIUS) for x, y in point_robot.HAZARDS]
        return discounted.solve(
            point_robot_system(), grid, constraint=avoid_discs(discs), dt=point_robot.DT, discount=discount,
            tolerance=1e-2,
        )  # fmt: skip

    def columns(self, states: Array) -> Array:
        """All four."""
        return states

    def sample(self, count: int, generator: np.random.Generator) -> Array:
        """As ``Auditable``."""
        arena = point_robot.ARENA
        return generator.uniform((-arena, -arena, 0, -math.pi), (arena, arena, 2, math.pi), (count, 4))

    def at(self, where: Slice, x: Array, y: Array) -> Array:
        """As ``Auditable``; this robot has no side slip."""
        return np.stack([x, y, np.full_like(x, where.speed), np.full_like(x, where.heading)], axis=1)

    def speeds(self, states: Array) -> Array:
        """As ``Auditable``."""
        return np.abs(states[:, 2])

    def states_of(self, observations: NDArray[Any]) -> Array:
        """As ``Auditable``."""
        return point_robot.states_of(observations)

    def regions(self, states: Array) -> dict[str, NDArray[np.bool_]]:
        """The box of the environment's random starts."""
        v, heading = states[:, 2], states[:, 3]
        starts = (v >= 0.5) & (v <= 2) & (heading >= math.pi / 4) & (heading <= 3 * math.pi / 4)
        return {"starts' speeds and headings": starts}

    def manoeuvre_infeasible(self, states: Array) -> NDArray[np.bool_] | None:
        """By the FISOR paper's manoeuvre."""
        return point_robot.analytic_infeasible(states)


class PointCircleAudit:
    """Safety-Gymnasium's Point in Circle1: walls at |x| = 1.125 m, which only x, vx and the heading matter for.

    States as ``SafetyPointSimulator``, over |x| <= 1.3 m, |y| <= 1.6 m, speeds up to the 1.5 m/s that the drag allows
    in all directions, all headings, turn rates that the robot has while it drives (-3, 0 and 3 rad/s).
    """

    slices: tuple[Slice, ...] = (Slice(0.75, 0.0, 0.0), Slice(1.4, 0.0, 0.0), Slice(1.4, math.pi / 2, math.pi / 4))
    half = 1.6
    rollouts = 400

    def __init__(self, env_id: str) -> None:
        self.simulator: Simulator = SafetyPointSimulator(env_id)

    def truth(self, discount: float) -> Value:
        """V of the reduction ``safety_gymnasium_point(along_x=True)`` on 193 x 97 x 96 nodes."""
        grid = Grid((-1.6, -1.6, -math.pi), (1.6, 1.6, math.pi), (193, 97, 96), periodic=(2,))
        return discounted.solve(
            safety_gymnasium_point(along_x=True), grid, constraint=lambda x, vx, heading: np.abs(x) - WALL,
            dt=self.simulator.dt, discount=discount, tolerance=1e-2,
        )  # fmt: skip

    def columns(self, states: Array) -> Array:
        """x, vx, heading."""
        return states[:, [0, 2, 4]]

    def sample(self, count: int, generator: np.random.Generator) -> Array:
        """As ``Auditable``; velocities uniform in the disc."""
        speed, course = 1.5 * np.sqrt(generator.uniform(size=count)), generator.uniform(-math.pi, math.pi, count)
        columns = [
            generator.uniform(-1.3, 1.3, count), generator.uniform(-1.6, 1.6, count),
            speed * np.cos(course), speed * np.sin(course), generator.uniform(-math.pi, math.pi, count),
            generator.choice([-3.0, 0.0, 3.0], count),
        ]  # fmt: skip
        return np.stack(columns, axis=1)

    def at(self, where: Slice, x: Array, y: Array) -> Array:
        """As ``Auditable``; not turning."""
        rest = (where.speed * math.cos(where.course), where.speed * math.sin(where.course), where.heading, 0.0)
        return np.column_stack([x, y, np.tile(rest, (len(x), 1))])

    def speeds(self, states: Array) -> Array:
        """As ``Auditable``."""
        return np.asarray(np.hypot(states[:, 2], states[:, 3]))

    def states_of(self, observations: NDArray[Any]) -> Array:
        """As ``Auditable``."""
        return point_states(observations)

    def regions(self, states: Array) -> dict[str, NDArray[np.bool_]]:
        """None."""
        return {}

    def manoeuvre_infeasible(self, states: Array) -> NDArray[np.bool_] | None:
        """None."""
        return None


SUPPORTED = "point_robot, SafetyPointCircle1-v0 and OfflinePointCircle1Gymnasium-v0"


def auditable(env_id: str) -> Auditable:
    """What is to be audited in an environment. Raises: ValueError in one line for one without a known truth."""
    if full_id(env_id) == POINT_ROBOT:
        return PointRobotAudit()
    if safety_task(env_id) == "SafetyPointCircle1-v0":
        return PointCircleAudit(env_id)
    raise ValueError(f"audit=reachability knows the true feasible region of {SUPPORTED}; got {env_id}.")
