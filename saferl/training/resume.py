"""resume=RUN: the settings of a run that goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from saferl.command_line import UsageError
from saferl.training.config import TrainConfig, parse_training, plain
from saferl.training.run_folder import RunFolder, open_run, save_settings


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
        if key == "agent":
            asked, kept = word.split("=", 1)[1], config.preset
        if key == "steps" and isinstance(asked, (int, float)):
            if asked < config.steps:
                raise UsageError(f"steps={asked:g} is less than the {config.steps} of {run.path}; steps may only grow.")
            config = replace(config, steps=int(asked))
        elif asked != kept:
            raise UsageError(
                f"{word} contradicts {run.path} ({key}={kept}); a resumed run keeps its settings, only steps may grow: "
                f"leave {key} out or start a new run."
            )
    if plain(config) != saved:
        save_settings(run, plain(config))
    return config


def with_agent(overrides: Sequence[str]) -> list[str]:
    """The user's words, led by the agent of the run that ``resume=`` names: so its settings are known keys.

    Words without ``resume=``, with an agent or with a sweep over runs come back as they are.
    Raises: UsageError if the run is not there.
    """
    values = dict(word.split("=", 1) for word in overrides if "=" in word)
    if values.get("resume") in (None, "null") or "agent" in values or "," in values["resume"]:
        return list(overrides)
    return [f"agent={parse_training(open_run(values['resume']).settings()).preset}", *overrides]


def _value(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values
