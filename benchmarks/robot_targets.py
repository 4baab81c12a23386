"""RAT and SA-RL on robots: how often HalfCheetah, Hopper and Safety-Gymnasium's Point show a target behaviour.

    python -m benchmarks.robot_targets [--out results/robot_targets] [--seeds 0 1 2] [--cases cheetah-stands ...]
        [--picture docs/images/attacks_robots.png] [--report]

Victims are PPO policies with a cost limit (Hopper's without), one for each environment: HalfCheetah's is one that
saferl.collect kept, the others are trained here by saferl.harden method=none. Each seed is a training of the
adversaries of its own with starts of its own; SA-RL sees the true scores, RAT the answers of a teacher. What is missing
is made by saferl.attack, a seed of every case before the next one; a comparison that was stopped goes on, and --report
only prints what is there. Intervals (95 %) are over trainings and starts.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.attack_table import KEPT, KEPT_BY, STARTS_APART, percent, reward_kept, rows_of, there
from saferl.adversaries.figures import film_strips
from saferl.attack import main as attack
from saferl.evaluation.report import Facts
from saferl.evaluation.statistics import rate_of_groups
from saferl.harden import main as harden
from saferl.training.run_folder import read_json

ATTACKS = ("random", "sa_rl_target", "rat")
RADII = (0.3, 1.0)  # normalised units
STEPS = 20_000  # of the environment, of each adversary
SETTINGS = [
    f"learned.steps={STEPS}", "learned.rollout=64", f"rat.steps={STEPS}", "rat.random_steps=1000",
    "rat.explore_steps=1000", "rat.update_every=2", "rat.width=64", "rat.labels=1000", "rat.questions=50",
    "rat.query_every=800", "rat.segment=10", "rat.epochs=20", "rat.inner_every=80", "rat.outer_every=400",
    "rat.discount=0.97", "rat.adversary_lr=2e-3",
]  # fmt: skip


@dataclass(frozen=True)
class Robot:
    """A victim: where it acts, with which arguments of the environment, and how it is trained."""

    env: str
    kwargs: str
    training: tuple[str, ...] = ()  # nothing: HalfCheetah's kept one


KEPT_POLICY = KEPT / "limit4-stage3.safetensors"
QUARTER = "max_episode_steps:250"
ROBOTS = {
    "cheetah": Robot("SafetyHalfCheetahVelocity-v1", QUARTER),
    "hopper": Robot(
        "SafetyHopperVelocity-v1",
        "max_episode_steps:200",  # it falls behind that
        ("steps=800000", "cost_limit=null", "ppo.log_std=-1", "ppo.lr=3e-4"),
    ),
    "goal": Robot("SafetyPointGoal1-v0", QUARTER, ("steps=1200000", "cost_limit=[100,25]")),
    "circle": Robot("SafetyPointCircle1-v0", QUARTER, ("steps=300000", "cost_limit=[300,0]")),
    "robot": Robot("point_robot", "start:feasible", ("steps=60000", "cost_limit=[20,0]")),
}
CASES = (
    "cheetah-stands", "cheetah-runs_backward", "hopper-stands", "hopper-runs_backward", "goal-parks",
    "goal-drives_into_hazards", "circle-leaves_the_walls", "robot-reaches_wrong_goal",
)  # fmt: skip


def victim_of(name: str, out: Path) -> Path:
    """The victim's file; trained unless it is there."""
    robot = ROBOTS[name]
    if not robot.training:
        if not KEPT_POLICY.exists():
            raise SystemExit(f"{KEPT_POLICY} is missing; {KEPT_BY} makes it.")
        return KEPT_POLICY
    place = out / "victims" / name
    if not list(place.glob("*/*/*/policy.safetensors")):
        words = [f"env={robot.env}", "method=none", "eps=0.1", "stages=1", *robot.training, "seed=0", f"out={place}"]
        if harden(words) != 0:
            raise SystemExit(f"training failed: {' '.join(words)}")
    return sorted(place.glob("*/*/*/policy.safetensors"))[-1]


