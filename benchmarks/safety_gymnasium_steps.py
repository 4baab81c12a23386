"""Steps per CPU-second: saferl's Safety-Gymnasium environments against the package's own code on the same stack.

    python benchmarks/safety_gymnasium_steps.py

Both run in one process on the same mujoco, with the same actions; the package's Builder is called directly, without
gymnasium's wrappers, and so is saferl's environment. Resets are timed apart. The geometric mean of the ratios is last.
"""

import time
from typing import Any

import gymnasium
import numpy as np

import saferl  # noqa: F401 - registers the ids
from saferl.envs import safety_gymnasium_compat as compat
from saferl.envs.safety_gymnasium_ids import navigation_ids

IDS = (
    "SafetyPointGoal1-v0",
    "SafetyPointGoal2-v0",
    "SafetyPointButton1-v0",
    "SafetyPointPush1-v0",
    "SafetyPointCircle1-v0",
    "SafetyCarGoal1-v0",
    "SafetyCarButton1-v0",
    "SafetyRacecarGoal1-v0",
    "SafetyDoggoGoal1-v0",
    "SafetyAntGoal1-v0",
)
STEPS = 500
RESETS = 3
ROUNDS = 3  # the best of which counts: other processes only ever make a run slower


def steps_per_second(env: Any, actions: np.ndarray) -> float:
    """Steps per CPU-second of one episode."""
    best = 0.0
    for _ in range(ROUNDS):
        env.reset(seed=0)
        begin = time.process_time()
        done = 0
        for action in actions:
            *_, terminated, truncated, _ = env.step(action)
            done += 1
            if terminated or truncated:
                break
        best = max(best, done / (time.process_time() - begin))
    return best


def seconds_per_reset(env: Any) -> float:
    """CPU-seconds of a reset, the mean over a few layouts."""
    begin = time.process_time()
    for seed in range(RESETS):
        env.reset(seed=seed)
    return (time.process_time() - begin) / RESETS


def main() -> None:
    compat.load()
    print(f"{'task':24s} {'package':>9s} {'saferl':>9s} {'ratio':>6s}   {'reset, ms':>9s} {'saferl':>9s}")
    ratios = []
    for task_id in IDS:
        assert task_id in navigation_ids()
        package, ours = compat.make_navigation(task_id), gymnasium.make(task_id).unwrapped
        ours.action_space.seed(0)
        actions = np.array([ours.action_space.sample() for _ in range(STEPS)])
        ours.reset(seed=0)
        ours.step(actions[0])  # compiles
        before, after = steps_per_second(package, actions), steps_per_second(ours, actions)
        ratios.append(after / before)
        print(
            f"{task_id:24s} {before:9.0f} {after:9.0f} {ratios[-1]:6.2f}   "
            f"{1e3 * seconds_per_reset(package):9.0f} {1e3 * seconds_per_reset(ours):9.0f}",
            flush=True,
        )
    print(f"saferl / package, geometric mean over {len(IDS)} tasks: {np.exp(np.mean(np.log(ratios))):.2f}")


if __name__ == "__main__":
    main()
