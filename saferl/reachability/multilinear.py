"""Multilinear interpolation over 1 to 6 axes, each from the one over an axis less, to be inlined into kernels.

For the n-th node of a row: ``lows`` and ``highs`` (d, N) are the offsets of the two nodes around its foot along each
axis, ``weights`` (d, N) those of the upper one; k is the first axis. Offsets are unsigned: for signed ones Numba would
ask before every look-up whether they count from the end.
"""

import numba

from saferl.reachability.semi_lagrangian_kernels import FAST

_point = numba.njit(fastmath=FAST, error_model="numpy", cache=True, forceinline=True)


@_point
def over_1(values, start, lows, highs, weights, k, n):
    """Over a line."""
    a, b = values[start + lows[k, n]], values[start + highs[k, n]]
    return a + weights[k, n] * (b - a)


@_point
def over_2(values, start, lows, highs, weights, k, n):
    """Over a square."""
    a = over_1(values, start + lows[k, n], lows, highs, weights, k + 1, n)
    b = over_1(values, start + highs[k, n], lows, highs, weights, k + 1, n)
    return a + weights[k, n] * (b - a)


@_point
def over_3(values, start, lows, highs, weights, k, n):
    """Over a cube."""
    a = over_2(values, start + lows[k, n], lows, highs, weights, k + 1, n)
    b = over_2(values, start + highs[k, n], lows, highs, weights, k + 1, n)
    return a + weights[k, n] * (b - a)


@_point
def over_4(values, start, lows, highs, weights, k, n):
    """Over four axes."""
    a = over_3(values, start + lows[k, n], lows, highs, weights, k + 1, n)
    b = over_3(values, start + highs[k, n], lows, highs, weights, k + 1, n)
    return a + weights[k, n] * (b - a)


@_point
def over_5(values, start, lows, highs, weights, k, n):
    """Over five axes."""
    a = over_4(values, start + lows[k, n], lows, highs, weights, k + 1, n)
    b = over_4(values, start + highs[k, n], lows, highs, weights, k + 1, n)
    return a + weights[k, n] * (b - a)


@_point
def over_6(values, start, lows, highs, weights, k, n):
    """Over six axes."""
    a = over_5(values, start + lows[k, n], lows, highs, weights, k + 1, n)
    b = over_5(values, start + highs[k, n], lows, highs, weights, k + 1, n)
    return a + weights[k, n] * (b - a)
