"""python -m saferl.evaluate: episodes of runs, SB3 models or functions, with statistics; --help is the manual."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
from omegaconf import DictConfig, OmegaConf

import saferl.envs
from saferl.command_line import UsageError, check_flags, composed, guarded, run_hydra
from saferl.evaluation.named_policy import load_policy_word
from saferl.evaluation.report import show, single_table
from saferl.training.config import build, device_named
from saferl.training.run_evaluation import Protocol, evaluate_policy, evaluate_run, tables
from saferl.training.run_folder import find_runs, make_folder, write_json


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """The settings of one evaluation; see --help."""

    run: str | list[str] | None = None
    policy: str | None = None
    env: str | None = None
    episodes: int | None = None
    seed: int = 0
    cost_limit: float | list[float] | None = None
    env_kwargs: Any = None
    num_envs: int | None = None
    vectorization: str = "sync"
    audit: str | None = None
    device: str = "auto"
    out: str = "runs"

    def __post_init__(self) -> None:
        if (self.run is None) == (self.policy is None):
            raise ValueError("give either run=RUN or policy=POLICY env=ID; --help shows both.")
        if self.run is not None and self.env is not None:
            raise ValueError("env= goes with policy=; a run is evaluated in the environment it was trained for.")
        if self.policy is not None and self.env is None:
            raise ValueError(f"policy={self.policy} needs env=ID, the environment to act in.")
        for name in ("episodes", "num_envs"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1; got {getattr(self, name)}.")
        if self.vectorization not in ("sync", "async"):
            raise ValueError(f"vectorization must be sync or async; got {self.vectorization!r}.")
        if self.audit not in (None, "reachability"):
            raise ValueError(f"audit must be reachability or null; got {self.audit!r}.")
        if self.audit is not None and self.run is None:
            raise ValueError("audit= goes with run=: a policy alone has no learned feasible region.")
        if self.seed < 0:
            raise ValueError(f"seed must be >= 0; got {self.seed}.")
        if any(not limit >= 0 for limit in self.limits or ()):
            raise ValueError(f"cost_limit must be >= 0; got {self.cost_limit}.")
        if not isinstance(self.env_kwargs, (Mapping, type(None))):
            raise ValueError(f"env_kwargs must be like {{start:random}}; got {self.env_kwargs!r}.")

    @property
    def limits(self) -> tuple[float, ...] | None:
        """The cost limits, None for the task's own."""
        if self.cost_limit is None:
            return None
        return tuple(self.cost_limit) if isinstance(self.cost_limit, list) else (self.cost_limit,)

    def protocol(self) -> Protocol:
        """How to evaluate."""
        return Protocol(
            episodes=self.episodes,
            seed=self.seed,
            cost_limits=self.limits,
            num_envs=self.num_envs,
            vectorization=self.vectorization,
            env_kwargs=self.env_kwargs,
        )


def parse_evaluation(values: Mapping[str, Any]) -> EvaluateConfig:
    """The settings from plain values. Raises: UsageError in one line that names the key."""
    try:
        config: EvaluateConfig = build(EvaluateConfig, values, "")
        device_named(config.device)
        if config.env is not None:
            saferl.envs.full_id(config.env)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return config


def evaluate(config: EvaluateConfig) -> None:
    """Evaluate, write eval.json and print the tables.

    Raises: UsageError for what the user can mend.
    """
    device = device_named(config.device)
    try:
        if config.run is not None:
            runs = find_runs(config.run)
            audit = config.audit is not None
            show(*tables(runs, [evaluate_run(run, config.protocol(), device, audit=audit) for run in runs]))
            return
        assert config.policy is not None
        assert config.env is not None
        env = saferl.envs.make(config.env, **(config.env_kwargs or {}))
        policy = load_policy_word(config.policy, env)
        env.close()
        facts = evaluate_policy(policy, config.env, config.policy, config.protocol())
    except (ValueError, gymnasium.error.Error) as error:
        raise UsageError(str(error)) from error
    folder = make_folder(config.out, config.env, Path(config.policy).name, config.seed)
    write_json(folder / "eval.json", facts)
    show(single_table(f"{config.policy} on {config.env}, {len(facts['per_episode']['returns'])} episodes", facts))
    print(f"written: {folder / 'eval.json'}")


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    return guarded("evaluate", lambda: _main(words))


def _main(words: list[str]) -> int:
    flags = check_flags(words)
    if flags.multirun:
        raise UsageError("evaluation takes no -m; give several runs as run=[a,b] or a glob.")

    def job(settings: DictConfig) -> None:
        evaluate(parse_evaluation(OmegaConf.to_container(settings, resolve=True)))  # type: ignore[arg-type]

    if not (flags.help or flags.hydra_help or flags.cfg or flags.info or flags.shell_completion):
        parse_evaluation(OmegaConf.to_container(composed("evaluate", flags.overrides)))  # type: ignore[arg-type]
    run_hydra("evaluate", flags, job)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
