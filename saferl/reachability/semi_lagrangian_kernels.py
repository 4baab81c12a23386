"""Sweeps of discounted Bellman operators on grids, with interpolation where the state is a time step later (its foot).

The feet come as tables: for each control and disturbance, how many nodes the state moves along each axis, stored only
along the axes on which that depends. Two kernels read them:

- ``sweep_planes`` for systems with axes on which no displacement depends, such as the position of a vehicle. Up to two
  of them, put last, form a plane over which shifts and weights are constant, so that interpolation is a sum of shifted
  planes: loops over memory in order, which compile to vector instructions.
- ``sweep_nodes`` for any system: every node gathers the corners of the cells that its feet lie in. Also in place
  (Gauss-Seidel), on one thread.

Beyond an edge that does not wrap around, the node at the edge counts.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

AVOID, REACH, REACH_AVOID = 0, 1, 2

# No promise that values are finite: NaN must survive, so that it can be reported.
FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}
_compiled = numba.njit(fastmath=FAST, error_model="numpy", cache=True)


class Feet(NamedTuple):
    """Displacements in nodes: table (c * E + e) * d + k is the one along axis k under control c and disturbance e."""

    entries: NDArray[Any]
    offsets: NDArray[np.int64]  # (C * E * d,)
    strides: NDArray[np.int64]  # (C * E * d, d)
    controls: int  # C
    disturbances: int  # E
    shares: NDArray[Any]  # (E,) probability of each disturbance where it is drawn; (0,) where it is the worst one


class Operator(NamedTuple):
    """The Bellman operator, see ``discounted``; numbers in the precision of the values."""

    problem: int  # AVOID, REACH, REACH_AVOID
    discount: Any
    rest: Any  # 1 - discount
    cubic: bool  # clipped cubic interpolation, else multilinear


class Plane(NamedTuple):
    """The layout of values whose last one or two axes are free: planes of ``rows`` rows of ``stride`` entries."""

    rows: int
    nodes: int  # of a row; they come first in it
    stride: int
    row_margin: int  # ghost rows above and below that shifts may reach
    margin: int  # ghost nodes on either side of a row
    rows_wrap: bool
    nodes_wrap: bool
    fixed: int  # axes before the plane's


@_compiled
def cubic_weights(w, out):
    """Lagrange weights of the nodes -1, 0, 1, 2 at w in [0, 1)."""
    one = w - w + np.float32(1)
    two, half, sixth = one + one, one / np.float32(2), one / np.float32(6)
    out[0] = -w * (w - one) * (w - two) * sixth
    out[1] = (w + one) * (w - one) * (w - two) * half
    out[2] = -(w + one) * w * (w - two) * half
    out[3] = (w + one) * w * (w - one) * sixth


@_compiled
def _inside(index, count, wraps):
    """The index of a node along an axis, wrapped around or held at the edge."""
    return index % count if wraps else min(max(index, 0), count - 1)


@_compiled
def _corners(node_index, feet, table, axes, shape, wraps, strides, starts, weights, cubic):
    """Where the nodes around a foot lie along the first ``axes`` axes, and their weights; returns how many there are.

    A displacement of whole nodes has one node along its axis. ``cubic``: four nodes along an axis, else two.
    """
    count = 1
    starts[0] = 0
    weights[0] = 1
    four = np.empty(4, weights.dtype)
    for k in range(axes):
        at = feet.offsets[table + k]
        for m in range(shape.size):
            at += feet.strides[table + k, m] * node_index[m]
        moved = feet.entries[at]
        floor = np.floor(moved)
        w, lower = moved - floor, node_index[k] + np.int64(floor)
        low = _inside(lower, shape[k], wraps[k]) * strides[k]
        if w == 0:
            for j in range(count):
                starts[j] += low
        elif cubic:
            cubic_weights(w, four)
            for tap in range(3, -1, -1):  # tap 0 last: it overwrites what the others read
                place = _inside(lower - 1 + tap, shape[k], wraps[k]) * strides[k]
                for j in range(count):
                    starts[tap * count + j] = starts[j] + place
                    weights[tap * count + j] = weights[j] * four[tap]
            count *= 4
        else:
            high = _inside(lower + 1, shape[k], wraps[k]) * strides[k]
            for j in range(count):
                starts[count + j], weights[count + j] = starts[j] + high, weights[j] * w
                starts[j] += low
                weights[j] -= weights[count + j]
            count *= 2
    return count


@_compiled
def _blend(values, starts, weights, count, out):
    """out = weighted sum of the runs of values that begin at ``starts``; they come in ones, twos, or fours."""
    size = out.size
    a = values[starts[0] : starts[0] + size]
    if count == 1:
        for n in range(size):
            out[n] = a[n]
        return
    b, u, v = values[starts[1] : starts[1] + size], weights[0], weights[1]
    if count == 2:
        for n in range(size):
            out[n] = u * a[n] + v * b[n]
        return
    for j in range(0, count, 4):
        a, b = values[starts[j] : starts[j] + size], values[starts[j + 1] : starts[j + 1] + size]
        c, d = values[starts[j + 2] : starts[j + 2] + size], values[starts[j + 3] : starts[j + 3] + size]
        u, v, w, x = weights[j], weights[j + 1], weights[j + 2], weights[j + 3]
        if j == 0:
            for n in range(size):
                out[n] = u * a[n] + v * b[n] + w * c[n] + x * d[n]
        else:
            for n in range(size):
                out[n] += u * a[n] + v * b[n] + w * c[n] + x * d[n]


@_compiled
def _bounds(values, starts, count, low, high):
    """The least and the greatest of the runs of values that begin at ``starts``."""
    for j in range(count):
        a = values[starts[j] : starts[j] + low.size]
        if j == 0:
            low[:] = a
            high[:] = a
        else:
            for n in range(low.size):
                low[n] = min(low[n], a[n])
                high[n] = max(high[n], a[n])


@_compiled
def _fill_margins(buffer, plane):
    """The ghost nodes around a plane that lies inside its margins."""
    s, m, n = plane.stride, plane.margin, plane.nodes
    for y in range(plane.rows):
        row = buffer[(plane.row_margin + y) * s : (plane.row_margin + y + 1) * s]
        for j in range(m):
            row[j] = row[m + _inside(j - m, n, plane.nodes_wrap)]
            row[m + n + j] = row[m + _inside(n + j, n, plane.nodes_wrap)]
    for j in range(plane.row_margin):
        for ghost in (j - plane.row_margin, plane.rows + j):
            source = plane.row_margin + _inside(ghost, plane.rows, plane.rows_wrap)
            target = plane.row_margin + ghost
            buffer[target * s : (target + 1) * s] = buffer[source * s : (source + 1) * s]


@_compiled
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


@_compiled
def _lower_to_shifted_cubic(out, value, low, high, at, stride, wx, wy, rows, weights):
    """The same with four by four nodes, clipped to what ``low`` and ``high`` hold at the cell's corners."""
    size = out.size
    cubic_weights(wx, weights)
    p, q, r, t = weights[0], weights[1], weights[2], weights[3]
    first = at - stride - 1
    long = size + 3 * stride  # a row before, two behind
    a, b, c, d = value[first:], value[first + 1 :], value[first + 2 :], value[first + 3 :]
    for n in range(long):
        rows[n] = p * a[n] + q * b[n] + r * c[n] + t * d[n]
    cubic_weights(wy, weights)
    p, q, r, t = weights[0], weights[1], weights[2], weights[3]
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


