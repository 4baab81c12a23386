"""Attacked steps per CPU-second: saferl's batched attacks against the same attacks one observation at a time.

    python -m benchmarks.attacks [--rounds 3]

Both sides step PointRobot on one thread under ten projected sign steps and keep the best point. Ours steps the
environments side by side, with one gradient for all of them; the plain side does what published attack code does: one
environment, a batch of one, and for the diffusion policy the gradient through all its candidates. The critics and
policies have random weights, which take as long as trained ones. Before the timing both sides are shown to reach the
same values of the objective. The rounds take turns, the best counts; the last line is the least ratio of the policies
that are plain networks, and that of the diffusion policy, where a batch of one is 16 candidates already.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

import saferl.envs
from saferl.adversaries import white_box
from saferl.adversaries.ascent import AscentConfig
from saferl.adversaries.attacks import AttackedPolicy
from saferl.adversaries.catalogue import Means, make_attack
from saferl.adversaries.critics import Critics, FittedCritics
from saferl.adversaries.threat import Normaliser, Threat, Units
from saferl.adversaries.victim import ActionBox, Victim
from saferl.agents.fisor import FISOR, FISORConfig
from saferl.evaluation.rollout import episode_seeds, rollout
from saferl.nn.diffusion import ddpm_sample
from saferl.policy import CallablePolicy

OBS, ACT, EPS, STEPS = 11, 2, 0.1, 10
ONE = np.ones(ACT, np.float32)

Act = Callable[[Tensor, torch.Generator], Tensor]
Objective = Callable[[Tensor, Tensor], Tensor]  # true observation (1, obs_dim), action (1, act_dim) -> (1,)


@dataclass(frozen=True)
class Case:
    """One attack on one victim, in both forms."""

    name: str
    victim: Victim
    attack: str
    critics: Critics
    act: Act  # the plain side's differentiable policy
    objective: Objective
    horizon: int  # steps of an episode
    envs: int  # that our side steps together


def cases(units: Units) -> list[Case]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(OBS, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, ACT))
    critics = FittedCritics(units, ACT, 128).requires_grad_(False).as_critics("random")

    @torch.no_grad()
    def answer(rows: np.ndarray) -> np.ndarray:
        return network(torch.as_tensor(rows)).clamp(-1, 1).numpy()

    ppo = Victim(CallablePolicy(answer), OBS, -ONE, ONE, "ppo", white_box.of_module(network, ActionBox(-ONE, ONE)))
    agent = FISOR(FISORConfig(hidden=128, blocks=2, candidates=16), OBS, ACT).requires_grad_(False)
    policy = agent.policy(-ONE, ONE)
    fisor = Victim(policy, OBS, -ONE, ONE, "fisor", white_box.of_agent(agent, policy))

    def act(rows: Tensor, generator: torch.Generator) -> Tensor:
        return network(rows)

    def deviation(rows: Tensor, action: Tensor) -> Tensor:
        return (action - network(rows).detach()).square().sum(1)

    def cost(rows: Tensor, action: Tensor) -> Tensor:
        return critics.cost(rows, action)

    def sampled(rows: Tensor, generator: torch.Generator) -> Tensor:
        count = agent.config.candidates
        repeated = rows.repeat_interleave(count, dim=0)

        def noise(noisy: Tensor, step: int) -> Tensor:
            flat = noisy.flatten(0, 1)
            return agent.target_score(flat, repeated, torch.full((len(flat),), step)).view_as(noisy)

        drawn = ddpm_sample(noise, agent.noise_schedule, (len(rows), count, ACT), generator, straight=True)
        with torch.no_grad():
            best = agent.selected(rows, drawn)
        return drawn[torch.arange(len(rows)), best]

    return [
        Case("mad's objective on PPO's network", ppo, "pgd", critics, act, deviation, 40, 128),
        Case("MC on PPO's network", ppo, "mc", critics, act, cost, 40, 128),
        Case("MC on FISOR (diffusion)", fisor, "mc", critics, sampled, cost, 6, 32),
    ]


class Plain:
    """The same attack for one observation, written down as in the papers."""

    def __init__(self, case: Case, scale: Tensor) -> None:
        self.case, self.scale = case, scale
        self.generator, self.noise = torch.Generator(), torch.Generator()

    def seen(self, observation: np.ndarray) -> tuple[np.ndarray, float]:
        """What the victim is made to see (obs_dim,), and the objective there."""
        true = torch.as_tensor(observation)[None]
        seed = int(torch.randint(2**31, (), generator=self.generator))
        delta = EPS / STEPS * torch.randn(true.shape, generator=self.generator).sign()
        best, record = delta, -float("inf")
        for step in range(STEPS + 1):
            point = delta.clone().requires_grad_(True)
            action = self.case.act(true + self.scale * point, self.noise.manual_seed(seed))
            action = action + (action.clamp(-1, 1) - action).detach()
            value = self.case.objective(true, action)
            if value.item() > record:
                best, record = delta, value.item()
            if step == STEPS:
                break
            (gradient,) = torch.autograd.grad(value.sum(), point)
            delta = (delta + 2 * EPS / STEPS * gradient.sign()).clamp(-EPS, EPS)
        return (true + self.scale * best)[0].numpy(), record

    def steps(self) -> int:
        """Attacked steps of one episode."""
        env = saferl.envs.make("point_robot", start="feasible", max_episode_steps=self.case.horizon)
        observation, _ = env.reset(seed=0)
        self.case.victim.policy.reset(seed=0)
        count, ended = 0, False
        while not ended:
            action = self.case.victim.policy.act(self.seen(observation)[0][None])[0]
            observation, _, terminated, truncated, _ = env.step(action)
            count, ended = count + 1, terminated or truncated
        return count


def batched(case: Case, threat: Threat) -> AttackedPolicy:
    means = Means(victim=case.victim, critics=case.critics, ascent=AscentConfig(steps=STEPS))
    return AttackedPolicy(case.victim, threat, make_attack(case.attack, threat, means))


def batched_steps(attacked: AttackedPolicy, horizon: int, envs: int) -> int:
    kwargs = {"start": "feasible", "max_episode_steps": horizon}
    seeds = episode_seeds(0, 2 * envs)  # an environment takes the next start as soon as its episode ends
    return int(rollout(attacked, "point_robot", seeds, num_envs=envs, env_kwargs=kwargs).lengths.sum())


def values_reached(case: Case, threat: Threat, plain: Plain, rows: np.ndarray) -> tuple[float, float]:
    """Mean objective that both sides reach from the same observations."""
    attacked = batched(case, threat)
    deltas = attacked.attack.perturbations(rows)
    seen = torch.as_tensor(threat.seen(rows, deltas))
    true = torch.as_tensor(rows)
    ours = [
        case.objective(row[None], case.act(shown[None], torch.Generator().manual_seed(0)).clamp(-1, 1))
        for row, shown in zip(true, seen)
    ]
    theirs = [
        case.objective(row[None], case.act(torch.as_tensor(plain.seen(row.numpy())[0])[None],
                                           torch.Generator().manual_seed(0)).clamp(-1, 1))
        for row in true
    ]  # fmt: skip
    return float(torch.cat(ours).mean()), float(torch.cat(theirs).mean())


def rates(ours: Callable[[], int], theirs: Callable[[], int], rounds: int) -> tuple[float, float]:
    """Steps per CPU-second of the best round of each, after one to warm up."""
    best = [0.0, 0.0]
    for turn in range(rounds + 1):
        for side, call in enumerate((ours, theirs)):
            start = time.process_time()
            count = call()
            if turn:
                best[side] = max(best[side], count / (time.process_time() - start))
    return best[0], best[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side; the best one counts")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    scale = np.random.default_rng(0).uniform(0.5, 1.5, OBS).astype(np.float32)
    units = Units(Normaliser(np.zeros(OBS, np.float32), scale, "made up"))
    threat, rows = Threat(units, EPS), np.random.default_rng(1).normal(size=(16, OBS)).astype(np.float32)
    ratios: dict[str, list[float]] = {"networks": [], "the diffusion policy": []}
    for case in cases(units):
        plain = Plain(case, units.scale)
        ours, theirs = values_reached(case, threat, plain, rows)
        print(f"{case.name}: objective reached {ours:.4f} batched, {theirs:.4f} plain")
        attacked = batched(case, threat)
        fast, slow = rates(partial(batched_steps, attacked, case.horizon, case.envs), plain.steps, arguments.rounds)
        ratios["the diffusion policy" if case.victim.name == "fisor" else "networks"].append(fast / slow)
        print(f"  attacked steps per CPU-second: {fast:,.0f} batched, {slow:,.0f} plain, ratio {fast / slow:.1f}")
    print("ratio " + ", ".join(f"{min(values):.1f} for {name}" for name, values in ratios.items()))


if __name__ == "__main__":
    main()
