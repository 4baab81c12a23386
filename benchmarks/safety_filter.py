"""The safety filter: policies that know of no hazard with and without it, in three modes; and its latency.

    python -m benchmarks.safety_filter [FISOR_RUN]

Computes the values of PointRobot and DubinsCar, trains PPO on reward alone (kept in runs/safety_filter), rolls out 300
episodes from the same feasible starts without and with the filter, prints the tables and draws docs/images/
safety_filter.png. With the folder of a FISOR run on PointRobot, that policy is filtered too.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from saferl.envs import dubins_car, point_robot
from saferl.envs.safety_filter import FilteredPolicy
from saferl.evaluation.sb3_zip import load_sb3
from saferl.evaluation.statistics import estimate, rate_interval
from saferl.policy import Policy
from saferl.reachability import SYSTEMS, Grid, Value
from saferl.reachability.discounted import solve
from saferl.reachability.safety_filter import MODES, SafetyFilter
from saferl.training.trained import load_policy

matplotlib.use("Agg")
from matplotlib import pyplot as plt

Array = NDArray[np.float64]

EPISODES = 300
PPO_STEPS = 100_000
THRESHOLDS = (0.0, 0.01, 0.02, 0.03, 0.04, 0.08)  # m
KEPT = Path("runs/safety_filter")
PICTURE = Path("docs/images/safety_filter.png")


def point_robot_margin(x: Array, y: Array, v: Array, heading: Array) -> Array:
    return point_robot.HAZARD_RADIUS - np.min([np.hypot(x - a, y - b) for a, b in point_robot.HAZARDS], axis=0)


def dubins_margin(x: Array, y: Array, heading: Array) -> Array:
    return np.max([radius - np.hypot(x - a, y - b) for a, b, radius in dubins_car.HAZARDS], axis=0)


@dataclass(frozen=True)
class Task:
    """An environment, its system and the grid of its value."""

    name: str
    env_id: str
    module: Any
    make: Any
    grid: Grid
    constraint: Any
    threshold: float  # m, what the error of this grid needs: see sweep_thresholds and press
    drawn: tuple[float, ...]  # the states behind x and y of the slice in the picture


# Speeds: 2 m/s at most at the start, and full gas to the far wall makes 4 m/s of it; braking at -1 m/s^2 for 4 s is
# longer than any evasion lasts. Beyond the walls nothing matters: the episode has ended.
TASKS = (
    Task(
        "point_robot", "saferl/PointRobot-v0", point_robot, point_robot.PointRobot,
        Grid((-3, -3, -2, -np.pi), (3, 3, 4, np.pi), (91, 91, 61, 60), (3,)), point_robot_margin, 0.08,
        (1.5, np.pi / 4),
    ),
    Task(
        "dubins_car", "saferl/DubinsCar-v0", dubins_car, dubins_car.DubinsCar,
        Grid((-4.2, -4.2, -np.pi), (4.2, 4.2, np.pi), (141, 141, 120), (2,)), dubins_margin, 0.03, (0.0,),
    ),
)  # fmt: skip


def value_of(task: Task) -> Value:
    """The undiscounted value at the environment's own time step."""
    start = time.perf_counter()
    value = solve(
        SYSTEMS[task.name](), task.grid, constraint=task.constraint, dt=task.module.DT, discount=1.0, max_sweeps=100
    )
    took = time.perf_counter() - start
    nodes = " x ".join(map(str, task.grid.shape))
    print(f"{task.name}: value on {nodes} nodes in {took:.1f} s, {value.facts['sweeps']} sweeps, "
          f"{100 * (1 - value.volume()):.1f} % unsafe")  # fmt: skip
    return value


def unsafe_policy(task: Task) -> Policy:
    """PPO on reward alone, from its file where it was trained before."""
    path = KEPT / f"ppo_{task.name}.zip"
    if not path.exists():
        envs = make_vec_env(task.env_id, 16, seed=0)
        model = PPO("MlpPolicy", envs, n_steps=128, batch_size=256, learning_rate=1e-3, seed=0, device="cpu")
        model.learn(PPO_STEPS).save(path)
    space = task.make().action_space
    return load_sb3(path, space.low, space.high, task.module.OBSERVATION_DIM)


def feasible_starts(task: Task, value: Value) -> Array:
    """Starts (EPISODES, d) that the environment calls feasible and from which the filter promises safety."""
    candidates = task.module.start_states(2 * EPISODES, "feasible", np.random.default_rng(0))
    kept = candidates[value(candidates) <= -max(task.threshold, *THRESHOLDS)]
    share = 1 - len(kept) / len(candidates)
    print(f"{task.name}: {100 * share:.1f} % of the feasible starts lie within {max(THRESHOLDS)} m of the edge of the "
          "safe set or beyond it, and are left out")  # fmt: skip
    return kept[:EPISODES]


