"""Sweeps for systems with free axes, on which no displacement depends, such as the position of a vehicle.

Up to two free axes, put last, form a plane over which the shifts and weights of interpolation are constant: a value at
the feet is a weighted sum of neighbouring planes, shifted. All loops run over memory in order and compile to vector
instructions. Planes are worked on in tiles of a few rows, so that the neighbours that many controls share are read from
the nearest cache.
"""

import math
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from saferl.reachability.grid import Grid
from saferl.reachability.semi_lagrangian_kernels import (
    FAST,
    Feet,
    Operator,
    back_up,
    compiled,
    corners,
    cubic_weights,
    fold,
    inside,
)

TILE = 4096  # entries that a tile aims at: its buffers stay in the nearest caches


class Plane(NamedTuple):
    """The layout of values whose last one or two axes are free: planes of ``rows`` rows of ``stride`` entries."""

    rows: int
    nodes: int  # of a row
    stride: int  # entries of a row: margin, nodes, margin
    margin: int  # ghost nodes on either side of a row, as many as shifts may reach; they repeat or wrap around
    rows_wrap: bool
    nodes_wrap: bool
    fixed: int  # axes before the plane's


class Shifts(NamedTuple):
    """For each pair of inputs, where the feet of a plane lie: planes and weights of the fixed axes, shifts inside."""

    counts: np.ndarray  # (P,) planes to blend
    starts: np.ndarray  # (P, most) their first entries
    weights: np.ndarray  # (P, most)
    corner_counts: np.ndarray  # (P,) and the planes at the corners of the cell, for clipping
    corner_starts: np.ndarray  # (P, most)
    whole: np.ndarray  # (P, 2) whole rows and nodes
    parts: np.ndarray  # (P, 2) and the weights of the next ones


@compiled
def _blend(values, starts, weights, pair, count, source, out, to, size):
    """out[to : to + size] = weighted sum of the runs of values that begin at starts[pair] + source: 1, 2 or 4 k."""
    new = out[to : to + size]
    if count == 1:
        at = starts[pair, 0] + source
        new[:] = values[at : at + size]
        return
    if count == 2:
        at, then = starts[pair, 0] + source, starts[pair, 1] + source
        a, b, u, v = values[at : at + size], values[then : then + size], weights[pair, 0], weights[pair, 1]
        for n in range(size):
            new[n] = u * a[n] + v * b[n]
        return
    for j in range(0, count, 4):
        i0, i1, i2, i3 = starts[pair, j], starts[pair, j + 1], starts[pair, j + 2], starts[pair, j + 3]
        a, b = values[i0 + source : i0 + source + size], values[i1 + source : i1 + source + size]
        c, d = values[i2 + source : i2 + source + size], values[i3 + source : i3 + source + size]
        u, v, w, x = weights[pair, j], weights[pair, j + 1], weights[pair, j + 2], weights[pair, j + 3]
        if j == 0:
            for n in range(size):
                new[n] = u * a[n] + v * b[n] + w * c[n] + x * d[n]
        else:
            for n in range(size):
                new[n] += u * a[n] + v * b[n] + w * c[n] + x * d[n]


@compiled
def _bounds(values, starts, pair, count, source, low, high, to, size):
    """The least and the greatest of the runs of values that begin at starts[pair] + source."""
    least, most = low[to : to + size], high[to : to + size]
    for j in range(count):
        at = starts[pair, j] + source
        a = values[at : at + size]
        if j == 0:
            least[:] = a
            most[:] = a
        else:
            for n in range(size):
                least[n] = min(least[n], a[n])
                most[n] = max(most[n], a[n])


@compiled
def _shifts_of(index, feet, shape, wraps, strides, plane, cubic, shifts):
    """Fills ``shifts`` for one plane."""
    for pair in range(feet.controls * feet.disturbances):
        table = pair * shape.size
        starts, weights = shifts.starts[pair], shifts.weights[pair]
        if cubic:
            shifts.corner_counts[pair] = corners(
                index, feet, table, plane.fixed, shape, wraps, strides, shifts.corner_starts[pair], weights, False
            )
        shifts.counts[pair] = corners(index, feet, table, plane.fixed, shape, wraps, strides, starts, weights, cubic)
        for k in range(plane.fixed, shape.size):
            place = feet.offsets[table + k]
            for m in range(plane.fixed):
                place += feet.strides[table + k, m] * index[m]
            moved = feet.entries[place]
            floor = np.floor(moved)
            axis = 2 - shape.size + k  # 0: rows, 1: nodes of a row
            shifts.whole[pair, axis] = np.int64(floor)
            shifts.parts[pair, axis] = moved - floor


