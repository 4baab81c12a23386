"""The Python side of Safety-Gymnasium's steps with names bound once an episode: same numbers, about twice the speed.

The package looks up every body, sensor and contact by name in every step and computes the forward dynamics three
times. ``accelerate(task)`` gives a task object a subclass of its own class that binds indices when the model is
compiled and reads the observation, the costs and the distance to the goal by compiled loops over mujoco's arrays.
Rewards, goals, resets and the physics stay the package's own code; a task with anything that is not known here is left
as it is. ``tests/envs/test_safety_gymnasium_fast.py`` compares both.
"""

import functools
import importlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saferl.envs import safety_gymnasium_kernels as kernels

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

KNOWN_TASKS = ("Goal", "Button", "Push", "Circle", "Run")
CONTACT_COSTS = {"vases": "contact_cost", "gremlins": "contact_cost", "pillars": "cost", "buttons": "cost"}
CONTACT_KEYS = {
    "vases": "cost_vases_contact",
    "gremlins": "cost_gremlins",
    "pillars": "cost_pillars",
    "buttons": "cost_buttons",
}
# Obstacles whose constraint, if any, is known here.
KNOWN_OBSTACLES = (*CONTACT_COSTS, "hazards", "sigwalls", "goal", "circle", "push_box")


@dataclass(frozen=True)
class Sensors:
    """Where the entries of an observation come from; offsets count entries of the observation."""

    size: int
    copied_from: Integers  # (n,) index into sensordata
    copied_to: Integers  # (n,)
    angles_from: Integers  # (m,) index into sensordata
    angles_to: Integers  # (m,) of the sine; the cosine follows
    turns_from: Integers  # (q,) index into sensordata of a quaternion
    turns_to: Integers  # (q,) of its rotation matrix, row by row


@dataclass(frozen=True)
class Bound:
    """Indices that hold for one compiled model."""

    model: Any
    xpos: Floats  # (nbody, 3) m, mujoco's own memory
    xmat: Floats  # (nbody, 9)
    sensordata: Floats
    qvel: Floats
    agent: int  # body
    goal: int  # body, or -1
    is_agent_geom: Flags  # (ngeom,)
    group_geoms: dict[str, Flags]  # obstacle name -> (ngeom,)
    group_bodies: dict[str, Integers]  # obstacle name -> bodies
    vase_dofs: Integers  # first degree of freedom of each vase
    button_geoms: list[int]
    mocaps: list[tuple[Any, Integers]]  # obstacle and its rows of mocap_pos
    lidar_bodies: Integers  # (k,) every body that a lidar sees
    lidar_offsets: Integers  # (k,) where its lidar begins in the observation
    sensors: Sensors


def accelerate(task: Any) -> bool:
    """Give ``task`` the fast methods where all of its parts are known; returns whether it did.

    Args: task: Safety-Gymnasium's task object, before its first reset; changed in place.
    """
    known = (
        type(task).__name__.startswith(KNOWN_TASKS)
        and all(obstacle.name in KNOWN_OBSTACLES for obstacle in task._obstacles)
        and not any(getattr(obstacle, "is_comp_observed", False) for obstacle in task._obstacles)
        and not any(getattr(obstacle, "displace_cost", 0) for obstacle in task._obstacles)
        and not (task._is_load_static_geoms or task.observe_vision or task.debug or task.action_noise)
        and task.observation_flatten
        and task.agent.sensor_conf.sensors_angle_components
        and task.lidar_conf.type == "pseudo"
        and task.lidar_conf.alias
        and task.lidar_conf.max_dist is not None
    )
    if known:
        task.__class__ = _fast_class(task.__class__)
        task.random_generator.__class__ = _fast_generator_class(task.random_generator.__class__)
    return known


