"""DubinsCar: a car of constant speed, which can't stop, steers between round hazards to a goal.

Made by ``saferl.envs.make("dubins_car")``. The functions beside the class work on many states at once.
"""

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from saferl.envs.pictures import BODY, HAZARD, NOSE, TARGET, Disc, arena_picture

Array = NDArray[np.float64]

DT = 0.05  # s
SPEED = 1.0  # m/s
MAX_TURN_RATE = 1.0  # rad/s, so that it turns in circles of 1 m
GOAL = (3.0, 0.0)  # m
GOAL_RADIUS = 0.4  # m
HAZARDS = ((0.0, 0.0, 1.0), (1.0, 2.4, 0.7), (1.0, -2.4, 0.7))  # m, centres and radii
ARENA = 4.0  # m, the episode ends where |x| or |y| is larger
TIME_LIMIT = 300  # steps, 15 s
STARTS = ("random", "feasible")
OBSERVATION_DIM = 7 + 3 * len(HAZARDS)


def margin(states: ArrayLike) -> Array:
    """Signed constraint value h (N,) in m of states (N, 3): the greatest of radius minus distance to a centre.

    h <= 0 is safe, h > 0 is inside a hazard. Raises: ValueError if ``states`` is not (N, 3).
    """
    s = _checked(states)
    return np.max([radius - np.hypot(s[:, 0] - x, s[:, 1] - y) for x, y, radius in HAZARDS], axis=0)


def observation(states: ArrayLike) -> NDArray[np.float32]:
    """Observations (N, 16) float32 of states (N, 3); the columns are those of the table in ``DubinsCar``.

    Raises: ValueError if ``states`` is not (N, 3).
    """
    s = _checked(states)
    cos, sin = np.cos(s[:, 2]), np.sin(s[:, 2])
    columns = [s[:, 0], s[:, 1], cos, sin]
    for x, y in (GOAL, *(hazard[:2] for hazard in HAZARDS)):
        dx, dy = x - s[:, 0], y - s[:, 1]
        distance = np.hypot(dx, dy)
        scale = 1 / np.maximum(distance, 1e-12)  # at the very centre the bearing is (0, 0)
        columns += [distance, (dx * cos + dy * sin) * scale, (dy * cos - dx * sin) * scale]
    return np.stack(columns, axis=1).astype(np.float32)


def states_of(observations: ArrayLike) -> Array:
    """States (N, 3) of observations (N, 16)."""
    o = np.asarray(observations, dtype=np.float64)
    return np.column_stack([o[:, 0], o[:, 1], np.arctan2(o[:, 3], o[:, 2])])


def analytic_infeasible(states: ArrayLike) -> NDArray[np.bool_]:
    """Whether one of the hazards can't be avoided from states (N, 3), by the closed form for a single disc.

    With p the position seen from the centre and R the turning radius, the hardest turn away misses a disc of radius r
    that lies ahead if |p + R n| >= R + r, n being the normal of the heading on the side of p. Each disc is judged
    alone: a state that avoids two of them only by opposite turns counts as feasible.

    Returns: (N,) bool.
    Raises: ValueError if ``states`` is not (N, 3).
    """
    s = _checked(states)
    cos, sin, turn = np.cos(s[:, 2]), np.sin(s[:, 2]), SPEED / MAX_TURN_RATE
    infeasible = np.zeros(len(s), np.bool_)
    for x, y, radius in HAZARDS:
        px, py = s[:, 0] - x, s[:, 1] - y
        aside = np.abs(py * cos - px * sin)
        turning = np.sqrt(px**2 + py**2 + 2 * turn * aside + turn**2) - turn
        behind = px * cos + py * sin >= 0
        infeasible |= np.where(behind, np.hypot(px, py), turning) < radius
    return infeasible


def start_states(n: int, kind: str, generator: np.random.Generator) -> Array:
    """Start states (n, 3) of one kind.

    Args:
        n: how many.
        kind: "random": x in [-3.5, 0.5], y in [-3, 3] m, heading in [-pi/2, pi/2], uniform, outside the hazards;
            "feasible": those that ``analytic_infeasible`` calls avoidable.
        generator: source of randomness.
    Raises: ValueError for another kind.
    """
    if kind not in STARTS:
        raise ValueError(f"DubinsCar has no start {kind!r}; allowed: {', '.join(STARTS)}.")
    accepted = np.empty((0, 3))
    while len(accepted) < n:
        candidates = generator.uniform((-3.5, -3.0, -math.pi / 2), (0.5, 3.0, math.pi / 2), (max(n, 16), 3))
        kept = margin(candidates) <= 0 if kind == "random" else ~analytic_infeasible(candidates)
        accepted = np.concatenate([accepted, candidates[kept]])
    return accepted[:n]


