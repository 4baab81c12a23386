"""PointRobot: a point with speed and heading drives past two round hazards to a goal (the toy task of the FISOR paper).

Made by ``saferl.envs.make("point_robot")``. The functions beside the class work on many states at once and are what
figures, tests and the data generator use; ``saferl.envs.point_robot_batched`` steps thousands of robots together.
"""

import math
from typing import Any

import gymnasium
import numba
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from saferl.envs.pictures import BODY, HAZARD, NOSE, TARGET, Disc, arena_picture

Array = NDArray[np.float64]

DT = 0.05  # s, one Euler step
GOAL = (2.2, 2.2)  # m
GOAL_RADIUS = 0.3  # m
HAZARDS = ((0.4, -1.2), (-0.4, 1.2))  # m, centres
HAZARD_RADIUS = 0.8  # m
ARENA = 3.0  # m, the episode ends where |x| or |y| is larger
TIME_LIMIT = 300  # steps, 15 s
FIXED_START = (-1.8, 0.0, 2.0, math.pi / 4)  # avoidable, but only just
SLICES = ((0.5, math.pi / 4), (1.0, math.pi / 2), (1.5, math.pi / 4))  # (speed m/s, heading rad) of the paper's maps
STARTS = ("random", "fixed", "feasible", "infeasible")
OBSERVATION_DIM = 11


def margin(states: ArrayLike) -> Array:
    """Signed constraint value h of states (N, 4): hazard radius minus distance to the nearest centre.

    Returns: (N,) in m; h <= 0 is safe, h > 0 is inside a hazard.
    Raises: ValueError if ``states`` is not (N, 4).
    """
    s = _checked(states)
    distances = [np.hypot(s[:, 0] - x, s[:, 1] - y) for x, y in HAZARDS]
    return HAZARD_RADIUS - np.minimum(*distances)


def observation(states: ArrayLike) -> NDArray[np.float32]:
    """Observations (N, 11) float32 of states (N, 4); the columns are those of the table in ``PointRobot``.

    Raises: ValueError if ``states`` is not (N, 4).
    """
    s = _checked(states)
    cos, sin = np.cos(s[:, 3]), np.sin(s[:, 3])
    columns = [s[:, 0], s[:, 1], s[:, 2], cos, sin]
    for x, y in HAZARDS:
        dx, dy = x - s[:, 0], y - s[:, 1]
        distance = np.hypot(dx, dy)
        scale = 1 / np.maximum(distance, 1e-12)  # at the very centre the bearing is (0, 0)
        columns += [distance, (dx * cos + dy * sin) * scale, (dy * cos - dx * sin) * scale]
    return np.stack(columns, axis=1).astype(np.float32)


def states_of(observations: ArrayLike) -> Array:
    """States (N, 4) of observations (N, 11); the heading comes back in (-pi, pi]."""
    o = np.asarray(observations, dtype=np.float64)
    return np.column_stack([o[:, :3], np.arctan2(o[:, 4], o[:, 3])])


def analytic_infeasible(states: ArrayLike) -> NDArray[np.bool_]:
    """Whether a violation can't be avoided from states (N, 4), by the paper's best evasive manoeuvre.

    For each hazard: a state inside it is infeasible. One that heads towards it (positive component of the velocity
    along the line to the centre) brakes with a0 = -1 and turns with |a1| = 1 away from the centre until v <= 0, in the
    environment's own Euler steps, and is infeasible if it enters the hazard on the way.
    Each hazard is judged alone: a state that avoids either hazard by opposite turns counts as feasible.

    Returns: (N,) bool.
    Raises: ValueError if ``states`` is not (N, 4).
    Source: FISOR (Zheng et al., ICLR 2024), appendix on the toy case; the shares of the three maps are 12.1, 14.1 and
        15.9 %.
    """
    s = np.ascontiguousarray(_checked(states))
    infeasible = np.zeros(len(s), np.bool_)
    _mark_infeasible(s, np.array(HAZARDS), infeasible)
    return infeasible


