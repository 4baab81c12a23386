"""OfflineDataset: recorded transitions, checked once, with the episodes they form."""

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

MATRIX_KEYS = ("observations", "next_observations", "actions")  # (N, columns) float32
VECTOR_KEYS = ("rewards", "costs", "margins")  # (N,) float32
FLAG_KEYS = ("terminals", "timeouts")  # (N,) bool
_BLOCK = 1 << 20  # values that are checked at a time: keeps the temporary masks at 1 MB


class DatasetError(ValueError):
    """Data that can't be used; one line: source, key, row, what is wrong, what is allowed."""


@dataclass(frozen=True, eq=False)
class OfflineDataset:
    """N recorded transitions, one episode after the other.

    An episode ends at a row whose ``terminals`` or ``timeouts`` is true (both may be). Rows behind the last end belong
    to an episode that nobody finished: they are dropped with one warning.

    Args:
        observations: (N, obs_dim) float32; what was seen before the action.
        next_observations: (N, obs_dim) float32; what was seen after it, never the next episode's first one.
        actions: (N, act_dim) float32, in the environment's units.
        rewards: (N,) float32.
        costs: (N,) float32, >= 0.
        terminals: (N,) bool (or 0/1); the task itself ended: nothing comes after this row.
        timeouts: (N,) bool (or 0/1); only the recording ended.
        margins: (N,) float32 or None; signed constraint value h of the state after the action, > 0 violated.
        metadata: facts about the data, by name (recipe, seed, versions).
        source: where the data comes from, a file's path as a rule; begins every message about it.

    Arrays of another real dtype are converted; float32 arrays are kept without a copy.

    Raises: DatasetError naming source, key and row of the first thing that is wrong.
    """

    observations: NDArray[np.float32]
    next_observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float32]
    costs: NDArray[np.float32]
    terminals: NDArray[np.bool_]
    timeouts: NDArray[np.bool_]
    margins: NDArray[np.float32] | None = None
    metadata: dict[str, str | int | float] = field(default_factory=dict)
    source: str = "dataset"

    def __post_init__(self) -> None:
        """Convert, check and cut off the unfinished end."""
        given = {key: getattr(self, key) for key in MATRIX_KEYS + VECTOR_KEYS + FLAG_KEYS}
        arrays = {key: _real_array(value, key, self.source) for key, value in given.items() if value is not None}
        check_shapes({key: array.shape for key, array in arrays.items()}, self.source)
        for key, array in arrays.items():
            arrays[key] = _flags(array, key, self.source) if key in FLAG_KEYS else _finite(array, key, self.source)
        _check_costs(arrays["costs"], self.source)
        kept = _finished_rows(arrays["terminals"], arrays["timeouts"], self.source)
        for key, array in arrays.items():
            object.__setattr__(self, key, array[:kept])  # the dataclass is frozen for everybody else

    def __len__(self) -> int:
        """Number of transitions N."""
        return len(self.rewards)

    @property
    def obs_dim(self) -> int:
        """Values in one observation."""
        return self.observations.shape[1]

    @property
    def act_dim(self) -> int:
        """Values in one action."""
        return self.actions.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays together."""
        return sum(array.nbytes for array in self.arrays().values())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name, ``margins`` only where there are some."""
        named = {key: getattr(self, key) for key in MATRIX_KEYS + VECTOR_KEYS + FLAG_KEYS}
        return {key: array for key, array in named.items() if array is not None}

    def sha256(self) -> str:
        """SHA-256 of everything recorded: the arrays' names, shapes and bytes."""
        digest = hashlib.sha256()
        for key, array in self.arrays().items():
            digest.update(f"{key}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()

    @cached_property
    def episode_ends(self) -> NDArray[np.int64]:
        """(E,) the row behind the last one of each episode."""
        return np.flatnonzero(self.terminals | self.timeouts) + 1

    @cached_property
    def episode_starts(self) -> NDArray[np.int64]:
        """(E,) the first row of each episode."""
        return np.concatenate([np.zeros(1, np.int64), self.episode_ends[:-1]])

    @property
    def n_episodes(self) -> int:
        """Number of episodes E."""
        return len(self.episode_ends)

    @property
    def episode_lengths(self) -> NDArray[np.int64]:
        """(E,) rows of each episode."""
        return self.episode_ends - self.episode_starts

    @property
    def episode_slices(self) -> list[slice]:
        """The rows of each episode, in order."""
        return [slice(int(start), int(end)) for start, end in zip(self.episode_starts, self.episode_ends)]

    def episode_returns(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Undiscounted sums of reward (E,) and of cost (E,) of each episode, added up in float64."""
        starts = self.episode_starts
        return (
            np.add.reduceat(self.rewards, starts, dtype=np.float64),
            np.add.reduceat(self.costs, starts, dtype=np.float64),
        )

    def select(self, episodes: ArrayLike) -> "OfflineDataset":
        """A copy with only these episodes, in this order.

        Args:
            episodes: (K,) indices into the E episodes (repeats allowed), or an (E,) bool mask; at least one episode.

        Raises: DatasetError for an index outside of [0, E), a mask of another length or no episode at all.
        """
        chosen = np.asarray(episodes)
        if chosen.dtype == bool:
            if chosen.shape != (self.n_episodes,):
                raise DatasetError(
                    f"{self.source}: a mask of episodes must have shape ({self.n_episodes},); got {chosen.shape}."
                )
            chosen = np.flatnonzero(chosen)
        if chosen.size == 0:
            raise DatasetError(f"{self.source}: no episode is selected; at least one of {self.n_episodes} is needed.")
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu":
            raise DatasetError(
                f"{self.source}: episodes must be (K,) integers or a mask; got {chosen.dtype} {chosen.shape}."
            )
        if chosen.min() < 0 or chosen.max() >= self.n_episodes:
            wrong = chosen[(chosen < 0) | (chosen >= self.n_episodes)][0]
            raise DatasetError(f"{self.source}: no episode {wrong}; allowed: 0 to {self.n_episodes - 1}.")
        lengths = self.episode_lengths[chosen]  # (K,)
        before = np.cumsum(lengths) - lengths  # (K,) rows of the copy in front of each chosen episode
        rows = np.arange(lengths.sum()) + np.repeat(self.episode_starts[chosen] - before, lengths)
        arrays = {key: array[rows] for key, array in self.arrays().items()}
        return OfflineDataset(**arrays, metadata=dict(self.metadata), source=self.source)

    def check_matches(self, env: Any) -> None:
        """Check that observations and actions have the sizes of an environment, vectorised or not.

        Args:
            env: anything with gymnasium's ``observation_space`` and ``action_space`` (or their ``single_`` versions).

        Raises: DatasetError with both sizes.
        """
        name = getattr(getattr(env, "spec", None), "id", None) or type(env).__name__
        sizes = []
        for kind in ("observation", "action"):
            space = getattr(env, f"single_{kind}_space", None) or getattr(env, f"{kind}_space")
            if space.shape is None or len(space.shape) != 1:
                raise DatasetError(f"{name}: its {kind} space must be a flat Box; got {space}.")
            sizes.append(space.shape[0])
        self.check_sizes(sizes[0], sizes[1], name)

    def check_sizes(self, obs_dim: int, act_dim: int, name: str) -> None:
        """Check the sizes of observations and actions; raises DatasetError that says ``name`` needs others."""
        for key, size, needed in (("observations", self.obs_dim, obs_dim), ("actions", self.act_dim, act_dim)):
            if size != needed:
                raise DatasetError(
                    f"{self.source}: {key}, row 0: {size} values, but {name} has {needed}; "
                    "use the data of this environment or the environment of this data."
                )


def concatenate(datasets: Sequence[OfflineDataset]) -> OfflineDataset:
    """All transitions of several datasets, one after the other; metadata on which all agree is kept.

    Raises: DatasetError where sizes differ, only some have margins, or there is no dataset.
    """
    if not datasets:
        raise DatasetError("nothing to concatenate; at least one dataset is needed.")
    first = datasets[0]
    for other in datasets[1:]:
        if (other.obs_dim, other.act_dim) != (first.obs_dim, first.act_dim):
            raise DatasetError(
                f"{other.source}: observations and actions have {other.obs_dim} and {other.act_dim} values, "
                f"but {first.source} has {first.obs_dim} and {first.act_dim}; all must agree."
            )
        if (other.margins is None) != (first.margins is None):
            raise DatasetError(f"{other.source}: margins must be in all datasets or in none (compare {first.source}).")
    parts = [dataset.arrays() for dataset in datasets]
    arrays = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    common = {
        key: value
        for key, value in first.metadata.items()
        if all(key in other.metadata and other.metadata[key] == value for other in datasets)
    }
    return OfflineDataset(**arrays, metadata=common, source=first.source)


def check_shapes(shapes: Mapping[str, tuple[int, ...]], source: str) -> None:
    """Check the shapes of a dataset's arrays against each other, before anything large is read.

    Args:
        shapes: shape of each array, by the names of OfflineDataset's fields.
        source: begins the message.

    Raises: DatasetError naming the key.
    """
    for key, shape in shapes.items():
        if len(shape) != (2 if key in MATRIX_KEYS else 1):
            raise DatasetError(f"{source}: {key}: shape {shape}; allowed: {_allowed_shape(key)}.")
    rows = shapes["observations"][0]
    if rows == 0:
        raise DatasetError(f"{source}: observations: 0 rows; at least one finished episode is needed.")
    for key, shape in shapes.items():
        if shape[0] != rows:
            raise DatasetError(
                f"{source}: {key}, row {min(rows, shape[0])}: {shape[0]} rows, but observations has {rows}; "
                "all keys must be equally long."
            )
        if len(shape) == 2 and shape[1] == 0:
            raise DatasetError(f"{source}: {key}: shape {shape}; allowed: {_allowed_shape(key)} with a column or more.")
    seen, expected = shapes["next_observations"][1], shapes["observations"][1]
    if seen != expected:
        raise DatasetError(
            f"{source}: next_observations, row 0: {seen} values, but observations has {expected}; both must agree."
        )


def _allowed_shape(key: str) -> str:
    return {"observations": "(N, obs_dim)", "next_observations": "(N, obs_dim)", "actions": "(N, act_dim)"}.get(
        key, "(N,)"
    )


def check_dtype(dtype: np.dtype[Any], key: str, source: str) -> None:
    """Check that an array holds real numbers (or bool); raises DatasetError naming the key."""
    if dtype.kind not in "fiub":
        allowed = "bool or 0/1 numbers" if key in FLAG_KEYS else "real numbers (float32)"
        raise DatasetError(f"{source}: {key}: dtype {dtype}; allowed: {allowed}.")


def _real_array(value: Any, key: str, source: str) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError:  # a ragged list
        raise DatasetError(f"{source}: {key}: rows of unequal length; allowed: {_allowed_shape(key)}.") from None
    check_dtype(array.dtype, key, source)
    return array


def _blocks(array: NDArray[Any]) -> Iterable[tuple[int, NDArray[Any]]]:
    """(first row, view) pieces that cover the array."""
    step = max(1, _BLOCK // max(1, array[:1].size))
    return ((start, array[start : start + step]) for start in range(0, len(array), step))


def _finite(array: NDArray[Any], key: str, source: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # a float64 that is too large becomes inf, which the loop reports
        array = np.ascontiguousarray(array, dtype=np.float32)
    for start, block in _blocks(array):
        good = np.isfinite(block)
        if not good.all():
            row, *column = np.argwhere(~good)[0].tolist()
            where = f"row {start + row}" + (f", column {column[0]}" if column else "")
            raise DatasetError(
                f"{source}: {key}, {where}: {block[row, *column]}; every value must be finite in float32."
            )
    return array


def _flags(array: NDArray[Any], key: str, source: str) -> NDArray[np.bool_]:
    if array.dtype == bool:
        return np.ascontiguousarray(array)
    wrong = (array != 0) & (array != 1)  # also finds nan
    if wrong.any():
        row = int(wrong.argmax())
        raise DatasetError(f"{source}: {key}, row {row}: {array[row]}; allowed: 0 or 1 (or bool).")
    return array.astype(bool)


def _check_costs(costs: NDArray[np.float32], source: str) -> None:
    negative = costs < 0
    if negative.any():
        row = int(negative.argmax())
        raise DatasetError(f"{source}: costs, row {row}: {costs[row]}; a cost must be >= 0.")


def _finished_rows(terminals: NDArray[np.bool_], timeouts: NDArray[np.bool_], source: str) -> int:
    """Rows up to the last episode end; warns where that drops some."""
    ends = np.flatnonzero(terminals | timeouts)
    if not len(ends):
        raise DatasetError(
            f"{source}: terminals, timeouts: none of {len(terminals)} rows ends an episode; "
            "the last row of each episode must have one of them set."
        )
    kept = int(ends[-1]) + 1
    if kept < len(terminals):
        warnings.warn(
            f"{source}: terminals, timeouts, row {kept}: the last episode never ends; "
            f"its {len(terminals) - kept} rows are dropped.",
            stacklevel=4,
        )
    return kept
