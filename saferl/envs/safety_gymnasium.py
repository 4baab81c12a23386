"""Safety-Gymnasium's navigation and velocity tasks as gymnasium environments."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import EzPickle
from numpy.typing import NDArray

from saferl.envs import safety_gymnasium_compat as compat
from saferl.envs.safety_gymnasium_fast import accelerate
from saferl.envs.safety_gymnasium_ids import navigation_ids, velocity_ids

RENDER_MODES = ("human", "rgb_array", "depth_array")
METADATA: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 30}

# Velocity tasks whose constraint is on the speed in the plane; the others limit the velocity along x.
PLANAR_SPEED_TASKS = (
    "SafetyAntVelocity-v0",
    "SafetyAntVelocity-v1",
    "SafetyHumanoidVelocity-v0",
    "SafetyHumanoidVelocity-v1",
    "SafetySwimmerVelocity-v0",
)


class SafetyNavigation(gymnasium.Env[NDArray[np.float64], NDArray[np.float64]], EzPickle):
    """A robot drives to goals, presses buttons, pushes a box, circles, runs or races, among things it must not touch.

    Observations: (obs_dim,) float64, the flattened entries of ``layout()``: first the robot's sensors
    (accelerometer m/s^2, velocimeter m/s, gyro rad/s, magnetometer as a direction of length about 0.5; Doggo and Ant
    also joint velocities rad/s and sine and cosine of joint angles), then one pseudo lidar of 16 bins for each kind of
    object, 0 (nothing within reach) to 1 (at the robot).

    Actions: (act_dim,) float64, Point (force, turn), Car (left, right wheel), Racecar (speed, steering angle), Doggo
    and Ant joint torques or positions, in the box of the robot's actuators.

    Reward: the approach to the goal in m, 1 (Race 10) for reaching it; Circle: tangential speed near the circle; Run:
    60 per m of progress.

    Cost: ``info["cost"]``, 1.0 in a step that violates a constraint (inside a hazard, out of the walls, touching a
    vase, gremlin, pillar or wrong button), else 0.0; the parts stay in ``info`` under their names (``cost_hazards``).

    Margin: ``info["margin"]``, in m, greater than 0 exactly where the cost is: depth inside the deepest hazard
    (radius minus distance) or distance beyond the walls. Present where these are all the constraints of a task: Goal1,
    Push1, Circle1, Circle2, Run0. Contact constraints have no such value.
    """

    metadata: dict[str, Any] = METADATA

    def __init__(
        self,
        task_id: str,
        physics: str = "legacy",
        render_mode: str | None = None,
        width: int = 256,
        height: int = 256,
        camera_id: int | None = None,
        camera_name: str | None = None,
    ) -> None:
        """Make the task.

        Args:
            task_id: Safety-Gymnasium's id, ``SafetyPointGoal1-v0``.
            physics: "legacy" follows mujoco 2.3.3, on which the task was made; "native" leaves today's mujoco as it is.
            render_mode: None, "human", "rgb_array" or "depth_array"; the sky is a gradient in all of them.
            width: width of a picture, pixels.
            height: height of a picture, pixels.
            camera_id: number of the camera.
            camera_name: "vision" (from the robot, the default), "track", "fixednear" or "fixedfar".
        Raises: ValueError for an unknown task or physics; MissingPackageError without Safety-Gymnasium.
        """
        EzPickle.__init__(self, task_id, physics, render_mode, width, height, camera_id, camera_name)
        _check_arguments(task_id, navigation_ids(), physics, render_mode)
        if render_mode is not None:
            compat.use_headless_rendering()
        compat.load()
        self._builder = compat.make_navigation(
            task_id, render_mode=render_mode, width=width, height=height, camera_id=camera_id, camera_name=camera_name
        )
        accelerate(self._builder.task)
        self._physics = physics
        self.render_mode = render_mode
        self.action_space = self._builder.action_space
        self.observation_space = self._builder.observation_space
        self._seeded = False
        self._last_observation: NDArray[np.float64] = np.zeros(self.observation_space.shape or ())

    @property
    def task(self) -> Any:
        """Safety-Gymnasium's task object: layout, robot, obstacles."""
        return self._builder.task

    @property
    def model(self) -> Any:
        """The compiled mujoco model of this episode."""
        return self._builder.task.model

    @property
    def data(self) -> Any:
        """The mujoco state of this episode."""
        return self._builder.task.data

    def layout(self) -> dict[str, int]:
        """Name and number of entries of each part of an observation, in order."""
        return {name: int(np.prod(space.shape)) for name, space in self._builder.obs_space_dict.items()}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Sample a layout and start an episode; a seed gives the layout that Safety-Gymnasium gives for it."""
        super().reset(seed=seed)
        if seed is None and not self._seeded:
            # The package would take its seed from numpy's global generator, which forked workers share.
            self._builder.set_seed(int(self.np_random.integers(2**32)))
        self._seeded = True
        with compat.world_physics(self._physics):
            observation, info = self._builder.reset(seed=seed)
        self._bind_margin()
        self._last_observation = observation
        return observation, {**info, "cost": 0.0, **self._margin()}

    def step(self, action: NDArray[np.float64]) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        """Apply the action for 10 steps of the simulator (``info`` holds cost and, where defined, margin)."""
        # The package casts by np.array(action, copy=False), which numpy 2 refuses for a list or another dtype.
        action = np.asarray(action, dtype=np.float64)
        observation, reward, cost, terminated, truncated, info = self._builder.step(action)
        info = {**info, "cost": float(cost), **self._margin()}
        if not np.isfinite(observation).all():  # the simulation blew up: the episode ends with the last known state
            return self._last_observation, self.task.reward_conf.reward_exception, bool(terminated), True, info
        self._last_observation = observation
        return observation, float(reward), bool(terminated), bool(truncated), info

    def _bind_margin(self) -> None:
        """Look up the bodies that the margin of this episode needs; none where a constraint has no signed distance."""
        task = self.task
        constrained = [obstacle for obstacle in task._obstacles if getattr(obstacle, "is_constrained", False)]
        touches = task._is_load_static_geoms and task.static_geoms_contact_cost
        if touches or any(obstacle.name not in ("hazards", "sigwalls") for obstacle in constrained):
            constrained = []
        self._constraints = constrained
        self._agent_body = self.model.body("agent").id
        self._hazard_bodies = [
            self.model.body(f"hazard{i}").id
            for obstacle in constrained
            if obstacle.name == "hazards"
            for i in range(obstacle.num)
        ]

    def _margin(self) -> dict[str, float]:
        """The margin as an entry of ``info``, by the cost's own expressions; empty where the task has none."""
        if not self._constraints:
            return {}
        positions = self.data.xpos
        x, y, _ = positions[self._agent_body]
        margins = []
        for obstacle in self._constraints:
            if obstacle.name == "hazards":
                offsets = positions[self._hazard_bodies, :2] - positions[self._agent_body, :2]
                margins.append(obstacle.size - np.sqrt(np.sum(np.square(offsets), axis=1)).min())
            else:
                margins.append((abs(x) if obstacle.num == 2 else max(abs(x), abs(y))) - obstacle.locate_factor)
        return {"margin": float(max(margins))}

    def render(self) -> Any:
        """One picture, (height, width, 3) uint8 or (height, width) float32; None in "human" mode."""
        return self._builder.render()

    def close(self) -> None:
        """Free the viewers, which the package never does."""
        viewers = self._builder.task._viewers
        for viewer in viewers.values():
            viewer.close()
        viewers.clear()