@numba.njit(cache=True)
def _mark_infeasible(states, hazards, infeasible):
    for i in range(states.shape[0]):
        for k in range(hazards.shape[0]):
            x, y, v, theta = states[i]
            dx, dy = hazards[k, 0] - x, hazards[k, 1] - y
            if math.hypot(dx, dy) < HAZARD_RADIUS:
                infeasible[i] = True
                break
            if dx * math.cos(theta) + dy * math.sin(theta) <= 0:
                continue
            centre_is_left = dy * math.cos(theta) - dx * math.sin(theta) >= 0
            turn = -1.0 if centre_is_left else 1.0
            while v > 0 and not infeasible[i]:
                x += DT * v * math.cos(theta)
                y += DT * v * math.sin(theta)
                v -= DT
                theta += DT * turn
                infeasible[i] = math.hypot(hazards[k, 0] - x, hazards[k, 1] - y) < HAZARD_RADIUS


def start_states(n: int, kind: str, generator: np.random.Generator) -> Array:
    """Start states (n, 4) of one kind.

    Args:
        n: how many.
        kind: "random": x, y in [-3, 3] m, v in [0.5, 2] m/s, heading in [pi/4, 3 pi/4], uniform; "fixed": always
            (-1.8, 0, 2, pi/4); "feasible": random ones that ``analytic_infeasible`` calls avoidable; "infeasible":
            random ones that it does not, and that are still outside the hazards.
        generator: source of randomness.
    Raises: ValueError for another kind.
    """
    if kind not in STARTS:
        raise ValueError(f"PointRobot has no start {kind!r}; allowed: {', '.join(STARTS)}.")
    if kind == "fixed":
        return np.tile(np.array(FIXED_START), (n, 1))
    if kind == "random":
        low, high = (-ARENA, -ARENA, 0.5, math.pi / 4), (ARENA, ARENA, 2.0, 3 * math.pi / 4)
        return generator.uniform(low, high, (n, 4))
    accepted = np.empty((0, 4))
    while len(accepted) < n:  # a third of the candidates at worst is rejected, or about a tenth accepted
        candidates = start_states(max(n, 16), "random", generator)
        infeasible = analytic_infeasible(candidates)
        wanted = ~infeasible if kind == "feasible" else infeasible & (margin(candidates) <= 0)
        accepted = np.concatenate([accepted, candidates[wanted]])
    return accepted[:n]


