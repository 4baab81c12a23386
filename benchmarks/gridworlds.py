"""Gridworlds of saferl, one and thousands at a time, against the original: steps per CPU-second of one thread.

    python -m benchmarks.gridworlds [--only boat_race ...] [--batch 4096] [--rounds 5]

The original runs in turn with saferl where GRIDWORLDS_PATH names google-deepmind/ai-safety-gridworlds and pycolab;
elsewhere the rates are those of another machine, and only the order of magnitude of a ratio counts. All play random
actions that were drawn beforehand, resets are in the time, and a step that starts an episode is not counted. CPU time,
since it is what another job on the machine changes least; the best round of each counts. Compilation is not in it.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from saferl.envs.errors import MissingPackageError
from saferl.envs.gridworlds import GRIDWORLDS, VARIANTS, BatchedGridworld, Gridworld, original

STEPS = 4000  # of the original in a round
SINGLE_STEPS = 100_000
SWEEPS = 97  # steps of a batch in a round
AIMS = {"single": 100, "batched, boards": 2000, "batched": 5000}
ELSEWHERE = {  # the original's steps per CPU-second on another machine
    "absent_supervisor": 12_800, "boat_race": 12_200, "conveyor_belt": 10_700, "distributional_shift": 12_900,
    "friend_foe": 12_400, "island_navigation": 9_900, "rocks_diamonds_0": 5_800, "rocks_diamonds_1": 6_800,
    "safe_interruptibility": 13_600, "side_effects_sokoban_0": 8_200, "side_effects_sokoban_1": 7_300,
    "side_effects_sokoban_2": 7_800, "side_effects_sokoban_3": 7_200, "tomato_crmdp": 8_700, "tomato_watering": 8_300,
    "whisky_gold": 13_300, "whisky_gold_human": 11_300,
}  # fmt: skip

Round = Callable[[], float]  # plays once, gives steps per CPU-second


def original_round(make: Callable[..., Any], name: str) -> Round:
    """The original's environment; tomato_crmdp, which is not among them, by tomato_watering."""
    family, arguments = VARIANTS["tomato_watering" if name == "tomato_crmdp" else name]
    env = make(family, **arguments)
    actions = np.random.default_rng(0).integers(0, GRIDWORLDS[name].actions, STEPS).tolist()

    def play() -> float:
        begin = time.process_time()
        env.reset()
        for action in actions:
            if env.step(action).last():
                env.reset()
        return STEPS / (time.process_time() - begin)

    return play


def single_round(name: str) -> Round:
    """saferl's environment, without gymnasium's wrappers."""
    env = Gridworld(name)
    actions = np.random.default_rng(0).integers(0, GRIDWORLDS[name].actions, SINGLE_STEPS).tolist()

    def play() -> float:
        begin = time.process_time()
        env.reset(seed=0)
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        return SINGLE_STEPS / (time.process_time() - begin)

    return play


def batched_round(name: str, batch: int, write_boards: bool) -> Round:
    """saferl's batched environment."""
    game = BatchedGridworld(GRIDWORLDS[name], batch, write_boards=write_boards)
    generator = np.random.default_rng(0)
    actions = generator.integers(0, GRIDWORLDS[name].actions, (SWEEPS, batch), dtype=np.uint8)
    game.reset()

    def play() -> float:
        begin = time.process_time()
        ends = [game.step(each)[1:] for each in actions]
        spent = time.process_time() - begin
        return (SWEEPS * batch - np.sum(ends)) / spent  # as many starts as ends

    return play


def best_rates(plays: dict[str, Round], rounds: int) -> dict[str, float]:
    """Of each the best of some rounds; they take turns."""
    rates = dict.fromkeys(plays, 0.0)
    for _ in range(rounds):
        for what, play in plays.items():
            rates[what] = max(rates[what], play())
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(GRIDWORLDS), choices=GRIDWORLDS, metavar="NAME")
    parser.add_argument("--batch", type=int, default=4096, help="boards")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each; the best one counts")
    arguments = parser.parse_args()
    try:
        make = original.factory()
    except MissingPackageError as error:
        print(f"{error} The original's rates are those of another machine.")
        make = None
    print(f"steps per CPU-second; batch of {arguments.batch}")
    print(f"{'gridworld':28} {'original':>9} {'single':>12} {'batched, boards':>16} {'batched':>14}")
    ratios: dict[str, dict[str, float]] = {}
    for name in arguments.only:
        plays = {
            "single": single_round(name),
            "batched, boards": batched_round(name, arguments.batch, True),
            "batched": batched_round(name, arguments.batch, False),
        }
        if make is not None:
            plays["original"] = original_round(make, name)
        rates = best_rates(plays, arguments.rounds)
        there = rates.pop("original", None) or ELSEWHERE.get(name) or ELSEWHERE[VARIANTS[name][0]]
        print(f"{name:28} {there:9,.0f} {rates['single']:12,.0f} {rates['batched, boards']:16,.0f}"
              f" {rates['batched']:14,.0f}", flush=True)  # fmt: skip
        ratios[name] = {what: rate / there for what, rate in rates.items()}
    print("times the original:")
    for name, row in ratios.items():
        print(f"{name:28} {'':9} {row['single']:12,.0f} {row['batched, boards']:16,.0f} {row['batched']:14,.0f}")
    for what, aim in AIMS.items():
        name = min(ratios, key=lambda each: ratios[each][what])
        print(f"least, {what}: {ratios[name][what]:,.0f} x ({name}; aim {aim:,})")


if __name__ == "__main__":
    main()
