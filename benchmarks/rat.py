"""RAT against its ablations and against SA-RL: how often a victim on PointRobot shows a behaviour that was not its own.

    python -m saferl.collect env=point_robot 'limits=[[20,0]]' steps=60000 stages=2 trajectories=50 episodes=1 \
        random_episodes=0 out=data/victim
    python -m benchmarks.rat [--victim data/victim/policies/limit0-stage1.safetensors] [--out runs/rat] [--seeds 1]
        [--only stays] [--methods rat,sa_rl_target] [--docs docs/images/attacks_rat.png]

Every method gets the same victim, ball, environment steps and 100 starts, and RAT and its ablations the same questions
to the teacher; SA-RL sees the true scores. "intention" is the policy that RAT wants
the victim to imitate, acting by itself. Each result is a file, so that a run that was stopped goes on. The last lines
are a table of success rates with exact 95 % intervals over all episodes of all seeds.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from saferl.adversaries.ascent import Autograd
from saferl.adversaries.attacks import AttackedPolicy, RandomAttack
from saferl.adversaries.catalogue import Means, make_turn
from saferl.adversaries.figures import robot_paths
from saferl.adversaries.learned import AdversaryEnvs, LearnedConfig, load_adversary, train_adversary
from saferl.adversaries.loading import load_victim
from saferl.adversaries.rat.config import RATConfig
from saferl.adversaries.rat.training import RAT, Place, load_rat
from saferl.adversaries.targets import TARGETS, successes
from saferl.adversaries.threat import Threat, Units
from saferl.adversaries.trajectories import Recorder
from saferl.adversaries.victim import Victim
from saferl.evaluation.rollout import episode_seeds, rollout
from saferl.evaluation.statistics import rate_interval
from saferl.policy import CallablePolicy, Policy
from saferl.training.run_folder import read_json, write_json

EPS = 1.0  # normalised units: 1.6 m in x, 0.4 m/s in speed; at half of it this victim brakes by 0.25 m/s^2 at most
BEHAVIOURS = ("stays", "violates")
STEPS, EPISODES, SHOWN = 6_000, 100, 4
START = {"start": "feasible"}
SETTINGS = RATConfig(
    steps=STEPS, envs=8, random_steps=400, explore_steps=600, update_every=4, batch=256, width=64, labels=300,
    segment=20, query_every=500, questions=30, epochs=30, inner_every=40, outer_every=80, adversary_lr=2e-3,
    discount=0.95,
)  # fmt: skip
VARIANTS = {
    "rat": SETTINGS,
    "rat without weights": replace(SETTINGS, weighting=False),
    "rat without intention": replace(SETTINGS, intention=False),
    "rat without combined policy": replace(SETTINGS, combined=False),
}
METHODS = ("none", "random", "sa_rl_target", *VARIANTS, "intention")


def place_of(victim: Victim, threat: Threat, behaviour: str) -> Place:
    return Place("point_robot", START, victim, threat, Autograd(victim, threat), TARGETS[behaviour])


def policy_of(method: str, behaviour: str, seed: int, victim: Victim, threat: Threat, folder: Path) -> Policy:
    """The policy that acts, after a training where there is one."""
    if method == "none":
        return victim.policy
    if method == "random":
        return AttackedPolicy(victim, threat, RandomAttack(threat))
    stem = folder / f"{behaviour}-{method.replace(' ', '_')}-{seed}"
    if method == "sa_rl_target":
        path, turn = stem.with_suffix(".zip"), make_turn(method, threat, Means(victim=victim))
        settings = LearnedConfig(steps=STEPS, envs=8, rollout=64)
        envs = AdversaryEnvs("point_robot", START, victim, threat, turn, TARGETS[behaviour].score, 8, 10**6 * seed)
        if not path.exists():
            train_adversary(envs, settings, path, seed)
        return AttackedPolicy(victim, threat, load_adversary(path, threat, turn))
    config = VARIANTS[method]
    path = stem.with_suffix(".safetensors" if config.intention else ".zip")
    if path.exists():
        return AttackedPolicy(victim, threat, load_rat(path, threat, config))
    rat = RAT(place_of(victim, threat, behaviour), config, 10**6 * (seed + 1))
    rat.train(lambda share: print(f"    {behaviour}, {method}, seed {seed}: {100 * share:.0f} %", flush=True))
    rat.save(path)
    if method == "rat":  # the policy that it imitates, evaluated beside it
        own = CallablePolicy(rat.intention.act)
        write_json(folder / f"{behaviour}-intention-{seed}.json", result(own, behaviour, 0.0, rat.accuracy[-1]))
    return AttackedPolicy(victim, threat, load_rat(path, threat, config))


def result(policy: Policy, behaviour: str, seconds: float, accuracy: float | None = None) -> dict[str, Any]:
    """Success and ways of the episodes."""
    recorder = Recorder()
    rollout(policy, "point_robot", episode_seeds(0, EPISODES), num_envs=EPISODES, env_kwargs=START, watch=recorder)
    episodes = recorder.trajectories()
    return {
        "reached": successes(TARGETS[behaviour], episodes).tolist(),
        "steps": float(np.mean([len(each) for each in episodes])),
        "train_cpu_s": seconds,
        "accuracy": accuracy,
        "paths": [np.round(each.observations[:, :2].astype(float), 3).tolist() for each in episodes[:SHOWN]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--victim", default="data/victim/policies/limit0-stage1.safetensors")
    parser.add_argument("--out", type=Path, default=Path("runs/rat"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", choices=BEHAVIOURS)
    parser.add_argument("--methods", help="some of them, with commas")
    parser.add_argument("--docs", type=Path, help="where to draw the ways of the robot")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    victim, _ = load_victim(arguments.victim, "point_robot")
    assert victim.normaliser is not None
    threat = Threat(Units(victim.normaliser), EPS)
    chosen = METHODS[:-1] if arguments.methods is None else arguments.methods.split(",")
    for seed in range(arguments.seeds):
        for behaviour in BEHAVIOURS if arguments.only is None else (arguments.only,):
            for method in chosen:
                path = arguments.out / f"{behaviour}-{method.replace(' ', '_')}-{seed}.json"
                if path.exists():
                    continue
                start = time.process_time()
                policy = policy_of(method, behaviour, seed, victim, threat, arguments.out)
                spent = time.process_time() - start
                write_json(path, result(policy, behaviour, spent))
                print(f"{behaviour}, {method}, seed {seed}: {spent:.0f} s of CPU time", flush=True)
    table(arguments.out)
    if arguments.docs is not None:
        picture(arguments.out, arguments.docs)


def results_of(out: Path, behaviour: str, method: str) -> list[dict[str, Any]]:
    return [read_json(path) for path in sorted(out.glob(f"{behaviour}-{method.replace(' ', '_')}-*.json"))]


def table(out: Path) -> None:
    """Success rates of what is there."""
    print(f"| eps {EPS:g}, {STEPS} steps | " + " | ".join(BEHAVIOURS) + " |\n|---|" + "---|" * len(BEHAVIOURS))
    for method in METHODS:
        cells = []
        for behaviour in BEHAVIOURS:
            found = results_of(out, behaviour, method)
            reached = [hit for each in found for hit in each["reached"]]
            if not reached:
                cells.append("-")
                continue
            low, high = rate_interval(sum(reached), len(reached))
            cells.append(f"{100 * np.mean(reached):.0f} % [{100 * low:.0f}, {100 * high:.0f}], {len(found)} seed(s)")
        print(f"| {method} | " + " | ".join(cells) + " |")


def picture(out: Path, path: Path) -> None:
    """Ways under RAT, SA-RL and of the intention, for the first behaviour; clean ones in grey."""
    behaviour = BEHAVIOURS[0]
    rows = []
    for method in ("none", "sa_rl_target", "rat", "intention"):
        found = results_of(out, behaviour, method)
        if found:
            rows.append({"adversary": method, "eps": 0.0 if method == "none" else EPS, "paths": found[0]["paths"]})
    robot_paths(rows, path, f"PointRobot is to do what {behaviour} says (colour), clean (grey)")


if __name__ == "__main__":
    main()