class DubinsCar(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """One car as a gymnasium environment.

    State: x (m), y (m), heading (rad). A step of 0.05 s follows the exact arc at 1 m/s and the turn rate of the action.

    | action | meaning | unit | range |
    |---|---|---|---|
    | 0 | turn rate | rad/s | [-1, 1], clipped |

    | observation | meaning | unit | range |
    |---|---|---|---|
    | 0, 1 | x, y | m | about [-4, 4] |
    | 2, 3 | cosine, sine of the heading | 1 | [-1, 1] |
    | 4 | distance to the goal | m | >= 0 |
    | 5, 6 | cosine, sine of the goal's bearing in the body frame | 1 | [-1, 1] |
    | 7, 10, 13 | distance to the centre of hazard 0, 1, 2 | m | >= 0 |
    | 8, 11, 14 | cosine of the centre's bearing in the body frame | 1 | [-1, 1] |
    | 9, 12, 15 | sine of the same bearing | 1 | [-1, 1] |

    Reward: decrease of the distance to the goal (3, 0) in m, plus 1 within 0.4 m of it.
    Cost: 1 where the next state is inside a hazard (centres (0, 0), (1, 2.4), (1, -2.4), radii 1, 0.7, 0.7 m), else 0.
    Margin: the greatest of radius minus distance, of the next state; > 0 exactly where the cost is 1.
    End: within 0.4 m of the goal (``info["is_success"]``), or outside |x|, |y| <= 4 m. A violation does not end it.

    Args:
        start: kind of start states, see ``start_states``; ``reset(options={"start": ...})`` overrides it for one
            episode, ``reset(options={"state": (x, y, heading)})`` sets the state itself.
        render_mode: None or "rgb_array" (400 x 400 x 3).
    Raises: ValueError for an unknown start or render mode, a state that is not 3 finite numbers, or an action that is
        not 1 finite number.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012  gymnasium's own declaration

    def __init__(self, start: str = "random", render_mode: str | None = None) -> None:
        if start not in STARTS:
            raise ValueError(f"DubinsCar has no start {start!r}; allowed: {', '.join(STARTS)}.")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"DubinsCar can't render {render_mode!r}; allowed: None, 'rgb_array'.")
        self.observation_space = spaces.Box(-np.inf, np.inf, (OBSERVATION_DIM,), np.float32)
        self.action_space = spaces.Box(-MAX_TURN_RATE, MAX_TURN_RATE, (1,), np.float32)
        self.render_mode, self.start = render_mode, start
        self.state: Array = np.array((-3.0, 0.0, 0.0))  # (3,): x m, y m, heading rad

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Observation (16,) and info of a new episode; the options are those of the class docstring."""
        super().reset(seed=seed)
        options = options or {}
        if "state" in options:
            state = np.array(options["state"], dtype=np.float64)
            if state.shape != (3,) or not np.isfinite(state).all():
                raise ValueError(f"options['state'] must be 3 finite numbers (x, y, heading); got {state.tolist()}.")
            self.state = state
        else:
            self.state = start_states(1, options.get("start", self.start), self.np_random)[0]
        h = float(margin(self.state[None])[0])
        return observation(self.state[None])[0], {"cost": 0.0, "margin": h, "is_success": False}

    def step(self, action: ArrayLike) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """One exact arc of 0.05 s with action (1,)."""
        a = np.asarray(action, dtype=np.float64)
        if a.shape != (1,) or not np.isfinite(a).all():
            raise ValueError(f"DubinsCar needs an action of 1 finite number; got {a.tolist()}.")
        half = DT * min(max(float(a[0]), -MAX_TURN_RATE), MAX_TURN_RATE) / 2  # of the angle turned
        chord = SPEED * DT * (math.sin(half) / half if half else 1.0)
        x, y, heading = self.state.tolist()
        before = math.hypot(GOAL[0] - x, GOAL[1] - y)
        x, y = x + chord * math.cos(heading + half), y + chord * math.sin(heading + half)
        self.state = np.array((x, y, heading + 2 * half))
        distance = math.hypot(GOAL[0] - x, GOAL[1] - y)
        at_goal = distance <= GOAL_RADIUS
        h = float(margin(self.state[None])[0])
        info = {"cost": float(h > 0), "margin": h, "is_success": at_goal}
        terminated = at_goal or abs(x) > ARENA or abs(y) > ARENA
        return observation(self.state[None])[0], before - distance + float(at_goal), terminated, False, info

    def render(self) -> NDArray[np.uint8] | None:
        """Picture (400, 400, 3) of the arena seen from above, or None without a render mode."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() of a DubinsCar made without render_mode='rgb_array' shows nothing.")
            return None
        x, y, heading = self.state.tolist()
        discs: list[Disc] = [(*hazard, HAZARD) for hazard in HAZARDS]
        discs += [(*GOAL, GOAL_RADIUS, TARGET), (x, y, 0.15, BODY)]
        discs.append((x + 0.15 * math.cos(heading), y + 0.15 * math.sin(heading), 0.06, NOSE))
        return arena_picture(ARENA, discs)


def _checked(states: ArrayLike) -> Array:
    s = np.asarray(states, dtype=np.float64)
    if s.ndim != 2 or s.shape[1] != 3:
        raise ValueError(f"states must have shape (N, 3) with columns x, y, heading; got {s.shape}.")
    return s
