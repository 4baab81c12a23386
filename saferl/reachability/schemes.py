"""One-sided first derivatives along an axis: upwind first order, ENO2, ENO3, WENO3, WENO5.

Each takes the values at -3, -2, ..., 3 nodes from a node along one axis and 1 / spacing, and gives the mean of the left
and the right derivative and half their difference, which is what the Lax-Friedrichs scheme needs. Kernels inline them
into loops over rows of nodes; without branches they compile to vector instructions.
Sources: Osher and Fedkiw, Level Set Methods (2003), sections 3.2 to 3.4; Jiang and Peng (2000) for WENO.
"""

import numba
import numpy as np

SCHEMES = ("upwind1", "eno2", "eno3", "weno3", "weno5")

# Small whole numbers and halves in single precision are exact, and leave the arithmetic in the precision of the values:
# a plain number among float32 would turn it into float64 and halve the width of the vectors.
_F = np.float32
HALF, TWO, THREE, FOUR, FIVE, SIX, SEVEN = _F(0.5), _F(2), _F(3), _F(4), _F(5), _F(6), _F(7)
ELEVEN, TWELVE, THIRTEEN = _F(11), _F(12), _F(13)
EPSILON = _F(1e-6)  # keeps the weights of WENO finite; small against squared slopes of order one

_FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}
_point = numba.njit(fastmath=_FAST, error_model="numpy", cache=True, forceinline=True)


@_point
def upwind1(a, b, c, d, e, f, g, scale):
    """First order: the differences to the two neighbours."""
    left, right = d - c, e - d
    return HALF * scale * (right + left), HALF * scale * (right - left)


@_point
def eno2(a, b, c, d, e, f, g, scale):
    """Second order: each side corrected by the smaller of two second differences."""
    d1, d2, d3, d4 = c - b, d - c, e - d, f - e
    s1, s2, s3 = d2 - d1, d3 - d2, d4 - d3
    left = d2 + HALF * (s1 if abs(s1) <= abs(s2) else s2)
    right = d3 - HALF * (s2 if abs(s2) <= abs(s3) else s3)
    return HALF * scale * (right + left), HALF * scale * (right - left)


@_point
def _eno3_side(d0, d1, d2, d3, d4):
    """Third order on one side, from the differences d0 (far outside) to d4; d2 is next to the node, on that side."""
    s1, s2, s3, s4 = d1 - d0, d2 - d1, d3 - d2, d4 - d3
    outer = abs(s2) <= abs(s3)  # the stencil grows away from the node where the function is smoother there
    second = s2 if outer else s3
    away = s2 - s1 if outer else s3 - s2
    towards = s3 - s2 if outer else s4 - s3
    smallest = away if abs(away) <= abs(towards) else towards
    return d2 + HALF * second + (TWO * smallest if outer else -smallest) / SIX


@_point
def eno3(a, b, c, d, e, f, g, scale):
    """Third order: the smoothest of three stencils on each side."""
    d0, d1, d2, d3, d4, d5 = b - a, c - b, d - c, e - d, f - e, g - f
    left, right = _eno3_side(d0, d1, d2, d3, d4), _eno3_side(d5, d4, d3, d2, d1)
    return HALF * scale * (right + left), HALF * scale * (right - left)


@_point
def weno3(a, b, c, d, e, f, g, scale):
    """Third order where smooth: two second-order stencils weighted by their smoothness."""
    d1, d2, d3, d4 = (c - b) * scale, (d - c) * scale, (e - d) * scale, (f - e) * scale
    s1, s2, s3 = (d2 - d1) * (d2 - d1) + EPSILON, (d3 - d2) * (d3 - d2) + EPSILON, (d4 - d3) * (d4 - d3) + EPSILON
    # Weights 1/3 and 2/3 over s^2, multiplied by the other s^2: one division a side instead of three.
    outer, inner, centred = s2 * s2, TWO * s1 * s1, d2 + d3
    left = (outer * (THREE * d2 - d1) + inner * centred) / (outer + inner)
    inner = TWO * s3 * s3
    right = (outer * (THREE * d3 - d4) + inner * centred) / (outer + inner)
    return HALF * HALF * (right + left), HALF * HALF * (right - left)


@_point
def _weno5_side(d0, d1, d2, d3, d4, t0, t1, t2, p1, p2):
    """Twelve times fifth order on one side: differences d, their squared second differences t, shared stencils p.

    Smoothness and weights are multiplied by common factors; weights proportional to c / s^2 become products of the
    other two s: one division instead of four.
    """
    u0, u1, u2 = d0 - FOUR * d1 + THREE * d2, d1 - d3, THREE * d2 - FOUR * d3 + d4
    s0 = t0 + THREE * u0 * u0 + TWELVE * EPSILON
    s1 = t1 + THREE * u1 * u1 + TWELVE * EPSILON
    s2 = t2 + THREE * u2 * u2 + TWELVE * EPSILON
    r0, r1, r2 = s1 * s2, s0 * s2, s0 * s1
    w0, w1, w2 = r0 * r0, SIX * r1 * r1, THREE * r2 * r2
    return (w0 * (TWO * d0 - SEVEN * d1 + ELEVEN * d2) + w1 * p1 + w2 * p2) / (w0 + w1 + w2)


@_point
def weno5(a, b, c, d, e, f, g, scale):
    """Fifth order where smooth: three third-order stencils weighted by their smoothness."""
    d0, d1, d2 = (b - a) * scale, (c - b) * scale, (d - c) * scale
    d3, d4, d5 = (e - d) * scale, (f - e) * scale, (g - f) * scale
    t0, t1, t2, t3 = d0 - TWO * d1 + d2, d1 - TWO * d2 + d3, d2 - TWO * d3 + d4, d3 - TWO * d4 + d5
    t0, t1, t2, t3 = THIRTEEN * t0 * t0, THIRTEEN * t1 * t1, THIRTEEN * t2 * t2, THIRTEEN * t3 * t3
    p1, p2 = FIVE * d2 + TWO * d3 - d1, TWO * d2 + FIVE * d3 - d4  # six times the stencils that both sides share
    left = _weno5_side(d0, d1, d2, d3, d4, t0, t1, t2, p1, p2)
    right = _weno5_side(d5, d4, d3, d2, d1, t3, t2, t1, p2, p1)
    return (right + left) / TWELVE, (right - left) / TWELVE