@compiled
def fill_margins(run, plane):
    """The ghost nodes at both ends of the rows of a run.

    Once for each new value, not for each pair of inputs: ghosts are the same weighted sums of ghosts as nodes of nodes.
    """
    m, n, s = plane.margin, plane.nodes, plane.stride
    for start in range(0, run.size, s):
        row = run[start : start + s]
        if plane.nodes_wrap:
            for j in range(m):
                row[j] = row[m + (j - m) % n]
                row[m + n + j] = row[m + j % n]
        else:
            first, last = row[m], row[m + n - 1]
            for j in range(m):
                row[j] = first
                row[m + n + j] = last


@compiled
def _gather(values, shifts, pair, plane, first, end, buffers, bounds):
    """Rows ``first`` to ``end`` of a pair's blend of planes into buffer 0; rows beyond the plane wrap or are held.

    ``bounds``: the least and the greatest at the corners of the cells into buffers 1 and 2 instead.
    """
    s = plane.stride
    y = first
    while y < end:
        run = min(end, plane.rows) - y if 0 <= y < plane.rows else 1
        source, to = inside(y, plane.rows, plane.rows_wrap) * s, (y - first) * s + plane.margin  # shifts reach before
        if bounds:
            _bounds(values, shifts.corner_starts, pair, shifts.corner_counts[pair], source,
                    buffers[1], buffers[2], to, run * s)  # fmt: skip
        else:
            _blend(values, shifts.starts, shifts.weights, pair, shifts.counts[pair], source, buffers[0], to, run * s)
        y += run


@compiled
def _lower_to_feet(values, shifts, pair, plane, cubic, first, rows, buffers, passed, out):
    """out = min(out, V at the feet of ``rows`` rows of a plane from ``first`` on), for one pair of inputs."""
    s = plane.stride
    sy, sx = shifts.whole[pair, 0], shifts.whole[pair, 1]
    wy, wx = shifts.parts[pair, 0], shifts.parts[pair, 1]
    reach = 1 if cubic else 0  # nodes beyond the cell on either side
    above, below = first + sy - reach, first + rows + sy + reach + (1 if cubic or wy != 0 else 0)
    _gather(values, shifts, pair, plane, above, below, buffers, False)
    at = reach * s + plane.margin + sx
    if cubic:
        _gather(values, shifts, pair, plane, above, below, buffers, True)
        _lower_to_shifted_cubic(out, buffers[0], buffers[1], buffers[2], at, s, wx, wy, passed)
    else:
        _lower_to_shifted(out, buffers[0], at, s, wx, wy)


@compiled
def _lower_to_shifted(out, buffer, at, stride, wx, wy):
    """out = min(out, bilinear interpolation of the plane in the buffer shifted to ``at`` and by weights)."""
    size = out.size
    a = buffer[at : at + size]
    b = buffer[at + 1 : at + 1 + size] if wx != 0 else a
    if wy != 0:
        c = buffer[at + stride : at + stride + size]
        d = buffer[at + stride + 1 : at + stride + 1 + size] if wx != 0 else c
        w11 = wx * wy
        w01, w10 = wx - w11, wy - w11  # along the row, along the rows
        w00 = (wx - wx + np.float32(1)) - wx - w10
        if wx != 0:
            for n in range(size):
                out[n] = min(out[n], w00 * a[n] + w01 * b[n] + w10 * c[n] + w11 * d[n])
        else:
            for n in range(size):
                out[n] = min(out[n], a[n] + wy * (c[n] - a[n]))
    elif wx != 0:
        for n in range(size):
            out[n] = min(out[n], a[n] + wx * (b[n] - a[n]))
    else:
        for n in range(size):
            out[n] = min(out[n], a[n])


