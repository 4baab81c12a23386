"""One Runge-Kutta stage of the Hamilton-Jacobi-Isaacs equation, for any number of axes, as loops over rows of nodes.

Layout. The nodes along the last axis are a row: three ghost nodes, the nodes, three ghost nodes, and what fills it up
to a multiple of 16 entries. Rows that are neighbours along the last axis but one are neighbours in memory, so that a
block of several rows is one run of memory: every derivative, product and sum is one loop over it that compiles to
vector instructions, whatever the number of axes. Ghost nodes of the other axes are made where a block meets the edge.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from saferl.reachability import schemes

MARGIN = 16  # entries before the first row and behind the last, which vectors may read
GHOSTS = 3  # at each end of a row
BLOCK = 2048  # entries that a block aims at: its buffers stay in the cache, its loops are long
REACHES = (1, 2, 3, 2, 3)  # nodes to either side that each of schemes.SCHEMES reads

# No promise that values are finite: NaN must survive, so that it can be reported.
FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}
_compiled = numba.njit(fastmath=FAST, error_model="numpy", cache=True)


class Terms(NamedTuple):
    """The coefficients of dV/dt; see ``tables.Tables`` for the first three.

    Table k is the drift along axis k, table d + k the dissipation along it, and the others those of the inputs.
    """

    entries: NDArray[Any]
    offsets: NDArray[np.int64]  # (T,)
    strides: NDArray[np.int64]  # (T, d)
    axes: NDArray[np.int64]  # (T - 2 d,) which axis an input's table moves along
    inputs: NDArray[np.int64]  # (T - 2 d,) whose table it is


class Inputs(NamedTuple):
    """The input sets; their radii are in the tables."""

    controls: int
    disturbances: int
    control_is_ball: bool
    disturbance_is_ball: bool


class Layout(NamedTuple):
    """The grid as the kernels see it."""

    shape: NDArray[np.int64]  # (d,)
    periodic: NDArray[np.bool_]  # (d,)
    inverse_spacing: NDArray[Any]  # (d,)
    strides: NDArray[np.int64]  # (d,) entries from a node to the next along each axis
    row: int  # entries of a row


@numba.njit(fastmath=FAST, error_model="numpy")  # compiled into its callers, for each scheme
def _rate_along(point, a, b, c, d, e, f, g, scale, drift, dissipation, rate, first):
    """The drift's and the dissipation's part of dV/dt along one axis; the first axis starts the sum."""
    if first:
        for n in range(rate.size):
            mean, jump = point(a[n], b[n], c[n], d[n], e[n], f[n], g[n], scale)
            rate[n] = drift[n] * mean + dissipation[n] * jump
    else:
        for n in range(rate.size):
            mean, jump = point(a[n], b[n], c[n], d[n], e[n], f[n], g[n], scale)
            rate[n] += drift[n] * mean + dissipation[n] * jump


@numba.njit(fastmath=FAST, error_model="numpy")
def _rate_and_mean_along(point, a, b, c, d, e, f, g, scale, drift, dissipation, rate, means, first):
    """The same, and the mean derivative, for an axis along which inputs act."""
    if first:
        for n in range(rate.size):
            mean, jump = point(a[n], b[n], c[n], d[n], e[n], f[n], g[n], scale)
            rate[n] = drift[n] * mean + dissipation[n] * jump
            means[n] = mean
    else:
        for n in range(rate.size):
            mean, jump = point(a[n], b[n], c[n], d[n], e[n], f[n], g[n], scale)
            rate[n] += drift[n] * mean + dissipation[n] * jump
            means[n] = mean


@_compiled
def _along(scheme, a, b, c, d, e, f, g, scale, drift, dissipation, rate, means, first, acted):
    """One axis' part of dV/dt; ``acted``: also its mean derivative."""
    if scheme == 0:
        if acted:
            _rate_and_mean_along(schemes.upwind1, a, b, c, d, e, f, g, scale, drift, dissipation, rate, means, first)
        else:
            _rate_along(schemes.upwind1, a, b, c, d, e, f, g, scale, drift, dissipation, rate, first)
    elif scheme == 1:
        if acted:
            _rate_and_mean_along(schemes.eno2, a, b, c, d, e, f, g, scale, drift, dissipation, rate, means, first)
        else:
            _rate_along(schemes.eno2, a, b, c, d, e, f, g, scale, drift, dissipation, rate, first)
    elif scheme == 2:
        if acted:
            _rate_and_mean_along(schemes.eno3, a, b, c, d, e, f, g, scale, drift, dissipation, rate, means, first)
        else:
            _rate_along(schemes.eno3, a, b, c, d, e, f, g, scale, drift, dissipation, rate, first)
    elif scheme == 3:
        if acted:
            _rate_and_mean_along(schemes.weno3, a, b, c, d, e, f, g, scale, drift, dissipation, rate, means, first)
        else:
            _rate_along(schemes.weno3, a, b, c, d, e, f, g, scale, drift, dissipation, rate, first)
    elif acted:
        _rate_and_mean_along(schemes.weno5, a, b, c, d, e, f, g, scale, drift, dissipation, rate, means, first)
    else:
        _rate_along(schemes.weno5, a, b, c, d, e, f, g, scale, drift, dissipation, rate, first)