@_compiled
def _fold(total, one, shares, e):
    """The value over disturbances so far: the worst one, or the expected one."""
    if shares.size == 0:
        for n in range(total.size):
            total[n] = max(total[n], one[n])
    else:
        share = shares[e]
        for n in range(total.size):
            total[n] += share * one[n]


@_compiled
def _back_up(problem, g, rest, now, h, l, ahead, out, peak):  # noqa: E741
    """The operator on a run of nodes, and the running maximum of the change."""
    if problem == AVOID:
        for n in range(out.size):
            out[n] = rest * h[n] + g * max(h[n], ahead[n])
    elif problem == REACH:
        for n in range(out.size):
            out[n] = rest * l[n] + g * min(l[n], ahead[n])
    else:
        for n in range(out.size):
            out[n] = rest * max(h[n], l[n]) + g * max(h[n], min(l[n], ahead[n]))
    for n in range(out.size):
        peak[n] = max(peak[n], abs(out[n] - now[n]))


@_compiled
def _foot_of_plane(
    values, index, feet, table, shape, wraps, strides, plane, cubic, starts, weights, buffers, rows, out
):
    """out = min(out, V at the feet of a plane of nodes under one control and one disturbance)."""
    s = plane.stride
    inner = plane.row_margin * s + plane.margin
    size = out.size
    count = _corners(index, feet, table, plane.fixed, shape, wraps, strides, starts, weights, cubic)
    _blend(values, starts, weights, count, buffers[0, inner : inner + size])
    _fill_margins(buffers[0], plane)
    at, wx, wy = inner, weights.dtype.type(0), weights.dtype.type(0)
    for k in range(plane.fixed, shape.size):
        place = feet.offsets[table + k]
        for m in range(shape.size):
            place += feet.strides[table + k, m] * index[m]
        moved = feet.entries[place]
        floor = np.floor(moved)
        if k == shape.size - 1:
            wx = moved - floor
            at += np.int64(floor)
        else:
            wy = moved - floor
            at += np.int64(floor) * s
    if cubic:
        count = _corners(index, feet, table, plane.fixed, shape, wraps, strides, starts, weights, False)
        _bounds(values, starts, count, buffers[1, inner : inner + size], buffers[2, inner : inner + size])
        _fill_margins(buffers[1], plane)
        _fill_margins(buffers[2], plane)
        _lower_to_shifted_cubic(out, buffers[0], buffers[1], buffers[2], at, s, wx, wy, rows, weights)
    else:
        _lower_to_shifted(out, buffers[0], at, s, wx, wy)


