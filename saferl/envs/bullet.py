"""Bullet-Safety-Gym's eight DSRL tasks on a current gymnasium."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import EzPickle
from numpy.typing import NDArray

from saferl.envs.errors import MissingPackageError

# id of the maker -> steps per episode
BULLET_IDS = {
    "SafetyBallRun-v0": 100,
    "SafetyCarRun-v0": 200,
    "SafetyDroneRun-v0": 200,
    "SafetyAntRun-v0": 200,
    "SafetyBallCircle-v0": 200,
    "SafetyCarCircle-v0": 300,
    "SafetyDroneCircle-v0": 300,
    "SafetyAntCircle-v0": 500,
}
METADATA: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 30}
INSTALL_LINE = "python -m saferl.install_envs --bullet"


def arguments(task_id: str) -> dict[str, Any]:
    """What ``gymnasium.register`` needs to make the Bullet task ``task_id``, its id apart."""
    return {
        "entry_point": "saferl.envs.bullet:BulletSafety",
        "max_episode_steps": BULLET_IDS[task_id],
        "kwargs": {"task_id": task_id},
    }


def register() -> None:
    """Register the tasks as ``saferl/SafetyCarCircle-v0``: their plain ids look like Safety-Gymnasium's."""
    for task_id in BULLET_IDS:
        if f"saferl/{task_id}" not in gymnasium.registry:
            gymnasium.register(f"saferl/{task_id}", **arguments(task_id))


@contextmanager
def _console_streams() -> Iterator[None]:
    """The process's own streams: the package silences pybullet by their C names, which a notebook's don't have."""
    with redirect_stdout(sys.__stdout__), redirect_stderr(sys.__stderr__):
        yield


class BulletSafety(gymnasium.Env[NDArray[np.float64], NDArray[np.float32]], EzPickle):
    """A ball, car, drone or ant runs straight below a speed limit, or circles between two walls.

    Observations: (obs_dim,) float64, Ball 7 or 8, Car 7 or 8, Drone 17 or 18, Ant 33 or 34 (Run or Circle): scaled
    position, velocities, orientation and joints; Circle adds the distance to the circle. Actions: (act_dim,) float32
    in [-1, 1]: Ball and Car 2, Drone 4, Ant 8.

    Reward: Run: 60 per m of progress; Circle: tangential speed near the circle; plus terms of the robot.

    Cost: ``info["cost"]``, 1.0 in a step outside the walls or (Run) faster than the robot's limit, else 0.0.

    Margin: ``info["margin"]``, m, for the Circle tasks: |x| minus the distance of the walls, greater than 0 exactly
    where the cost is. Run has a limit on speed too, of another unit, and so has none.

    Source: Gronauer, Bullet-Safety-Gym (2022). The package draws from numpy's global generator and ignores seeds, so
    that forked workers are alike, and its saved states lack the internals of Car and Drone; here each environment
    swaps in a generator of its own, and a seeded reset builds the simulation anew (10 to 400 ms).
    """

    metadata: dict[str, Any] = METADATA

    def __init__(self, task_id: str, render_mode: str | None = None) -> None:
        """Make the task.

        Args:
            task_id: Bullet-Safety-Gym's id, ``SafetyCarCircle-v0``.
            render_mode: None or "rgb_array" (a software renderer, which needs no display).
        Raises: ValueError for an unknown task or mode; MissingPackageError without the packages.
        """
        EzPickle.__init__(self, task_id, render_mode)
        if task_id not in BULLET_IDS:
            raise ValueError(f"no task is named {task_id!r}. Known: {', '.join(BULLET_IDS)}.")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be None or rgb_array; got {render_mode!r}.")
        try:
            with _console_streams():
                importlib.import_module("bullet_safety_gym")  # registers its ids, of which the settings are read
                builder_module = importlib.import_module("bullet_safety_gym.envs.builder")
        except ImportError as error:
            raise MissingPackageError(
                f"Bullet tasks need bullet-safety-gym and pybullet ({error}); run `{INSTALL_LINE}`."
            ) from None
        self._builder_class = builder_module.EnvironmentBuilder
        self._builder_arguments = gymnasium.registry[task_id].kwargs
        self.render_mode = render_mode
        self._random_state = np.random.RandomState(0).get_state()
        self._seeded = False
        self._rebuild()
        self.action_space = self._builder.action_space
        self.observation_space = self._builder.observation_space

    def _rebuild(self) -> None:
        self.close()
        # errstate: gymnasium compares float64's bounds with the package's float32 ones.
        with self._own_random_state(), _console_streams(), np.errstate(over="ignore"):
            self._builder = self._builder_class(**self._builder_arguments)

    @contextmanager
    def _own_random_state(self) -> Iterator[None]:
        """Let the package draw from this environment's generator instead of numpy's global one."""
        outside = np.random.get_state()  # noqa: NPY002 - the package uses no other generator
        np.random.set_state(self._random_state)  # noqa: NPY002
        try:
            yield
        finally:
            self._random_state = np.random.get_state()  # noqa: NPY002
            np.random.set_state(outside)  # noqa: NPY002

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Start an episode; the same seed gives the same episode."""
        super().reset(seed=seed)
        if seed is not None or not self._seeded:
            self._seeded = True
            self._random_state = np.random.RandomState(int(self.np_random.integers(2**32))).get_state()
            self._rebuild()
        with self._own_random_state():
            observation, info = self._builder.reset()
        return observation, {**info, "cost": 0.0, **self._margin()}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        """Apply the action for one control step (``info`` holds cost and, for Circle, margin)."""
        with self._own_random_state():
            observation, reward, terminated, truncated, info = self._builder.step(np.asarray(action))
        info = {**info, "cost": float(info["cost"]), **self._margin()}
        return observation, float(reward), bool(terminated), bool(truncated), info

    def _margin(self) -> dict[str, float]:
        builder = self._builder
        if not hasattr(builder.task, "x_lim"):
            return {}
        return {"margin": float(abs(builder.agent.get_position()[0]) - builder.task.x_lim)}

    def render(self) -> NDArray[np.uint8] | None:
        """The picture, (height, width, 3) uint8; None without a render mode."""
        if self.render_mode is None:
            return None
        return np.asarray(self._builder.render("rgb_array"), dtype=np.uint8)

    def close(self) -> None:
        """Disconnect from the physics server."""
        builder = getattr(self, "_builder", None)
        if builder is not None:
            builder.close()