@_compiled
def _ghost(values, edge, inward, distance, length, out):
    """Linear extrapolation away from zero, ``distance`` nodes beyond an edge: no zero level flows in from outside."""
    first, second = values[edge : edge + length], values[inward : inward + length]
    for n in range(length):
        v = first[n]
        out[n] = v + np.sign(v) * abs(v - second[n]) * distance


@_compiled
def _neighbour(values, start, length, index, count, stride, step, periodic, buffer):
    """The block ``step`` nodes further along an axis: a view of the values, or ghost nodes in ``buffer``."""
    target = index + step
    if periodic or 0 <= target < count:
        first = start + (target % count - index) * stride
        return values[first : first + length]
    beyond = -target if target < 0 else target - count + 1
    edge = start + ((0 if target < 0 else count - 1) - index) * stride
    inward = edge + (stride if target < 0 else -stride)
    _ghost(values, edge, inward, buffer.dtype.type(beyond), length, buffer)
    return buffer[:length]


@_compiled
def _copy_rows(values, start, row, rows, index, count, periodic, out):
    """A block of ``rows`` rows at an index on the last axis but one, with three rows, maybe ghosts, on either side."""
    for r in range(-GHOSTS, rows + GHOSTS):
        place = (r + GHOSTS) * row
        copy = out[place : place + row]
        source = _neighbour(values, start, row, index, count, row, r, periodic, copy)
        for n in range(row):
            copy[n] = source[n]


@_compiled
def fill_row_ghosts(values, row, count, periodic):
    """The three ghost nodes on either side of the ``count`` nodes of the row that starts at entry ``row``."""
    start, end = row + GHOSTS, row + GHOSTS + count
    if periodic:  # such an axis has more nodes than ghosts
        for m in range(GHOSTS):
            values[row + m] = values[end - GHOSTS + m]
            values[end + m] = values[start + m]
        return
    zero = values.dtype.type(0)
    first, last = values[start], values[end - 1]
    below, above = abs(first - values[start + 1]), abs(last - values[end - 2])
    below = below if first > zero else (-below if first < zero else zero)
    above = above if last > zero else (-above if last < zero else zero)
    for m in range(GHOSTS):
        first += below
        last += above
        values[start - 1 - m] = first
        values[end + m] = last


@_compiled
def _coefficients(terms, table, index, length, constant):
    """A table on a block: a view of its entries, or where it is one number there, ``constant`` filled with it."""
    at, last = terms.offsets[table], index.size - 1
    for k in range(last):
        at += terms.strides[table, k] * index[k]
    if terms.strides[table, last] != 0:
        return terms.entries[at : at + length]
    number = terms.entries[at]
    if constant[0] != number or constant[length - 1] != number:  # not left from an earlier block
        constant[:] = number
    return constant[:length]


@_compiled
def _accumulate(total, coefficient, means, first):
    """total += coefficient * means; the first term starts the sum."""
    if first:
        for n in range(total.size):
            total[n] = coefficient[n] * means[n]
    else:
        for n in range(total.size):
            total[n] += coefficient[n] * means[n]


