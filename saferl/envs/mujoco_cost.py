"""A declared cost for any gymnasium MuJoCo environment: what is forbidden, as a margin h of the simulator's state.

    env = MujocoCost(gymnasium.make("HalfCheetah-v5"), VelocityLimit(2.0))
    observation, reward, terminated, truncated, info = env.step(action)   # info["cost"], info["margin"]

h <= 0 is safe, h > 0 a violation, and the cost is 1 exactly then. A constraint is one of the classes below or a
function ``h(model, data) -> float`` of yours.
"""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from saferl.envs.errors import MissingPackageError
from saferl.envs.safety_gymnasium_compat import use_headless_rendering

try:
    import mujoco
except ImportError:
    raise MissingPackageError("MuJoCo environments need mujoco; run `pip install 'saferl[mujoco]'`.") from None

Margin = Callable[[mujoco.MjData], float]


class Constraint(Protocol):
    """What may be given to ``MujocoCost`` beside a function."""

    def bind(self, env: Any) -> Margin:
        """The margin h of a state, for this environment; raises ValueError where the model has no such part."""
        ...


@dataclass(frozen=True)
class VelocityLimit:
    """h = speed of a body's frame over ground minus ``limit``, in m/s.

    Args:
        limit: m/s, >= 0.
        body: its name; None is the first body of the model, the torso of gymnasium's robots.
        axes: the world axes that count; "xy" is the speed over ground, "x" the speed forwards or backwards.
    """

    limit: float
    body: str | None = None
    axes: str = "xy"

    def __post_init__(self) -> None:
        _require(self.limit >= 0, f"VelocityLimit.limit must be >= 0 m/s; got {self.limit}.")
        known = self.axes and set(self.axes) <= set("xyz")
        _require(bool(known), f"VelocityLimit.axes must be made of x, y and z; got {self.axes!r}.")

    def bind(self, env: Any) -> Margin:
        """h(data) for the environment's model."""
        model = env.model
        body = 1 if self.body is None else _ids(model, mujoco.mjtObj.mjOBJ_BODY, [self.body])[0]
        axes = [3 + "xyz".index(axis) for axis in self.axes]  # mujoco puts the rotation first
        velocity = np.zeros(6)

        def h(data: mujoco.MjData) -> float:
            # mjOBJ_XBODY is the body's own frame, mjOBJ_BODY would be that of its inertia
            mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, body, velocity, 0)
            return float(np.linalg.norm(velocity[axes])) - self.limit

        return h


@dataclass(frozen=True)
class JointLimit:
    """h = how far the worst joint is beyond its range, in rad (hinge) or m (slide); negative inside.

    Args:
        ranges: joint name -> (low, high); None takes every limited hinge or slide joint with the model's range.
        slack: rad or m by which both ends of every range are moved inwards.
    """

    ranges: dict[str, tuple[float, float]] | None = None
    slack: float = 0.0

    def bind(self, env: Any) -> Margin:
        """h(data) for the environment's model."""
        model = env.model
        scalar = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))
        if self.ranges is None:
            joints = [j for j in range(model.njnt) if model.jnt_limited[j] and int(model.jnt_type[j]) in scalar]
            _require(bool(joints), "JointLimit: the model limits no joint; give ranges={'joint': (low, high)}.")
            low, high = model.jnt_range[joints].T
        else:
            _require(bool(self.ranges), "JointLimit.ranges names no joint; give {'joint': (low, high)} or None.")
            joints = _ids(model, mujoco.mjtObj.mjOBJ_JOINT, self.ranges)
            for name, joint in zip(self.ranges, joints):
                is_scalar = int(model.jnt_type[joint]) in scalar
                _require(is_scalar, f"JointLimit: joint {name!r} is neither hinge nor slide; only those have a range.")
            low, high = np.array(list(self.ranges.values()), dtype=float).T
        low, high = low + self.slack, high - self.slack
        _require(bool((low < high).all()), f"JointLimit: a range is empty with slack {self.slack}: {low} to {high}.")
        address = model.jnt_qposadr[joints]

        def h(data: mujoco.MjData) -> float:
            position = data.qpos[address]
            return float(np.maximum(low - position, position - high).max())

        return h


@dataclass(frozen=True)
class ContactForce:
    """h = the largest normal force on a body minus ``limit``, in N; the contacts of one body are added up.

    Args:
        limit: N, >= 0.
        bodies: names of the bodies that count; None is every body but the world.
    """

    limit: float
    bodies: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _require(self.limit >= 0, f"ContactForce.limit must be >= 0 N; got {self.limit}.")
        _require(not isinstance(self.bodies, str), "ContactForce.bodies must be a tuple of names, ('torso',).")
        _require(self.bodies is None or len(self.bodies) > 0, "ContactForce.bodies names no body; give one or None.")

    def bind(self, env: Any) -> Margin:
        """h(data) for the environment's model."""
        model = env.model
        if self.bodies is None:
            counted = list(range(1, model.nbody))
        else:
            counted = _ids(model, mujoco.mjtObj.mjOBJ_BODY, self.bodies)
        wrench = np.zeros(6)

        def h(data: mujoco.MjData) -> float:
            force = np.zeros(model.nbody)  # N
            for i in range(data.ncon):
                mujoco.mj_contactForce(model, data, i, wrench)  # in the contact's frame, the normal first
                for geom in data.contact[i].geom:
                    if geom >= 0:  # -1: a flex, which belongs to no body
                        force[model.geom_bodyid[geom]] += wrench[0]
            return float(force[counted].max()) - self.limit

        return h


