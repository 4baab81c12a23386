"""Batched PointRobot against one gymnasium.make environment and a SyncVectorEnv: steps per second of one thread.

    python benchmarks/point_robot.py

Both sides do the same: random actions made beforehand, full step, restarts of ended episodes; the best of five runs of
each counts, and they take turns. The last line is the ratio.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from collections.abc import Callable

import gymnasium
import numpy as np

import saferl  # noqa: F401  registers the ids

ROBOTS, ROUNDS, RUNS = 4096, 100, 5


def single_steps(env: gymnasium.Env, actions: np.ndarray) -> int:
    """Steps done by one environment through the actions (n, 2)."""
    env.reset(seed=0)
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return len(actions)


def vector_steps(env: gymnasium.vector.VectorEnv, actions: np.ndarray) -> int:
    """Steps done by a vector environment through the actions (rounds, n, 2)."""
    env.reset(seed=0)
    for batch in actions:
        env.step(batch)
    return actions.shape[0] * actions.shape[1]


def best_rates(runs: dict[str, Callable[[], int]]) -> dict[str, float]:
    """Steps per second of the fastest of ``RUNS`` runs of each; they take turns, so that other load hits all alike."""
    for run in runs.values():
        run()  # compiles
    rates = dict.fromkeys(runs, 0.0)
    for _ in range(RUNS):
        for name, run in runs.items():
            start = time.perf_counter()
            steps = run()
            rates[name] = max(rates[name], steps / (time.perf_counter() - start))
    return rates


def main() -> None:
    generator = np.random.default_rng(0)
    name = "saferl/PointRobot-v0"
    actions = generator.uniform(-1, 1, (ROUNDS, ROBOTS, 2)).astype(np.float32)
    single = gymnasium.make(name)
    sync = gymnasium.make_vec(name, num_envs=64, vectorization_mode="sync")
    batched = gymnasium.make_vec(name, num_envs=ROBOTS)
    rates = best_rates(
        {
            "one environment": lambda: single_steps(single, actions[0]),
            "64 in a SyncVectorEnv": lambda: vector_steps(sync, actions[:, :64]),
            f"{ROBOTS} batched": lambda: vector_steps(batched, actions),
        }
    )
    for what, rate in rates.items():
        print(f"{what:24s} {rate:12,.0f} steps/s")
    print(f"{'batched / one':24s} {rates[f'{ROBOTS} batched'] / rates['one environment']:12.0f}")


if __name__ == "__main__":
    main()
