"""One Runge-Kutta stage of the Hamilton-Jacobi-Isaacs equation, for any number of axes, as loops over rows of nodes.

Layout. The nodes along the last axis are a row: three ghost nodes, the nodes, three ghost nodes, and what fills it up to a
multiple of 16 entries. Rows that are neighbours along the last axis but one are neighbours in memory, so
that a block of several rows is one run of memory: every derivative, product and sum is one loop over it that compiles to
vector instructions, whatever the number of axes. Ghost nodes of the other axes are made for a block when its edge is met.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from saferl.reachability import schemes

MARGIN = 16  # entries before the first row and behind the last, which vectors may read
GHOSTS = 3  # at each end of a row
BLOCK = 2048  # entries that a block aims at: its buffers stay in the first-level cache

_compiled = numba.njit(fastmath={"nsz", "arcp", "contract", "afn", "reassoc"}, error_model="numpy", cache=True)


@_compiled
def _derivatives(scheme, a, b, c, d, e, f, g, scale, mean, jump):
    if scheme == 0:
        schemes.upwind1(a, b, c, d, e, f, g, scale, mean, jump)
    elif scheme == 1:
        schemes.eno2(a, b, c, d, e, f, g, scale, mean, jump)
    elif scheme == 2:
        schemes.eno3(a, b, c, d, e, f, g, scale, mean, jump)
    elif scheme == 3:
        schemes.weno3(a, b, c, d, e, f, g, scale, mean, jump)
    else:
        schemes.weno5(a, b, c, d, e, f, g, scale, mean, jump)


@_compiled
def _ghost(values, edge, inward, distance, length, out):
    """Linear extrapolation away from zero, ``distance`` nodes beyond an edge, so that nothing flows in from outside."""
    first, second = values[edge : edge + length], values[inward : inward + length]
    for n in range(length):
        v = first[n]
        out[n] = v + np.sign(v) * abs(v - second[n]) * distance


@_compiled
def _neighbour(values, start, length, index, count, stride, step, periodic, buffer):
    """The block ``step`` nodes further along an axis: a view of the values, or ghost nodes in ``buffer``."""
    target = index + step
    if 0 <= target < count:
        first = start + step * stride
        return values[first : first + length]
    if periodic:
        first = start + (target % count - index) * stride
        return values[first : first + length]
    if target < 0:
        edge, inward, distance = start - index * stride, start - (index - 1) * stride, -target
    else:
        edge, inward = start + (count - 1 - index) * stride, start + (count - 2 - index) * stride
        distance = target - count + 1
    _ghost(values, edge, inward, buffer.dtype.type(distance), length, buffer)
    return buffer[:length]


@_compiled
def _copy_row(values, start, row, index, step, count, periodic, out):
    """The row ``step`` rows behind the one at ``start``, which has an index on an axis of ``count``, or its ghost."""
    at = index + step
    if periodic or 0 <= at < count:
        first = start + (at % count - index) * row
        for n in range(row):
            out[n] = values[first + n]
    elif at < 0:
        _ghost(values, start - index * row, start - (index - 1) * row, out.dtype.type(-at), row, out)
    else:
        edge = start + (count - 1 - index) * row
        _ghost(values, edge, edge - row, out.dtype.type(at - count + 1), row, out)


@_compiled
def fill_row_ghosts(values, row, count, periodic):
    """The three ghost nodes on either side of the ``count`` nodes of the row at ``row``."""
    number = values.dtype.type
    start = row + GHOSTS
    for m in range(1, GHOSTS + 1):
        if periodic:
            values[start - m] = values[start + (-m) % count]
            values[start + count - 1 + m] = values[start + (m - 1) % count]
        else:
            first, last = values[start], values[start + count - 1]
            below, above = abs(first - values[start + 1]), abs(last - values[start + count - 2])
            values[start - m] = first + number(np.sign(first)) * below * number(m)
            values[start + count - 1 + m] = last + number(np.sign(last)) * above * number(m)


@_compiled
def _accumulate(total, entries, at, strided, factor, length):
    """total += table * factor, where the table is one number for the block or a run of them."""
    if strided:
        table = entries[at : at + length]
        for n in range(length):
            total[n] += table[n] * factor[n]
    else:
        number = entries[at]
        for n in range(length):
            total[n] += number * factor[n]


@_compiled
def _block_rate(
    values, start, length, row, index, shape, row_strides, inverse_spacing, periodic, scheme,
    entries, offsets, strides, kinds, axes, inputs, n_control, n_disturbance, ball_control, ball_disturbance,
    ghosts, tall, mean, jump, rate, sums,
):  # fmt: skip
    """dV/dt, backward in time, of a block of rows: min over u, max over d of grad V . f, with Lax-Friedrichs dissipation."""
    ndim = shape.size
    rate[:length] = 0
    sums[:, :length] = 0
    for axis in range(ndim):
        if axis == ndim - 1:
            rows = (
                values[start - 3 : start - 3 + length], values[start - 2 : start - 2 + length],
                values[start - 1 : start - 1 + length], values[start : start + length],
                values[start + 1 : start + 1 + length], values[start + 2 : start + 2 + length],
                values[start + 3 : start + 3 + length],
            )  # fmt: skip
        elif axis == ndim - 2 and not (GHOSTS <= index[axis] and index[axis] + length // row + GHOSTS <= shape[axis]):
            # Neighbours along this axis are rows of the block itself: it is copied together with three rows on either side.
            for r in range(-GHOSTS, length // row + GHOSTS):
                _copy_row(values, start, row, index[axis], r, shape[axis], periodic[axis], tall[(r + GHOSTS) * row :])
            rows = (
                tall[:length], tall[row : row + length], tall[2 * row : 2 * row + length],
                values[start : start + length], tall[4 * row : 4 * row + length], tall[5 * row : 5 * row + length],
                tall[6 * row : 6 * row + length],
            )  # fmt: skip
        else:
            i, n, s, p = index[axis], shape[axis], row_strides[axis], periodic[axis]
            rows = (
                _neighbour(values, start, length, i, n, s, -3, p, ghosts[0]),
                _neighbour(values, start, length, i, n, s, -2, p, ghosts[1]),
                _neighbour(values, start, length, i, n, s, -1, p, ghosts[2]),
                values[start : start + length],
                _neighbour(values, start, length, i, n, s, 1, p, ghosts[3]),
                _neighbour(values, start, length, i, n, s, 2, p, ghosts[4]),
                _neighbour(values, start, length, i, n, s, 3, p, ghosts[5]),
            )  # fmt: skip
        a, b, c, d, e, f, g = rows
        _derivatives(scheme, a, b, c, d, e, f, g, inverse_spacing[axis], mean[:length], jump[:length])
        for t in range(offsets.size):
            if axes[t] != axis:
                continue
            at, strided = offsets[t], strides[t, ndim - 1] != 0
            for k in range(ndim - 1):
                at += strides[t, k] * index[k]
            if kinds[t] == 0:
                _accumulate(rate, entries, at, strided, mean, length)
            elif kinds[t] == 1:
                _accumulate(rate, entries, at, strided, jump, length)
            else:
                _accumulate(sums[inputs[t]], entries, at, strided, mean, length)
    _optimal(rate, sums, 0, n_control, ball_control, -1, length)
    _optimal(rate, sums, n_control, n_control + n_disturbance, ball_disturbance, 1, length)


@_compiled
def _optimal(rate, sums, first, last, ball, sign, length):
    """Adds what the best inputs of a box (sum of |p_j|) or a ball (norm of p) make of the gradients p along them."""
    signed = rate.dtype.type(sign)
    if ball:
        for n in range(length):
            square = sums[first, n] * sums[first, n]
            for j in range(first + 1, last):
                square += sums[j, n] * sums[j, n]
            rate[n] += signed * np.sqrt(square)
    else:
        for j in range(first, last):
            for n in range(length):
                rate[n] += signed * abs(sums[j, n])


@numba.njit(parallel=True, fastmath={"nsz", "arcp", "contract", "afn", "reassoc"}, error_model="numpy", cache=True)
def stage(
    values, base, out, target, constraint, old_weight, new_weight, dt, tube, shape, row, inverse_spacing, periodic, scheme,
    entries, offsets, strides, kinds, axes, inputs, n_control, n_disturbance, ball_control, ball_disturbance, chunks,
):  # fmt: skip
    """out = old_weight * base + new_weight * (values + dt * dV/dt), node by node.

    Args:
        values, base, out: padded values, see ``padded``; ``out`` may be ``base``, not ``values``.
        target, constraint: padded l and h where the result is max(min(., l), h); arrays of size 1 where there is none.
        tube: 1 keeps what rises, -1 what falls, 0 everything.
        chunks: parts that threads take.
    Returns: greatest |dV/dt| over the nodes.
    """
    ndim = shape.size
    rows_inner = shape[ndim - 2] if ndim > 1 else 1
    outer = 1
    row_strides = np.empty(ndim, np.int64)
    stride = row
    for k in range(ndim - 2, -1, -1):
        row_strides[k] = stride
        stride *= shape[k]
    for k in range(ndim - 2):
        outer *= shape[k]
    blocks = max(1, round(rows_inner * row / BLOCK))  # of a panel: the rows that share all but their last two indices
    per_block = (rows_inner + blocks - 1) // blocks
    total = outer * blocks
    greatest = np.zeros(chunks, values.dtype)
    for chunk in numba.prange(chunks):
        span = per_block * row
        ghosts = np.empty((6, span), values.dtype)
        tall = np.empty(span + 2 * GHOSTS * row, values.dtype)
        work = np.empty((3, span), values.dtype)
        sums = np.empty((max(1, n_control + n_disturbance), span), values.dtype)
        index = np.zeros(ndim, np.int64)
        peak = np.zeros(span, values.dtype)
        for block in range(chunk * total // chunks, (chunk + 1) * total // chunks):
            panel, part = block // blocks, block % blocks
            rest = panel
            for k in range(ndim - 3, -1, -1):
                index[k] = rest % shape[k]
                rest //= shape[k]
            first = part * per_block
            count = min(per_block, rows_inner - first)
            if count <= 0:
                continue
            if ndim > 1:
                index[ndim - 2] = first
            start = MARGIN + (panel * rows_inner + first) * row
            length = count * row
            rate = work[2]
            _block_rate(
                values, start, length, row, index, shape, row_strides, inverse_spacing, periodic, scheme,
                entries, offsets, strides, kinds, axes, inputs, n_control, n_disturbance, ball_control, ball_disturbance,
                ghosts, tall, work[0], work[1], rate, sums,
            )  # fmt: skip
            zero = rate.dtype.type(0)
            if tube > 0:
                for n in range(length):
                    rate[n] = max(rate[n], zero)
            elif tube < 0:
                for n in range(length):
                    rate[n] = min(rate[n], zero)
            now, old, new = values[start : start + length], base[start : start + length], out[start : start + length]
            for n in range(length):
                new[n] = old_weight * old[n] + new_weight * (now[n] + dt * rate[n])
            if target.size > 1:
                goal = target[start : start + length]
                for n in range(length):
                    new[n] = min(new[n], goal[n])
            if constraint.size > 1:
                bound = constraint[start : start + length]
                for n in range(length):
                    new[n] = max(new[n], bound[n])
            for n in range(length):
                size = abs(rate[n])
                peak[n] = size if size > peak[n] else peak[n]
            for r in range(count):
                fill_row_ghosts(out, start + r * row, shape[ndim - 1], periodic[ndim - 1])
        for r in range(per_block):
            for n in range(GHOSTS, GHOSTS + shape[ndim - 1]):
                greatest[chunk] = max(greatest[chunk], peak[r * row + n])
    return greatest.max()


def row_length(nodes: int) -> int:
    """Entries of a row of the layout."""
    return -(-(nodes + 2 * GHOSTS) // 16) * 16


def padded(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Values (n_1, ..., n_d) in the layout, one run of memory; ghost nodes are zero."""
    nodes = values.shape[-1]
    flat = np.zeros(2 * MARGIN + values.size // nodes * row_length(nodes), dtype)
    inside(flat, values.shape)[...] = values
    return flat


def inside(flat: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """The nodes of values in the layout, as a view (n_1, ..., n_d)."""
    rows = flat[MARGIN : flat.size - MARGIN].reshape(*shape[:-1], row_length(shape[-1]))
    return rows[..., GHOSTS : GHOSTS + shape[-1]]


@numba.njit(parallel=True, cache=True)
def fill_ghosts(values, rows, row, count, periodic):
    """The ghost nodes of every row."""
    for r in numba.prange(rows):
        fill_row_ghosts(values, MARGIN + r * row, count, periodic)
