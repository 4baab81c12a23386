"""The raw results behind published tables: kept in benchmarks/measured, put back where the benchmarks look for them.

    python -m benchmarks.measured unpack   # then a benchmark prints its table from them and trains what is missing
    python -m benchmarks.measured pack     # after a benchmark: keep what is there

Episodes' returns and costs, successes and exact values, from which every mean and interval of the tables follows; no
weights and no pictures.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from saferl.training.run_folder import read_json, write_atomically, write_json

KEPT = Path(__file__).parent / "measured"


def compared(results: Any) -> Any:
    """What tables of attacks read of one comparison."""
    keys = ("adversary", "eps", "reference", "about", "target", "intention")
    measured = [{key: each[key] for key in keys if key in each} for each in results]
    for short, each in zip(measured, results, strict=True):
        kept = [key for key in ("returns", "costs", "target") if key in each["per_episode"]]
        short["per_episode"] = {key: each["per_episode"][key] for key in kept}
    return measured


def whole(results: Any) -> Any:
    """A result that is small by itself."""
    return results


# Name of the file -> where the benchmark writes, which files, what is kept of one.
TABLES: dict[str, tuple[Path, str, Callable[[Any], Any]]] = {
    "attack_table": (Path("results/attack_table"), "*/*/attack-*/*/attacks.json", compared),
    "robot_targets": (Path("results/robot_targets"), "*/*/attack-*/*/attacks.json", compared),
    "sepsis_table": (Path("results/sepsis_table"), "*/*/*.json", whole),
    "rat": (Path("runs/rat"), "*.json", whole),
}


def pack(root: Path = Path(), kept: Path = KEPT) -> list[Path]:
    """Write one file for each table of which there is anything under ``root``; returns them.

    What an earlier file has and ``root`` has not stays.
    """
    written = []
    for name, (out, pattern, short) in TABLES.items():
        found = {path.relative_to(root / out).as_posix(): path for path in sorted((root / out).glob(pattern))}
        if not found:
            continue
        path = kept / f"{name}.json"
        before = read_json(path) if path.exists() else {}
        results = before | {place: short(read_json(each)) for place, each in found.items()}
        kept.mkdir(exist_ok=True)
        lines = [f"{json.dumps(place)}: {json.dumps(results[place])}" for place in sorted(results)]
        write_atomically(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())  # a line for each, so that diffs tell
        written.append(path)
    return written


def unpack(root: Path = Path(), kept: Path = KEPT) -> list[Path]:
    """Put every kept result under ``root`` where there is none yet; returns the files that were written."""
    written = []
    for name, (out, _, _) in TABLES.items():
        path = kept / f"{name}.json"
        for place, result in (read_json(path) if path.exists() else {}).items():
            target = root / out / place
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                write_json(target, result)
                written.append(target)
    return written


def main(argv: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("pack", "unpack"))
    for path in {"pack": pack, "unpack": unpack}[parser.parse_args(argv).what]():
        print(path)


if __name__ == "__main__":
    main()
