"""Sweeps for any system: every node gathers the corners of the cells that its feet lie in.

Nodes are worked on in rows along the last axis: first where the cells of a whole row lie along each axis, then the
values. Also in place, row by row (Gauss-Seidel), on one thread.
"""

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from saferl.reachability import multicubic, multilinear
from saferl.reachability.grid import Grid
from saferl.reachability.semi_lagrangian_kernels import (
    FAST,
    Feet,
    Operator,
    back_up,
    compiled,
    cubic_weights,
    fold,
    inside,
)


@numba.njit(fastmath=FAST, error_model="numpy")  # compiled into its caller, for each number of axes
def _row_by(point, values, lows, highs, weights, out):
    start = lows[0, 0] - lows[0, 0]  # an unsigned zero
    for n in range(out.size):
        out[n] = point(values, start, lows, highs, weights, 0, n)


@compiled
def _feet_of_row(values, index, feet, table, shape, wraps, strides, lows, highs, weights, out):
    """V at the feet of a row of nodes under one control and one disturbance, multilinear."""
    last = shape.size - 1
    for k in range(shape.size):
        at, along = feet.offsets[table + k], feet.strides[table + k, last] != 0
        for m in range(last):
            at += feet.strides[table + k, m] * index[m]
        _cells_of_row(feet.entries, at, along, index[k], k == last, shape[k], wraps[k], strides[k],
                      lows[k], highs[k], weights[k])  # fmt: skip
    if shape.size == 1:
        _row_by(multilinear.over_1, values, lows, highs, weights, out)
    elif shape.size == 2:
        _row_by(multilinear.over_2, values, lows, highs, weights, out)
    elif shape.size == 3:
        _row_by(multilinear.over_3, values, lows, highs, weights, out)
    elif shape.size == 4:
        _row_by(multilinear.over_4, values, lows, highs, weights, out)
    elif shape.size == 5:
        _row_by(multilinear.over_5, values, lows, highs, weights, out)
    else:
        _row_by(multilinear.over_6, values, lows, highs, weights, out)


@compiled
def _cells_of_row(entries, at, along, index, inner, count, wraps, stride, lows, highs, weights):
    """The two nodes around the feet of a row along one axis, as offsets, and the weight of the upper one."""
    nodes = lows.size
    for n in range(nodes if along or inner else 1):
        moved = entries[at + n] if along else entries[at]
        floor = np.floor(moved)
        low = (n if inner else index) + np.int64(floor)
        high = low + 1
        if wraps:  # displacements are at most half a turn
            low = low + count if low < 0 else (low - count if low >= count else low)
            high = high + count if high < 0 else (high - count if high >= count else high)
        else:
            low, high = min(max(low, 0), count - 1), min(max(high, 0), count - 1)
        lows[n], highs[n], weights[n] = low * stride, high * stride, moved - floor
    if not (along or inner):
        lows[:], highs[:], weights[:] = lows[0], highs[0], weights[0]


@numba.njit(fastmath=FAST, error_model="numpy")  # compiled into its caller, for each number of axes
def _row_by_cubic(point, values, places, weights, out):
    start = places[0, 0, 0] - places[0, 0, 0]  # an unsigned zero
    for n in range(out.size):
        value, low, high = point(values, start, places, weights, 0, n)
        out[n] = min(max(value, low), high)


@compiled
def _feet_of_row_cubic(values, index, feet, table, shape, wraps, strides, places, weights, out):
    """The same by clipped cubics."""
    last = shape.size - 1
    for k in range(shape.size):
        at, along = feet.offsets[table + k], feet.strides[table + k, last] != 0
        for m in range(last):
            at += feet.strides[table + k, m] * index[m]
        _cubic_cells_of_row(feet.entries, at, along, index[k], k == last, shape[k], wraps[k], strides[k],
                            places[k], weights[k])  # fmt: skip
    if shape.size == 1:
        _row_by_cubic(multicubic.over_1, values, places, weights, out)
    elif shape.size == 2:
        _row_by_cubic(multicubic.over_2, values, places, weights, out)
    elif shape.size == 3:
        _row_by_cubic(multicubic.over_3, values, places, weights, out)
    else:
        _row_by_cubic(multicubic.over_4, values, places, weights, out)


@compiled
def _cubic_cells_of_row(entries, at, along, index, inner, count, wraps, stride, places, weights):
    """The four nodes around the feet of a row along one axis, as offsets, and their weights."""
    nodes = places.shape[1]
    for n in range(nodes if along or inner else 1):
        moved = entries[at + n] if along else entries[at]
        floor = np.floor(moved)
        low, w = (n if inner else index) + np.int64(floor), moved - floor
        weights[0, n], weights[1, n], weights[2, n], weights[3, n] = cubic_weights(w)
        for tap in range(4):
            # On a node, the others have no weight, and are no corners of a cell.
            places[tap, n] = inside(low + (tap - 1 if w != 0 else 0), count, wraps) * stride
    if not (along or inner):
        for tap in range(4):
            places[tap, :] = places[tap, 0]
            weights[tap, :] = weights[tap, 0]


