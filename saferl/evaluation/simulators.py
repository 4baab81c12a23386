"""Robots whose state can be set, many at a time, in their real simulator: what an audit samples, steps and observes."""

import importlib
from typing import Any, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray

import saferl.envs
from saferl.envs import full_id, point_robot
from saferl.envs.point_robot_batched import step_states
from saferl.reachability.systems import POINT_LEVER

Array = NDArray[np.float64]
POINT_ROBOT = "saferl/PointRobot-v0"
POINT_TASKS = tuple(f"SafetyPoint{task}-v0" for task in ("Circle1", "Circle2", "Goal1", "Run0"))
SUPPORTED = f"point_robot, {', '.join(POINT_TASKS)}, and their Offline...Gymnasium ids"

REST_SPEED = 0.02  # m/s; Safety-Gymnasium's Point coasts 1 cm from it


class Simulator(Protocol):
    """States (N, d) of one robot, one control step at a time."""

    dt: float  # s, one control step

    def step(self, states: Array, actions: Array) -> Array:
        """The states (N, d) a control step after ``states`` (N, d) under actions (N, m) in [-1, 1]."""
        ...

    def margins(self, states: Array) -> Array:
        """h (N,) of states (N, d), m; > 0 is violated."""
        ...

    def at_rest(self, states: Array) -> NDArray[np.bool_]:
        """Whether states (N, d) stay where they are, and safe, under no action, (N,)."""
        ...

    def observations(self, states: Array, generator: np.random.Generator | None = None) -> NDArray[np.float32]:
        """What a policy sees (N, obs_dim) in states (N, d).

        What depends on the last action as well gets one drawn by the generator; None: no action.
        """
        ...


class PointRobotSimulator:
    """saferl/PointRobot-v0: states x (m), y (m), v (m/s), heading (rad).

    The ends of an episode (the goal, leaving the arena) are not: a robot goes on beyond them.
    """

    dt = point_robot.DT

    def step(self, states: Array, actions: Array) -> Array:
        """As ``Simulator``."""
        return step_states(states, actions)[0]

    def margins(self, states: Array) -> Array:
        """As ``Simulator``."""
        return point_robot.margin(states)

    def at_rest(self, states: Array) -> NDArray[np.bool_]:
        """v = 0 to rounding: nothing moves it."""
        return np.asarray(np.abs(states[:, 2]) < 1e-9)

    def observations(self, states: Array, generator: np.random.Generator | None = None) -> NDArray[np.float32]:
        """As ``Simulator``."""
        return point_robot.observation(states)


class SafetyPointSimulator:
    """Safety-Gymnasium's Point in MuJoCo, in one layout of a task whose margin is a distance.

    States (N, 6): x, y of the body's origin (m), vx, vy of its centre of mass (m/s), heading (rad), turn rate (rad/s);
    the first five are those of ``saferl.reachability.systems.safety_gymnasium_point``, in the world's axes. Whatever
    else moves (Goal1's vase, which costs nothing) is put back at every step.

    Args:
        env_id: one of ``POINT_TASKS``, or its offline id.
        seed: of the layout: hazards where there are any, and the axes of the joints.
    Raises: ValueError for another task; MissingPackageError without Safety-Gymnasium.
    """

    def __init__(self, env_id: str = "SafetyPointCircle1-v0", seed: int = 0) -> None:
        if not is_point_task(env_id):
            raise ValueError(f"the Point's simulator knows {', '.join(POINT_TASKS)}; got {env_id}.")
        self.env = saferl.envs.make(env_id)
        self.env.reset(seed=seed)
        self._rollout = importlib.import_module("mujoco.rollout").rollout
        self._mujoco = importlib.import_module("mujoco")
        world: Any = self.env.unwrapped
        self.model, self.data, self._world = world.model, world.data, world
        task = world.task
        self._substeps = int(task.sim_conf.frameskip_binom_n)
        self.dt = self._substeps * self.model.opt.timestep
        self._body = self.model.body("agent").id
        pose = self.data.xmat[self._body].reshape(3, 3)
        first = float(np.arctan2(pose[1, 0], pose[0, 0]) - self.data.qpos[2])
        self._axes = np.array([[np.cos(first), -np.sin(first)], [np.sin(first), np.cos(first)]])  # of the slides
        self._first = first
        joints = [self.model.joint(name) for name in ("x", "y", "z")]
        positions = [int(joint.qposadr[0]) for joint in joints]
        velocities = [int(joint.dofadr[0]) for joint in joints]
        self._columns = [1 + each for each in positions] + [1 + self.model.nq + each for each in velocities]
        self._rest = np.concatenate([[0.0], self.data.qpos, self.data.qvel])  # time, and where all else is
        self._origin = self.data.xpos[self._body][:2] - self._axes @ self.data.qpos[:2]  # the robot's joints come first
        self._walls = [each for each in world._constraints if each.name == "sigwalls"]
        self._hazards = [each for each in world._constraints if each.name == "hazards"]
        self._centres = np.array(self.data.xpos[world._hazard_bodies, :2])  # (K, 2)

    def step(self, states: Array, actions: Array) -> Array:
        """As ``Simulator``: the substeps of one control step."""
        controls = np.repeat(np.clip(actions, -1, 1)[:, None], self._substeps, axis=1)  # (N, substeps, 2)
        full, _ = self._rollout(self.model, self.data, self._full(states), controls)
        return self._states(full[:, -1])

    def margins(self, states: Array) -> Array:
        """As ``Simulator``; the task's own: depth in the nearest hazard, or distance beyond the walls."""
        x, y = np.abs(states[:, 0]), np.abs(states[:, 1])
        parts = [(x if wall.num == 2 else np.maximum(x, y)) - wall.locate_factor for wall in self._walls]
        for hazards in self._hazards:
            distances = np.linalg.norm(states[:, None, :2] - self._centres, axis=2)  # (N, K)
            parts.append(hazards.size - distances.min(axis=1))
        return np.asarray(np.max(parts, axis=0))

    def at_rest(self, states: Array) -> NDArray[np.bool_]:
        """So slow that damping stops it within 1 cm, and more than that away from a violation."""
        slow = np.hypot(states[:, 2], states[:, 3]) < REST_SPEED
        return np.asarray(slow & (self.margins(states) < -0.02))

    def observations(self, states: Array, generator: np.random.Generator | None = None) -> NDArray[np.float32]:
        """As ``Simulator``: what depends on the last action is the accelerometer."""
        full, data, task = self._full(states), self.data, self._world.task
        shape = (len(states), 2)
        actions = np.zeros(shape) if generator is None else generator.uniform(-1, 1, shape)
        rows = []
        for row, action in zip(full, actions):
            data.qpos[:], data.qvel[:], data.ctrl[:] = row[1 : 1 + self.model.nq], row[1 + self.model.nq :], action
            self._mujoco.mj_forward(self.model, data)
            rows.append(np.asarray(task.obs(), np.float32))
        return np.stack(rows)

    def _full(self, states: Array) -> Array:
        """MuJoCo's time, positions and velocities (N, 1 + nq + nv); what is not the robot is where it began."""
        heading, rate = states[:, 4], states[:, 5]
        lever = POINT_LEVER * rate[:, None] * np.stack([np.sin(heading), -np.cos(heading)], axis=1)
        position, velocity = (states[:, :2] - self._origin) @ self._axes, (states[:, 2:4] + lever) @ self._axes
        full = np.tile(self._rest, (len(states), 1))
        full[:, self._columns] = np.column_stack([position, heading - self._first, velocity, rate])
        return full

    def _states(self, full: Array) -> Array:
        own = full[:, self._columns]
        heading, rate = own[:, 2] + self._first, own[:, 5]
        lever = POINT_LEVER * rate[:, None] * np.stack([np.sin(heading), -np.cos(heading)], axis=1)
        position = own[:, :2] @ self._axes.T + self._origin
        return np.column_stack([position, own[:, 3:5] @ self._axes.T - lever, heading, rate])


