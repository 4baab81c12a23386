"""resume=RUN: the settings of a run that goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from saferl.command_line import UsageError
from saferl.training.config import TrainConfig, parse_training, plain
from saferl.training.run_folder import RunFolder, save_settings


def resumed_config(run: RunFolder, overrides: Sequence[str], given: Mapping[str, Any]) -> TrainConfig:
    """The settings of ``run``, with more steps where the user asked for them.

    Args:
        run: the run that goes on.
        overrides: the user's ``key=value`` words.
        given: the settings that they compose to.
    Raises: UsageError for a word that contradicts the run: it would not be the same training any more.
    """
    saved = run.settings()
    config = parse_training(saved)
    for word in overrides:
        key = word.split("=", 1)[0].lstrip("+~")
        if key == "resume" or key.startswith("hydra"):
            continue
        asked, kept = _value(given, key), _value(saved, key)
        if key == "steps" and isinstance(asked, (int, float)):
            if asked < config.steps:
                raise UsageError(f"steps={asked:g} is less than the {config.steps} of {run.path}; steps may only grow.")
            config = replace(config, steps=int(asked))
        elif asked != kept:
            shown = "" if isinstance(kept, dict) else f" ({key}={kept})"
            raise UsageError(
                f"{word} contradicts {run.path}{shown}; a resumed run keeps its settings, only steps may grow: "
                f"leave {key} out or start a new run."
            )
    if plain(config) != saved:
        save_settings(run, plain(config))
    return config


def _value(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    if isinstance(values, Mapping):
        return {name: child for name, child in values.items() if name != "default_steps"}
    return values