@compiled
def _lower_to_shifted_cubic(out, value, low, high, at, stride, wx, wy, rows):
    """The same with four by four nodes, clipped to what ``low`` and ``high`` hold at the cell's corners."""
    size = out.size
    p, q, r, t = cubic_weights(wx)
    first = at - stride - 1
    long = size + 3 * stride  # a row before, two behind
    a, b, c, d = value[first:], value[first + 1 :], value[first + 2 :], value[first + 3 :]
    for n in range(long):
        rows[n] = p * a[n] + q * b[n] + r * c[n] + t * d[n]
    p, q, r, t = cubic_weights(wy)
    a, b, c, d = rows, rows[stride:], rows[2 * stride :], rows[3 * stride :]
    l0, h0 = low[at:], high[at:]
    l1, h1 = (low[at + 1 :], high[at + 1 :]) if wx != 0 else (l0, h0)
    below = at + stride if wy != 0 else at
    l2, h2 = low[below:], high[below:]
    l3, h3 = (low[below + 1 :], high[below + 1 :]) if wx != 0 else (l2, h2)
    for n in range(size):
        rows[n] = p * a[n] + q * b[n] + r * c[n] + t * d[n]
    for n in range(size):
        rows[n] = max(rows[n], min(min(l0[n], l1[n]), min(l2[n], l3[n])))
    for n in range(size):
        out[n] = min(out[n], min(rows[n], max(max(h0[n], h1[n]), max(h2[n], h3[n]))))


