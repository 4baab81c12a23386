"""One-sided first derivatives along an axis: upwind first order, ENO2, ENO3, WENO3, WENO5, on whole rows of nodes.

Each takes seven rows, the values at -3, -2, ..., 3 nodes from the nodes in question along one axis, and gives the mean
of the left and the right derivative and half their difference, which is what the Lax-Friedrichs scheme needs. The
loops have no branches, so that they compile to vector instructions.
Sources: Osher and Fedkiw, Level Set Methods (2003), sections 3.2 to 3.4; Jiang and Peng (2000) for WENO.
"""

import numba

SCHEMES = ("upwind1", "eno2", "eno3", "weno3", "weno5")
REACH = 3  # nodes to either side that the widest stencil needs
WENO_EPSILON = 1e-6  # keeps the weights finite; small against squared derivatives of order one

# Constants are made in the rows' own precision (number = mean.dtype.type): an integer or a float64 among float32 would
# turn the arithmetic into float64 and halve the width of the vectors.
_rows = numba.njit(fastmath=True, error_model="numpy", cache=True)
_inline = numba.njit(fastmath=True, error_model="numpy", cache=True, inline="always")


@_rows
def upwind1(a, b, c, d, e, f, g, scale, mean, jump):
    """First order: the differences to the two neighbours."""
    number = mean.dtype.type
    half = scale * number(0.5)
    for n in range(mean.size):
        left, right = d[n] - c[n], e[n] - d[n]
        mean[n] = half * (right + left)
        jump[n] = half * (right - left)


@_rows
def eno2(a, b, c, d, e, f, g, scale, mean, jump):
    """Second order: each side corrected by the smaller of two second differences."""
    number = mean.dtype.type
    half, half_scale = number(0.5), scale * number(0.5)
    for n in range(mean.size):
        d1, d2, d3, d4 = c[n] - b[n], d[n] - c[n], e[n] - d[n], f[n] - e[n]
        s1, s2, s3 = d2 - d1, d3 - d2, d4 - d3
        left = d2 + half * (s1 if abs(s1) <= abs(s2) else s2)
        right = d3 - half * (s2 if abs(s2) <= abs(s3) else s3)
        mean[n] = half_scale * (right + left)
        jump[n] = half_scale * (right - left)


@_inline
def _eno3_side(d0, d1, d2, d3, d4, half, third, sixth):
    """Third order on one side, from the differences d0 (far outside) to d4; d2 is next to the node, on that side."""
    s1, s2, s3, s4 = d1 - d0, d2 - d1, d3 - d2, d4 - d3
    outer = abs(s2) <= abs(s3)  # the stencil grows away from the node where the function is smoother there
    second = s2 if outer else s3
    away, towards = (s2 - s1, s3 - s2) if outer else (s3 - s2, s4 - s3)
    smallest = away if abs(away) <= abs(towards) else towards
    return d2 + half * second + (third if outer else -sixth) * smallest


@_rows
def eno3(a, b, c, d, e, f, g, scale, mean, jump):
    """Third order: the smoothest of three stencils on each side."""
    number = mean.dtype.type
    half, third, sixth, half_scale = number(0.5), number(1 / 3), number(1 / 6), scale * number(0.5)
    for n in range(mean.size):
        d0, d1, d2, d3, d4, d5 = b[n] - a[n], c[n] - b[n], d[n] - c[n], e[n] - d[n], f[n] - e[n], g[n] - f[n]
        left = _eno3_side(d0, d1, d2, d3, d4, half, third, sixth)
        right = _eno3_side(d5, d4, d3, d2, d1, half, third, sixth)
        mean[n] = half_scale * (right + left)
        jump[n] = half_scale * (right - left)


@_rows
def weno3(a, b, c, d, e, f, g, scale, mean, jump):
    """Third order where smooth: two second-order stencils weighted by their smoothness."""
    number = mean.dtype.type
    epsilon, half, two, three = number(WENO_EPSILON), number(0.5), number(2), number(3)
    for n in range(mean.size):
        d1, d2, d3, d4 = (c[n] - b[n]) * scale, (d[n] - c[n]) * scale, (e[n] - d[n]) * scale, (f[n] - e[n]) * scale
        s1, s2, s3 = (d2 - d1) * (d2 - d1) + epsilon, (d3 - d2) * (d3 - d2) + epsilon, (d4 - d3) * (d4 - d3) + epsilon
        # Weights 1/3 and 2/3 over s^2, multiplied by the other s^2: one division a side instead of three.
        outer, inner, centred = s2 * s2, two * s1 * s1, d2 + d3
        left = (outer * (three * d2 - d1) + inner * centred) / (outer + inner)
        inner = two * s3 * s3
        right = (outer * (three * d3 - d4) + inner * centred) / (outer + inner)
        mean[n] = half * half * (right + left)
        jump[n] = half * half * (right - left)


@_rows
def weno5(a, b, c, d, e, f, g, scale, mean, jump):
    """Fifth order where smooth: three third-order stencils weighted by their smoothness."""
    number = mean.dtype.type
    epsilon, quarter, curve, twelfth = number(WENO_EPSILON), number(0.25), number(13 / 12), number(1 / 12)
    two, three, four, five, six, seven, eleven = (
        number(2), number(3), number(4), number(5), number(6), number(7), number(11),
    )  # fmt: skip
    for n in range(mean.size):
        d0, d1, d2 = (b[n] - a[n]) * scale, (c[n] - b[n]) * scale, (d[n] - c[n]) * scale
        d3, d4, d5 = (e[n] - d[n]) * scale, (f[n] - e[n]) * scale, (g[n] - f[n]) * scale
        t0, t1, t2, t3 = d0 - two * d1 + d2, d1 - two * d2 + d3, d2 - two * d3 + d4, d3 - two * d4 + d5
        c0, c1, c2, c3 = curve * t0 * t0, curve * t1 * t1, curve * t2 * t2, curve * t3 * t3
        p1, p2 = five * d2 + two * d3 - d1, two * d2 + five * d3 - d4  # six times the stencils that both sides share
        # Weights c_k / s_k^2, multiplied by all s^2: one division a side instead of four.
        u0, u1, u2 = d0 - four * d1 + three * d2, d1 - d3, three * d2 - four * d3 + d4
        s0, s1, s2 = (
            c0 + quarter * u0 * u0 + epsilon,
            c1 + quarter * u1 * u1 + epsilon,
            c2 + quarter * u2 * u2 + epsilon,
        )
        r0, r1, r2 = s1 * s2, s0 * s2, s0 * s1
        w0, w1, w2 = r0 * r0, six * r1 * r1, three * r2 * r2
        left = (w0 * (two * d0 - seven * d1 + eleven * d2) + w1 * p1 + w2 * p2) / (w0 + w1 + w2)
        u0, u1, u2 = d5 - four * d4 + three * d3, d4 - d2, three * d3 - four * d2 + d1
        s0, s1, s2 = (
            c3 + quarter * u0 * u0 + epsilon,
            c2 + quarter * u1 * u1 + epsilon,
            c1 + quarter * u2 * u2 + epsilon,
        )
        r0, r1, r2 = s1 * s2, s0 * s2, s0 * s1
        w0, w1, w2 = r0 * r0, six * r1 * r1, three * r2 * r2
        right = (w0 * (two * d5 - seven * d4 + eleven * d3) + w1 * p2 + w2 * p1) / (w0 + w1 + w2)
        mean[n] = twelfth * (right + left)
        jump[n] = twelfth * (right - left)
