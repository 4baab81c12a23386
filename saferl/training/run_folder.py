"""RunFolder: where one training lies on disk, runs/<env>/<agent>/<seed>-<time>/, and what is written beside it."""

import glob
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

import saferl
from saferl.command_line import UsageError


@dataclass(frozen=True)
class RunFolder:
    """Paths inside one run; ``path`` is the folder itself."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved settings; a folder is a run exactly if this file is there."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object a line: what the updates and the evaluations measured."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of ``step-0000005000`` folders."""
        return self.path / "checkpoints"

    @property
    def data(self) -> Path:
        """Facts about the data: source, sizes, return and cost of each episode."""
        return self.path / "data.json"

    @property
    def evaluation(self) -> Path:
        """The last evaluation."""
        return self.path / "eval.json"

    def settings(self) -> dict[str, Any]:
        """The resolved settings as nested values.

        Raises: UsageError if the file is not readable YAML.
        """
        try:
            values = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise UsageError(f"{self.config}: not readable ({type(error).__name__}).") from error
        if not isinstance(values, dict):
            raise UsageError(f"{self.config}: expected the settings of a run.")
        return values


def create_run(out: str | Path, env: str, agent: str, seed: int, settings: dict[str, Any]) -> RunFolder:
    """A new run folder with config.yaml and environment.json in it.

    Args:
        out: folder of all runs.
        env: the environment's id as the user typed it.
        agent: name of the agent's preset.
        seed: begins the folder's name.
        settings: resolved settings.
    Raises: UsageError if the folder can't be made.
    """
    run = RunFolder(make_folder(out, env, agent, seed))
    write_json(run.path / "environment.json", environment_facts())
    save_settings(run, settings)
    return run


def make_folder(out: str | Path, env: str, name: str, seed: int) -> Path:
    """A new folder out/<env>/<name>/<seed>-<time>. Raises: UsageError if it can't be made."""
    parent = Path(out) / file_name(env) / file_name(name)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    attempt = 0
    while True:  # two trainings of one seed may start in the same second
        path = parent / (f"{seed}-{stamp}" if attempt == 0 else f"{seed}-{stamp}-{attempt}")
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError as error:
            if not path.is_dir():
                raise UsageError(f"out={out}: {error.filename} is a file; give another folder.") from error
            attempt += 1
        except OSError as error:
            raise UsageError(f"out={out}: {error.strerror or error}; give another folder.") from error


def save_settings(run: RunFolder, settings: dict[str, Any]) -> None:
    """Write config.yaml."""
    write_atomically(run.config, yaml.safe_dump(settings, sort_keys=False).encode())


def open_run(path: str | Path) -> RunFolder:
    """The run at ``path``. Raises: UsageError if there is none."""
    run = RunFolder(Path(path))
    if not run.config.is_file():
        what = "has no config.yaml, so it is not a run" if run.path.is_dir() else "does not exist"
        raise UsageError(f"{path} {what}; give a folder like runs/point_robot/fisor_small/0-20260101-120000.")
    return run


def find_runs(patterns: str | Sequence[str]) -> list[RunFolder]:
    """The runs that paths name: a run, a folder with runs below it, or a glob of either; sorted, no doubles.

    Raises: UsageError for a pattern that names no run.
    """
    found: dict[Path, RunFolder] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        here = [Path(match) for match in sorted(glob.glob(str(pattern)))] or [Path(pattern)]
        runs = [run for path in here for run in _runs_below(path)]
        if not runs:
            open_run(pattern)
        found.update({run.path.resolve(): run for run in runs})
    return list(found.values())


def _runs_below(path: Path) -> list[RunFolder]:
    if (path / "config.yaml").is_file():
        return [RunFolder(path)]
    return [RunFolder(each.parent) for each in sorted(path.glob("**/config.yaml"))]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is at any moment either the old one or the whole new one, a power cut included."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make renames inside a folder durable, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    write_atomically(path, (json.dumps(value, indent=1, allow_nan=True) + "\n").encode())


def read_json(path: Path) -> Any:
    """What a JSON file of a run holds. Raises: UsageError if it is not there or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not readable ({type(error).__name__}).") from error


def environment_facts() -> dict[str, Any]:
    """What a result depends on beside the settings: versions, commit, machine, command."""
    facts: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "saferl": saferl.__version__,
        "commit": _git_commit(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "packages": {each.name: each.version for each in sorted(importlib.metadata.distributions(), key=_name)},
    }
    return facts


def _name(distribution: importlib.metadata.Distribution) -> str:
    return distribution.name.lower()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _git_commit() -> str | None:
    """Commit of saferl's own source, with "-dirty" if it was changed since; None where it is not in a repository."""
    package = Path(saferl.__file__).parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(package), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # an installed copy may lie inside somebody else's repository
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def file_name(word: str) -> str:
    """The word as the name of a file: what is no letter, digit, dot, underscore or hyphen becomes a hyphen."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in word)