@dataclass(frozen=True)
class Unhealthy:
    """h = 1 where the environment's own ``is_healthy`` is false (it fell), else -1.

    Make the environment with ``terminate_when_unhealthy=False`` if it should go on after that.
    """

    def bind(self, env: Any) -> Margin:
        """h(data) for this environment, which must have ``is_healthy``."""
        healthy = hasattr(type(env), "is_healthy")
        _require(healthy, f"Unhealthy: {type(env).__name__} has no is_healthy; Hopper, Walker2d, Ant and Humanoid do.")
        return lambda data: -1.0 if env.is_healthy else 1.0


class MujocoCost(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Add ``info["cost"]`` (0.0 or 1.0) and ``info["margin"]`` (h) to a MuJoCo environment.

    h belongs to the state after the step. MuJoCo leaves positions, velocities and forces of bodies one sub-step behind
    the joints, so they are computed anew on a copy: the environment's own state and trajectory stay bit for bit what
    they are without the wrapper.

    Args:
        env: an environment whose ``unwrapped`` has MuJoCo's ``model`` and ``data``.
        constraint: a ``Constraint`` or a function ``h(model, data) -> float``.
    Raises: ValueError if ``env`` is no MuJoCo environment, the model has no part of that name, or h is not a number.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        constraint: Constraint | Callable[[mujoco.MjModel, mujoco.MjData], float],
    ) -> None:
        RecordConstructorArgs.__init__(self, constraint=constraint)
        gymnasium.Wrapper.__init__(self, env)
        base: Any = env.unwrapped
        has_model = isinstance(getattr(base, "model", None), mujoco.MjModel)
        _require(has_model, f"MujocoCost needs a MuJoCo environment; {type(base).__name__} has no MuJoCo model.")
        self._base = base
        self._copy = mujoco.MjData(base.model)
        self._state = np.zeros(mujoco.mj_stateSize(base.model, mujoco.mjtState.mjSTATE_INTEGRATION))
        if hasattr(constraint, "bind"):
            self._margin: Margin = constraint.bind(base)
        else:
            _require(callable(constraint), f"a constraint is a Constraint or a function; got {constraint!r}.")
            self._margin = lambda data: constraint(base.model, data)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As the environment; the info has cost 0.0 and the margin of the start."""
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, {**info, "cost": 0.0, "margin": self._h()}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment, with cost and margin in the info."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        h = self._h()
        return observation, reward, terminated, truncated, {**info, "cost": float(h > 0), "margin": h}

    def _h(self) -> float:
        model, data, state = self._base.model, self._base.data, mujoco.mjtState.mjSTATE_INTEGRATION
        mujoco.mj_getState(model, data, self._state, state)
        mujoco.mj_setState(model, self._copy, self._state, state)
        mujoco.mj_forward(model, self._copy)
        h = float(self._margin(self._copy))
        _require(not np.isnan(h), f"the margin of {self._base.__class__.__name__} is nan; it must be a number.")
        return h


CONSTRAINTS: dict[str, Callable[..., Constraint]] = {
    "velocity": VelocityLimit,
    "joint": JointLimit,
    "contact": ContactForce,
    "unhealthy": Unhealthy,
}


def make_with_cost(base: str, cost: str, cost_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> MujocoCost:
    """Entry point of the registered ids: a gymnasium environment with one of ``CONSTRAINTS``.

    Args:
        base: gymnasium's id ("Hopper-v5").
        cost: name in ``CONSTRAINTS``.
        cost_kwargs: arguments of the constraint.
        kwargs: arguments of the environment.
    Raises: ValueError for an unknown cost.
    """
    _require(cost in CONSTRAINTS, f"no cost is named {cost!r}; allowed: {', '.join(CONSTRAINTS)}.")
    if kwargs.get("render_mode") is not None:
        use_headless_rendering()
    env = gymnasium.make(base, max_episode_steps=-1, disable_env_checker=True, **kwargs)  # the outer id has both
    return MujocoCost(env.unwrapped, CONSTRAINTS[cost](**(cost_kwargs or {})))


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _ids(model: mujoco.MjModel, kind: mujoco.mjtObj, names: Iterable[str]) -> list[int]:
    """Indices of the model's parts with these names."""
    found = []
    for name in names:
        index = mujoco.mj_name2id(model, kind, name)
        if index < 0:
            count = model.nbody if kind == mujoco.mjtObj.mjOBJ_BODY else model.njnt
            known = [n for n in (mujoco.mj_id2name(model, kind, i) for i in range(count)) if n]
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {close[0]!r}? " if close else ""
            part = "body" if kind == mujoco.mjtObj.mjOBJ_BODY else "joint"
            raise ValueError(f"the model has no {part} named {name!r}. {hint}Known: {', '.join(known)}.")
        found.append(index)
    return found