def is_point_task(env_id: str) -> bool:
    """Whether an environment is Safety-Gymnasium's Point in a task that the simulator knows."""
    return safety_task(env_id) in POINT_TASKS


def safety_task(env_id: str) -> str:
    """The id of the Safety-Gymnasium task that an environment is: OfflinePointCircle1Gymnasium-v0 is Circle1."""
    return str(gymnasium.spec(full_id(env_id)).kwargs.get("task_id", env_id))


def simulator_for(env_id: str, seed: int = 0) -> Simulator:
    """The simulator of an environment. Raises: ValueError in one line for one that has none."""
    if full_id(env_id) == POINT_ROBOT:
        return PointRobotSimulator()
    if is_point_task(env_id):
        return SafetyPointSimulator(env_id, seed)
    raise ValueError(f"states of {env_id} can't be set here; supported: {SUPPORTED}.")


def point_states(observations: NDArray[Any], reach: float = 6.0, bins: int = 16) -> Array:
    """States (N, 6) of ``SafetyPointSimulator`` from observations (N, 28) of a Circle task.

    The heading is the magnetometer's, the turn rate the gyro's, the velocity the velocimeter's about the heading. The
    position follows from the circle's lidar, whose centre is the origin: the largest bin reads 1 - distance / reach,
    and the share that its neighbours get tells the angle within it.

    Args:
        observations: (N, 28) accelerometer, velocimeter, gyro, magnetometer, lidar of 16 bins.
        reach: m, at which the lidar reads 0.
        bins: of the lidar.
    Raises: ValueError for another width.
    """
    rows = np.asarray(observations, np.float64)
    if rows.ndim != 2 or rows.shape[1] != 12 + bins:
        raise ValueError(f"observations of a Circle task have shape (N, {12 + bins}); got {rows.shape}.")
    heading = np.arctan2(-rows[:, 9], -rows[:, 10])  # the field points along -y
    rate, lidar = rows[:, 8], rows[:, 12:]
    nearest = lidar.argmax(axis=1)
    index = np.arange(len(rows))
    closeness = lidar[index, nearest]
    share = lidar[index, (nearest + 1) % bins] / np.maximum(closeness, 1e-12)
    bearing = heading + (nearest + share) * 2 * np.pi / bins
    distance = reach * (1 - closeness)
    position = -distance[:, None] * np.stack([np.cos(bearing), np.sin(bearing)], axis=1)
    ahead, left = rows[:, 3], rows[:, 4] + POINT_LEVER * rate  # of the centre of mass
    cos, sin = np.cos(heading), np.sin(heading)
    velocity = np.stack([ahead * cos - left * sin, ahead * sin + left * cos], axis=1)
    return np.column_stack([position, velocity, heading, rate])
