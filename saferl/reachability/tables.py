"""Tables: coefficients over the grid, each stored only along the axes on which it depends, packed for the kernels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saferl.reachability.grid import Grid


@dataclass(frozen=True)
class Tables:
    """T arrays over one grid, one behind the other.

    The entry of table t at node (i_1, ..., i_d) is ``entries[offsets[t] + sum_k strides[t, k] * i_k]``; a stride of 0
    means that the table does not depend on the axis.
    """

    entries: NDArray[Any]  # (sum of sizes,)
    offsets: NDArray[np.int64]  # (T,)
    strides: NDArray[np.int64]  # (T, d)

    @property
    def nbytes(self) -> int:
        """Bytes of all tables."""
        return self.entries.nbytes


def pack(
    arrays: Sequence[NDArray[Any]], grid: Grid, dtype: np.dtype[Any], row: int | None = None, lead: int = 0
) -> Tables:
    """Tables of arrays that broadcast to the grid.

    Args:
        arrays: T arrays, or numbers.
        grid: the grid.
        dtype: precision of the entries.
        row: for kernels that run over the last two axes as over one: a table that depends on either is stored along
            both, with rows of this many entries, ``lead`` of them before the first node. None: each axis by itself.
    Raises: ValueError for an entry that is not finite, naming the state.
    """
    parts, offsets, strides, offset = [], [], [], 0
    for array in arrays:
        shaped = np.asarray(array, dtype=dtype)
        shaped = shaped.reshape((1,) * (grid.ndim - shaped.ndim) + shaped.shape)
        if not np.isfinite(shaped).all():
            at = np.unravel_index(int(np.argmin(np.isfinite(shaped))), shaped.shape)
            state = [float(axis[i]) for axis, i in zip(grid.axes, at)]
            raise ValueError(f"the dynamics are not finite at state {state}; they must be at every node of the grid.")
        if row is not None and max(shaped.shape[-2:]) > 1:
            plane = (*shaped.shape[:-2], *grid.shape[-2:])  # of one row for a grid of one axis
            sides = [(0, 0)] * (grid.ndim - 1) + [(lead, row - lead - grid.shape[-1])]
            shaped = np.pad(np.broadcast_to(shaped, plane), sides, mode="edge")
        shaped = np.ascontiguousarray(shaped)
        steps = np.array([stride // shaped.itemsize for stride in shaped.strides])
        parts.append(np.ravel(shaped))
        offsets.append(offset)
        strides.append(np.where(np.array(shaped.shape) == 1, 0, steps))
        offset += shaped.size
    if not parts:
        return Tables(np.zeros(1, dtype), np.zeros(0, np.int64), np.zeros((0, grid.ndim), np.int64))
    return Tables(np.concatenate(parts), np.array(offsets, np.int64), np.array(strides, np.int64))