@dataclass(frozen=True)
class Outcome:
    """What the episodes of one policy measured, (E,) each; and where they went."""

    violations: NDArray[np.int64]
    returns: Array
    interventions: Array  # share of the steps
    successes: NDArray[np.bool_]
    paths: list[Array]  # (steps + 1, 2) x, y


def episodes_of(policy: Policy, task: Task, starts: Array) -> Outcome:
    """One episode from each start, side by side."""
    count = len(starts)
    envs = [task.make() for _ in starts]
    seen = np.stack([env.reset(options={"state": start})[0] for env, start in zip(envs, starts)])
    violations, steps, replaced = (np.zeros(count, np.int64) for _ in range(3))
    returns, successes, going = np.zeros(count), np.zeros(count, np.bool_), np.ones(count, np.bool_)
    paths = [[start[:2]] for start in starts]
    policy.reset(seed=0)
    for _ in range(task.module.TIME_LIMIT):
        rows = np.flatnonzero(going)
        if not len(rows):
            break
        actions = policy.act(seen[rows])
        if isinstance(policy, FilteredPolicy):
            replaced[rows] += policy.intervened
        for row, action in zip(rows, actions):
            seen[row], reward, terminated, _, info = envs[row].step(action)
            returns[row] += reward
            violations[row] += info["cost"] > 0
            successes[row] |= info["is_success"]
            going[row] = not terminated
            paths[row].append(envs[row].state[:2])
        steps[rows] += 1
    return Outcome(violations, returns, replaced / steps, successes, [np.array(path) for path in paths])


def row_of(what: str, outcome: Outcome) -> str:
    bad, total = int((outcome.violations > 0).sum()), len(outcome.violations)
    low, high = rate_interval(bad, total)
    returns, shares = estimate(outcome.returns), estimate(outcome.interventions)
    steps = np.mean([len(path) - 1 for path in outcome.paths])
    parts = (
        f"{what:20s} {bad:3d}/{total} [{100 * low:4.1f}, {100 * high:4.1f}] %",
        f"{int(outcome.violations.sum()):5d}",
        f"{returns.mean:5.2f} [{returns.low:5.2f}, {returns.high:5.2f}]",
        f"{100 * outcome.successes.mean():4.0f} %",
        f"{steps:5.1f}",
        f"{100 * shares.mean:5.1f} [{100 * shares.low:4.1f}, {100 * shares.high:4.1f}] %",
    )
    return "  " + "   ".join(parts)


def filtered(policy: Policy, task: Task, value: Value, mode: str, threshold: float) -> FilteredPolicy:
    safe = SafetyFilter(value, dt=task.module.DT, mode=mode, threshold=threshold)
    return FilteredPolicy(policy, safe, task.module.states_of)


def compared(what: str, policy: Policy, task: Task, value: Value, starts: Array) -> tuple[Outcome, Outcome]:
    """Prints the table of one policy; returns what it did alone and with the switching filter."""
    print(f"{what} on {task.env_id}, threshold {task.threshold} m")
    print(f"  {'':20s} violating episodes       steps   return                goal   length   replaced")
    alone = episodes_of(policy, task, starts)
    print(row_of("alone", alone))
    outcomes = {}
    for mode in MODES:
        safe = filtered(policy, task, value, mode, task.threshold)
        outcomes[mode] = episodes_of(safe, task, starts)
        print(row_of(f"filtered, {mode}", outcomes[mode]))
        counts = safe.safety_filter.counts
        if counts.outside:
            print(f"    {counts.outside} of {counts.states} states beyond the box of the value")
    return alone, outcomes["switch"]


def sweep_thresholds(policy: Policy, task: Task, value: Value, starts: Array) -> None:
    """Prints how many episodes violate at each threshold and mode."""
    print(f"{task.env_id}: violating episodes of {len(starts)} at thresholds of "
          + ", ".join(f"{threshold:g}" for threshold in THRESHOLDS) + " m")  # fmt: skip
    for mode in MODES:
        bad = [
            int((episodes_of(filtered(policy, task, value, mode, each), task, starts).violations > 0).sum())
            for each in THRESHOLDS
        ]
        print(f"  {mode:8s} " + " ".join(f"{each:4d}" for each in bad))


