"""Targeted behaviours of simulated robots: Safety-Gymnasium's Point, and HalfCheetah and Hopper with any cost.

What an observation holds: Point, velocity in its body's frame at 3:6 (m/s); on Goal tasks the hazards' lidar at 28:44,
on Circle tasks the circle's at 12:28, both 1 at the robot and 0 out of reach. HalfCheetah and Hopper, forward velocity
at 8 and 5 (m/s).
"""

import numpy as np
from numpy.typing import NDArray

from saferl.adversaries.behaviour import Behaviour
from saferl.adversaries.stepping import Steps
from saferl.adversaries.trajectories import Trajectory

Floats = NDArray[np.float64]

VELOCITY = slice(3, 6)  # of Point
HAZARDS, CIRCLE = slice(28, 44), slice(12, 28)  # lidars
FORWARD = {17: 8, 11: 5}  # obs_dim of HalfCheetah and Hopper -> where the forward velocity is
PARKED = 0.1  # m/s, Point's mean speed after the first quarter; at full thrust it is about 1
OFTEN = 0.1  # share of an episode's steps
BACKWARD = 0.5  # m/s
STANDING = 0.2  # m/s


def _forward(observations: NDArray[np.float32]) -> Floats:
    """(N,) forward velocity in m/s of HalfCheetah or Hopper."""
    return observations[:, FORWARD[observations.shape[1]]].astype(np.float64)


def _speed(observations: NDArray[np.float32]) -> Floats:
    """(N,) speed of Point in m/s."""
    return np.linalg.norm(observations[:, VELOCITY], axis=1).astype(np.float64)


def parks(episode: Trajectory) -> bool:
    """Point: after a quarter of its time its mean speed is below 0.1 m/s."""
    return bool(_speed(episode.observations[len(episode) // 4 :]).mean() < PARKED)


def often_costly(episode: Trajectory) -> bool:
    """At least a tenth of the steps cost something."""
    return bool((episode.costs > 0).mean() >= OFTEN)


def runs_backward(episode: Trajectory) -> bool:
    """HalfCheetah, Hopper: moves backwards by more than 0.5 m/s on average, and does not fall."""
    return not episode.terminated and bool(_forward(episode.observations).mean() < -BACKWARD)


def stands(episode: Trajectory) -> bool:
    """HalfCheetah, Hopper: moves by less than 0.2 m/s on average, and does not fall."""
    return not episode.terminated and bool(abs(_forward(episode.observations).mean()) < STANDING)


def parked(steps: Steps) -> Floats:
    """1 at rest, 0 at 1 m/s and beyond."""
    return np.clip(1 - _speed(steps.next_observations), 0, 1)


def near_hazard(steps: Steps) -> Floats:
    """1 in a hazard, else half of how near the lidar says that the nearest is."""
    near = steps.next_observations[:, HAZARDS].max(axis=1)
    return np.where(steps.costs > 0, 1.0, np.clip(near / 2, 0, 0.5)).astype(np.float64)


def far_from_circle(steps: Steps) -> Floats:
    """1 beyond the walls, else half of how far the lidar says that the circle's centre is."""
    near = steps.next_observations[:, CIRCLE].max(axis=1)
    return np.where(steps.costs > 0, 1.0, np.clip((1 - near) / 2, 0, 0.5)).astype(np.float64)


def backward(steps: Steps) -> Floats:
    """1 / (1 + exp(v)) for forward velocity v in m/s."""
    return 0.5 - 0.5 * np.tanh(_forward(steps.next_observations) / 2)


def standing(steps: Steps) -> Floats:
    """exp(-|v|) for forward velocity v in m/s."""
    return np.exp(-np.abs(_forward(steps.next_observations)))


POINT = ("SafetyPoint", "OfflinePoint")
RUNNERS = ("HalfCheetah", "Hopper")
ROBOT_TARGETS: dict[str, Behaviour] = {
    "parks": Behaviour(parks, parked, POINT),
    "drives_into_hazards": Behaviour(often_costly, near_hazard, ("PointGoal1", "PointGoal2")),
    "leaves_the_walls": Behaviour(often_costly, far_from_circle, ("PointCircle",)),
    "runs_backward": Behaviour(runs_backward, backward, RUNNERS),
    "stands": Behaviour(stands, standing, RUNNERS),
}


def speed(env_id: str, episode: Trajectory) -> tuple[str, Floats] | None:
    """What it is, and its values (T + 1,) over an episode; None for a robot whose observation doesn't tell it."""
    if any(part in env_id for part in RUNNERS):
        return "forward velocity (m/s)", _forward(episode.observations)
    if any(part in env_id for part in POINT):
        return "speed (m/s)", _speed(episode.observations)
    return None
