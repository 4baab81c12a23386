"""What the two kernels of discounted sweeps share: the operator, the feet, the nodes around a foot.

A foot is where the state is a time step later. The feet come as tables: for each control and disturbance, how many
nodes the state moves along each axis, stored only along the axes on which that depends. Values at the feet are
interpolated; beyond an edge that does not wrap around, the node at the edge counts.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

AVOID, REACH, REACH_AVOID = 0, 1, 2

# No promise that values are finite: NaN must survive, so that it can be reported.
FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}
compiled = numba.njit(fastmath=FAST, error_model="numpy", cache=True)


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


@compiled
def cubic_weights(w):
    """Lagrange weights of the nodes -1, 0, 1, 2 at w in [0, 1)."""
    one = w - w + np.float32(1)  # in the precision of w
    two, half, sixth = one + one, one / np.float32(2), one / np.float32(6)
    return (
        -w * (w - one) * (w - two) * sixth,
        (w + one) * (w - one) * (w - two) * half,
        -(w + one) * w * (w - two) * half,
        (w + one) * w * (w - one) * sixth,
    )


@compiled
def inside(index, count, wraps):
    """The index of a node along an axis, wrapped around or held at the edge."""
    return index % count if wraps else min(max(index, 0), count - 1)


@compiled
def corners(node_index, feet, table, axes, shape, wraps, strides, starts, weights, cubic):
    """Where the nodes around a foot lie along the first ``axes`` axes, and their weights; returns how many there are.

    A displacement of whole nodes has one node along its axis. ``cubic``: four nodes along an axis, else two.
    """
    count = 1
    starts[0] = 0
    weights[0] = 1
    for k in range(axes):
        at = feet.offsets[table + k]
        for m in range(shape.size):
            at += feet.strides[table + k, m] * node_index[m]
        moved = feet.entries[at]
        floor = np.floor(moved)
        w, lower = moved - floor, node_index[k] + np.int64(floor)
        low = inside(lower, shape[k], wraps[k]) * strides[k]
        if w == 0:
            for j in range(count):
                starts[j] += low
        elif cubic:
            four = cubic_weights(w)
            for tap in range(3, -1, -1):  # tap 0 last: it overwrites what the others read
                place = inside(lower - 1 + tap, shape[k], wraps[k]) * strides[k]
                for j in range(count):
                    starts[tap * count + j] = starts[j] + place
                    weights[tap * count + j] = weights[j] * four[tap]
            count *= 4
        else:
            high = inside(lower + 1, shape[k], wraps[k]) * strides[k]
            for j in range(count):
                starts[count + j], weights[count + j] = starts[j] + high, weights[j] * w
                starts[j] += low
                weights[j] -= weights[count + j]
            count *= 2
    return count


@compiled
def fold(total, one, shares, e):
    """The value over disturbances so far: the worst one, or the expected one."""
    if shares.size == 0:
        for n in range(total.size):
            total[n] = max(total[n], one[n])
    else:
        share = shares[e]
        for n in range(total.size):
            total[n] += share * one[n]


@compiled
def back_up(problem, g, rest, now, h, l, ahead, out, peak):  # noqa: E741
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