class PointRobot(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """One robot as a gymnasium environment.

    State: x (m), y (m), v (m/s), theta (rad). Step: x += dt v cos theta, y += dt v sin theta, v += dt a0,
    theta += dt a1 with dt = 0.05 s and the old v and theta on the right. v may become negative.

    | action | meaning | unit | range |
    |---|---|---|---|
    | 0 | acceleration | m/s^2 | [-1, 1], clipped |
    | 1 | turn rate | rad/s | [-1, 1], clipped |

    | observation | meaning | unit | range |
    |---|---|---|---|
    | 0, 1 | x, y | m | about [-3, 3] |
    | 2 | v | m/s | unbounded |
    | 3, 4 | cos theta, sin theta | 1 | [-1, 1] |
    | 5, 8 | distance to the centre of hazard 0, 1 | m | >= 0 |
    | 6, 9 | cosine of the centre's bearing in the body frame | 1 | [-1, 1] |
    | 7, 10 | sine of the same bearing | 1 | [-1, 1] |

    Reward: decrease of the distance to the goal (2.2, 2.2) in m, plus 1 within 0.3 m of it.
    Cost: 1 where the next state is inside a hazard (centres (0.4, -1.2) and (-0.4, 1.2), radius 0.8 m), else 0.
    Margin: 0.8 m minus the distance to the nearest centre, of the next state; > 0 exactly where the cost is 1.
    End: within 0.3 m of the goal (``info["is_success"]``), or outside |x|, |y| <= 3 m. A violation does not end it.

    Args:
        start: kind of start states, see ``start_states``; ``reset(options={"start": ...})`` overrides it for one
            episode, ``reset(options={"state": (x, y, v, theta)})`` sets the state itself.
        render_mode: None or "rgb_array" (400 x 400 x 3).
    Raises: ValueError for an unknown start or render mode, a state that is not 4 finite numbers, or an action that is
        not 2 finite numbers.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012  gymnasium's own declaration

    def __init__(self, start: str = "random", render_mode: str | None = None) -> None:
        if start not in STARTS:
            raise ValueError(f"PointRobot has no start {start!r}; allowed: {', '.join(STARTS)}.")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"PointRobot can't render {render_mode!r}; allowed: None, 'rgb_array'.")
        self.observation_space = spaces.Box(-np.inf, np.inf, (OBSERVATION_DIM,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.render_mode = render_mode
        self.start = start
        self.state: Array = np.array(FIXED_START)  # (4,): x m, y m, v m/s, theta rad

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Observation (11,) and info of a new episode; the options are those of the class docstring."""
        super().reset(seed=seed)
        options = options or {}
        if "state" in options:
            state = np.array(options["state"], dtype=np.float64)
            if state.shape != (4,) or not np.isfinite(state).all():
                raise ValueError(f"options['state'] must be 4 finite numbers (x, y, v, theta); got {state.tolist()}.")
            self.state = state
        else:
            self.state = start_states(1, options.get("start", self.start), self.np_random)[0]
        h = float(margin(self.state[None])[0])
        return observation(self.state[None])[0], {"cost": 0.0, "margin": h, "is_success": False}

    def step(self, action: ArrayLike) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """One Euler step of 0.05 s with action (2,)."""
        a = np.asarray(action, dtype=np.float64)
        if a.shape != (2,) or not np.isfinite(a).all():
            raise ValueError(f"PointRobot needs an action of 2 finite numbers; got {a.tolist()}.")
        acceleration, turn_rate = min(max(a[0], -1.0), 1.0), min(max(a[1], -1.0), 1.0)
        x, y, v, theta = self.state.tolist()
        distance_before = math.hypot(GOAL[0] - x, GOAL[1] - y)
        x += DT * v * math.cos(theta)
        y += DT * v * math.sin(theta)
        self.state = np.array((x, y, v + DT * acceleration, theta + DT * turn_rate))
        distance = math.hypot(GOAL[0] - x, GOAL[1] - y)
        at_goal = distance <= GOAL_RADIUS
        h = float(margin(self.state[None])[0])
        terminated = at_goal or abs(x) > ARENA or abs(y) > ARENA
        info = {"cost": float(h > 0), "margin": h, "is_success": at_goal}
        return observation(self.state[None])[0], distance_before - distance + float(at_goal), terminated, False, info

    def render(self) -> NDArray[np.uint8] | None:
        """Picture (400, 400, 3) of the arena seen from above, or None without a render mode."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() of a PointRobot made without render_mode='rgb_array' shows nothing.")
            return None
        x, y, _, heading = self.state.tolist()
        discs: list[Disc] = [(*hazard, HAZARD_RADIUS, HAZARD) for hazard in HAZARDS]
        discs += [(*GOAL, GOAL_RADIUS, TARGET), (x, y, 0.12, BODY)]
        discs.append((x + 0.12 * math.cos(heading), y + 0.12 * math.sin(heading), 0.05, NOSE))
        return arena_picture(ARENA, discs)


def _checked(states: ArrayLike) -> Array:
    s = np.asarray(states, dtype=np.float64)
    if s.ndim != 2 or s.shape[1] != 4:
        raise ValueError(f"states must have shape (N, 4) with columns x, y, v, theta; got {s.shape}.")
    return s