@_compiled
def _optimal(rate, sums, first, last, ball, sign, length):
    """What the best inputs of a box (sum of |p_j|) or a ball (norm of p) make of the derivatives p along them."""
    signed = rate.dtype.type(sign)
    if ball:
        for n in range(length):
            square = sums[first, n] * sums[first, n]
            for j in range(first + 1, last):
                square += sums[j, n] * sums[j, n]
            rate[n] += signed * np.sqrt(square)
    else:
        for j in range(first, last):
            along = sums[j]
            for n in range(length):
                rate[n] += signed * abs(along[n])


@_compiled
def _block_rate(
    values, start, length, index, layout, scheme, reach, terms, inputs, ghosts, tall, means, constants, rate, sums
):
    """dV/dt backward in time on a block: min over u, max over d of grad V . f, plus Lax-Friedrichs dissipation.

    Source: Osher and Fedkiw (2003), equations 5.9 and 5.12; with time running backward the dissipation is added.
    """
    ndim, row = layout.shape.size, layout.row
    begun = np.uint64(0)  # bit j: a table of input j has been seen
    here = values[start : start + length]
    for axis in range(ndim):
        a, b, c, e, f, g = here, here, here, here, here, here
        if axis == ndim - 1:
            a, b, c = (values[start - 3 : start - 3 + length], values[start - 2 : start - 2 + length],
                       values[start - 1 : start - 1 + length])  # fmt: skip
            e, f, g = (values[start + 1 : start + 1 + length], values[start + 2 : start + 2 + length],
                       values[start + 3 : start + 3 + length])  # fmt: skip
        else:
            i, n, s, p = index[axis], layout.shape[axis], layout.strides[axis], layout.periodic[axis]
            rows = length // row
            if axis == ndim - 2 and not (i >= reach and i + rows + reach <= n):
                # Neighbours along this axis are rows of the block itself: it is copied, with rows on either side.
                _copy_rows(values, start, row, rows, i, n, p, tall)
                a, b, c = tall[:length], tall[row : row + length], tall[2 * row : 2 * row + length]
                e, f, g = (tall[4 * row : 4 * row + length], tall[5 * row : 5 * row + length],
                           tall[6 * row : 6 * row + length])  # fmt: skip
            else:
                c = _neighbour(values, start, length, i, n, s, -1, p, ghosts[0])
                e = _neighbour(values, start, length, i, n, s, 1, p, ghosts[1])
                if reach > 1:
                    b = _neighbour(values, start, length, i, n, s, -2, p, ghosts[2])
                    f = _neighbour(values, start, length, i, n, s, 2, p, ghosts[3])
                if reach > 2:
                    a = _neighbour(values, start, length, i, n, s, -3, p, ghosts[4])
                    g = _neighbour(values, start, length, i, n, s, 3, p, ghosts[5])
        acted = False
        for t in range(terms.axes.size):
            acted = acted or terms.axes[t] == axis
        drift = _coefficients(terms, axis, index, length, constants[2 * axis])
        dissipation = _coefficients(terms, ndim + axis, index, length, constants[2 * axis + 1])
        _along(scheme, a, b, c, here, e, f, g, layout.inverse_spacing[axis], drift, dissipation,
               rate[:length], means[:length], axis == 0, acted)  # fmt: skip
        for t in range(terms.axes.size):
            if terms.axes[t] == axis:
                j = terms.inputs[t]
                coefficient = _coefficients(terms, 2 * ndim + t, index, length, constants[2 * ndim + t])
                _accumulate(sums[j, :length], coefficient, means[:length], (begun >> np.uint64(j)) & np.uint64(1) == 0)
                begun |= np.uint64(1) << np.uint64(j)
    _optimal(rate, sums, 0, inputs.controls, inputs.control_is_ball, -1, length)
    _optimal(rate, sums, inputs.controls, inputs.controls + inputs.disturbances, inputs.disturbance_is_ball, 1, length)


@_compiled
def _update(now, old, new, old_weight, new_weight, dt, tube, rate, peak, length):
    """The stage on a block, and the running maximum of |dV/dt|."""
    zero = rate.dtype.type(0)
    least = -np.inf if tube <= 0 else zero
    most = np.inf if tube >= 0 else zero
    low, high = rate.dtype.type(least), rate.dtype.type(most)
    if old_weight == 0:
        for n in range(length):
            change = min(max(rate[n], low), high)
            new[n] = now[n] + dt * change
            peak[n] = max(peak[n], abs(change))
    else:
        for n in range(length):
            change = min(max(rate[n], low), high)
            new[n] = old_weight * old[n] + new_weight * (now[n] + dt * change)


