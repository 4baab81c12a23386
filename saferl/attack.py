"""python -m saferl.attack: what observation attacks do to a policy, on the same starts; --help is the manual."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import yaml
from omegaconf import DictConfig, OmegaConf

from saferl.adversaries.catalogue import ADVERSARIES
from saferl.adversaries.config import AttackConfig, parse_attack, plain
from saferl.adversaries.figures import eps_curves, film_strips, robot_paths, speed_curves, strongest
from saferl.adversaries.loading import load_victim
from saferl.adversaries.report import attack_tables, findings, report_text
from saferl.adversaries.runner import Comparison
from saferl.adversaries.targets import TARGETS, target_named
from saferl.command_line import UsageError, check_flags, composed, guarded, run_hydra
from saferl.envs import full_id
from saferl.evaluation.report import Facts, show
from saferl.progress_bar import progress_bar
from saferl.resuming import refuse_settings_beside_resume, saved_settings
from saferl.training.config import device_named
from saferl.training.run_folder import environment_facts, make_folder, write_atomically, write_json

SETTINGS = "attack.yaml"


def adversaries_for_help() -> str:
    """The adversaries, one a line."""
    return "\n".join(f"                {name:{12}} {kind.about}" for name, kind in ADVERSARIES.items()) + "\n"


OmegaConf.register_new_resolver("adversaries", lambda *_: adversaries_for_help(), replace=True)
OmegaConf.register_new_resolver("attack_targets", lambda *_: ", ".join(TARGETS), replace=True)


def attack(config: AttackConfig, folder: Path | None) -> None:
    """Compare, write results, pictures and report, and print the tables.

    Args:
        config: the settings.
        folder: of a comparison to go on with; None: a new one.
    Raises: UsageError for what the user can mend; SystemExit(130) after Ctrl-C.
    """
    if not config.adversaries:
        raise UsageError(f"adversary must be a name, a list of names, or all; got {config.adversary}.")
    try:
        limit = config.limits[0] if config.limits is not None and len(config.limits) == 1 else None
        victim, env_id = load_victim(
            config.victim,
            config.env,
            env_kwargs=config.env_kwargs,
            statistics=config.statistics,
            black_box=config.black_box,
            cost_limit=limit,
            device=device_named(config.device),
        )
        if config.target is not None:
            target_named(config.target, full_id(env_id))
    except (ValueError, gymnasium.error.Error) as error:
        raise UsageError(str(error)) from error
    if folder is None:
        folder = make_folder(config.out, env_id, f"attack-{_short(config.victim)}", config.seed)
        write_json(folder / "environment.json", environment_facts())
        write_atomically(folder / SETTINGS, yaml.safe_dump(plain(config), sort_keys=False).encode())
    kind = "gradients known" if victim.white_box else "a black box: slopes are estimated from its answers"
    print(f"{victim.name} on {env_id}: {kind}; folder {folder}", flush=True)
    try:
        with progress_bar("start", lines=True) as report:
            comparison = Comparison(config, victim, env_id, folder, report)
            results = comparison.run()
    except KeyboardInterrupt:
        print(f"saferl.attack: stopped; resume={folder} goes on.", file=sys.stderr)
        raise SystemExit(130) from None
    shown = strongest(results)  # no film of a smaller eps in place of one that could not be taken
    films = {each["adversary"]: path for each in shown if (path := comparison.film_of(each)).exists()}
    _write(results, films, f"{_short(config.victim)} on {env_id}", config, folder)


def _write(results: list[Facts], films: Mapping[str, Path], title: str, config: AttackConfig, folder: Path) -> None:
    pictures = ["curves.png"]
    eps_curves(results, folder / "curves.png", f"Attacks on {title}")
    if "paths" in results[0]:
        pictures.append("paths.png")
        robot_paths(results, folder / "paths.png", f"{title}: under attack (colour) and clean (grey)")
    if "speeds" in results[0]:
        pictures.append("speeds.png")
        speed_curves(results, folder / "speeds.png", f"{title}: under attack (colour) and clean (grey)")
    if films:
        pictures.append("films.png")
        shown = {name: np.load(path, allow_pickle=False) for name, path in films.items()}
        film_strips(results, shown, folder / "films.png", f"{title}: one episode from the same start")
    write_json(folder / "attacks.json", results)
    page = report_text(results, title, plain(config), pictures)
    write_atomically(folder / "report.md", page.encode())
    show(*attack_tables(results, title))
    for line in findings(results):
        print(line)
    print(f"written: {folder}/ with report.md, attacks.json, {', '.join(pictures)}")


def _short(victim: str) -> str:
    """A name for folders and titles: a run's agent, a file's stem, a function's name."""
    if ":" in victim:
        return victim.rpartition(":")[2]
    path = Path(victim)
    return path.stem if path.suffix else path.resolve().parent.name


def settings_for(values: Mapping[str, Any]) -> tuple[AttackConfig, Path | None]:
    """The settings, and the folder if an old comparison goes on with its own.

    Raises: UsageError if the folder holds none.
    """
    if not values.get("resume"):
        return parse_attack(values), None
    folder = Path(str(values["resume"]))
    return parse_attack(saved_settings(folder, SETTINGS, "comparison")), folder


def job(settings: DictConfig) -> None:
    """One comparison from Hydra's settings."""
    attack(*settings_for(OmegaConf.to_container(settings, resolve=True)))  # type: ignore[arg-type]


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    return guarded("attack", lambda: _main(words))


def _main(words: list[str]) -> int:
    flags = check_flags(words)
    if flags.multirun:
        raise UsageError("attack takes no -m; adversaries and eps are lists, and a victim is attacked at a time.")
    if not (flags.help or flags.hydra_help or flags.cfg or flags.info or flags.shell_completion):
        refuse_settings_beside_resume(flags.overrides, "comparison")
        settings_for(OmegaConf.to_container(composed("attack", flags.overrides)))  # type: ignore[arg-type]
    run_hydra("attack", flags, job)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
