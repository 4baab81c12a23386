"""PointRobot data: 35 % random driving, 35 % driving to the goal, 30 % close to the hazards, made in a few seconds.

    dataset = generate(n=100_000, seed=0)

Source of the mix: the recipe of the recorded set that FISOR was checked with (design notes, section on PointRobot).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saferl.envs.point_robot import ARENA, GOAL, HAZARD_RADIUS, HAZARDS, TIME_LIMIT, Array, observation, start_states
from saferl.envs.point_robot_batched import step_states
from saferl.offline_data.dataset import OfflineDataset, concatenate

NEAR_HAZARD_LIMIT = 80  # steps
EVASION_STEPS = 45  # an evading driver brakes and turns away for at most so many steps
_CRUISE = (0.8, 1.8)  # m/s, wished speed of a goal seeker, uniform per episode
_CLEARANCE = 0.15  # m, how far an avoiding driver stays away from a hazard's edge
_CHUNK = 500  # episodes that run side by side

Driver = Callable[[Array, NDArray[np.int64], int], Array]  # (states (K, 4), episodes (K,), step) -> actions (K, 2)


def generate(n: int = 100_000, seed: int = 0) -> OfflineDataset:
    """The built-in PointRobot dataset.

    Transitions, not episodes, are shared out:
    35 %: uniform actions held for 1, 5 or 20 steps, from random starts;
    35 %: drivers that seek the goal, 4 in 5 of them avoiding the hazards, with action noise 0.05, 0.2 or 0.5;
    30 %: starts 0.8 to 2.2 m from a hazard's centre, heading at it (sd 0.5 rad) at 0.3 to 2 m/s; 60 % brake and turn
    away until they stand (45 steps at most) and then seek the goal, the rest act at random; cut after 80 steps.
    The last episode of each part is cut so that the counts are exact; a cut is a timeout.

    Args:
        n: number of transitions, at least 10.
        seed: of all random numbers; the same seed gives the same arrays.
    Returns: dataset with ``margins``; costs and margins are those of the state after the action.
    Raises: ValueError if ``n`` is below 10.
    """
    if n < 10:
        raise ValueError(f"a PointRobot dataset needs n >= 10 transitions; got {n}.")
    generator = np.random.default_rng(seed)
    n_random, n_goal = round(0.35 * n), round(0.35 * n)
    parts = [
        _part(n_random, TIME_LIMIT, _random_episodes, generator),
        _part(n_goal, TIME_LIMIT, _goal_episodes, generator),
        _part(n - n_random - n_goal, NEAR_HAZARD_LIMIT, _near_hazard_episodes, generator),
    ]
    dataset = concatenate(parts)
    dataset.metadata.update(
        {"env": "saferl/PointRobot-v0", "seed": seed, "recipe": "35 % random, 35 % to the goal, 30 % near a hazard"}
    )
    return dataset


@dataclass
class _Episodes:
    """Episodes about to run side by side: where they start, and who drives them."""

    states: Array  # (E, 4)
    driver: Driver


def _part(
    n: int, limit: int, begin: Callable[[int, np.random.Generator], _Episodes], generator: np.random.Generator
) -> OfflineDataset:
    """The first n transitions of episodes made by ``begin``."""
    chunks: list[OfflineDataset] = []
    while sum(map(len, chunks)) < n:
        chunks.append(_rollout(begin(_CHUNK, generator), limit))
    whole = concatenate(chunks)
    arrays: dict[str, Any] = {key: array[:n] for key, array in whole.arrays().items()}
    arrays["timeouts"] = arrays["timeouts"].copy()
    arrays["timeouts"][-1] = not arrays["terminals"][-1]
    return OfflineDataset(**arrays)


def _rollout(episodes: _Episodes, limit: int) -> OfflineDataset:
    """All transitions of the episodes, one episode after the other."""
    states, running = episodes.states, np.arange(len(episodes.states))
    seen = observation(states)
    steps: list[dict[str, NDArray[Any]]] = []
    for step in range(limit):
        actions = np.clip(episodes.driver(states, running, step), -1, 1).astype(np.float32)
        states, rewards, margins, terminated, _, seen_next = step_states(states, actions)
        steps.append(
            {
                "observations": seen,
                "next_observations": seen_next,
                "actions": actions,
                "rewards": rewards.astype(np.float32),
                "costs": (margins > 0).astype(np.float32),
                "margins": margins.astype(np.float32),
                "terminals": terminated,
                "timeouts": ~terminated & (step == limit - 1),
                "episode": running,
            }
        )
        states, seen, running = states[~terminated], seen_next[~terminated], running[~terminated]
        if not len(running):
            break
    columns: dict[str, Any] = {key: np.concatenate([s[key] for s in steps]) for key in steps[0]}
    order = np.argsort(columns.pop("episode"), kind="stable")  # stable: keeps the steps of an episode in order
    return OfflineDataset(**{key: column[order] for key, column in columns.items()})


def _random_episodes(count: int, generator: np.random.Generator) -> _Episodes:
    return _Episodes(start_states(count, "random", generator), _random_driver(count, generator))


def _goal_episodes(count: int, generator: np.random.Generator) -> _Episodes:
    avoids = generator.random(count) < 0.8
    noise = generator.choice([0.05, 0.2, 0.5], count)
    cruise = generator.uniform(*_CRUISE, count)

    def drive(states: Array, running: NDArray[np.int64], step: int) -> Array:
        actions = goal_seeking(states, avoids[running], cruise[running])
        return actions + noise[running, None] * generator.standard_normal(actions.shape)

    return _Episodes(start_states(count, "random", generator), drive)


def _near_hazard_episodes(count: int, generator: np.random.Generator) -> _Episodes:
    evades = generator.random(count) < 0.6
    noise = generator.choice([0.05, 0.2, 0.5], count)
    cruise = generator.uniform(*_CRUISE, count)
    evading = evades.copy()  # until the robot stands
    act_at_random = _random_driver(count, generator)

    def drive(states: Array, running: NDArray[np.int64], step: int) -> Array:
        evading[running] &= (states[:, 2] > 0) & (step < EVASION_STEPS)
        seeking = goal_seeking(states, np.ones(len(states), np.bool_), cruise[running])
        actions = np.where(evading[running, None], _evasion(states), seeking)
        actions += noise[running, None] * generator.standard_normal(actions.shape)
        return np.where(evades[running, None], actions, act_at_random(states, running, step))

    return _Episodes(_near_hazard_starts(count, generator), drive)


def _near_hazard_starts(count: int, generator: np.random.Generator) -> Array:
    """States (count, 4) around the hazards and heading at them, inside the arena."""
    starts = np.empty((0, 4))
    while len(starts) < count:
        centre = np.array(HAZARDS)[generator.integers(len(HAZARDS), size=count)]  # (count, 2)
        distance, bearing = generator.uniform(0.8, 2.2, count), generator.uniform(-math.pi, math.pi, count)
        position = centre - distance[:, None] * np.stack([np.cos(bearing), np.sin(bearing)], 1)
        speed, heading = generator.uniform(0.3, 2.0, count), bearing + 0.5 * generator.standard_normal(count)
        states = np.column_stack([position, speed, heading])
        starts = np.concatenate([starts, states[(np.abs(position) <= ARENA).all(1)]])
    return starts[:count]


def _random_driver(count: int, generator: np.random.Generator) -> Driver:
    """Uniform actions, each held for 1, 5 or 20 steps (one of them per episode)."""
    hold = generator.choice([1, 5, 20], count)
    held = np.zeros((count, 2))

    def drive(states: Array, running: NDArray[np.int64], step: int) -> Array:
        renewed = running[step % hold[running] == 0]
        held[renewed] = generator.uniform(-1, 1, (len(renewed), 2))
        return held[running]

    return drive


def _evasion(states: Array) -> Array:
    """Full brake and full turn away from the nearest hazard's centre, (N, 2)."""
    offsets = np.array(HAZARDS)[:, None] - states[None, :, :2]  # (2, N, 2)
    nearest = np.hypot(offsets[..., 0], offsets[..., 1]).argmin(0)
    dx, dy = offsets[nearest, np.arange(len(states))].T
    left = dy * np.cos(states[:, 3]) - dx * np.sin(states[:, 3])
    return np.column_stack([np.full(len(states), -1.0), np.where(left >= 0, -1.0, 1.0)])