@numba.njit(parallel=True, fastmath=FAST, error_model="numpy", cache=True)
def stage(
    values,
    base,
    out,
    target,
    constraint,
    old_weight,
    new_weight,
    dt,
    tube,
    layout,
    scheme,
    reach,
    terms,
    inputs,
    chunks,
):
    """out = old_weight * base + new_weight * (values + dt * dV/dt), then max(min(., target), constraint).

    Args:
        values, base, out: values in the layout; ``out`` may be ``base``, not ``values``.
        target, constraint: l and h in the layout; of size 1 where there is none.
        dt: time step, in the precision of the values, as the weights.
        tube: 1 lets values only rise, -1 only fall, 0 both.
        scheme, reach: index in ``schemes.SCHEMES`` and in ``REACHES``.
        chunks: parts of the work that threads take.
    Returns: greatest |dV/dt| over the nodes.
    """
    ndim, row = layout.shape.size, layout.row
    rows = layout.shape[ndim - 2] if ndim > 1 else 1  # of a panel: the rows that share all but their last two indices
    panels = 1
    for k in range(ndim - 2):
        panels *= layout.shape[k]
    blocks = max(1, round(rows * row / BLOCK))
    if panels < chunks:  # few panels: smaller blocks, so that every thread has some
        blocks = min(rows, max(blocks, -(-chunks // panels)))
    per_block = -(-rows // blocks)
    blocks = -(-rows // per_block)
    greatest = np.zeros(chunks, values.dtype)
    for chunk in numba.prange(chunks):
        span = per_block * row
        ghosts = np.empty((6, span), values.dtype)
        tall = np.empty(span + 2 * GHOSTS * row, values.dtype)
        means, rate, peak = np.empty(span, values.dtype), np.empty(span, values.dtype), np.zeros(span, values.dtype)
        constants = np.zeros((terms.offsets.size, span), values.dtype)
        sums = np.zeros((max(1, inputs.controls + inputs.disturbances), span), values.dtype)
        index = np.zeros(ndim, np.int64)
        for block in range(chunk * panels * blocks // chunks, (chunk + 1) * panels * blocks // chunks):
            panel, first = block // blocks, block % blocks * per_block
            rest = panel
            for k in range(ndim - 3, -1, -1):
                index[k] = rest % layout.shape[k]
                rest //= layout.shape[k]
            if ndim > 1:
                index[ndim - 2] = first
            start = MARGIN + (panel * rows + first) * row
            length = min(per_block, rows - first) * row
            _block_rate(values, start, length, index, layout, scheme, reach, terms, inputs,
                        ghosts, tall, means, constants, rate, sums)  # fmt: skip
            new = out[start : start + length]
            _update(values[start : start + length], base[start : start + length], new,
                    old_weight, new_weight, dt, tube, rate, peak, length)  # fmt: skip
            if target.size > 1:
                _lower(new, target[start : start + length], length)
            if constraint.size > 1:
                _raise(new, constraint[start : start + length], length)
            for r in range(length // row):
                fill_row_ghosts(out, start + r * row, layout.shape[ndim - 1], layout.periodic[ndim - 1])
        for r in range(per_block):
            for n in range(GHOSTS, GHOSTS + layout.shape[ndim - 1]):
                greatest[chunk] = max(greatest[chunk], peak[r * row + n])
    return greatest.max()


@_compiled
def _lower(values, bound, length):
    for n in range(length):
        values[n] = min(values[n], bound[n])


@_compiled
def _raise(values, bound, length):
    for n in range(length):
        values[n] = max(values[n], bound[n])


def row_length(nodes: int) -> int:
    """Entries of a row of the layout."""
    return -(-(nodes + 2 * GHOSTS) // 16) * 16


def padded(values: NDArray[Any], dtype: np.dtype[Any], periodic: bool) -> NDArray[Any]:
    """Values (n_1, ..., n_d) in the layout, one run of memory, the ghost nodes of each row filled."""
    nodes, row = values.shape[-1], row_length(values.shape[-1])
    flat = np.zeros(2 * MARGIN + values.size // nodes * row, dtype)
    inside(flat, values.shape)[...] = values
    fill_ghosts(flat, values.size // nodes, row, nodes, periodic)
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
