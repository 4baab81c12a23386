"""RAT against its ablations and against SA-RL: how often a victim on PointRobot shows a behaviour that was not its own.

    python -m benchmarks.rat [--out runs/rat] [--seeds 3] [--only goes_left] [--methods rat,sa_rl_target] [--why]
        [--docs docs/images/attacks_rat.png]

The victim is Stable-Baselines3's SAC, trained here for its own reward, and the starts lie in the lower part of the
arena, from where both behaviours are possible. Every method gets the same victim, ball, environment steps and 100
starts, and RAT and its ablations the same number of answers of the teacher; SA-RL sees the true scores. "intention"
is the policy that RAT wants the victim to imitate, acting by itself. Each result is a file, so that a run that was
stopped goes on. The last lines are a table of success rates with 95 % intervals over training seeds and starts, and the
rate of each seed. --why says, for each training of RAT, how well the learned rewards rank segments, how often
the intention's action is within reach, and what imitating it by gradient steps at each moment would bring.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from stable_baselines3 import SAC

from saferl.adversaries.ascent import Ascent, AscentConfig, Autograd
from saferl.adversaries.attacks import AttackedPolicy, GradientAttack, RandomAttack, situation_of
from saferl.adversaries.behaviour import Behaviour
from saferl.adversaries.catalogue import Means, make_turn
from saferl.adversaries.figures import robot_paths
from saferl.adversaries.learned import AdversaryEnvs, LearnedConfig, load_adversary, train_adversary
from saferl.adversaries.loading import load_victim
from saferl.adversaries.objectives import Situation
from saferl.adversaries.rat.config import RATConfig
from saferl.adversaries.rat.distance import distance_to
from saferl.adversaries.rat.training import RAT, Place, load_rat
from saferl.adversaries.stepping import Steps
from saferl.adversaries.targets import TARGETS, successes
from saferl.adversaries.threat import Normaliser, Threat, Units
from saferl.adversaries.trajectories import Recorder, Trajectory
from saferl.adversaries.victim import Response, Victim
from saferl.envs.point_robot import PointRobot, analytic_infeasible, margin
from saferl.evaluation.rollout import episode_seeds, rollout
from saferl.evaluation.statistics import rate_of_groups
from saferl.policy import Policy
from saferl.training.run_folder import read_json, write_json

EPS = 1.0  # normalised units
ENV = "benchmarks/LowerPointRobot-v0"
STEPS, VICTIM_STEPS, EPISODES, SHOWN = 5_000, 6_000, 100, 4
REPEAT = 4  # of PointRobot's steps for one action: 0.2 s
HELD = 5  # actions for which a random one is kept
LOW, HIGH = (-2.0, -2.8, 0.5, np.pi / 4), (2.0, -1.8, 1.5, 3 * np.pi / 4)  # of starts: x, y (m), v (m/s), heading
SETTINGS = RATConfig(
    steps=STEPS, envs=8, random_steps=400, explore_steps=800, update_every=2, batch=256, width=64, labels=400,
    segment=5, query_every=400, questions=40, epochs=20, inner_every=80, outer_every=400, adversary_lr=2e-3,
    discount=0.95,
)  # fmt: skip
VARIANTS = {
    "rat": SETTINGS,
    "rat without weights": replace(SETTINGS, weighting=False),
    "rat without intention": replace(SETTINGS, intention=False),
    "rat without combined policy": replace(SETTINGS, combined=False),
}
METHODS = ("none", "random", "sa_rl_target", *VARIANTS, "intention")
REACHED = 0.25  # an action that is nearer than this in each entry, of [-1, 1], counts as the intention's


def goes_left(episode: Trajectory) -> bool:
    """It ends at x < -2 m."""
    return bool(episode.observations[-1, 0] < -2)


def left(steps: Steps) -> NDArray[np.float64]:
    """1 at the left wall, 0 at the right."""
    return np.clip((3 - steps.next_observations[:, 0]) / 6, 0, 1).astype(np.float64)


BEHAVIOURS = {"stays": TARGETS["stays"], "goes_left": Behaviour(goes_left, left)}


class LowerPointRobot(PointRobot):
    """PointRobot at 5 Hz that starts below, at 0.5 to 1.5 m/s: from there it can stop, turn back, or go anywhere."""

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Four of PointRobot's steps with the same action; a violation in any of them counts."""
        reward, cost = 0.0, 0.0
        for _ in range(REPEAT):
            observation, gain, terminated, truncated, info = super().step(action)
            reward, cost = reward + gain, max(cost, info["cost"])
            if terminated:
                break
        return observation, reward, terminated, truncated, {**info, "cost": cost}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """As PointRobot."""
        gymnasium.Env.reset(self, seed=seed)
        state = np.array(LOW)
        while margin(state[None])[0] > 0 or analytic_infeasible(state[None])[0] or (state == LOW).all():
            state = self.np_random.uniform(LOW, HIGH)
        return super().reset(options={"state": state})


