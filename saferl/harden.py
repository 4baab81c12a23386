"""python -m saferl.harden: training against attacks on observations; --help is the manual."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from saferl.adversaries.catalogue import Means, make_attack, needs_critics
from saferl.adversaries.critics import dearest
from saferl.adversaries.loading import load_victim
from saferl.adversaries.robust.augmentation import augmented
from saferl.adversaries.robust.config import METHODS, HardenConfig, parse_hardening, plain
from saferl.adversaries.robust.training import Hardening
from saferl.adversaries.threat import Normaliser, Threat, Units
from saferl.command_line import UsageError, check_flags, guarded, single_run
from saferl.offline_data.hdf5 import load_hdf5, save_hdf5
from saferl.progress_bar import progress_bar
from saferl.resuming import refuse_settings_beside_resume, saved_settings
from saferl.training.run_evaluation import Protocol
from saferl.training.run_folder import environment_facts, make_folder, write_atomically, write_json

OmegaConf.register_new_resolver(
    "harden_methods",
    lambda *_: "\n".join(f"        {name:{13}} {about}" for name, about in METHODS.items()) + "\n",
    replace=True,
)


SETTINGS = "harden.yaml"


def harden(config: HardenConfig, folder: Path | None) -> Path:
    """Train, or make the data set; the path of what came out.

    Args:
        config: the settings.
        folder: of a training to go on with; None: a new one.
    Raises: UsageError for what the user can mend; SystemExit(130) after Ctrl-C.
    """
    torch.set_num_threads(1)  # faster than two for networks of 64 units
    try:
        data = _augmented(config) if config.method == "augment" else None
        if folder is None:
            folder = make_folder(config.out, config.env, f"harden-{config.method}", config.seed)
            write_json(folder / "environment.json", environment_facts())
            write_atomically(folder / SETTINGS, yaml.safe_dump(plain(config), sort_keys=False).encode())
        if data is not None:
            save_hdf5(data, folder / "dataset.hdf5")
            path = folder / "dataset.hdf5"
            print(f"{path}: {data.n_episodes} episodes, {config.copies} of {config.copies + 1} parts attacked")
            return path
        with progress_bar("start", lines=True) as report:
            path = Hardening(config, Protocol().arguments(config.env), folder, report).run()
    except KeyboardInterrupt:
        told = "nothing was written" if folder is None else f"resume={folder} goes on"
        print(f"saferl.harden: stopped; {told}.", file=sys.stderr)
        raise SystemExit(130) from None
    except (ValueError, gymnasium.error.Error) as error:
        raise UsageError(str(error)) from error
    print(f"{path}; measure it: python -m saferl.attack victim={path} env={config.env} eps={config.eps:g}")
    return path


def _augmented(config: HardenConfig) -> Any:
    """The data set with attacked copies."""
    assert config.victim is not None
    assert config.data is not None
    victim, _ = load_victim(config.victim, config.env)
    if victim.remembers:
        raise UsageError(f"method=augment asks about single states; {victim.name} has a memory and can't answer.")
    dataset = load_hdf5(config.data)
    dataset.check_sizes(victim.obs_dim, victim.act_dim, config.env)
    if needs_critics(config.adversary) and victim.critics is None:
        raise UsageError(f"adversary={config.adversary} needs critics; {victim.name} brings none. mad needs none.")
    units = victim.normaliser or Normaliser.from_observations(dataset.observations, f"statistics of {config.data}")
    threat = Threat(Units(units), config.eps, config.norm)
    means = Means(victim=victim, critics=victim.critics)
    if config.adversary == "amad":
        assert victim.critics is not None
        means = replace(means, threshold=dearest(victim.critics, dataset.observations, dataset.actions, victim))
    attack = make_attack(config.adversary, threat, means)
    return augmented(dataset, threat, attack, config.copies, config.seed, config.adversary)


def job(settings: DictConfig) -> None:
    """One training from Hydra's settings."""
    harden(*_settings_for(settings))


def _settings_for(settings: DictConfig) -> tuple[HardenConfig, Path | None]:
    """The settings, and the folder if an old training goes on with its own."""
    values: Mapping[str, Any] = OmegaConf.to_container(settings, resolve=True)  # type: ignore[assignment]
    if not values.get("resume"):
        return parse_hardening(values), None
    folder = Path(str(values["resume"]))
    return parse_hardening(saved_settings(folder, SETTINGS, "training")), folder


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    return guarded("harden", lambda: _main(words))


def _main(words: list[str]) -> int:
    refuse_settings_beside_resume(check_flags(words).overrides, "training")
    return single_run("harden", words, _settings_for, job, "run one training at a time")


if __name__ == "__main__":
    raise SystemExit(main())
