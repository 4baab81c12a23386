"""Guardian: what every estimator of the data's support over (state, action) offers, and its settings."""

import importlib.metadata
import json
import os
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors.numpy import save_file

KINDS = ("kde", "knn", "autoencoder", "density_ratio", "ensemble", "counts")
SEARCHES = ("exact", "faiss")
FORMAT = 1  # of the files
WEIGHTS, CALIBRATION = "guardian.safetensors", "calibration.json"  # what a saved guardian consists of


@dataclass(frozen=True, kw_only=True)
class GuardianConfig:
    """Settings of a guardian.

    Raises: ValueError for a value out of range.
    """

    kind: str = "kde"
    alpha: float = 0.05  # share of the data that counts as outside
    rows: int | None = None  # at most so many rows, drawn at random, are the reference set; None: all
    bandwidth: float | None = None  # kde: sigma, in units of the scaled inputs; None: by held-out likelihood
    neighbours: int | None = None  # nearest rows that count; None: knn 5, kde all
    search: str = "exact"  # of neighbours: "exact" (a k-d tree) or "faiss" (inverted lists, for large stores)
    hidden: int = 128  # networks: width of a layer
    updates: int = 3000  # networks: training steps
    members: int = 4  # ensemble: its networks

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"guardian.kind must be one of {', '.join(KINDS)}; got {self.kind!r}.")
        if self.search not in SEARCHES:
            raise ValueError(f"guardian.search must be one of {', '.join(SEARCHES)}; got {self.search!r}.")
        if not 0 < self.alpha < 1:
            raise ValueError(f"guardian.alpha must be in (0, 1); got {self.alpha}.")
        if self.bandwidth is not None and not self.bandwidth > 0:
            raise ValueError(f"guardian.bandwidth must be > 0; got {self.bandwidth}.")
        least = {"rows": 2, "neighbours": 1, "hidden": 1, "updates": 1, "members": 2}
        for key, low in least.items():
            value = getattr(self, key)
            if value is not None and value < low:
                raise ValueError(f"guardian.{key} must be >= {low}; got {value}.")


