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
def eno3(a, b, c, d, e, f, g, scale):
    """Third order: the smoothest of three stencils on each side."""
    d0, d1, d2, d3, d4, d5 = b - a, c - b, d - c, e - d, f - e, g - f
    s1, s2, s3, s4, s5 = d1 - d0, d2 - d1, d3 - d2, d4 - d3, d5 - d4  # second differences, s3 at the node
    t2, t3, t4, t5 = s2 - s1, s3 - s2, s4 - s3, s5 - s4  # third differences
    # The stencil of a side grows away from the node where the second difference there is the smaller one.
    away = abs(s2) <= abs(s3)
    near, far = (t3, t2) if away else (t4, t3)
    third = far if abs(far) <= abs(near) else near
    left = d2 + HALF * (s2 if away else s3) + (TWO * third if away else -third) / SIX
    away = abs(s4) <= abs(s3)
    near, far = (t4, t5) if away else (t3, t4)
    third = far if abs(far) <= abs(near) else near
    right = d3 - HALF * (s4 if away else s3) + (TWO * third if away else -third) / SIX
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
def weno5(a, b, c, d, e, f, g, scale):
    """Fifth order where smooth: three third-order stencils weighted by their smoothness.

    Smoothness and stencils are multiplied by common factors; weights proportional to c / s^2 become products of the
    other two s, which takes one division a side instead of four.
    """
    d0, d1, d2 = (b - a) * scale, (c - b) * scale, (d - c) * scale
    d3, d4, d5 = (e - d) * scale, (f - e) * scale, (g - f) * scale
    t0, t1, t2, t3 = d0 - TWO * d1 + d2, d1 - TWO * d2 + d3, d2 - TWO * d3 + d4, d3 - TWO * d4 + d5
    t0, t1, t2, t3 = THIRTEEN * t0 * t0, THIRTEEN * t1 * t1, THIRTEEN * t2 * t2, THIRTEEN * t3 * t3
    p1, p2 = FIVE * d2 + TWO * d3 - d1, TWO * d2 + FIVE * d3 - d4  # the two stencils that both sides share
    least = TWELVE * EPSILON
    u0, u1, u2 = d0 - FOUR * d1 + THREE * d2, d1 - d3, THREE * d2 - FOUR * d3 + d4
    s0, s1, s2 = t0 + THREE * u0 * u0 + least, t1 + THREE * u1 * u1 + least, t2 + THREE * u2 * u2 + least
    r0, r1, r2 = s1 * s2, s0 * s2, s0 * s1
    w0, w1, w2 = r0 * r0, SIX * r1 * r1, THREE * r2 * r2
    left = (w0 * (TWO * d0 - SEVEN * d1 + ELEVEN * d2) + w1 * p1 + w2 * p2) / (w0 + w1 + w2)
    u0, u1, u2 = d5 - FOUR * d4 + THREE * d3, d4 - d2, THREE * d3 - FOUR * d2 + d1
    s0, s1, s2 = t3 + THREE * u0 * u0 + least, t2 + THREE * u1 * u1 + least, t1 + THREE * u2 * u2 + least
    r0, r1, r2 = s1 * s2, s0 * s2, s0 * s1
    w0, w1, w2 = r0 * r0, SIX * r1 * r1, THREE * r2 * r2
    right = (w0 * (TWO * d5 - SEVEN * d4 + ELEVEN * d3) + w1 * p2 + w2 * p1) / (w0 + w1 + w2)
    return (right + left) / TWELVE, (right - left) / TWELVE
