"""python -m saferl.train: one training from settings to a run folder, or a sweep of them; --help is the manual."""

import os
import sys
from collections.abc import Mapping
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

import saferl.envs
from saferl.command_line import (
    CONFIG_MODULE,
    HYDRA_VERSION_BASE,
    UsageError,
    check_flags,
    composed,
    guarded,
    sweep_choices,
)
from saferl.evaluation.report import show
from saferl.training import sweep
from saferl.training.checkpoint import NotFiniteError, checkpoints, load_checkpoint
from saferl.training.config import parse_training, plain
from saferl.training.loop import run_updates
from saferl.training.parts import Parts, data_facts, make_parts, note_data
from saferl.training.resume import resumed_config, with_agent
from saferl.training.run_evaluation import Protocol, evaluate_run, tables
from saferl.training.run_folder import RunFolder, create_run, open_run


def train(run: RunFolder, parts: Parts) -> None:
    """Train in a run folder, from its last checkpoint if there is one, and evaluate at the end.

    Raises: UsageError for a checkpoint that is damaged; NotFiniteError; Interrupted.
    """
    config, (low, high), dataset, agent, sampler = parts
    note_data(run, data_facts(dataset, low, high))
    saved = checkpoints(run.checkpoints)
    done = load_checkpoint(saved[-1], agent, sampler) if saved else 0
    on_the_way = Protocol(episodes=min(config.eval_episodes or 20, 20))

    def evaluate() -> Mapping[str, float]:
        episodes = on_the_way.run(agent.policy(low, high), config.env)
        means = {"return": episodes.returns, "cost": episodes.costs, "violations": episodes.violations}
        return {f"eval/{name}": float(values.mean()) for name, values in means.items()}

    if config.eval_episodes == 0:
        run_updates(agent, sampler, config, run, done)
        return
    run_updates(agent, sampler, config, run, done, evaluate)
    facts = evaluate_run(run, Protocol(episodes=config.eval_episodes), agent.device)
    show(*tables([run], [facts]))


def job(settings: DictConfig) -> None:
    """One training of a command or of a sweep; how it ended is noted, not raised, so that a sweep goes on."""
    try:
        values: Any = OmegaConf.to_container(settings, resolve=True)
        if values["resume"] is not None:
            run = open_run(values["resume"])
            config = resumed_config(run, HydraConfig.get().overrides.task, values)
            parts = make_parts(config)
        else:
            values["agent"]["preset"] = HydraConfig.get().runtime.choices["agent"]
            parts = make_parts(parse_training(values))  # before there is a folder: wrong data should not leave one
            config = parts.config
            run = create_run(config.out, config.env, config.preset, config.seed, plain(config))
        print(f"run folder: {run.path}", file=sys.stderr)
        train(run, parts)
        sweep.note_outcome({"run": str(run.path)})
    except UsageError as error:
        sweep.note_outcome({"error": str(error), "code": 2})
    except NotFiniteError as error:
        sweep.note_outcome({"error": str(error), "code": 1})


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    return guarded("train", lambda: _main(words))


def _main(words: list[str]) -> int:
    flags = check_flags(words)
    given = with_agent(flags.overrides)
    if not (flags.help or flags.hydra_help or flags.cfg or flags.info or flags.shell_completion):
        for overrides in sweep_choices(given) if flags.multirun else [given]:
            _check(overrides, flags.config_dir)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that what is not a user's mistake comes with its traceback
    sys.argv = [sys.argv[0], *flags.words, *given]
    sweep.OUTCOMES.clear()
    try:
        hydra.main(f"pkg://{CONFIG_MODULE}", "config", HYDRA_VERSION_BASE)(job)()
    except KeyboardInterrupt as stop:  # Interrupted says how to go on
        print(f"saferl.train: {str(stop) or 'interrupted'}", file=sys.stderr)
        return 130
    errors = [outcome for outcome in sweep.OUTCOMES if "error" in outcome]
    if errors and not flags.multirun:  # a sweep has printed them above its table
        print(f"saferl.train: {errors[0]['error']}", file=sys.stderr)
    return max((outcome["code"] for outcome in errors), default=0)


def _check(overrides: list[str], config_dir: str | None) -> None:
    """Find what the user can mend before the first job starts. Raises: UsageError."""
    values: Any = OmegaConf.to_container(composed("config", overrides, config_dir))
    if values["resume"] is not None:
        open_run(values["resume"])
        return
    config = parse_training(values)
    try:
        saferl.envs.full_id(config.env)
    except ValueError as error:
        raise UsageError(str(error)) from error


if __name__ == "__main__":
    from saferl.train import main as importable_main  # so that other machines of a sweep can import `job` by name

    raise SystemExit(importable_main())
