"""What a safety case shows beside the test: guardian coverage, attack curve, reachability audit.

Each part is a JSON file and pictures that lie in the run's folder or in one that ``evidence=`` names, as the command
that measures it writes them. They are shown, not tested: no verdict depends on them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from saferl.command_line import UsageError
from saferl.training.checkpoint import checkpoints
from saferl.training.run_folder import RunFolder, read_json

_ROWS = 60  # of a table; what is longer is cut, and says so
Row = dict[str, Any]
Shown = tuple[dict[str, Any], dict[str, list[Row]]]  # facts by name, tables by name


@dataclass(frozen=True)
class Part:
    """One part of a safety case.

    Attributes:
        title: its heading; note: what it is.
        facts: name to value.
        tables: name to rows, each with the same columns.
        pictures: PNG files.
    """

    title: str
    note: str
    facts: Mapping[str, Any]
    tables: Mapping[str, list[Row]]
    pictures: tuple[Path, ...]


def parts_of(
    run: RunFolder | None, evidence: Sequence[str | Path] = (), policy: str | None = None
) -> tuple[list[Part], list[str]]:
    """The parts that are there, and headings of those that are not.

    Args:
        run: folder of the policy's run; None for a policy without one.
        evidence: further folders.
        policy: what policy= says; None: not checked.
    Raises: UsageError for a folder that is not there, holds none of them or is of another policy, or a file that is not
        what it should be.
    """
    folders = [] if run is None else [run.path]
    for each in evidence:
        if not any((Path(each) / file).is_file() for _, _, files, _, _ in _KINDS for file in files):
            known = ", ".join(file for _, _, files, _, _ in _KINDS for file in files)
            raise UsageError(f"evidence={each} holds nothing that a safety case shows; known: {known}.")
        _check_policy(Path(each), policy)
        folders.append(Path(each))
    found, absent = [], []
    for title, note, files, pictures, read in _KINDS:
        about = (title, note, files, pictures, read)
        here = [part for folder in folders if (part := _part(folder, run, *about)) is not None]
        found += here
        if not here:
            absent.append(title)
    return found, absent


def _check_policy(folder: Path, policy: str | None) -> None:
    """Raises: UsageError if a comparison of attacks, or a run, is not of the policy, as far as files tell.

    What a function, module:name, makes its policy from can't be told.
    """
    victim, settings = str(folder) if (folder / "config.yaml").is_file() else None, folder / "attack.yaml"
    if settings.is_file():
        try:
            victim = str(yaml.safe_load(settings.read_text(encoding="utf-8"))["victim"])
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise UsageError(f"{settings}: not the settings of a comparison ({type(error).__name__}).") from error
    if policy is None or victim is None or ":" in policy:
        return
    if Path(victim).resolve() != Path(policy).resolve():
        raise UsageError(f"evidence={folder} is of {victim}, not of policy={policy}.")


def _part(
    folder: Path,
    run: RunFolder | None,
    title: str,
    note: str,
    files: Sequence[str],
    pictures: str,
    read: Callable[[Any], Shown | None],
) -> Part | None:
    for file in files:
        path = folder / file
        if not path.is_file():
            continue
        try:
            content = read(read_json(path))
        except (KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{path}: not what its name says ({type(error).__name__}: {error}).") from error
        if content is not None:
            saved = [] if run is None else checkpoints(run.checkpoints)
            old = saved and path.stat().st_mtime < (saved[-1] / "weights.safetensors").stat().st_mtime
            age = " It was measured before the last update of the policy." if old else ""
            return Part(title, f"{note}. From {path}.{age}", *content, tuple(sorted(folder.glob(pictures))))
    return None


def shown(values: Mapping[str, Any]) -> Shown:
    """What a JSON file can show without knowing what it is: its plain values, and its lists of records as tables.

    Args:
        values: as the file holds them; records in records are named "outer inner".
    Returns: facts by name, tables by name.
    """
    facts: dict[str, Any] = {}
    tables: dict[str, list[Row]] = {}

    def walk(node: Mapping[str, Any], prefix: str) -> None:
        for key, value in node.items():
            name = f"{prefix}{key}".replace("_", " ")
            if isinstance(value, Mapping):
                walk(value, f"{name} ")
            elif isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
                tables[name] = [_flat(each) for each in value]
            elif isinstance(value, (str, int, float, bool)):
                facts[name] = value

    walk(values, "")
    return facts, tables


def cut(rows: list[Row]) -> tuple[list[Row], int]:
    """The first rows of a table, and how many are left out."""
    return rows[:_ROWS], max(len(rows) - _ROWS, 0)


def _flat(record: Mapping[str, Any], prefix: str = "") -> Row:
    row: Row = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            row |= _flat(value, f"{prefix}{key} ")
        elif isinstance(value, (str, int, float, bool)):
            row[f"{prefix}{key}".replace("_", " ")] = value
    return row


def _attacks(values: Sequence[Mapping[str, Any]]) -> Shown:
    """A row for each adversary and eps."""
    rows = [
        {
            "adversary": each["adversary"],
            "eps": each["eps"],
            "return": each["return"]["mean"],
            "cost": each["cost"]["mean"],
            "episodes that cost anything": _share(each["violation_rate"]),
        }
        for each in values
    ]
    return {}, {"": rows}


def _audit(values: Mapping[str, Any]) -> Shown | None:
    """A row for each sample of states: how the learned and the true region agree. None in an eval.json without."""
    audit = values.get("audit") if "per_episode" in values else values
    if audit is None:
        return None
    rows = []
    for sample in audit["samples"]:
        overall = sample["overall"]
        rows.append(
            {
                "states": overall["name"],
                "truly infeasible": _share(overall["infeasible"]),
                "intersection over union": _share(overall["iou"]),
                "false-safe (learned safe, truly unsafe)": _share(overall["false_safe"]),
                "false alarms": _share(overall["false_unsafe"]),
            }
        )
    return {}, {"": rows}


def _share(rate: Mapping[str, Any]) -> str:
    if rate.get("low") is None or rate.get("rate") is None:
        return f"{rate.get('rate')}"
    return f"{100 * rate['rate']:.2f} % [{100 * rate['low']:.2f}, {100 * rate['high']:.2f}]"


# Heading, what it is, files (the first that is there), pictures, how the file is read.
_KINDS: tuple[tuple[str, str, tuple[str, ...], str, Callable[[Any], Shown | None]], ...] = (
    (
        "Guardian coverage",
        "What a guardian takes for supported by the data",
        ("guardian.json",),
        "guardian*.png",
        shown,
    ),
    ("Attack curve", "Reward and cost under manipulated observations", ("attacks.json",), "curves.png", _attacks),
    (
        "Reachability audit",
        "The learned feasible region against the true one",
        ("audit.json", "eval.json"),
        "audit.png",
        _audit,
    ),
)
