"""Value: a reachability value on a grid as a function of the state, with gradient and best inputs; save and load.

Sign convention, everywhere in this package: values are costs. A constraint h(x) > 0 is violated; V(x) > 0 means that
the worst disturbance can force a violation whatever the control does (avoid), or that the target can't be reached
safely (reach, reach-avoid: l(x) <= 0 inside the target). The control minimises, the disturbance maximises.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from saferl.reachability.grid import Grid
from saferl.reachability.interpolation import interpolated, interpolated_gradient
from saferl.reachability.system import Array, System

FORMAT = 1  # of the files


@dataclass(frozen=True)
class Value:
    """A value function on a grid. Call it on states (B, d) to get V (B,), multilinear between the nodes.

    Beyond the box the nearest point of it counts; ``grid.contains`` tells which states are inside.

    Args:
        grid: the nodes.
        values: (n_1, ..., n_d) V at the nodes, float32 or float64.
        system: whose value it is; needed for inputs only.
        facts: what is known about the solution (problem, horizon or discount, bounds), plain data for JSON.
    Raises: ValueError for values of another shape or not finite.
    """

    grid: Grid
    values: NDArray[Any]
    system: System | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.values.shape != self.grid.shape:
            raise ValueError(f"values have shape {self.values.shape} on a grid of shape {self.grid.shape}.")
        if not np.isfinite(self.values).all():
            at = np.unravel_index(int(np.argmin(np.isfinite(self.values))), self.grid.shape)
            state = [float(axis[i]) for axis, i in zip(self.grid.axes, at)]
            raise ValueError(f"the value is not finite at state {state}.")
        if self.system is not None and self.system.ndim != self.grid.ndim:
            raise ValueError(
                f"system {self.system.name} has {self.system.ndim} states; the grid {self.grid.ndim} axes."
            )

    def __call__(self, states: ArrayLike) -> Array:
        """V (B,) at states (B, d), in the unit of h; NaN where a state is not finite."""
        return interpolated(self.values, self.grid, self.grid.nodes_of(states))

    def gradient(self, states: ArrayLike) -> Array:
        """dV/dx (B, d) at states (B, d): interpolated central differences."""
        return interpolated_gradient(self.values, self.grid, self.grid.nodes_of(states))

    def safe_control(self, states: ArrayLike) -> Array:
        """The control (B, m) that makes V fall fastest at states (B, d): argmin of grad V . G u.

        Raises: ValueError if the value has no system, or that no control.
        """
        system = self._system()
        if system.control is None:
            raise ValueError(f"system {system.name} has no control.")
        return system.control.extreme(-self._along(states, system.control_at(*np.asarray(states, float).T)))

    def worst_disturbance(self, states: ArrayLike) -> Array:
        """The disturbance (B, m) that makes V rise fastest at states (B, d): argmax of grad V . H d.

        Raises: ValueError if the value has no system, or that no disturbance.
        """
        system = self._system()
        if system.disturbance is None:
            raise ValueError(f"system {system.name} has no disturbance.")
        return system.disturbance.extreme(self._along(states, system.disturbance_at(*np.asarray(states, float).T)))

    def volume(self) -> float:
        """Share of the box where V <= 0, by nodes."""
        return float(np.mean(self.values <= 0))

    def _system(self) -> System:
        if self.system is None:
            raise ValueError("this value has no system; give one to Value(...) or to load(..., system=...).")
        return self.system

    def _along(self, states: ArrayLike, matrix: tuple[tuple[Array, ...], ...]) -> Array:
        """grad V times a matrix of inputs, (B, m)."""
        gradient = self.gradient(states)  # (B, d)
        columns = [
            sum(gradient[:, i] * np.broadcast_to(entry, len(gradient)) for i, entry in enumerate(column))
            for column in zip(*matrix)
        ]
        return np.stack(columns, axis=1)

    def save(self, folder: str | Path) -> Path:
        """Write ``value.safetensors`` and ``value.json`` into a folder; returns it. Half-written files never stay."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "format": FORMAT,
            "system": None if self.system is None else self.system.name,
            "low": self.grid.low,
            "high": self.grid.high,
            "shape": self.grid.shape,
            "periodic": self.grid.periodic,
            "facts": self.facts,
        }
        save_file({"values": np.ascontiguousarray(self.values)}, folder / "value.safetensors.part")
        (folder / "value.json.part").write_text(json.dumps(facts, indent=1) + "\n")
        os.replace(folder / "value.safetensors.part", folder / "value.safetensors")
        os.replace(folder / "value.json.part", folder / "value.json")
        return folder

    @classmethod
    def load(cls, folder: str | Path, system: System | None = None) -> "Value":
        """Read what ``save`` wrote.

        Args:
            folder: where.
            system: the system of the value, for inputs; its name must be the saved one.
        Raises: ValueError in one line if there is no such value, it is damaged, or it is of another system.
        """
        folder = Path(folder)
        try:
            facts = json.loads((folder / "value.json").read_text())
            values = load_file(folder / "value.safetensors")["values"]
            grid = Grid(facts["low"], facts["high"], facts["shape"], facts["periodic"])
        except FileNotFoundError as error:
            raise ValueError(f"{folder} holds no value ({Path(str(error.filename)).name} is missing).") from error
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ValueError(f"{folder} holds a damaged value: {error}; compute it again.") from error
        if facts.get("format") != FORMAT:
            raise ValueError(f"{folder} has format {facts.get('format')}; this saferl reads format {FORMAT}.")
        if system is not None and facts["system"] not in (None, system.name):
            raise ValueError(f"{folder} holds a value of system {facts['system']}; got {system.name}.")
        return cls(grid, values, system, facts["facts"])