@numba.njit(parallel=True, fastmath=FAST, error_model="numpy", cache=True)
def sweep_nodes(values, out, h, l, operator, feet, shape, wraps, strides, backwards, chunks):  # noqa: E741
    """One sweep, row by row: ``out`` from ``values``, which may be the same array (Gauss-Seidel; ``chunks`` = 1 then).

    Args:
        values, out, h, l: (nodes,) in order; h or l is of size 1 where the problem has none.
        shape, wraps, strides: (d,) of the axes.
        backwards: bit k runs axis k from its end.
        chunks: parts of the work that threads take.
    Returns: the greatest change of a node.
    """
    ndim = shape.size
    size = shape[ndim - 1]
    rows = values.size // size
    greatest = np.zeros(chunks, values.dtype)
    for chunk in numba.prange(chunks):
        lows, highs = np.zeros((ndim, size), np.uint64), np.zeros((ndim, size), np.uint64)
        weights = np.zeros((ndim, size), values.dtype)
        places = np.zeros((ndim, 4, size if operator.cubic else 0), np.uint64)
        taps = np.zeros((ndim, 4, size if operator.cubic else 0), values.dtype)
        best, total, foot, peak = (np.empty(size, values.dtype), np.empty(size, values.dtype),
                                   np.empty(size, values.dtype), np.zeros(size, values.dtype))  # fmt: skip
        index = np.zeros(ndim, np.int64)
        for step in range(chunk * rows // chunks, (chunk + 1) * rows // chunks):
            rest, first = step, 0
            for k in range(ndim - 2, -1, -1):
                i = rest % shape[k]
                rest //= shape[k]
                index[k] = shape[k] - 1 - i if backwards >> k & 1 else i
                first += index[k] * strides[k]
            best[:] = np.inf
            for c in range(feet.controls):
                total[:] = -np.inf if feet.shares.size == 0 else 0
                for e in range(feet.disturbances):
                    table = (c * feet.disturbances + e) * ndim
                    if operator.cubic:
                        _feet_of_row_cubic(values, index, feet, table, shape, wraps, strides, places, taps, foot)
                    else:
                        _feet_of_row(values, index, feet, table, shape, wraps, strides, lows, highs, weights, foot)
                    fold(total, foot, feet.shares, e)
                for n in range(size):
                    best[n] = min(best[n], total[n])
            b = first + size
            back_up(operator.problem, operator.discount, operator.rest, values[first:b],
                     h[first:b] if h.size > 1 else h, l[first:b] if l.size > 1 else l, best, foot, peak)  # fmt: skip
            out[first:b] = foot
        greatest[chunk] = peak.max()
    return greatest.max()


class NodeSweeps:
    """Sweeps node by node, for any system; ``in_place`` (Gauss-Seidel) needs no second array of values.

    Args:
        start, constraint, target: (n_1, ..., n_d) of the kernels' precision; None where the problem has none.
    """

    def __init__(
        self,
        grid: Grid,
        feet: Feet,
        operator: Operator,
        start: NDArray[Any],
        constraint: NDArray[Any] | None,
        target: NDArray[Any] | None,
        in_place: bool,
    ) -> None:
        self._grid, self._feet, self._operator, self._in_place = grid, feet, operator, in_place
        none = np.zeros(1, start.dtype)
        self._h, self._l = (none if each is None else each.reshape(-1) for each in (constraint, target))
        self._now = np.array(start, order="C").reshape(-1)  # a copy: sweeps write into it
        self._next = self._now if in_place else none  # made when the caller has let go of what is not needed
        self._shape = np.array(grid.shape)
        self._wraps = grid.wraps
        self._strides = np.array([math.prod(grid.shape[k + 1 :]) for k in range(grid.ndim)])

    def sweep(self, count: int) -> float:
        """One sweep; returns the greatest change. In place, the ``count``-th sweep starts from another corner."""
        if self._next.size != self._now.size:
            self._next = np.empty_like(self._now)
        backwards = count % 2 ** (self._grid.ndim - 1) if self._in_place else 0  # a row has no direction
        chunks = 1 if self._in_place else 16 * numba.get_num_threads()
        change = sweep_nodes(
            self._now, self._next, self._h, self._l, self._operator, self._feet,
            self._shape, self._wraps, self._strides, backwards, chunks,
        )  # fmt: skip
        self._now, self._next = self._next, self._now
        return float(change)

    def values(self) -> NDArray[Any]:
        """The values, (n_1, ..., n_d)."""
        return self._now.reshape(self._grid.shape)
