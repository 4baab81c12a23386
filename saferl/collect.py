"""python -m saferl.collect: DSRL-style data from policies trained at several cost limits; --help is the manual."""

import dataclasses
import importlib.resources
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import torch
import yaml
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import saferl.envs
from saferl.command_line import (
    CONFIG_MODULE,
    UsageError,
    check_flags,
    composed,
    guarded,
    run_hydra,
    sweep_choices,
)
from saferl.offline_data.collection import CollectConfig, PIDConfig, PPOConfig, Written, collect
from saferl.offline_data.collection.files import write_atomically
from saferl.offline_data.collection.loop import Progress as Step
from saferl.offline_data.collection.loop import Report
from saferl.resuming import refuse_settings_beside_resume, saved_settings
from saferl.training.config import build
from saferl.training.run_folder import environment_facts

SETTINGS = "config.yaml"


def parse_collection(values: dict[str, Any]) -> CollectConfig:
    """The settings of a collection from plain nested values.

    Raises: UsageError with one line that names the key.
    """
    rest = {key: value for key, value in values.items() if key not in ("out", "resume") and value != "???"}
    try:
        rest["ppo"] = build(PPOConfig, rest.get("ppo") or {}, "ppo.")
        rest["pid"] = build(PIDConfig, rest.get("pid") or {}, "pid.")
        config: CollectConfig = build(CollectConfig, rest, "")
        saferl.envs.full_id(config.env)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return config


def folder_for(values: dict[str, Any]) -> tuple[CollectConfig, Path]:
    """Settings and folder of a collection: a new folder, or with ``resume`` an old one and its own settings.

    Raises: UsageError if the folder is taken, or holds no collection.
    """
    if values.get("resume"):
        folder = Path(str(values["resume"]))
        return parse_collection(saved_settings(folder, SETTINGS, "collection")), folder
    config = parse_collection(values)
    folder = Path(str(values.get("out") or Path("data") / config.env.replace("/", "-") / str(config.seed)))
    if (folder / SETTINGS).exists():
        raise UsageError(f"out={folder} already holds a collection; resume={folder} goes on with it, or give another.")
    return config, folder


def job(settings: DictConfig) -> None:
    """One collection of a command or of a sweep."""
    values: dict[str, Any] = OmegaConf.to_container(settings, resolve=True)  # type: ignore[assignment]
    config, folder = folder_for(values)
    torch.set_num_threads(1)  # faster than two for networks of 64 units
    _check_environment(config)
    text = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)
    try:
        write_atomically(folder / SETTINGS, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        with _progress() as report:
            written = collect(config, folder, environment_facts() | {"command": command_for(config)}, report)
    except (ValueError, OSError) as error:
        raise UsageError(f"{folder}: {error}" if isinstance(error, OSError) else str(error)) from error
    except KeyboardInterrupt:
        print(f"saferl.collect: stopped; resume={folder} goes on with it.", file=sys.stderr)
        raise SystemExit(130) from None
    Console().print(_summary(written), markup=False, highlight=False, soft_wrap=True)


def command_for(config: CollectConfig) -> str:
    """The command line that makes this collection from the start: every setting that isn't the default."""
    with importlib.resources.as_file(importlib.resources.files(CONFIG_MODULE) / "collect.yaml") as path:
        defaults = _flat(OmegaConf.to_container(OmegaConf.load(path)))
    changed = {key: value for key, value in _flat(dataclasses.asdict(config)).items() if value != defaults[key]}
    words = [f"{key}={yaml.safe_dump(value, default_flow_style=True, width=1000)}" for key, value in changed.items()]
    words = [word.splitlines()[0].replace(" ", "") for word in words]  # the dump of a scalar has a second line
    return " ".join(["python -m saferl.collect", *(shlex.quote(word) for word in words)])


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        group = isinstance(value, dict) and key != "filters"  # that mapping is one setting
        flat |= _flat(value, f"{prefix}{key}.") if group else {prefix + key: value}
    return flat


def _check_environment(config: CollectConfig) -> None:
    try:
        env = saferl.envs.make(config.env)
        info = env.reset(seed=config.seed)[1]
        env.close()
    except (ValueError, ImportError, gymnasium.error.Error) as error:
        raise UsageError(str(error)) from error
    if "cost" not in info:
        raise UsageError(f"env={config.env} has no info['cost']; wrap it in an environment that declares a cost.")


@contextmanager
def _progress() -> Iterator[Report]:
    columns: tuple[ProgressColumn, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
    )
    console = Console(stderr=True)
    columns += (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("start", total=1.0)

        def report(step: Step) -> None:
            reached = "" if step.reward is None else f"  reward {step.reward:.1f}  cost {step.cost:.1f}"
            if step.multiplier is not None:
                reached += f"  lambda {step.multiplier:.2f}"
            bar.update(task, completed=step.fraction, description=f"{step.doing}{reached}")
            if not console.is_terminal:
                print(f"{step.fraction:6.1%} {step.doing}{reached}", file=sys.stderr, flush=True)

        yield report


def _summary(written: Written) -> str:
    card = written.card
    reward, cost = card["reward_return"], card["cost_return"]
    return (
        f"{written.dataset}: {card['episodes']} episodes, {card['transitions']} transitions, "
        f"reward {reward['min']:.2f} to {reward['max']:.2f}, cost {cost['min']:.0f} to {cost['max']:.0f}, "
        f"{card['cpu_s'] / 60:.1f} min of CPU time; {written.picture.name} and data_card.md lie beside it."
    )


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    return guarded("collect", lambda: _main(words))


def _main(words: list[str]) -> int:
    flags = check_flags(words)
    if not (flags.help or flags.hydra_help or flags.cfg or flags.info or flags.shell_completion):
        refuse_settings_beside_resume(flags.overrides, "collection")
        for overrides in sweep_choices(flags.overrides) if flags.multirun else [flags.overrides]:
            folder_for(OmegaConf.to_container(composed("collect", overrides)))  # type: ignore[arg-type]
    run_hydra("collect", flags, job)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
