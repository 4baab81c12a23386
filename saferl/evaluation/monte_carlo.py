"""Monte-Carlo audit where no grid is possible: avoid policies rolled out in the real simulator, from given states.

One-sided: a state from which some policy stays safe and comes to rest is certainly feasible. The others are only not
shown to be so; their set holds the true infeasible set, and more the worse the policies are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saferl.evaluation.simulators import PointRobotSimulator, SafetyPointSimulator, Simulator
from saferl.reachability.systems import POINT_ACCELERATION, POINT_TURN_RATE

Array = NDArray[np.float64]
AvoidPolicy = Callable[[Array, int], Array]  # states (N, d), number of the step -> actions (N, m) in [-1, 1]

HORIZON = 4.0  # s: a second of manoeuvre, then braking from the fastest speed of either robot


@dataclass(frozen=True)
class MonteCarlo:
    """What rollouts show about N states."""

    shown: NDArray[np.bool_]  # (N,) certainly feasible
    by: NDArray[np.int64]  # (N,) number of the first policy that shows it, -1 for none
    worst: Array  # (N,) m, the least over the policies of the largest h on the way, start included
    policies: tuple[str, ...]

    @property
    def infeasible(self) -> NDArray[np.bool_]:
        """(N,) not shown to be feasible: an upper bound on the infeasible set."""
        return ~self.shown


def monte_carlo(
    simulator: Simulator, states: Array, policies: Mapping[str, AvoidPolicy], horizon: float = HORIZON
) -> MonteCarlo:
    """Roll out avoid policies from states (N, d), and keep for each state the best of them.

    A state is shown to be feasible by a policy under which h <= 0 at the start and after each control step, and that
    is at rest at the end, so that it can stay safe for ever. Policies that come later only see the states left.

    Args:
        simulator: where.
        states: (N, d) start states.
        policies: name to policy, the best first; ``avoid_policies`` knows some.
        horizon: s.
    Raises: ValueError for no policy.
    """
    if not policies:
        raise ValueError("give at least one avoid policy.")
    start = simulator.margins(states)
    by, worst = np.full(len(states), -1), np.full(len(states), np.inf)
    steps = round(horizon / simulator.dt)
    for number, policy in enumerate(policies.values()):
        left = np.flatnonzero((by < 0) & (start <= 0))
        if not len(left):
            break
        largest, rests = _rolled_out(simulator, states[left], policy, start[left], steps)
        worst[left] = np.minimum(worst[left], largest)
        by[left[(largest <= 0) & rests]] = number
    worst = np.where(start > 0, start, worst)
    return MonteCarlo(by >= 0, by, worst, tuple(policies))


def _rolled_out(
    simulator: Simulator, states: Array, policy: AvoidPolicy, start: Array, steps: int
) -> tuple[Array, NDArray[np.bool_]]:
    """The largest h (N,) and whether the end is at rest (N,); a rollout stops at its first violation."""
    largest, rests, now = start.copy(), np.zeros(len(states), np.bool_), states.copy()
    alive = np.arange(len(states))
    for step in range(steps):
        now = simulator.step(now, policy(now, step))
        largest[alive] = np.maximum(largest[alive], simulator.margins(now))
        resting = simulator.at_rest(now)
        rests[alive[resting]] = True
        going = ~resting & (largest[alive] <= 0)
        now, alive = now[going], alive[going]
        if not len(alive):
            break
    return largest, rests


def avoid_policies(simulator: Simulator) -> dict[str, AvoidPolicy]:
    """Avoid policies for a simulator of ``saferl.evaluation.simulators``.

    Raises: ValueError for one that has none.
    """
    if isinstance(simulator, PointRobotSimulator):
        return _point_robot_policies(simulator)
    if isinstance(simulator, SafetyPointSimulator):
        return _safety_point_policies(simulator)
    raise ValueError(f"no avoid policies for {type(simulator).__name__}; write functions (states, step) -> actions.")


def _point_robot_policies(simulator: PointRobotSimulator) -> dict[str, AvoidPolicy]:
    """Brake to rest while turning left, right or not, at once or after some time at constant or rising speed."""

    def manoeuvre(turn: float, first: float, seconds: float) -> AvoidPolicy:
        def act(states: Array, step: int) -> Array:
            brake = np.clip(-states[:, 2] / simulator.dt, -1, 1)  # m/s^2; exactly to v = 0
            pedal = np.full(len(states), first) if step * simulator.dt < seconds else brake
            return np.stack([pedal, np.full(len(states), turn)], axis=1)

        return act

    sides = {"left": 1.0, "right": -1.0, "ahead": 0.0}
    policies = {f"brake, {side}": manoeuvre(turn, 0, 0) for side, turn in sides.items()}
    for seconds in (0.25, 0.5, 1.0):
        for word, pedal in (("roll", 0.0), ("speed up", 1.0)):
            for side in ("left", "right"):
                policies[f"{word} {seconds:g} s, brake, {side}"] = manoeuvre(sides[side], pedal, seconds)
    return policies


def _safety_point_policies(simulator: SafetyPointSimulator) -> dict[str, AvoidPolicy]:
    """Push against the velocity while turning the body's axis, by the nearer way or by one side, into its direction.

    "stop" looks at the whole velocity, "escape" at its part towards the nearest violation, found by differences of h.
    """

    def manoeuvre(direction: Callable[[Array], Array], side: float) -> AvoidPolicy:
        def act(states: Array, step: int) -> Array:
            push = direction(states)  # (N, 2) m/s, the velocity that should go
            heading = states[:, 4]
            ahead = push[:, 0] * np.cos(heading) + push[:, 1] * np.sin(heading)
            drive = (
                np.clip(-ahead / (POINT_ACCELERATION * simulator.dt), -1, 1) * 0.05
            )  # exactly to 0, full force at 0.05
            angle = np.arctan2(push[:, 1], push[:, 0]) - heading
            angle = (angle + np.pi / 2) % np.pi - np.pi / 2  # to the nearer end of the body's axis
            turn = np.clip(angle / (POINT_TURN_RATE * simulator.dt), -1, 1) if side == 0 else np.full(len(states), side)
            moving = np.linalg.norm(push, axis=1) > 0.01
            return np.stack([drive, np.where(moving, turn, 0.0)], axis=1)

        return act

    def whole(states: Array) -> Array:
        return states[:, 2:4]

    def towards(states: Array) -> Array:
        small = 1e-4
        slope = np.zeros((len(states), 2))
        for axis in range(2):
            ahead, behind = states.copy(), states.copy()
            ahead[:, axis] += small
            behind[:, axis] -= small
            slope[:, axis] = (simulator.margins(ahead) - simulator.margins(behind)) / (2 * small)
        normal = slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-9)
        speed = np.sum(states[:, 2:4] * normal, axis=1, keepdims=True)
        return np.where(speed > 0.02, speed * normal, states[:, 2:4])

    policies: dict[str, AvoidPolicy] = {}
    for name, direction in (("escape", towards), ("stop", whole)):
        for word, side in (("nearer way", 0.0), ("left", 1.0), ("right", -1.0)):
            policies[f"{name}, {word}"] = manoeuvre(direction, side)
    return policies
