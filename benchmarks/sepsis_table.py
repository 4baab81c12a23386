"""Every offline agent on ICU-Sepsis, with and without guardians, beside clinicians, chance and the exact optimum.

Networks of 64 units, batches of 256 and 500 updates (OGSRL: 30 policy iterations), three limits on the steps with a
SOFA score of 10 or more, three seeds. Policies without a memory are evaluated exactly, the others in 1,000 episodes
(marked ~). "guarded" rows are trained with a guardian; "fallback" rows are the policies without one, where at run time
an action that is hardly ever recorded in its state is replaced by the one that is recorded there most often. What is
done lies in results/sepsis_table; the command goes on where it was stopped.

    python -m benchmarks.sepsis_table [agents=[bc,ogsrl]] [seeds=3] [show=true]     show: the table of what is there
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from benchmarks.small_table import taken
from saferl.agents import AGENTS as CLASSES
from saferl.command_line import composed
from saferl.envs.icu_sepsis import finite_model, optimum
from saferl.envs.icu_sepsis.environment import action_indices
from saferl.envs.icu_sepsis.model import ACTIONS, LEVELS, STATES
from saferl.evaluation.rollout import episode_seeds, rollout
from saferl.evaluation.scores import cost_limits
from saferl.evaluation.sepsis import exact_report, policy_table
from saferl.guardians import GuardianConfig, fit_guardian
from saferl.guardians.acting import GuardedPolicy
from saferl.offline_data import OfflineDataset
from saferl.offline_data.icu_sepsis import generate
from saferl.policy import FeedbackPolicy, Policy
from saferl.training.checkpoint import checkpoints, load_checkpoint
from saferl.training.config import parse_training
from saferl.training.loop import run_updates
from saferl.training.parts import make_parts
from saferl.training.run_folder import RunFolder, write_json

OUT = Path("results/sepsis_table")
STEPS, POLICY_ITERATIONS = 500, 30
LIMITS = cost_limits("icu_sepsis")
DATA_EPISODES = 100_000
EPISODES = 1_000  # of a policy with a memory
SMALL: dict[str, object] = {"hidden": 64, "batch_size": 256}
FAST: dict[str, object] = {**SMALL, "actor_lr": 1e-3, "critic_lr": 1e-3, "target_rate": 0.02}
LENGTH = {"episode_length": 10}  # about the mean: the discounted threshold takes costs as spread over so many steps
VAE = {**FAST, **LENGTH, "vae_hidden": 64}
GUARD = {"guardian": "autoencoder"}
FISOR = {"critic_lr_decay": STEPS, "actor_lr_decay": 2 * STEPS}
# Values are those of finished paths: no discount, and nearly one-step advantages, which the model tells without noise.
# A step outside of the support is as bad as death, which earns 0.
OGSRL = {
    "hidden": 64,
    "batch_size": 1_000,
    "episode_length": 30,
    "horizon": None,
    "neighbours": 100,
    "model_rows": None,
    "guardian_rows": None,
    "ood_limit": 0.2,
    "exit_reward": 0.0,
    "discount": 1.0,
    "trace": 0.1,
    "radius": 0.1,
    "damping": 0.01,
    "gradient_iterations": 10,
    "critic_lr": 3e-3,
    "critic_steps": 20,
}
# Row of the table -> (preset, settings of the agent)
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, SMALL) for name in ("bc", "bc_safe", "bc_risky", "bc_frontier", "bc_boundary", "bc_conditioned")},
    "coptidice": ("coptidice", {**SMALL, **LENGTH, "actor_lr": 1e-3, "critic_lr": 1e-3, "multiplier_lr": 1e-2}),
    "carl": ("carl", {**FAST, **LENGTH}),
    "o3srl": ("o3srl", {**FAST, **LENGTH}),
    "iql_lag": ("iql_lag", {**FAST, **LENGTH, "lr_decay": STEPS}),
    "caps": ("caps", {**FAST, **LENGTH, "lr_decay": STEPS}),
    "cpq": ("cpq", VAE),
    "bear_lag": ("bear_lag", VAE),
    "bcq_lag": ("bcq_lag", VAE),
    "bcq_lag, guarded": ("bcq_lag", {**VAE, **GUARD}),
    "cql": ("cql", {**FAST, "candidates": 4}),
    "cql, guarded": ("cql", {**FAST, "candidates": 4, **GUARD}),
    "cql_lag": ("cql_lag", {**FAST, **LENGTH, "candidates": 4}),
    "cql_lag, guarded": ("cql_lag", {**FAST, **LENGTH, "candidates": 4, **GUARD}),
    "ccac": ("ccac", {**VAE, "vae_latent_dim": 16, "warm_up": STEPS // 3, "log_multiplier_limit": 1.5}),
    "cdt": ("cdt_small", {"batch_size": 64, "hidden": 64, "heads": 4}),
    "fisor": ("fisor_small", FISOR),
    "fisor, guarded": ("fisor_small", {**FISOR, **GUARD}),
    "ogsrl": ("ogsrl", {**OGSRL, "guardian": None}),
    "ogsrl, guarded": ("ogsrl", {**OGSRL, "guardian": "density_ratio"}),
    "ogsrl, PID": ("ogsrl", {**OGSRL, "guardian": "density_ratio", "optimizer": "pid_lag"}),
}


@dataclass(frozen=True)
class Training:
    """One training; ``limit`` None where it takes none."""

    row: str
    limit: float | None
    seed: int

    @property
    def run(self) -> RunFolder:
        """Its folder."""
        name = self.row.replace(", ", "-").lower()
        return RunFolder(OUT / name / f"limit{'-none' if self.limit is None else f'{self.limit:g}'}-seed{self.seed}")

    @property
    def results(self) -> list[Path]:
        """Its evaluations, by limit: of the policy as it is, and, if trained without a guardian, with a fallback."""
        return [self.run.path / name for name in ("exact.json", "fallback.json")][: 1 if self.guarded else 2]

    @property
    def guarded(self) -> bool:
        """Whether a guardian is part of the training."""
        return ROWS[self.row][1].get("guardian") is not None


def trainings(rows: list[str], seeds: int) -> Iterator[Training]:
    """All of them, seed by seed, so that a table of one seed is complete first."""
    for seed in range(seeds):
        for row in rows:
            preset, settings = ROWS[row]
            values: Any = OmegaConf.to_container(composed("config", [f"agent={preset}"]).agent)
            kept = {key: value for key, value in {**values, **settings}.items() if key not in ("name", "default_steps")}
            use = CLASSES[values["name"]][0](**kept).limit_use
            for limit in LIMITS if use == "training" else (None,):
                # No whole number lies between half such a limit and half more.
                if row == "bc_boundary" and limit is not None and limit < 2 / 3:
                    continue
                yield Training(row, limit, seed)


def train(training: Training) -> None:
    """Train from the last checkpoint on, evaluate, and write both."""
    preset, settings = ROWS[training.row]
    run = training.run
    values: Any = OmegaConf.to_container(composed("config", [f"agent={preset}"]))
    values["agent"] |= settings | ({} if training.limit is None else {"cost_limit": training.limit})
    steps = POLICY_ITERATIONS if values["agent"]["name"] == "ogsrl" else STEPS
    values |= {"env": "icu_sepsis", "steps": steps, "seed": training.seed, "device": "cpu", "eval_every": 0}
    values["checkpoint_every"] = steps
    started = time.process_time()
    config, (low, high), _, agent, sampler = make_parts(parse_training(values), lambda *_: recorded())
    run.path.mkdir(parents=True, exist_ok=True)
    saved = checkpoints(run.checkpoints)
    run_updates(agent, sampler, config, run, load_checkpoint(saved[-1], agent, sampler) if saved else 0)
    told = LIMITS if training.limit is None else (training.limit,)
    for path in training.results:
        report, results = None, {}
        for limit in told:
            if report is None or agent.config.limit_use == "acting":  # elsewhere the policy is the same at each limit
                policy = agent.policy(low, high, limit if agent.config.limit_use == "acting" else None)
                if path.name == "fallback.json":
                    policy = GuardedPolicy(policy, support(), support())
                report = evaluated(policy)
            results[f"{limit:g}"] = report
        write_json(path, {"cpu_s": time.process_time() - started, "limits": results})


@lru_cache(maxsize=1)
def recorded() -> OfflineDataset:
    """The data of all trainings, made once in a process."""
    return generate(DATA_EPISODES)


class Support:
    """What is recorded in each state: pairs, by a guardian of counts, and the action that is recorded most often."""

    def __init__(self, data: OfflineDataset) -> None:
        self._known = {row.tobytes(): state for state, row in enumerate(finite_model().observations)}
        states, actions = self._states(data.observations), action_indices(data.actions)
        episodes = np.repeat(np.arange(data.n_episodes), data.episode_lengths)
        self.guardian = fit_guardian(states, actions[:, None], GuardianConfig(kind="counts"), episodes=episodes)
        counts = np.zeros((STATES, ACTIONS), np.int64)
        np.add.at(counts, (states[:, 0], actions), 1)
        levels = np.stack(np.divmod(counts.argmax(1), LEVELS), axis=1)
        self._usual = ((levels + 0.5) / LEVELS * 2 - 1).astype(np.float32)  # (716, 2)

    def _states(self, observations: np.ndarray) -> np.ndarray:
        """(N, 1) numbers of the states."""
        return np.array([[self._known[row.tobytes()]] for row in observations])

    def supported(self, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """(N,) as a guardian."""
        return self.guardian.supported(self._states(observations), action_indices(actions)[:, None])

    def act(self, observations: np.ndarray) -> np.ndarray:
        """(N, 2) as a policy."""
        return self._usual[self._states(observations)[:, 0]]

    def reset(self, mask: np.ndarray | None = None, seed: int | None = None) -> None:
        """Nothing to forget."""


@lru_cache(maxsize=1)
def support() -> Any:
    """That of all trainings, a guardian and a policy as ``GuardedPolicy`` asks them."""
    return Support(recorded())


def evaluated(policy: Policy) -> dict[str, Any]:
    """Report of a policy."""
    model = finite_model()
    if not isinstance(policy, FeedbackPolicy):
        return {**exact_report(model, policy_table(model, policy))._asdict(), "exact": True}
    episodes = rollout(policy, "icu_sepsis", episode_seeds(0, EPISODES))
    survival = float(episodes.returns.mean())
    means = {"cost": float(episodes.costs.mean()), "length": float(episodes.lengths.mean())}
    return {"survival": survival, "mortality": 1 - survival, **means, "exact": False}


def table(rows: list[str], seeds: int) -> str:
    """Markdown of what is there: means over seeds; bold: the best survival of the agents within a limit."""
    found: dict[str, dict[float, list[dict[str, Any]]]] = {}
    for each in trainings(rows, seeds):
        for path, row in zip(each.results, (each.row, f"{each.row}, fallback")):
            if path.exists():
                for limit, report in json.loads(path.read_text())["limits"].items():
                    found.setdefault(row, {}).setdefault(float(limit), []).append(report)
    means = {row: {limit: _mean(reports) for limit, reports in by.items()} for row, by in found.items()}
    best = {
        limit: max(
            (by[limit]["survival"] for by in means.values() if limit in by and by[limit]["cost"] <= limit), default=2.0
        )
        for limit in LIMITS
    }
    lines = [
        "| agent | seeds | " + " | ".join(f"limit {limit:g}" for limit in LIMITS) + " | mortality | MCR | AIR | ACP |",
        "|---|---|" + "---|" * (len(LIMITS) + 4),
    ]
    for row, by in [*references().items(), *means.items()]:
        cells = [
            _cell(by.get(limit), limit, row in means and by.get(limit, {}).get("survival") == best[limit])
            for limit in LIMITS
        ]
        middle = by.get(LIMITS[1], {})
        clinical = [_number(middle.get(key)) for key in ("mortality", "agreement", "intervention", "dose_change")]
        count = str(min(len(reports) for reports in found[row].values())) if row in found else ""
        lines.append(f"| {row} | {count} | " + " | ".join(cells + clinical) + " |")
    return "\n".join(lines)


def references() -> dict[str, dict[float, dict[str, Any]]]:
    """Clinicians, chance and the optimum at each limit."""
    model = finite_model()
    fixed = {"clinicians": model.clinician, "random actions": model.uniform}
    rows = {
        name: dict.fromkeys(LIMITS, exact_report(model, policy)._asdict() | {"exact": True})
        for name, policy in fixed.items()
    }
    best = {limit: exact_report(model, optimum(model, limit).policy)._asdict() | {"exact": True} for limit in LIMITS}
    return {**rows, "optimum": best}


def _mean(reports: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: float(np.mean([each[key] for each in reports])) for key in reports[0]}


def _cell(report: dict[str, Any] | None, limit: float, best: bool) -> str:
    if report is None:
        return ""
    text = f"{report['survival']:.3f} / {report['cost']:.2f}"
    text = f"**{text}**" if best else text
    return ("" if report["exact"] else "~") + text + (" ✗" if report["cost"] > limit + 5e-3 else "")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def main(words: list[str]) -> int:
    """Train what is missing and print the table."""
    given = list(words)
    # A row's name has a comma and a blank: agents=[cql] is cql with and without guardian.
    presets = taken(given, "agents", sorted({row.split(",")[0] for row in ROWS}))
    rows = [row for row in ROWS if row.split(",")[0] in presets]
    options = dict(word.partition("=")[::2] for word in given)
    unknown = set(options) - {"seeds", "show"}
    if unknown:
        raise SystemExit(f"no key {unknown.pop()!r}; known: agents, seeds, show.")
    seeds = int(options.get("seeds", 3))
    if options.get("show") != "true":
        torch.set_num_threads(1)
        for each in trainings(rows, seeds):
            if not all(path.exists() for path in each.results):
                train(each)
                print(f"{each.row}, limit {each.limit}, seed {each.seed}: {each.run.path}", file=sys.stderr, flush=True)
    print(table(rows, seeds))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