def folders(case: str, seed: int, out: Path, file: str) -> list[Path]:
    """Comparisons that have ``file``, the newest last."""
    return [path.parent for path in sorted((out / case).glob(f"*/attack-*/{seed * STARTS_APART}-*/{file}"))]


def made(case: str, seed: int, out: Path) -> None:
    """Compare the attacks on one case, or go on with it, unless it is there."""
    if folders(case, seed, out, "attacks.json"):
        return
    name, target = case.split("-")
    robot, begun = ROBOTS[name], folders(case, seed, out, "attack.yaml")
    words = [f"victim={victim_of(name, out)}", f"env={robot.env}", f"adversary=[{','.join(ATTACKS)}]"]
    words += [f"eps=[{','.join(map(str, RADII))}]", f"target={target}", "episodes=20"]
    words += [f"env_kwargs={{{robot.kwargs}}}"]
    words += [f"seed={seed * STARTS_APART}", f"out={out / case}", *SETTINGS]
    if attack([f"resume={begun[-1]}"] if begun else words) != 0:
        raise SystemExit(f"attack failed: {' '.join(words)}")


def table(cases: Sequence[str], results: dict[str, list[list[Facts]]]) -> str:
    """A line for each case: how often the target happened under each attack, in all and in each training."""
    head = ["no attack", *(f"`{name}`" for name in ATTACKS), "each training of RAT", "RAT's intention itself"]
    lines = [
        f"| {STEPS} steps | eps | trainings | " + " | ".join([*head, "reward kept under RAT"]) + " |",
        "|---|" + "---|" * (len(head) + 3),
    ]
    for case in cases:
        rows = rows_of(results[case])
        for eps in RADII:
            cells = [case.replace("-", ": "), f"{eps:g}", str(len(results[case]))]
            for name in ("none", *ATTACKS):
                runs = rows[name, eps if name in ATTACKS else 0.0]
                cells.append(percent(rate_of_groups([each["per_episode"]["target"] for each in runs])))
            runs = rows["rat", eps]
            cells.append(", ".join(f"{100 * each['target']['rate']:.0f}" for each in runs))
            cells.append(", ".join(f"{100 * each['intention']['rate']:.0f}" for each in runs))
            cells.append(percent(reward_kept(runs, rows["none", 0.0])))
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def picture(cases: Sequence[str], out: Path, path: Path) -> None:
    """One episode of each case from the same start, without an attack and under RAT, of the first training."""
    rows: list[Facts] = []
    films: dict[str, np.ndarray] = {}
    for folder in [found[-1] for case in cases if (found := folders(case, 0, out, "attacks.json"))]:
        case = folder.relative_to(out).parts[0]
        for each in read_json(folder / "attacks.json"):
            film = folder / "films" / f"{each['adversary']}-{each['eps']:g}.npy"
            if (each["adversary"], each["eps"]) not in (("none", 0.0), ("rat", RADII[-1])) or not film.exists():
                continue
            shown = "no attack" if each["adversary"] == "none" else f"RAT: {case.split('-')[1]}"
            name = f"{case.split('-')[0]}\n{shown}"
            if name not in films:  # two cases of one robot have the same clean episode
                rows.append({**each, "adversary": name})
                films[name] = np.load(film, allow_pickle=False)
    if not films:
        raise SystemExit(f"{out}: no films; they come with attacks that were made here, not with kept results.")
    film_strips(rows, films, path, "Robots made to behave by RAT, and without an attack from the same start")


def main(argv: list[str] | None = None) -> None:
    """Make what is missing, print the table, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/robot_targets"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--report", action="store_true", help="only print what is there")
    arguments: Any = parser.parse_args(argv)
    for seed in () if arguments.report else arguments.seeds:
        for case in arguments.cases:
            started = time.process_time()
            made(case, seed, arguments.out)
            print(f"{case}, seed {seed}: {time.process_time() - started:.0f} s of CPU time", flush=True)
    results = there(arguments.cases, arguments.out, arguments.seeds)
    if not results:
        raise SystemExit(f"{arguments.out}: no comparison is complete yet.")
    print(table(tuple(results), results))
    if arguments.picture is not None:
        picture(tuple(results), arguments.out, arguments.picture)


if __name__ == "__main__":
    main()