def press(task: Task, value: Value) -> None:
    """Prints how many of 1000 states near the edge of the safe set violate within 5 s, and by how much.

    Nominal controls are opposed to the safest one at every step, or random.
    """
    generator, system, arena = np.random.default_rng(1), SYSTEMS[task.name](), task.module.ARENA
    low, high = np.array(task.grid.low), np.array(task.grid.high)
    low[:2], high[:2] = -arena, arena
    if task.name == "point_robot":
        low[2], high[2] = -1, 3  # m/s, some way from the edge of the box
    pool = generator.uniform(low, high, (200_000, len(low)))
    depth = -task.threshold - value(pool)  # m
    starts = pool[(depth >= 0) & (depth < 0.3)][:1000]
    print(f"{task.name}: of {len(starts)} states less than 0.3 m inside the threshold, so many violate within 5 s "
          "(greatest margin)")  # fmt: skip
    for mode in MODES:
        parts = []
        for what in ("opposed", "random"):
            safe = SafetyFilter(value, dt=task.module.DT, mode=mode, threshold=task.threshold)
            x, worst, inside = starts, np.full(len(starts), -np.inf), np.ones(len(starts), np.bool_)
            for _ in range(100):
                u = generator.uniform(-1, 1, (len(x), safe.control.size))
                u, _ = safe.filter(x, -safe.safest(x, u) if what == "opposed" else u)
                moved = system.displacement(list(x.T), u.T, (), safe.dt)
                x = x + np.stack([np.broadcast_to(each, len(x)) for each in moved], axis=1)
                inside &= (np.abs(x[:, :2]) <= arena).all(axis=1)
                worst = np.where(inside, np.maximum(worst, task.module.margin(x)), worst)
            parts.append(f"{what} {int((worst > 0).sum())} ({worst.max():.3f} m)")
        print(f"  {mode:8s} " + "   ".join(parts))


def print_latencies(task: Task, value: Value) -> None:
    """Milliseconds per call, median of many, on states inside the arena and on those where all controls change."""
    generator = np.random.default_rng(0)
    states = task.module.start_states(200_000, "feasible", generator)
    at_edge = states[np.abs(value(states) + task.threshold + 0.01) < 0.01]
    print(f"{task.name}: latency in ms, median; nominal controls at random, and at the edge opposed to the safest")
    for mode in MODES:
        safe = SafetyFilter(value, dt=task.module.DT, mode=mode, threshold=task.threshold)
        parts = []
        for size in (1, 1000):
            for where, pool in (("anywhere", states), ("at the edge", at_edge)):
                times, changed = [], 0
                for _ in range(300 if size == 1 else 20):
                    x = pool[generator.integers(len(pool), size=size)]
                    u = generator.uniform(-1, 1, (size, safe.control.size))
                    if where == "at the edge":
                        u = -safe.safest(x, u)  # the centre of the set is 0
                    start = time.perf_counter()
                    changed += int(safe.filter(x, u)[1].sum())
                    times.append(time.perf_counter() - start)
                share = 100 * changed / (size * len(times))
                parts.append(f"B={size} {where} {1e3 * np.median(times):7.3f} ({share:3.0f} % replaced)")
        print(f"  {mode:8s} " + "   ".join(parts))


def draw(task: Task, value: Value, outcomes: tuple[Outcome, Outcome], axes: Any) -> None:
    """Paths without and with the filter over the unsafe set of one slice."""
    arena = task.module.ARENA
    x = np.linspace(-arena, arena, 241)
    mesh = np.stack(np.meshgrid(x, x), axis=-1).reshape(-1, 2)
    states = np.concatenate([mesh, np.tile(task.drawn, (len(mesh), 1))], axis=1)
    slice_values = value(states).reshape(len(x), len(x))
    angle = f"heading {np.degrees(task.drawn[-1]):.0f} degrees"
    where = angle if len(task.drawn) == 1 else f"{task.drawn[0]} m/s, {angle}"
    for panel, outcome, what in zip(axes, outcomes, ("PPO alone", "PPO with the filter")):
        panel.contourf(x, x, slice_values, levels=[0, 9], colors=["#f3d9d4"])
        for hazard in task.module.HAZARDS:
            radius = hazard[2] if len(hazard) == 3 else task.module.HAZARD_RADIUS
            panel.add_patch(plt.Circle(hazard[:2], radius, color="#d9796b"))
        panel.add_patch(plt.Circle(task.module.GOAL, task.module.GOAL_RADIUS, color="#8fc98f"))
        for path, violations in list(zip(outcome.paths, outcome.violations))[:60]:
            panel.plot(*path.T, color="#b3261e" if violations else "#2f5597", linewidth=0.8)
            panel.plot(*path[0], ".", color="#333333", markersize=3)
        bad = int((outcome.violations > 0).sum())
        panel.set_title(f"{what}: {bad} of {len(outcome.paths)} episodes violate", fontsize=10)
        panel.set(xlim=(-arena, arena), ylim=(-arena, arena), aspect="equal", ylabel="y [m]")
        panel.set_xlabel(f"x [m]\nshaded: unsafe at {where}")
    axes[0].set_ylabel(f"{task.env_id}\ny [m]")


def main() -> None:
    KEPT.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(2, 2, figsize=(9, 9), layout="constrained")
    for task, panels in zip(TASKS, axes):
        value = value_of(task)
        starts = feasible_starts(task, value)
        policy = unsafe_policy(task)
        draw(task, value, compared("PPO", policy, task, value, starts), panels)
        sweep_thresholds(policy, task, value, starts)
        if task.name == "point_robot" and len(sys.argv) > 1:
            compared("FISOR", load_policy(sys.argv[1]), task, value, starts)
        press(task, value)
        print_latencies(task, value)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=110)
    print(f"drawn: {PICTURE}")


if __name__ == "__main__":
    main()
