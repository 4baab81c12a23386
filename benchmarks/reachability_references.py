"""Right answers for benchmarks/reachability.py that no grid was needed for; V in saferl's sign, states (B, d)."""

from itertools import product

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def dubins_car(states: Array) -> Array:
    """Unit speed and turn rate, unit disc at the origin: a hard turn away until tangent; exact from T = pi/2 on."""
    x, y, heading = states.T
    along, across = x * np.cos(heading) + y * np.sin(heading), np.abs(y * np.cos(heading) - x * np.sin(heading))
    distance = np.hypot(x, y)
    return 1 - np.where(along >= 0, distance, np.sqrt(distance**2 + 2 * across + 1) - 1)


def air3d(states: Array, horizon: float, speed: float = 5.0, radius: float = 5.0) -> Array:
    """The programmed max-min of two equal vehicles with unit turn rates, whose zero level is Merz's barrier.

    V = radius - max over unit vectors n of n . p + min(0, speed [I(d_e) - I(d_p)]), d_e and d_p the angles of the
    evader's and the pursuer's heading from -n, I(d) = integral over [0, T] of cos(max(d - t, 0)).
    """
    x, y, psi = states.T
    best, angle, step = np.full(len(x), -np.inf), np.zeros(len(x)), 2 * np.pi / 256

    def advance(off: Array) -> Array:
        off = np.abs((off + np.pi) % (2 * np.pi) - np.pi)
        return np.sin(off) - np.sin(np.maximum(off - horizon, 0)) + np.maximum(horizon - off, 0)

    def payoff(alpha: Array) -> Array:
        gap = speed * (advance(alpha + np.pi) - advance(psi - alpha - np.pi))
        return np.cos(alpha) * x + np.sin(alpha) * y + np.minimum(0, gap)

    for alpha in np.arange(256) * step:
        found = payoff(np.full(len(x), alpha))
        angle, best = np.where(found > best, alpha, angle), np.maximum(best, found)
    for _ in range(8):  # finer and finer around the best
        step /= 4
        middle = angle
        for shift in range(-4, 5):
            found = payoff(middle + shift * step)
            angle, best = np.where(found > best, middle + shift * step, angle), np.maximum(best, found)
    return radius - best


def car4d(states: Array, horizon: float, pieces: int = 5, steps: int = 40) -> Array:
    """The car with speed and a unit disc at the origin: the best of all controls constant on ``pieces`` spans.

    Controls from {-1, 1} x {-1, 0, 1}, 6^pieces sequences; more pieces change it by less than 1e-5.
    """
    sequences = np.array(list(product(product((-1.0, 1.0), (-1.0, 0.0, 1.0)), repeat=pieces)))
    out = np.empty(len(states))
    _best_sequence(np.ascontiguousarray(states), sequences, horizon / pieces / steps, steps, out)
    return out


@numba.njit(parallel=True, cache=True)
def _best_sequence(states, sequences, dt, steps, out):
    for i in numba.prange(states.shape[0]):
        best = np.inf
        for s in range(sequences.shape[0]):
            x, y, v, heading = states[i]
            worst = 1 - np.hypot(x, y)
            for p in range(sequences.shape[1]):
                a, w = sequences[s, p, 0], sequences[s, p, 1]
                for _ in range(steps):
                    middle = heading + w * dt / 2  # midpoint rule
                    x += dt * (v + a * dt / 2) * np.cos(middle)
                    y += dt * (v + a * dt / 2) * np.sin(middle)
                    v, heading = v + a * dt, heading + w * dt
                    worst = max(worst, 1 - np.hypot(x, y))
                if worst >= best:
                    break
            best = min(best, worst)
        out[i] = best