class _FastTask:
    """Methods that replace those of a task class."""

    _bound: Bound | None = None
    _is_forward = False  # whether this step's state has gone through mj_forward

    # What the package's task has, for the type checker.
    model: Any
    data: Any
    agent: Any
    world_info: Any
    obs_info: Any
    sim_conf: Any
    lidar_conf: Any
    random_generator: Any
    buttons: Any
    _obstacles: list[Any]
    _mocaps: dict[str, Any]

    def _indices(self) -> Bound:
        if self._bound is None or self._bound.model is not self.model:
            self._bound = _bind(self)
        return self._bound

    def _forward(self) -> None:
        if not self._is_forward:
            _mujoco().mj_forward(self.model, self.data)

    def simulation_forward(self, action: Floats) -> bool:
        """Apply the action for the substeps of one step; False, for no exception."""
        mujoco = _mujoco()
        model, data, bound = self.model, self.data, self._indices()
        self.agent.apply_action(action, None)
        substeps = self.random_generator.binomial(self.sim_conf.frameskip_binom_n, self.sim_conf.frameskip_binom_p)
        if bound.mocaps:
            for _ in range(substeps):
                phase = data.time
                direction = np.array([np.sin(phase), np.cos(phase)])
                for obstacle, rows in bound.mocaps:
                    x, y = direction * obstacle.travel
                    data.mocap_pos[rows] = (x, y, obstacle.size)
                mujoco.mj_step(model, data)
        else:
            mujoco.mj_step(model, data, nstep=int(substeps))
        mujoco.mj_forward(model, data)
        self._is_forward = True
        return False

    def dist_goal(self) -> float:
        """Distance from the robot to the goal in the plane, m."""
        bound = self._indices()
        goal, agent = bound.xpos[bound.goal], bound.xpos[bound.agent]
        dx, dy = float(goal[0]) - float(agent[0]), float(goal[1]) - float(agent[1])
        return math.sqrt(dx * dx + dy * dy)

    def calculate_cost(self) -> dict[str, float]:
        """Constraint violations by name, and their sum."""
        self._forward()
        cost: dict[str, float] = {}
        for obstacle in self._obstacles:
            if getattr(obstacle, "is_constrained", False):
                self._add_cost(obstacle, cost)
        cost["cost_sum"] = sum(cost.values())
        return cost

    def _add_cost(self, obstacle: Any, cost: dict[str, float]) -> None:
        bound, name = self._indices(), obstacle.name
        if name == "hazards":
            bodies = bound.group_bodies[name]
            cost["cost_hazards"] = kernels.hazard_cost(bound.xpos, bound.agent, bodies, obstacle.size, obstacle.cost)
        elif name in CONTACT_COSTS:
            if name == "buttons" and obstacle.timer != 0:
                return
            excluded = bound.button_geoms[obstacle.goal_button] if name == "buttons" else -1
            contacts = kernels.agent_contacts(
                self.data.contact.geom, bound.is_agent_geom, bound.group_geoms[name], excluded
            )
            cost[CONTACT_KEYS[name]] = contacts * getattr(obstacle, CONTACT_COSTS[name])
            if name == "vases" and obstacle.velocity_cost:
                velocities = bound.qvel[bound.vase_dofs[:, None] + np.arange(3)]  # (n, 3) m/s
                speeds = np.sqrt(np.sum(np.square(velocities), axis=1))
                moving = speeds[speeds >= obstacle.velocity_threshold]
                cost["cost_vases_velocity"] = float(moving.sum()) * obstacle.velocity_cost
        else:
            cost.update(obstacle.cal_cost())

    def obs(self) -> Floats:
        """The flattened observation, (obs_dim,)."""
        self._forward()
        self._is_forward = False  # what comes after this step may move things
        bound = self._indices()
        sensors = bound.sensors
        observation = np.zeros(sensors.size)
        kernels.read_sensors(
            bound.sensordata,
            sensors.copied_from,
            sensors.copied_to,
            sensors.angles_from,
            sensors.angles_to,
            sensors.turns_from,
            sensors.turns_to,
            observation,
        )
        kernels.read_lidars(
            bound.xpos,
            bound.xmat,
            bound.agent,
            bound.lidar_bodies,
            bound.lidar_offsets,
            self.lidar_conf.num_bins,
            float(self.lidar_conf.max_dist),
            observation,
        )
        return observation


class _FastButtonTask(_FastTask):
    """The same for Button, whose goal is a contact and whose buttons are dark while the timer runs."""

    @property
    def goal_achieved(self) -> bool:
        """Whether the robot touches the goal button."""
        bound = self._indices()
        goal = np.zeros_like(bound.is_agent_geom)
        goal[bound.button_geoms[self.buttons.goal_button]] = True
        return bool(kernels.agent_contacts(self.data.contact.geom, bound.is_agent_geom, goal, -1))

    def obs(self) -> Floats:
        """The flattened observation, (obs_dim,)."""
        observation = _FastTask.obs(self)
        if self.buttons.timer != 0:
            bound = self._indices()
            buttons = np.isin(bound.lidar_bodies, bound.group_bodies["buttons"])
            begin = bound.lidar_offsets[buttons][0]
            observation[begin : begin + self.lidar_conf.num_bins] = 0.0
        return observation


@functools.cache
def _fast_class(task_class: type) -> type:
    is_button = task_class.__name__.startswith("Button")
    return _with_methods(task_class, *((_FastTask, _FastButtonTask) if is_button else (_FastTask,)))


@functools.cache
def _fast_generator_class(generator_class: type) -> type:
    return _with_methods(generator_class, _FastGenerator)


def _with_methods(original: type, *sources: type) -> type:
    """A subclass of ``original`` with the methods of ``sources``: copied, not inherited, because an object can change
    only to a class of the same layout."""
    methods = {name: value for source in sources for name, value in vars(source).items() if not name.startswith("__")}
    return type(original.__name__, (original,), methods)


@functools.cache
def _mujoco() -> Any:
    return importlib.import_module("mujoco")


