"""Clipped cubic interpolation over 1 to 4 axes, each from the one over an axis less, to be inlined into kernels.

For the n-th node of a row: ``places`` (d, 4, N) are the unsigned offsets of the four nodes around its foot along each
axis, ``weights`` (d, 4, N) theirs; k is the first axis. Each function returns the interpolated value and the least and
the greatest value at the corners of the cell, to which the caller clips.
"""

import numba

from saferl.reachability.semi_lagrangian_kernels import FAST

_point = numba.njit(fastmath=FAST, error_model="numpy", cache=True, forceinline=True)


@_point
def over_1(values, start, places, weights, k, n):
    """Over a line."""
    a, b = values[start + places[k, 0, n]], values[start + places[k, 1, n]]
    c, d = values[start + places[k, 2, n]], values[start + places[k, 3, n]]
    value = weights[k, 0, n] * a + weights[k, 1, n] * b + weights[k, 2, n] * c + weights[k, 3, n] * d
    return value, min(b, c), max(b, c)


@_point
def over_2(values, start, places, weights, k, n):
    """Over a square."""
    a, _, _ = over_1(values, start + places[k, 0, n], places, weights, k + 1, n)
    b, low, high = over_1(values, start + places[k, 1, n], places, weights, k + 1, n)
    c, other_low, other_high = over_1(values, start + places[k, 2, n], places, weights, k + 1, n)
    d, _, _ = over_1(values, start + places[k, 3, n], places, weights, k + 1, n)
    value = weights[k, 0, n] * a + weights[k, 1, n] * b + weights[k, 2, n] * c + weights[k, 3, n] * d
    return value, min(low, other_low), max(high, other_high)


@_point
def over_3(values, start, places, weights, k, n):
    """Over a cube."""
    a, _, _ = over_2(values, start + places[k, 0, n], places, weights, k + 1, n)
    b, low, high = over_2(values, start + places[k, 1, n], places, weights, k + 1, n)
    c, other_low, other_high = over_2(values, start + places[k, 2, n], places, weights, k + 1, n)
    d, _, _ = over_2(values, start + places[k, 3, n], places, weights, k + 1, n)
    value = weights[k, 0, n] * a + weights[k, 1, n] * b + weights[k, 2, n] * c + weights[k, 3, n] * d
    return value, min(low, other_low), max(high, other_high)


@_point
def over_4(values, start, places, weights, k, n):
    """Over four axes."""
    a, _, _ = over_3(values, start + places[k, 0, n], places, weights, k + 1, n)
    b, low, high = over_3(values, start + places[k, 1, n], places, weights, k + 1, n)
    c, other_low, other_high = over_3(values, start + places[k, 2, n], places, weights, k + 1, n)
    d, _, _ = over_3(values, start + places[k, 3, n], places, weights, k + 1, n)
    value = weights[k, 0, n] * a + weights[k, 1, n] * b + weights[k, 2, n] * c + weights[k, 3, n] * d
    return value, min(low, other_low), max(high, other_high)