@numba.njit(parallel=True, fastmath=FAST, error_model="numpy", cache=True)
def sweep_planes(values, out, h, l, operator, feet, shape, wraps, strides, plane, chunks):  # noqa: E741
    """One Jacobi sweep: ``out`` from ``values``. Returns the greatest change of a node.

    Args:
        values, out, h, l: values in the plane layout; h or l is of size 1 where the problem has none.
        shape, wraps: (d,) the axes in the kernel's order, the plane's last.
        strides: (d,) entries between neighbours along each of the axes before the plane's.
        chunks: parts of the work that threads take.
    """
    s = plane.stride
    planes = 1
    for k in range(plane.fixed):
        planes *= shape[k]
    tile = max(1, min(plane.rows, TILE // s))
    tiles = -(-plane.rows // tile)
    pairs = feet.controls * feet.disturbances
    most = (4 if operator.cubic else 2) ** plane.fixed
    greatest = np.zeros(chunks, values.dtype)
    for chunk in numba.prange(chunks):
        buffers = np.zeros((3 if operator.cubic else 1, (tile + 3) * s + 2 * plane.margin + 4), values.dtype)
        passed = np.zeros((tile + 3) * s if operator.cubic else 1, values.dtype)
        best, total, foot, peak = (np.empty(tile * s, values.dtype), np.empty(tile * s, values.dtype),
                                   np.empty(tile * s, values.dtype), np.zeros(tile * s, values.dtype))  # fmt: skip
        shifts = Shifts(
            np.zeros(pairs, np.int64), np.zeros((pairs, most), np.int64), np.zeros((pairs, most), values.dtype),
            np.zeros(pairs, np.int64), np.zeros((pairs, most), np.int64), np.zeros((pairs, 2), np.int64),
            np.zeros((pairs, 2), values.dtype),
        )  # fmt: skip
        index = np.zeros(shape.size, np.int64)
        done = -1
        for step in range(chunk * planes * tiles // chunks, (chunk + 1) * planes * tiles // chunks):
            here = step // tiles
            if here != done:
                rest = here
                for k in range(plane.fixed - 1, -1, -1):
                    index[k] = rest % shape[k]
                    rest //= shape[k]
                _shifts_of(index, feet, shape, wraps, strides, plane, operator.cubic, shifts)
                done = here
            first = step % tiles * tile
            rows = min(tile, plane.rows - first)
            size = rows * s
            best[:size] = np.inf
            for c in range(feet.controls):
                if feet.disturbances == 1:
                    _lower_to_feet(values, shifts, c, plane, operator.cubic, first, rows, buffers, passed, best[:size])
                    continue
                total[:size] = -np.inf if feet.shares.size == 0 else 0
                for e in range(feet.disturbances):
                    foot[:size] = np.inf
                    pair = c * feet.disturbances + e
                    _lower_to_feet(
                        values, shifts, pair, plane, operator.cubic, first, rows, buffers, passed, foot[:size]
                    )
                    fold(total[:size], foot, feet.shares, e)
                for n in range(size):
                    best[n] = min(best[n], total[n])
            a = (here * plane.rows + first) * s
            b = a + size
            back_up(operator.problem, operator.discount, operator.rest, values[a:b],
                    h[a:b] if h.size > 1 else h, l[a:b] if l.size > 1 else l, best, out[a:b], peak)  # fmt: skip
            fill_margins(out[a:b], plane)
        for y in range(tile):
            for n in range(plane.margin, plane.margin + plane.nodes):  # ghosts changed by nothing that counts
                greatest[chunk] = max(greatest[chunk], peak[y * s + n])
    return greatest.max()


class PlaneSweeps:
    """Sweeps plane by plane, for systems with free axes: the last ``free`` of the axes in the kernel's ``order``.

    Args:
        start, constraint, target: (n_1, ..., n_d) of the kernels' precision; None where the problem has none.
    """

    def __init__(
        self,
        grid: Grid,
        order: tuple[int, ...],
        free: int,
        feet: Feet,
        operator: Operator,
        start: NDArray[Any],
        constraint: NDArray[Any] | None,
        target: NDArray[Any] | None,
    ) -> None:
        self._order, self._feet, self._operator = order, feet, operator
        self._axes = [grid.shape[k] for k in order]
        fixed = grid.ndim - free
        margin = _margin(feet, grid.ndim, operator.cubic)
        rows, nodes = self._axes[-2] if free == 2 else 1, self._axes[-1]
        rows_wrap = free == 2 and order[-2] in grid.periodic
        self._plane = Plane(rows, nodes, nodes + 2 * margin, margin, rows_wrap, order[-1] in grid.periodic, fixed)
        none = np.zeros(1, start.dtype)
        self._h, self._l = (none if each is None else self._laid_out(each) for each in (constraint, target))
        self._now, self._next = self._laid_out(start), none  # made when the caller has let go of what is not needed
        self._shape = np.array(self._axes)
        self._wraps = grid.wraps[list(order)]
        size = rows * self._plane.stride
        self._strides = np.array([size * math.prod(self._axes[k + 1 : fixed]) for k in range(fixed)] + [0] * free)

    def _laid_out(self, values: NDArray[Any]) -> NDArray[Any]:
        margin = self._plane.margin
        laid = np.zeros((*self._axes[:-1], self._plane.stride), values.dtype)
        laid[..., margin : margin + self._axes[-1]] = np.transpose(values, self._order)
        flat = laid.reshape(-1)
        fill_margins(flat, self._plane)
        return flat

    def sweep(self, count: int) -> float:
        """One sweep; returns the greatest change."""
        if self._next.size != self._now.size:
            self._next = np.zeros_like(self._now)
        change = sweep_planes(
            self._now, self._next, self._h, self._l, self._operator, self._feet,
            self._shape, self._wraps, self._strides, self._plane, 16 * numba.get_num_threads(),
        )  # fmt: skip
        self._now, self._next = self._next, self._now
        return float(change)

    def values(self) -> NDArray[Any]:
        """The values, (n_1, ..., n_d). There are no sweeps after it: it lets go of the other arrays first."""
        self._next = self._h = self._l = self._now[:1]
        margin = self._plane.margin
        turned = self._now.reshape(*self._axes[:-1], self._plane.stride)[..., margin : margin + self._axes[-1]]
        return np.ascontiguousarray(np.transpose(turned, np.argsort(self._order)))


def _margin(feet: Feet, ndim: int, cubic: bool) -> int:
    """Nodes beyond a row that cells of feet reach, on the side where they reach farther; at least 1."""
    ends = np.append(feet.offsets[1:], len(feet.entries))
    last = [np.floor(feet.entries[a:b]) for a, b in zip(feet.offsets[ndim - 1 :: ndim], ends[ndim - 1 :: ndim])]
    before, behind = -min(float(each.min()) for each in last), max(float(each.max()) for each in last)
    return max(1, int(before) + (1 if cubic else 0), int(behind) + (2 if cubic else 1))
