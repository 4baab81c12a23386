"""The step of constrained policy optimisation: the best one inside a trust region, under linearised constraints.

    max g' D  subject to  D' H D / 2 <= radius  and  c_i + b_i' D <= 0

With x = H^-1 g and p_i = H^-1 b_i the answer is D = of_gradient x - sum_i of_constraints_i p_i, so that all that
matters is q = g' x, r_i = g' p_i, s_ij = b_i' p_j and c_i.

Source: Achiam et al., Constrained Policy Optimization (ICML 2017), theorem 2. It minimises: its g, and so its r, have
the opposite sign.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.optimize
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

NEGLIGIBLE = 1e-10  # of g' H^-1 g or b' H^-1 b: a gradient that is no direction


class Coefficients(NamedTuple):
    """The step D = of_gradient x - of_constraints . p."""

    of_gradient: float
    of_constraints: Array  # (m,)
    case: str  # "gradient": no constraint matters; "constrained"; "recovery": none within the radius is feasible


def step_coefficients(q: float, r: Array, s: Array, c: Array, radius: float) -> Coefficients:
    """The step for any number of constraints; one is solved in closed form.

    A constraint without gradient can't be changed by a small step and is left out. Where no step inside the trust
    region is feasible, the one that lowers the excesses alone goes to the region's edge.

    Args:
        q: g' H^-1 g.
        r: (m,) g' H^-1 b_i.
        s: (m, m) b_i' H^-1 b_j.
        c: (m,) excess over the limits now.
        radius: of the trust region, in nats.
    """
    kept = np.flatnonzero(np.diag(s) > NEGLIGIBLE)
    if len(kept) == 0:
        return Coefficients(_length(q, radius), np.zeros(len(c)), "gradient")
    if len(kept) == 1:
        place = int(kept[0])
        found = one_constraint(q, float(r[place]), float(s[place, place]), float(c[place]), radius)
    else:
        found = several_constraints(q, r[kept], s[np.ix_(kept, kept)], c[kept], radius)
    spread = np.zeros(len(c))
    spread[kept] = found.of_constraints
    return found._replace(of_constraints=spread)


def one_constraint(q: float, r: float, s: float, c: float, radius: float) -> Coefficients:
    """The closed form, for s > 0.

    With A = q - r^2 / s and B = 2 radius - c^2 / s: if the constraint's plane misses the region (B < 0), the region is
    all feasible (c < 0) or not at all. Otherwise the dual of the multiplier l of the region is
    - (A / l + B l) / 2 + r c / s where the constraint binds (l c + r > 0) and - (q / l + 2 radius l) / 2 elsewhere; the
    greater of its two maxima gives l, and the constraint's multiplier is v = max(0, l c + r) / s.
    """
    b = 2 * radius - c * c / s
    if b <= 0:
        if c < 0:
            return Coefficients(_length(q, radius), np.zeros(1), "gradient")
        return Coefficients(0.0, np.array([math.sqrt(2 * radius / s)]), "recovery")
    if q <= NEGLIGIBLE:  # nothing to gain: the shortest step to the feasible side
        return Coefficients(0.0, np.array([max(0.0, c) / s]), "constrained" if c > 0 else "gradient")
    a = max(q - r * r / s, 0.0)
    binds, free = math.sqrt(a / b), math.sqrt(q / (2 * radius))
    turn = -r / c if c != 0 else math.inf * (-r if r else -1.0)  # where l c + r changes sign
    least = NEGLIGIBLE
    if c > 0:  # binds for l > turn
        binds, free = max(binds, turn, least), min(free, turn)
    elif c < 0:  # binds for l < turn
        binds, free = min(max(binds, least), turn), max(free, turn)
    else:  # binds wherever r > 0
        binds, free = (max(binds, least), 0.0) if r > 0 else (0.0, free)
    value_binds = -0.5 * (a / binds + b * binds) + r * c / s if binds > 0 else -math.inf
    value_free = -0.5 * (q / free + 2 * radius * free) if free > 0 else -math.inf
    multiplier = binds if value_binds >= value_free else free
    v = max(0.0, multiplier * c + r) / s
    return Coefficients(1 / multiplier, np.array([v / multiplier]), "constrained" if v > 0 else "gradient")


def several_constraints(q: float, r: Array, s: Array, c: Array, radius: float) -> Coefficients:
    """The same for m constraints, by scipy.

    For a given l the constraints' multipliers solve the quadratic programme min v' S v / 2 - (r + l c)' v, v >= 0,
    which is a non-negative least-squares problem; the step's length falls with l, and a root finder meets the radius.
    """
    root = scipy.linalg.cholesky(s + NEGLIGIBLE * np.trace(s) * np.eye(len(c)), lower=True)  # S = R R'

    def multipliers(target: Array) -> Array:
        """argmin v' S v / 2 - target' v over v >= 0."""
        scale = max(float(np.abs(target).max()), 1e-300)
        solved = scipy.linalg.solve_triangular(root, target / scale, lower=True)
        return np.asarray(scipy.optimize.nnls(root.T, solved)[0] * scale)

    def excess(log_l: float) -> float:
        """Half the squared length of the step, less the radius."""
        multiplier = math.exp(log_l)
        v = multipliers(r + multiplier * c)
        return float((q - 2 * r @ v + v @ s @ v) / (2 * multiplier**2)) - radius

    nearest = multipliers(c)  # -p . nearest is the shortest step that is feasible
    length = 0.5 * float(nearest @ s @ nearest)
    if length >= radius:
        return Coefficients(0.0, nearest * math.sqrt(radius / length), "recovery")
    if q <= NEGLIGIBLE:
        return Coefficients(0.0, nearest, "constrained" if nearest.any() else "gradient")
    low = high = 0.5 * math.log(q / (2 * radius))
    while excess(high) > 0:
        high += 1.0
    while excess(low) < 0 and low > high - 12:  # further down the step is a rounding error divided by next to nothing
        low -= 1.0
    if excess(low) > 0:
        low = float(scipy.optimize.brentq(excess, low, high, xtol=1e-12))
    multiplier = math.exp(low)  # or the constraints alone bound the step
    v = multipliers(r + multiplier * c)
    return Coefficients(1 / multiplier, v / multiplier, "constrained" if v.any() else "gradient")


def _length(q: float, radius: float) -> float:
    """Factor that brings x to the region's edge; 0 without a direction."""
    return math.sqrt(2 * radius / q) if q > NEGLIGIBLE else 0.0


def conjugate_gradients(product: Callable[[Tensor], Tensor], rows: Tensor, iterations: int) -> Tensor:
    """H^-1 v for each of the rows v (R, P), together.

    Args:
        product: maps rows (R, P) to H v.
        rows: right-hand sides; a row of zeros gives zeros.
        iterations: at most so many; fewer once all residuals are 1e-5 of their right-hand sides.
    """
    solution, residual, direction = torch.zeros_like(rows), rows.clone(), rows.clone()
    squared = residual.square().sum(1, keepdim=True)  # (R, 1)
    enough = 1e-10 * squared
    for _ in range(iterations):
        active = squared > enough
        if not active.any():
            break
        image = product(direction)
        curvature = (direction * image).sum(1, keepdim=True)
        length = torch.where(active, squared / curvature, 0.0)
        solution = solution + length * direction
        residual = residual - length * image
        following = residual.square().sum(1, keepdim=True)
        direction = residual + torch.where(active, following / squared, 0.0) * direction
        squared = following
    return solution
