"""PointRobot, thousands at a time: compiled steps over arrays of states, and a gymnasium vector environment on top."""

import math
from collections.abc import Sequence
from typing import Any

import gymnasium
import numba
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from saferl.envs.point_robot import (
    ARENA,
    DT,
    GOAL,
    GOAL_RADIUS,
    HAZARD_RADIUS,
    HAZARDS,
    OBSERVATION_DIM,
    TIME_LIMIT,
    Array,
    PointRobot,
    start_states,
)

_HAZARDS = np.array(HAZARDS)
_GOAL_X, _GOAL_Y = GOAL


def step_states(
    states: Array, actions: ArrayLike
) -> tuple[Array, Array, Array, NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float32]]:
    """One step of N independent robots.

    Args:
        states: (N, 4) x (m), y (m), v (m/s), heading (rad); not written to.
        actions: (N, 2), clipped to [-1, 1].
    Returns: next states (N, 4), rewards (N,), margins h (N,) in m, terminated (N,) bool, at the goal (N,) bool, next
        observations (N, 11) float32; all as in ``PointRobot``.
    Raises: ValueError if the shapes differ from these or an action is not finite.
    """
    after = np.array(states, dtype=np.float64, order="C")
    if after.ndim != 2 or after.shape[1] != 4:
        raise ValueError(f"states must have shape (N, 4) with columns x, y, v, theta; got {after.shape}.")
    n = len(after)
    a = np.ascontiguousarray(actions, dtype=np.float64)
    if a.shape != (n, 2) or not np.isfinite(a).all():
        raise ValueError(f"actions must be finite numbers of shape ({n}, 2); got shape {a.shape}.")
    rewards, margins, terminated, at_goal = np.empty(n), np.empty(n), np.empty(n, np.bool_), np.empty(n, np.bool_)
    observations = np.empty((n, OBSERVATION_DIM), np.float32)
    _step(after, a, _HAZARDS, rewards, margins, terminated, at_goal, observations)
    return after, rewards, margins, terminated, at_goal, observations


@numba.njit(cache=True)
def _step(states, actions, hazards, rewards, margins, terminated, at_goal, observations):
    for i in range(states.shape[0]):
        x, y, v, theta = states[i]
        before = math.hypot(_GOAL_X - x, _GOAL_Y - y)
        x += DT * v * math.cos(theta)
        y += DT * v * math.sin(theta)
        v += DT * min(max(actions[i, 0], -1.0), 1.0)
        theta += DT * min(max(actions[i, 1], -1.0), 1.0)
        states[i, 0], states[i, 1], states[i, 2], states[i, 3] = x, y, v, theta
        distance = math.hypot(_GOAL_X - x, _GOAL_Y - y)
        at_goal[i] = distance <= GOAL_RADIUS
        rewards[i] = before - distance + (1.0 if at_goal[i] else 0.0)
        terminated[i] = at_goal[i] or abs(x) > ARENA or abs(y) > ARENA
        margins[i] = _observe(x, y, v, theta, hazards, observations[i])


@numba.njit(cache=True)
def _observe(x, y, v, theta, hazards, out):
    """Write the observation of one state into ``out`` (11,); returns the margin."""
    cos, sin = math.cos(theta), math.sin(theta)
    out[0], out[1], out[2], out[3], out[4] = x, y, v, cos, sin
    nearest = np.inf
    for k in range(hazards.shape[0]):
        dx, dy = hazards[k, 0] - x, hazards[k, 1] - y
        distance = math.hypot(dx, dy)
        scale = 1 / max(distance, 1e-12)
        out[5 + 3 * k] = distance
        out[6 + 3 * k] = (dx * cos + dy * sin) * scale
        out[7 + 3 * k] = (dy * cos - dx * sin) * scale
        nearest = min(nearest, distance)
    return HAZARD_RADIUS - nearest


@numba.njit(cache=True)
def _observe_all(states, rows, hazards, observations, margins):
    for i in rows:
        margins[i] = _observe(states[i, 0], states[i, 1], states[i, 2], states[i, 3], hazards, observations[i])