gymnasium.register(ENV, lambda **kwargs: LowerPointRobot(**kwargs), max_episode_steps=40)  # 8 s


def episodes(policy: Policy, count: int, seed: int = 0) -> list[Trajectory]:
    recorder = Recorder()
    rollout(policy, ENV, episode_seeds(seed, count), num_envs=count, watch=recorder)
    return recorder.trajectories()


def trained_victim(path: Path) -> Victim:
    """SAC on PointRobot's own reward."""
    if not path.exists():
        model = SAC(
            "MlpPolicy", gymnasium.make(ENV), learning_rate=1e-3, buffer_size=VICTIM_STEPS, batch_size=256,
            learning_starts=500, train_freq=2, gradient_steps=1, gamma=0.95, policy_kwargs={"net_arch": [64, 64]},
            seed=0, device="cpu",
        )  # fmt: skip
        model.learn(VICTIM_STEPS)
        model.save(path)
    return load_victim(str(path), ENV)[0]


class Held:
    """Random actions, each kept for 5 steps, which lead further than fresh ones at each step."""

    def __init__(self) -> None:
        self._generator, self._step = np.random.default_rng(0), 0

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Actions (B, 2)."""
        if self._step % HELD == 0:
            self._actions = self._generator.uniform(-1, 1, (len(observations), 2)).astype(np.float32)
        self._step += 1
        return self._actions

    def reset(self, mask: NDArray[np.bool_] | None = None, seed: int | None = None) -> None:
        """As a policy."""


def ball(victim: Victim) -> Threat:
    """Units are standard deviations over episodes of the clean victim and of random actions.

    The clean victim's alone are too narrow for behaviours that it never shows: its heading hardly varies.
    """
    seen = [each.observations for policy in (victim.policy, Held()) for each in episodes(policy, 40, 10**7)]
    return Threat(Units(Normaliser.from_observations(np.concatenate(seen), "clean and random episodes")), EPS)


def place_of(victim: Victim, threat: Threat, behaviour: str) -> Place:
    return Place(ENV, {}, victim, threat, Autograd(victim, threat), BEHAVIOURS[behaviour])


def policy_of(method: str, behaviour: str, seed: int, victim: Victim, threat: Threat, stem: Path, why: bool) -> Policy:
    """The policy that acts, after a training where there is one."""
    if method == "none":
        return victim.policy
    if method == "random":
        return AttackedPolicy(victim, threat, RandomAttack(threat))
    if method == "sa_rl_target":
        path, turn = stem.with_suffix(".zip"), make_turn(method, threat, Means(victim=victim))
        settings = LearnedConfig(steps=STEPS, envs=8, rollout=64, discount=SETTINGS.discount)
        envs = AdversaryEnvs(ENV, {}, victim, threat, turn, BEHAVIOURS[behaviour].score, 8, 10**6 * (seed + 1))
        if not path.exists():
            train_adversary(envs, settings, path, seed)
        return AttackedPolicy(victim, threat, load_adversary(path, threat, turn))
    config = VARIANTS[method]
    path = stem.with_suffix(".safetensors" if config.intention else ".zip")
    if not path.exists():
        rat = RAT(place_of(victim, threat, behaviour), config, 10**6 * (seed + 1))
        rat.train()
        if method == "rat":  # the policy that it imitates, evaluated beside it
            facts = result(rat.imitated(), behaviour, 0.0) | (reasons(rat, behaviour) if why else {})
            write_json(stem.with_name(f"{behaviour}-intention-{seed}.json"), facts)
        rat.save(path)  # last: what is not there is made again
    return AttackedPolicy(victim, threat, load_rat(path, threat, config))


def reasons(rat: RAT, behaviour: str) -> dict[str, float]:
    """Why a training of RAT came out as it did."""
    place, own = rat.place, rat.imitated()
    buffer, length, generator = rat.intention.buffer, rat.config.segment, np.random.default_rng(0)
    starts = buffer.segment_starts(length)
    inputs, scores = buffer.segments(starts[generator.integers(len(starts), size=500)], length)
    learned = rat._rewards.rewards(inputs.flatten(0, 1)).reshape(inputs.shape[:2]).sum(1)
    states = np.concatenate([each.observations for each in episodes(own, 30)])[::10]
    situation = situation_of(place.victim, place.threat, states, torch.Generator().manual_seed(0))
    wanted = torch.as_tensor(rat.intention.act(states))
    measure = distance_to(rat.intention.intended)

    def nearness(situation: Situation, seen: torch.Tensor, response: Response) -> torch.Tensor:
        return -measure(situation, seen, response)

    thorough = Ascent(place.slopes, place.threat, AscentConfig(steps=20, restarts=3))
    deltas = thorough.best(nearness, situation, torch.Generator().manual_seed(0))
    moved = place.victim.response(place.threat.shifted(situation.observations, deltas)).actions
    imitating = GradientAttack(
        place.victim, place.threat, Ascent(place.slopes, place.threat, AscentConfig(steps=5)), nearness
    )
    imitated = episodes(AttackedPolicy(place.victim, place.threat, imitating), EPISODES // 2)
    return {
        "accuracy": rat.accuracy[-1],
        "rank": float(spearmanr(learned.numpy(), scores.sum(1)).statistic),
        "reachable": float(((moved - wanted).abs().amax(1) < REACHED).float().mean()),
        "clean": float(((situation.clean.actions - wanted).abs().amax(1) < REACHED).float().mean()),
        "imitated": float(successes(BEHAVIOURS[behaviour], imitated).mean()),
    }


def result(policy: Policy, behaviour: str, seconds: float) -> dict[str, Any]:
    """Success and ways of the episodes."""
    recorded = episodes(policy, EPISODES)
    return {
        "reached": successes(BEHAVIOURS[behaviour], recorded).tolist(),
        "steps": float(np.mean([len(each) for each in recorded])),
        "train_cpu_s": seconds,
        "paths": [np.round(each.observations[:, :2].astype(float), 3).tolist() for each in recorded[:SHOWN]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/rat"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=BEHAVIOURS)
    parser.add_argument("--methods", help="some of them, with commas")
    parser.add_argument("--why", action="store_true", help="look into each training of RAT")
    parser.add_argument("--docs", type=Path, help="where to draw the ways of the robot")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    victim = trained_victim(arguments.out / "victim.zip")
    threat = ball(victim)
    chosen = METHODS[:-1] if arguments.methods is None else arguments.methods.split(",")
    for seed in range(arguments.seeds):
        for behaviour in BEHAVIOURS if arguments.only is None else (arguments.only,):
            for method in chosen:
                stem = arguments.out / f"{behaviour}-{method.replace(' ', '_')}-{seed}"
                path = stem.with_suffix(".json")
                if path.exists():
                    continue
                start = time.process_time()
                policy = policy_of(method, behaviour, seed, victim, threat, stem, arguments.why)
                spent = time.process_time() - start
                facts = result(policy, behaviour, spent)
                write_json(path, facts)
                rate = 100 * np.mean(facts["reached"])
                print(f"{behaviour}, {method}, seed {seed}: {rate:.0f} %, {spent:.0f} s of CPU time", flush=True)
    table(arguments.out)
    if arguments.docs is not None:
        picture(arguments.out, arguments.docs)


def results_of(out: Path, behaviour: str, method: str) -> list[dict[str, Any]]:
    return [read_json(path) for path in sorted(out.glob(f"{behaviour}-{method.replace(' ', '_')}-*.json"))]


def table(out: Path) -> None:
    """Success rates of what is there, and the reasons."""
    print(f"| eps {EPS:g}, {STEPS} steps | " + " | ".join(BEHAVIOURS) + " |\n|---|" + "---|" * len(BEHAVIOURS))
    for method in METHODS:
        cells = []
        for behaviour in BEHAVIOURS:
            found = results_of(out, behaviour, method)
            if not found:
                cells.append("-")
                continue
            share, low, high = rate_of_groups([each["reached"] for each in found])
            seeds = ", ".join(f"{100 * np.mean(each['reached']):.0f}" for each in found)
            cells.append(f"{100 * share:.0f} % [{100 * low:.0f}, {100 * high:.0f}] ({seeds})")
        print(f"| {method} | " + " | ".join(cells) + " |")
    for behaviour in BEHAVIOURS:
        for seed, each in enumerate(results_of(out, behaviour, "intention")):
            if "rank" in each:
                print(
                    f"{behaviour}, seed {seed}: rewards predict {100 * each['accuracy']:.0f} % of the answers and rank "
                    f"segments with {each['rank']:.2f}; of the intention's steps {100 * each['reachable']:.0f} % are "
                    f"within reach ({100 * each['clean']:.0f} % without an attack); imitated by gradient steps at "
                    f"each moment: {100 * each['imitated']:.0f} %"
                )


def picture(out: Path, path: Path) -> None:
    """Ways under RAT and of the intention, for each behaviour; clean ones in grey."""
    rows: list[dict[str, Any]] = []
    for behaviour in BEHAVIOURS:
        for method in ("none", "rat", "intention"):
            found = results_of(out, behaviour, method)
            if found and (method != "none" or not rows):
                eps = EPS if method == "rat" else 0.0
                name = method if method == "none" else f"{behaviour}\n{method}"
                rows.append({"adversary": name, "eps": eps, "paths": found[0]["paths"]})
    robot_paths(rows, path, "PointRobot made to behave (colour), and clean from the same starts (grey)")


if __name__ == "__main__":
    main()