class SafetyVelocity(gymnasium.Env[NDArray[np.float64], NDArray[np.float32]], EzPickle):
    """A robot of gymnasium's MuJoCo family runs forward as fast as it may, but not faster.

    Observations and actions: those of gymnasium's HalfCheetah-v4, Hopper-v4, Swimmer-v4, Walker2d-v4, Ant-v4 and
    Humanoid-v4. Reward: forward velocity (m/s), plus the bonus for being upright, minus the control cost.

    Cost: ``info["cost"]``, 1.0 in a step faster than the limit of the task and version, else 0.0.

    Margin: ``info["margin"]``, m/s, speed minus limit, greater than 0 exactly where the cost is. The speed is the mean
    over the step, as in the cost; at a reset nothing has moved yet, so that it is 0 there.
    """

    metadata: dict[str, Any] = METADATA

    def __init__(self, task_id: str, physics: str = "legacy", render_mode: str | None = None, **kwargs: Any) -> None:
        """Make the task.

        Args:
            task_id: Safety-Gymnasium's id, ``SafetyAntVelocity-v1``.
            physics: "legacy" follows mujoco 2.3.3, on which the task was made; "native" leaves today's mujoco as it is.
            render_mode: None, "human", "rgb_array" or "depth_array".
            kwargs: further arguments of gymnasium's environment (width, height, camera_name, ...).
        Raises: ValueError for an unknown task or physics; MissingPackageError without Safety-Gymnasium.
        """
        EzPickle.__init__(self, task_id, physics, render_mode, **kwargs)
        _check_arguments(task_id, velocity_ids(), physics, render_mode)
        if render_mode is not None:
            compat.use_headless_rendering()
        self._task_id = task_id
        compat.load()
        self._env = compat.make_velocity(task_id, render_mode=render_mode, **kwargs)
        if physics == "legacy":
            compat.restore_velocity_physics(self._env)
        self.render_mode = render_mode
        self.metadata = self._env.metadata
        self.action_space = self._env.action_space
        self.observation_space = self._env.observation_space
        self.limit = float(self._env._velocity_threshold)  # m/s

    @property
    def model(self) -> Any:
        """The mujoco model."""
        return self._env.model

    @property
    def data(self) -> Any:
        """The mujoco state."""
        return self._env.data

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Start an episode near the standing pose."""
        super().reset(seed=seed)
        observation, info = self._env.reset(seed=seed, options=options)
        return observation, {**info, "cost": 0.0, "margin": -self.limit}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        """Apply the torques for one control step (``info`` holds cost and margin)."""
        observation, reward, cost, terminated, truncated, info = self._env.step(np.asarray(action))
        speed = info["x_velocity"]
        if self._task_id in PLANAR_SPEED_TASKS:
            speed = np.sqrt(info["x_velocity"] ** 2 + info["y_velocity"] ** 2)
        info = {**info, "cost": float(cost), "margin": float(speed - self.limit)}
        return observation, float(reward), bool(terminated), bool(truncated), info

    def render(self) -> Any:
        """One picture, (height, width, 3) uint8 or (height, width) float32; None in "human" mode."""
        return self._env.render()

    def close(self) -> None:
        """Free the viewer."""
        self._env.close()


def _check_arguments(task_id: str, known: dict[str, int], physics: str, render_mode: str | None) -> None:
    if task_id not in known:
        raise ValueError(f"no task is named {task_id!r}. Known: {', '.join(known)}.")
    if physics not in compat.PHYSICS:
        raise ValueError(f"physics must be one of {', '.join(compat.PHYSICS)}; got {physics!r}.")
    if render_mode not in (None, *RENDER_MODES):
        raise ValueError(
            f"render_mode must be None or one of {', '.join(METADATA['render_modes'])}; got {render_mode!r}."
        )