class BatchedPointRobot(gymnasium.vector.VectorEnv[NDArray[np.float32], NDArray[np.float32], NDArray[Any]]):
    """Many PointRobots in one call: what ``gymnasium.make_vec("saferl/PointRobot-v0", num_envs=4096)`` makes.

    Robot i behaves exactly as the i-th environment of a ``SyncVectorEnv`` of PointRobots with the same seeds, at a
    fraction of the time: the same start states, and the same autoreset. Autoreset is gymnasium's NEXT_STEP: the step
    in which an episode ends returns its last observation; the step after it ignores the robot's action, starts a new
    episode and returns its first observation with reward 0 and cost 0.

    Args:
        num_envs: number of robots N >= 1.
        max_episode_steps: an episode is truncated after this many steps.
        start: kind of start states, see ``saferl.envs.point_robot.start_states``.
        render_mode: only None: a picture of thousands of robots is no use; make a single one to look at it.
    Attributes:
        states: (N, 4) float64, the robots' states.
    Raises: ValueError for arguments outside these, and as ``PointRobot`` for options and actions.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012  gymnasium's declaration

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int = TIME_LIMIT,
        start: str = "random",
        render_mode: str | None = None,
    ) -> None:
        if num_envs < 1 or max_episode_steps < 1:
            raise ValueError(
                f"num_envs and max_episode_steps must be at least 1; got {num_envs} and {max_episode_steps}."
            )
        if render_mode is not None:
            raise ValueError(f"many PointRobots can't render {render_mode!r}; allowed: None, or make a single one.")
        single = PointRobot(start)
        self.num_envs, self.max_episode_steps, self.start = num_envs, max_episode_steps, start
        self.render_mode = None
        self.single_observation_space, self.single_action_space = single.observation_space, single.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.states: Array = np.zeros((num_envs, 4))
        self._elapsed = np.zeros(num_envs, np.int64)  # steps of the current episodes
        self._ended = np.zeros(num_envs, np.bool_)  # robots that start anew at the next step
        self._generators: list[np.random.Generator] = []

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Observations (N, 11) and infos of N new episodes.

        Args:
            seed: robot i gets seed + i; a sequence gives each its own; None goes on with the generators.
            options: "start" (a kind of start states) or "state" ((4,) for all, or (N, 4)).
        """
        self._seed(seed)
        options = options or {}
        if "state" in options:
            state = np.asarray(options["state"], dtype=np.float64)
            if state.shape not in ((4,), (self.num_envs, 4)) or not np.isfinite(state).all():
                raise ValueError(
                    f"options['state'] must be finite numbers of shape (4,) or ({self.num_envs}, 4); got {state.shape}."
                )
            self.states = np.array(np.broadcast_to(state, (self.num_envs, 4)))
        else:
            start = options.get("start", self.start)
            self.states = np.concatenate([start_states(1, start, generator) for generator in self._generators])
        self._elapsed[:] = 0
        self._ended[:] = False
        observations = np.empty((self.num_envs, OBSERVATION_DIM), np.float32)
        margins = np.empty(self.num_envs)
        _observe_all(self.states, np.arange(self.num_envs), _HAZARDS, observations, margins)
        return observations, _infos(np.zeros(self.num_envs), margins, np.zeros(self.num_envs, np.bool_))

    def step(
        self, actions: ArrayLike
    ) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """One step of 0.05 s with actions (N, 2); robots whose episode ended start a new one instead."""
        restarted = np.flatnonzero(self._ended)
        self.states, rewards, margins, terminated, at_goal, observations = step_states(self.states, actions)
        self._elapsed += 1
        if len(restarted):
            starts = [start_states(1, self.start, self._generators[i]) for i in restarted]
            self.states[restarted] = np.concatenate(starts)
            _observe_all(self.states, restarted, _HAZARDS, observations, margins)
            self._elapsed[restarted] = 0
            rewards[restarted] = 0
            terminated[restarted] = at_goal[restarted] = False
        costs = (margins > 0).astype(np.float64)
        costs[restarted] = 0  # a start counts no cost, as in the reset of a single environment
        truncated = self._elapsed >= self.max_episode_steps
        self._ended = terminated | truncated
        return observations, rewards, terminated, truncated, _infos(costs, margins, at_goal)

    def _seed(self, seed: int | Sequence[int | None] | None) -> None:
        if seed is None:
            seeds: Sequence[int | None] = [None] * self.num_envs
        elif isinstance(seed, (int, np.integer)):
            seeds = [int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"{self.num_envs} robots need one seed or {self.num_envs}; got {len(seeds)}.")
        if not self._generators:
            self._generators = [gymnasium.utils.seeding.np_random(s)[0] for s in seeds]
            return
        for i, s in enumerate(seeds):
            if s is not None:
                self._generators[i] = gymnasium.utils.seeding.np_random(s)[0]


def _infos(costs: Array, margins: Array, success: NDArray[np.bool_]) -> dict[str, Any]:
    """The infos in gymnasium's vector form: an array per key, and a mask of who has it."""
    everybody = np.ones(len(costs), np.bool_)
    values = {"cost": costs, "margin": margins, "is_success": success}
    return {**values, **{f"_{key}": everybody.copy() for key in values}}