@dataclass(frozen=True)
class Scale:
    """x = (s, a) mapped to [-1, 1] by the least and the greatest value of each column in the training data.

    A column that never changes there is only shifted to 0, so that another value of it still counts as a difference.
    """

    low: NDArray[np.float64]  # (d,)
    high: NDArray[np.float64]  # (d,)

    @classmethod
    def of(cls, rows: NDArray[Any]) -> "Scale":
        """The scale of rows (N, d)."""
        return cls(rows.min(axis=0).astype(np.float64), rows.max(axis=0).astype(np.float64))

    @property
    def radius(self) -> NDArray[np.float64]:
        """Half the range of each column, 1 where it is 0; (d,)."""
        half = (self.high - self.low) / 2
        return np.where(half > 0, half, 1.0)

    def __call__(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Scaled rows (N, d)."""
        return ((rows - (self.low + self.high) / 2) / self.radius).astype(np.float32)


class Guardian(ABC):
    """A fitted estimate of where the data are: pairs (s, a) with ``score >= threshold`` count as supported.

    Attributes:
        config: its settings; ``kind`` and ``alpha`` are theirs.
        threshold: the alpha-quantile of the reference set's scores, each taken as if its own row were not there.
        reference_rows: rows that the threshold comes from.
        obs_dim, act_dim: columns of an observation and of an action.
    """

    threshold: float
    reference_rows: int

    def __init__(self, config: GuardianConfig, obs_dim: int, act_dim: int) -> None:
        self.config, self.obs_dim, self.act_dim = config, obs_dim, act_dim

    @property
    def kind(self) -> str:
        """How the support is estimated."""
        return self.config.kind

    @property
    def alpha(self) -> float:
        """Share of the data that counts as outside."""
        return self.config.alpha

    def score(self, observations: ArrayLike, actions: ArrayLike) -> NDArray[np.float32]:
        """How well the data support pairs (N, obs_dim), (N, act_dim); (N,), higher is better.

        Raises: ValueError for another number of columns or rows, or values that are not finite.
        """
        rows = pairs(observations, actions)
        sizes = (columns_of(observations), columns_of(actions))
        if sizes != (self.obs_dim, self.act_dim):
            raise ValueError(
                f"observations and actions have {sizes[0]} and {sizes[1]} columns; "
                f"this guardian was fitted to {self.obs_dim} and {self.act_dim}."
            )
        return np.asarray(self._score(rows), np.float32)

    def supported(self, observations: ArrayLike, actions: ArrayLike) -> NDArray[np.bool_]:
        """Whether each pair is inside, (N,)."""
        return self.score(observations, actions) >= np.float32(self.threshold)

    def cost(self, observations: ArrayLike, actions: ArrayLike) -> NDArray[np.float32]:
        """g(s, a), (N,): 1 outside, 0 inside."""
        return 1 - self.supported(observations, actions).astype(np.float32)

    def save(self, path: str | Path) -> Path:
        """Write the folder ``path``: ``guardian.safetensors`` and ``calibration.json``; returns it.

        Half-written files never stay.
        """
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {key: np.ascontiguousarray(array) for key, array in self.tensors().items()}, folder / f"{WEIGHTS}.part"
        )
        facts = {
            "format": FORMAT,
            "settings": asdict(self.config),
            "threshold": self.threshold,
            "alpha": self.alpha,
            "reference_rows": self.reference_rows,
            "obs_dim": self.obs_dim,
            "act_dim": self.act_dim,
            "fitted": self.facts(),
            "versions": {name: importlib.metadata.version(name) for name in self.packages()},
        }
        (folder / f"{CALIBRATION}.part").write_text(json.dumps(facts, indent=1) + "\n")
        for name in (WEIGHTS, CALIBRATION):
            os.replace(folder / f"{name}.part", folder / name)
        return folder

    @abstractmethod
    def _score(self, rows: NDArray[np.float64]) -> NDArray[Any]:
        """Scores (N,) of unscaled rows [s, a] (N, d)."""

    @abstractmethod
    def left_out_scores(self) -> NDArray[np.float32]:
        """Scores that the threshold is the quantile of, (reference_rows,): no row supports itself."""

    @abstractmethod
    def tensors(self) -> dict[str, NDArray[Any]]:
        """The arrays to save, by name."""

    def facts(self) -> dict[str, Any]:
        """What was decided by fitting, plain data for JSON."""
        return {}

    def packages(self) -> tuple[str, ...]:
        """Packages whose versions go along."""
        return ("numpy",)


def quantile_threshold(scores: NDArray[np.float32], alpha: float) -> float:
    """The score below which floor(alpha N) of N scores lie (fewer where scores are equal).

    Raises: ValueError if it is not finite: everything, or nothing, would be supported.
    """
    place = int(alpha * len(scores))
    threshold = float(np.partition(scores, place)[place])
    if not np.isfinite(threshold):
        raise ValueError(f"the guardian's threshold is {threshold}, so it would tell nothing apart; give it more rows.")
    return threshold


def columns_of(values: ArrayLike) -> int:
    """Columns of (N, columns); 1 of (N,)."""
    shape = np.shape(values)
    return shape[1] if len(shape) == 2 else 1


def pairs(observations: ArrayLike, actions: ArrayLike) -> NDArray[np.float64]:
    """Rows [s, a] (N, d) float64 of observations (N, obs_dim) or (N,) and actions (N, act_dim) or (N,).

    Raises: ValueError for other shapes, unequal numbers of rows, or values that are not finite.
    """
    parts = []
    for name, values in (("observations", observations), ("actions", actions)):
        array = np.asarray(values, np.float64)
        if array.ndim not in (1, 2):
            raise ValueError(f"{name} must be (N, columns) or (N,); got shape {array.shape}.")
        parts.append(array.reshape(len(array), -1))
    if len(parts[0]) != len(parts[1]):
        raise ValueError(f"{len(parts[0])} observations but {len(parts[1])} actions; both must be equally many.")
    rows = np.concatenate(parts, axis=1)
    if not np.isfinite(rows).all():
        row = int(np.argmin(np.isfinite(rows).all(axis=1)))
        raise ValueError(f"row {row} of observations and actions holds {rows[row].tolist()}; all must be finite.")
    return rows
