"""The recorded solutions of ../shared/oracles/reach, turned to saferl's signs (h > 0 violated)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saferl.reachability import Grid

FOLDER = Path(__file__).parents[3] / "shared" / "oracles" / "reach"


@dataclass(frozen=True)
class Oracle:
    """One recording: the grid that was solved, the recorded values and the independent reference at every k-th node."""

    facts: dict[str, Any]
    grid: Grid
    recorded: np.ndarray
    reference: np.ndarray | None
    every: int

    def at_recorded(self, values: np.ndarray) -> np.ndarray:
        return values[(slice(None, None, self.every),) * values.ndim]


def oracle(name: str) -> Oracle:
    if not FOLDER.is_dir():
        pytest.skip("the recorded oracles are not beside this checkout")
    facts = json.loads((FOLDER / f"{name}.json").read_text())
    box = facts["grid"]
    arrays = np.load(FOLDER / f"{name}.npz")
    sign = 1 if "discounted" in name else -1
    reference = -arrays["reference"] if "reference" in arrays else None
    grid = Grid(box["lo"], box["hi"], box["solved_shape"], box["periodic_dims"])
    return Oracle(facts, grid, sign * arrays["values"], reference, box["stored_every"])
