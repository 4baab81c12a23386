"""Your own robot: an environment over any MJCF file, with a reward and a constraint of yours.

``docs/your_own_robot.md`` shows it in ten lines.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from saferl.envs.mujoco_cost import Constraint, MujocoCost  # says what to install where mujoco is missing
from saferl.envs.safety_gymnasium_compat import use_headless_rendering

# isort: split
import mujoco
from gymnasium.envs.mujoco import MujocoEnv

_UNSTABLE = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)

Measure = Callable[[mujoco.MjModel, mujoco.MjData], Any]


class MjcfRobot(MujocoEnv):
    """A gymnasium environment over an MJCF file.

    Observation: positions ``qpos``, then velocities ``qvel``, float64, in the model's units (m, rad, m/s, rad/s).
    Action: one number per actuator, in the actuator's ``ctrlrange``, clipped to it.
    Start: the model's first keyframe (its default pose if it has none), every position and velocity moved by uniform
    noise in [-reset_noise, reset_noise].
    End: where ``terminated`` says so. If the simulation becomes unstable and MuJoCo starts over by itself, the episode
    is truncated and ``info["diverged"]`` is true.

    What ``reward``, ``terminated`` and ``observation`` see belongs to the state after the step, positions of bodies and
    forces too.

    Args:
        path: the MJCF file.
        reward: ``reward(model, data) -> float``, after each step.
        terminated: ``terminated(model, data) -> bool``; None never ends an episode.
        observation: ``observation(model, data) -> (obs_dim,)`` in place of the above.
        frame_skip: sub-steps of the model's ``timestep`` per step.
        reset_noise: m or rad, >= 0.
        render_mode: None, "rgb_array", "depth_array", "rgbd_tuple" or "human".
    Raises: ValueError in one line for a file that is absent or that MuJoCo refuses, for a model without actuators or
        with one without ctrlrange, and for numbers outside these; for an action that is not act_dim finite numbers.
    """

    metadata = {"render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"]}  # noqa: RUF012  gymnasium's form

    def __init__(
        self,
        path: str | Path,
        reward: Measure,
        terminated: Measure | None = None,
        observation: Measure | None = None,
        frame_skip: int = 5,
        reset_noise: float = 0.01,
        render_mode: str | None = None,
    ) -> None:
        if frame_skip < 1 or not reset_noise >= 0:
            raise ValueError(f"frame_skip must be >= 1 and reset_noise >= 0; got {frame_skip} and {reset_noise}.")
        if render_mode is not None:
            use_headless_rendering()
        self._reward, self._terminated, self._observe = reward, terminated, observation or _positions_and_velocities
        self._reset_noise = reset_noise
        file = Path(path).expanduser().absolute()
        if not file.is_file():
            raise ValueError(f"no MJCF file {path}; give the path of a model's .xml.")
        try:
            super().__init__(str(file), frame_skip, None, render_mode=render_mode)
        except ValueError as error:
            raise ValueError(f"{path}: MuJoCo refuses it: {' '.join(str(error).split())}") from None
        _check_actuators(self.model, path)
        self.metadata = {**self.metadata, "render_fps": round(1 / self.dt)}
        if self.model.nkey:
            mujoco.mj_resetDataKeyframe(self.model, self.data, 0)
            self.init_qpos, self.init_qvel = self.data.qpos.copy(), self.data.qvel.copy()
        mujoco.mj_forward(self.model, self.data)
        size = np.asarray(self._observe(self.model, self.data)).shape
        if len(size) != 1:
            raise ValueError(f"{path}: an observation must have shape (obs_dim,); got {size}.")
        self.observation_space = spaces.Box(-np.inf, np.inf, size, np.float64)

    def reset_model(self) -> NDArray[np.float64]:
        """First observation of an episode; called by gymnasium's ``reset``."""
        noise, model = self._reset_noise, self.model
        position, velocity = self.init_qpos.copy(), self.init_qvel.copy()
        # in the tangent space, so that quaternions stay unit quaternions
        mujoco.mj_integratePos(model, position, self.np_random.uniform(-noise, noise, model.nv), 1.0)
        velocity += self.np_random.uniform(-noise, noise, model.nv)
        self.set_state(position, velocity)
        return self._seen()

    def step(self, action: ArrayLike) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:  # type: ignore[override]
        """``frame_skip`` sub-steps with the action (act_dim,) held."""
        low, high = self.model.actuator_ctrlrange.T
        command = np.asarray(action, dtype=np.float64)
        if command.shape != low.shape or not np.isfinite(command).all():
            raise ValueError(f"this robot needs an action of {len(low)} finite numbers; got {command.tolist()}.")
        self.do_simulation(np.clip(command, low, high), self.frame_skip)
        # MuJoCo has reset the state by itself: it found nan or a number that is too large
        diverged = any(self.data.warning[int(kind)].number for kind in _UNSTABLE)
        mujoco.mj_forward(self.model, self.data)  # bodies and forces of the new state, not of the last sub-step
        reward = float(self._reward(self.model, self.data))
        ended = self._terminated is not None and bool(self._terminated(self.model, self.data))
        if self.render_mode == "human":
            self.render()
        return self._seen(), reward, ended, diverged, {"diverged": diverged}

    def _seen(self) -> NDArray[np.float64]:
        return np.array(self._observe(self.model, self.data), dtype=np.float64)


def robot_with_cost(
    path: str | Path,
    reward: Measure,
    constraint: Constraint | Callable[[mujoco.MjModel, mujoco.MjData], float],
    **kwargs: Any,
) -> gymnasium.Env[Any, Any]:
    """Entry point for ``gymnasium.register``: an ``MjcfRobot`` with ``info["cost"]`` and ``info["margin"]``.

    Args:
        path: the MJCF file.
        reward: ``reward(model, data) -> float``.
        constraint: what is forbidden, see ``saferl.envs.mujoco_cost``.
        kwargs: further arguments of ``MjcfRobot``.
    Raises: ValueError, as ``MjcfRobot`` and ``MujocoCost``.
    """
    return MujocoCost(MjcfRobot(path, reward, **kwargs), constraint)


def _positions_and_velocities(model: mujoco.MjModel, data: mujoco.MjData) -> NDArray[np.float64]:
    return np.concatenate([data.qpos, data.qvel])


def _check_actuators(model: mujoco.MjModel, path: str | Path) -> None:
    if model.nu == 0:
        raise ValueError(f"{path}: the model has no actuator; a robot needs one to act with.")
    for i in range(model.nu):
        if not model.actuator_ctrllimited[i]:
            name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_ACTUATOR, i) or str(i)
            raise ValueError(f"{path}: actuator {name} has no ctrlrange; give it one, it bounds the actions.")
