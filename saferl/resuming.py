"""resume=FOLDER of the commands that go on with the settings they were begun with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from saferl.command_line import UsageError


def saved_settings(folder: Path, file: str, what: str) -> dict[str, Any]:
    """What ``folder`` was begun with: ``file`` in it, a YAML mapping.

    Args:
        folder: of ``what``, "comparison" for example.
    Raises: UsageError if there is none.
    """
    try:
        saved = yaml.safe_load((folder / file).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"resume={folder}: no {what} there, {file} can't be read ({type(error).__name__}).") from error
    if not isinstance(saved, dict):
        raise UsageError(f"resume={folder}: {file} does not hold settings.")
    return saved


def refuse_settings_beside_resume(overrides: Sequence[str], what: str) -> None:
    """Raises: UsageError if key=value words ``overrides`` have resume= and others."""
    keys = [word.split("=")[0].lstrip("+~") for word in overrides]
    others = [key for key in keys if key != "resume" and not key.startswith("hydra")]
    if "resume" in keys and others:
        raise UsageError(f"resume= goes on with the settings that the {what} has; leave out {others[0]}=.")
