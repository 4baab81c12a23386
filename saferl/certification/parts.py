"""What else a run's folder holds that a safety case shows: guardian coverage, attack curve, reachability audit.

Each part is a JSON file and pictures of the same name, written by the command that measures it. They are shown, not
tested: no verdict depends on them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saferl.command_line import UsageError
from saferl.training.run_folder import RunFolder, read_json

KINDS = {  # name of the file: heading, and how it comes about
    "guardian": ("Guardian coverage", "what share of states and actions a guardian takes for supported by the data"),
    "attack": ("Attack curve", "reward and cost under manipulated observations"),
    "audit": ("Reachability audit", "the learned feasible region against the true one"),
}
_ROWS = 60  # of a table; what is longer is cut, and says so
Row = dict[str, Any]


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


def parts_of(run: RunFolder | None) -> tuple[list[Part], list[str]]:
    """The parts that a run has, and headings of those that it has not.

    Args:
        run: its folder; None for a policy without one.
    Raises: UsageError for a file that is not JSON.
    """
    found, absent = [], []
    for key, (title, note) in KINDS.items():
        values = None if run is None else _values(run, key)
        if run is None or values is None:
            absent.append(title)
            continue
        facts, tables = shown(values)
        if key == "audit" and (rows := _audit(values)):
            facts, tables = {}, {"": rows}  # the file holds far more than a page
        found.append(Part(title, note, facts, tables, tuple(sorted(run.path.glob(f"{key}*.png")))))
    return found, absent


def shown(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[Row]]]:
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


def _values(run: RunFolder, key: str) -> dict[str, Any] | None:
    path = run.path / f"{key}.json"
    if path.is_file():
        values = read_json(path)
        if not isinstance(values, dict):
            raise UsageError(f"{path}: expected named values.")
        return values
    if key == "audit" and run.evaluation.is_file():
        return read_json(run.evaluation).get("audit")
    return None


def _audit(values: Mapping[str, Any]) -> list[Row]:
    """A row for each sample of states: how the learned and the true region agree."""
    rows = []
    for sample in values.get("samples", []):
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
    return rows


def _share(rate: Mapping[str, Any]) -> str:
    if rate.get("low") is None or rate.get("rate") is None:
        return f"{rate.get('rate')}"
    return f"{100 * rate['rate']:.2f} % [{100 * rate['low']:.2f}, {100 * rate['high']:.2f}]"