@numba.njit(parallel=True, fastmath=FAST, error_model="numpy", cache=True)
def sweep_planes(values, out, h, l, operator, feet, shape, wraps, strides, plane, chunks):  # noqa: E741
    """One Jacobi sweep: ``out`` from ``values``. Returns the greatest change of a node.

    Args:
        values, out, h, l: values in the plane layout; h or l is of size 1 where the problem has none.
        shape, wraps: (d,) the axes in the kernel's order, the plane's last.
        strides: (d,) entries between neighbours along each of the axes before the plane's.
        chunks: parts of the work that threads take.
    """
    size = plane.rows * plane.stride
    nodes = 1
    for k in range(plane.fixed):
        nodes *= shape[k]
    tall = (plane.rows + 2 * plane.row_margin) * plane.stride + 2 * plane.margin + 4
    greatest = np.zeros(chunks, values.dtype)
    taps = 4 if operator.cubic else 2
    for chunk in numba.prange(chunks):
        buffers = np.zeros((3 if operator.cubic else 1, tall), values.dtype)
        rows = np.zeros(size + 3 * plane.stride if operator.cubic else 1, values.dtype)
        best, total, foot, peak = (np.empty(size, values.dtype), np.empty(size, values.dtype),
                                   np.empty(size, values.dtype), np.zeros(size, values.dtype))  # fmt: skip
        starts, weights = np.zeros(taps**plane.fixed, np.int64), np.zeros(max(4, taps**plane.fixed), values.dtype)
        index = np.zeros(shape.size, np.int64)
        for node in range(chunk * nodes // chunks, (chunk + 1) * nodes // chunks):
            rest = node
            for k in range(plane.fixed - 1, -1, -1):
                index[k] = rest % shape[k]
                rest //= shape[k]
            best[:] = np.inf
            for c in range(feet.controls):
                if feet.disturbances == 1:
                    _foot_of_plane(values, index, feet, c * shape.size, shape, wraps, strides, plane, operator.cubic,
                                   starts, weights, buffers, rows, best)  # fmt: skip
                    continue
                total[:] = -np.inf if feet.shares.size == 0 else 0
                for e in range(feet.disturbances):
                    foot[:] = np.inf
                    table = (c * feet.disturbances + e) * shape.size
                    _foot_of_plane(values, index, feet, table, shape, wraps, strides, plane, operator.cubic,
                                   starts, weights, buffers, rows, foot)  # fmt: skip
                    _fold(total, foot, feet.shares, e)
                for n in range(size):
                    best[n] = min(best[n], total[n])
            a, b = node * size, (node + 1) * size
            _back_up(operator.problem, operator.discount, operator.rest, values[a:b],
                     h[a:b] if h.size > 1 else h, l[a:b] if l.size > 1 else l, best, out[a:b], peak)  # fmt: skip
        for y in range(plane.rows):
            for n in range(plane.nodes):
                greatest[chunk] = max(greatest[chunk], peak[y * plane.stride + n])
    return greatest.max()


@_compiled
def _foot_of_node(values, index, feet, table, shape, wraps, strides, cubic, starts, weights):
    """V at the foot of one node under one control and one disturbance."""
    count = _corners(index, feet, table, shape.size, shape, wraps, strides, starts, weights, cubic)
    total = weights[0] * values[starts[0]]
    for j in range(1, count):
        total += weights[j] * values[starts[j]]
    if cubic and count > 1:
        count = _corners(index, feet, table, shape.size, shape, wraps, strides, starts, weights, False)
        low, high = values[starts[0]], values[starts[0]]
        for j in range(1, count):
            low, high = min(low, values[starts[j]]), max(high, values[starts[j]])
        total = min(max(total, low), high)
    return total


@numba.njit(parallel=True, fastmath=FAST, error_model="numpy", cache=True)
def sweep_nodes(values, out, h, l, operator, feet, shape, wraps, strides, backwards, chunks):  # noqa: E741
    """One sweep, node by node: ``out`` from ``values``, which may be the same array (Gauss-Seidel; ``chunks`` = 1 then).

    Args:
        values, out, h, l: (nodes,) in order; h or l is of size 1 where the problem has none.
        shape, wraps, strides: (d,) of the axes.
        backwards: bit k runs axis k from its end.
        chunks: parts of the work that threads take.
    Returns: the greatest change of a node.
    """
    ndim = shape.size
    greatest = np.zeros(chunks, values.dtype)
    taps = 4 if operator.cubic else 2
    g, one_minus_g = operator.discount, operator.rest
    for chunk in numba.prange(chunks):
        starts, weights = np.zeros(taps**ndim, np.int64), np.zeros(taps**ndim, values.dtype)
        index = np.zeros(ndim, np.int64)
        most = values.dtype.type(0)
        for step in range(chunk * values.size // chunks, (chunk + 1) * values.size // chunks):
            rest, node = step, 0
            for k in range(ndim - 1, -1, -1):
                i = rest % shape[k]
                rest //= shape[k]
                index[k] = shape[k] - 1 - i if backwards >> k & 1 else i
                node += index[k] * strides[k]
            best = values.dtype.type(np.inf)
            for c in range(feet.controls):
                total = values.dtype.type(-np.inf if feet.shares.size == 0 else 0)
                for e in range(feet.disturbances):
                    table = (c * feet.disturbances + e) * ndim
                    foot = _foot_of_node(
                        values, index, feet, table, shape, wraps, strides, operator.cubic, starts, weights
                    )
                    if feet.shares.size == 0:
                        total = max(total, foot)
                    else:
                        total += feet.shares[e] * foot
                best = min(best, total)
            if operator.problem == AVOID:
                new = one_minus_g * h[node] + g * max(h[node], best)
            elif operator.problem == REACH:
                new = one_minus_g * l[node] + g * min(l[node], best)
            else:
                new = one_minus_g * max(h[node], l[node]) + g * max(h[node], min(l[node], best))
            most = max(most, abs(new - values[node]))
            out[node] = new
        greatest[chunk] = most
    return greatest.max()