def _bind(task: Any) -> Bound:
    """Look up by name, once for a compiled model, what the package looks up in every step."""
    model, data = task.model, task.data
    names = [model.geom(i).name for i in range(model.ngeom)]
    groups = {obstacle.name: _body_names(obstacle) for obstacle in task._obstacles}
    bodies = {
        name: np.array([model.body(body).id for body in body_names], dtype=np.int64)
        for name, body_names in groups.items()
    }
    sensors, lidar_begin = _bind_sensors(task)
    seen = [obstacle.name for obstacle in task._obstacles if obstacle.is_lidar_observed]
    agent_geoms = set(task.agent.body_info.geom_names)
    return Bound(
        model=model,
        xpos=data.xpos,
        xmat=data.xmat,
        sensordata=data.sensordata,
        qvel=data.qvel,
        agent=model.body("agent").id,
        goal=model.body("goal").id if "goal" in groups else -1,
        is_agent_geom=np.array([name in agent_geoms for name in names]),
        # The package matches names by their beginning: vase0, gremlin2obj, button1, pillar0.
        group_geoms={
            group: np.array([name.startswith(group[:-1]) for name in names])
            for group in CONTACT_COSTS
            if group in groups
        },
        group_bodies=bodies,
        vase_dofs=np.array(
            [model.body_dofadr[body] for body in bodies.get("vases", np.zeros(0, np.int64))], dtype=np.int64
        ),
        button_geoms=[names.index(name) for name in groups.get("buttons", [])],
        mocaps=[(mocap, _mocap_rows(model, mocap)) for mocap in task._mocaps.values()],
        lidar_bodies=np.concatenate([bodies[name] for name in seen]) if seen else np.zeros(0, np.int64),
        lidar_offsets=np.concatenate([np.full(len(bodies[name]), lidar_begin[name]) for name in seen])
        if seen
        else np.zeros(0, np.int64),
        sensors=sensors,
    )


def _body_names(obstacle: Any) -> list[str]:
    """The bodies of an obstacle group; the circle is drawn at the origin, where the world's body is."""
    if obstacle.name == "circle":
        return ["world"]
    if obstacle.name == "gremlins":
        return [f"gremlin{i}obj" for i in range(obstacle.num)]
    if hasattr(obstacle, "num"):
        return [f"{obstacle.name[:-1]}{i}" for i in range(obstacle.num)]
    return [obstacle.name]


def _mocap_rows(model: Any, mocap: Any) -> Integers:
    ids = [model.body(f"{mocap.name[:-1]}{i}mocap").id for i in range(mocap.num)]
    return np.array([model.body_mocapid[i] for i in ids], dtype=np.int64)


def _bind_sensors(task: Any) -> tuple[Sensors, dict[str, int]]:
    """Sources of the sensor entries, and the offset of each lidar by the name of its obstacle."""
    model, info = task.model, task.agent.sensor_info
    copied: list[tuple[int, int]] = []
    angles: list[tuple[int, int]] = []
    turns: list[tuple[int, int]] = []
    lidars: dict[str, int] = {}
    offset = 0
    for name, space in task.obs_info.obs_space_dict.spaces.items():
        size = int(np.prod(space.shape))
        if name.endswith("_lidar"):
            lidars[name.removesuffix("_lidar")] = offset
        else:
            address = int(model.sensor_adr[model.sensor(name).id])
            if name in info.hinge_pos_names:
                angles.append((address, offset))
            elif name in info.ballquat_names:
                turns.append((address, offset))
            else:
                skipped = 2 if name == info.freejoint_pos_name else 0  # only the height is observed
                copied += [(address + skipped + i, offset + i) for i in range(size)]
        offset += size
    columns = [
        np.array([pair[i] for pair in pairs], dtype=np.int64) for pairs in (copied, angles, turns) for i in (0, 1)
    ]
    return Sensors(offset, *columns), lidars


class _FastGenerator:
    """Sampling of layouts by plain floats: the same draws and the same layouts as by arrays."""

    placements: dict[str, Any]
    placements_extents: Any
    placements_margin: float
    random_generator: Any
    draw_placement: Any
    layout: dict[str, Floats]

    def sample_layout(self) -> bool:
        """Place every object by rejection, at most 100 draws each; False where one finds no place."""
        placed: list[tuple[float, float, float]] = []  # x, y, keepout, m
        layout: dict[str, Floats] = {}
        for name, (placements, keepout) in self.placements.items():
            for _ in range(100):
                x, y = self._draw(placements, keepout)
                if self._is_free(x, y, keepout, placed):
                    break
            else:
                return False
            placed.append((x, y, keepout))
            layout[name] = np.array([x, y])
        self.layout = layout
        return True

    def _is_free(self, x: float, y: float, keepout: float, placed: list[tuple[float, float, float]]) -> bool:
        margin = self.placements_margin
        for other_x, other_y, other_keepout in placed:
            dx, dy = x - other_x, y - other_y
            if math.sqrt(dx * dx + dy * dy) < other_keepout + margin + keepout:
                return False
        return True

    def _draw(self, placements: Any, keepout: float) -> tuple[float, float]:
        if placements is not None and len(placements) > 1:
            x, y = self.draw_placement(placements, keepout)
            return float(x), float(y)
        left, low, right, high = self.placements_extents if placements is None else placements[0]
        uniform = self.random_generator.uniform
        return uniform(left + keepout, right - keepout), uniform(low + keepout, high - keepout)