def goal_seeking(states: Array, avoids: NDArray[np.bool_], cruise: Array) -> Array:
    """A simple driver: turn to the goal, or to the edge of a hazard in the way; slow down while turning.

    Args:
        states: (N, 4).
        avoids: (N,) whether the robot cares for hazards.
        cruise: (N,) wished speed in m/s on a straight way.
    Returns: actions (N, 2), not clipped.
    """
    x, y, v, theta = states.T
    to_goal = np.hypot(GOAL[0] - x, GOAL[1] - y)
    direction = np.arctan2(GOAL[1] - y, GOAL[0] - x)  # rad, where the robot wants to go
    for centre_x, centre_y in HAZARDS:
        distance = np.hypot(centre_x - x, centre_y - y)
        bearing = np.arctan2(centre_y - y, centre_x - x)
        reach = HAZARD_RADIUS + _CLEARANCE
        half_angle = np.arcsin(np.minimum(1, reach / np.maximum(distance, 1e-9)))  # what the hazard hides
        half_angle += np.where(distance < reach, 0.5, 0)  # too near: drive away from it
        aside = _wrapped(direction - bearing)
        blocked = avoids & (np.abs(aside) < half_angle) & (distance < to_goal)
        direction = np.where(blocked, bearing + np.where(aside >= 0, half_angle, -half_angle), direction)
    error = _wrapped(direction - theta)
    speed = cruise * np.maximum(np.cos(error), 0.1)
    return np.column_stack([3 * (speed - v), 3 * error])


def _wrapped(angle: Array) -> Array:
    """The same angle in [-pi, pi)."""
    return (angle + math.pi) % (2 * math.pi) - math.pi
