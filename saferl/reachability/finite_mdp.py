"""Exact safety and reach-avoid values of finite Markov decision processes and games, given as tables of successors.

The operators are those of ``discounted``, with V' the value of the successor: the worst one that an adversary may
choose, or the expected one where probabilities are given; the least over actions. A terminal state keeps h (or l, or
the greater of both): nothing comes after it.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from saferl.reachability.semi_lagrangian_kernels import AVOID, REACH, REACH_AVOID


@dataclass(frozen=True)
class FiniteValue:
    """A solution.

    Args:
        values: (S,) V, > 0 unsafe (or out of reach).
        policy: (S,) the action of least value ahead. Of several, the one that was best first: where discount 1 makes
            all ways to a target equal, it leads there, and does not go around in circles.
        sweeps: how many were made.
        bound: on the distance of ``values`` to the fixed point; None for discount 1.
        converged: whether the bound (for discount 1: the change) met the tolerance.
    """

    values: NDArray[np.float64]
    policy: NDArray[np.int64]
    sweeps: int
    bound: float | None
    converged: bool


def solve(
    successors: ArrayLike,
    *,
    discount: float,
    constraint: ArrayLike | None = None,
    target: ArrayLike | None = None,
    probabilities: ArrayLike | None = None,
    terminal: ArrayLike | None = None,
    sweep: Literal["jacobi", "gauss_seidel"] = "gauss_seidel",
    tolerance: float = 1e-9,
    max_sweeps: int | None = None,
) -> FiniteValue:
    """The fixed point of the discounted safety, reach or reach-avoid operator.

    Args:
        successors: (S, A, K) states that may follow, -1 where there are fewer than K.
        discount: in [0, 1]; at 1 the k-th sweep of "jacobi" is exactly the value of k steps.
        constraint: (S,) h, > 0 violated. Alone: avoid.
        target: (S,) l, <= 0 inside. Alone: reach; with ``constraint``: reach-avoid.
        probabilities: (S, A, K) of the successors, sum 1 over those that exist; None: an adversary chooses.
        terminal: (S,) bool, states after which nothing comes.
        sweep: gauss_seidel works in place, forwards and backwards in turn; jacobi from the last sweep's values.
        tolerance: as in ``discounted.solve``; for discount 1 the greatest change of the last sweep.
        max_sweeps: None: as many as the discount needs at worst; for discount 1, S + 1, which always suffices against
            an adversary, or 100,000 where chance decides.
    Raises: ValueError for tables that do not fit together.
    """
    following = np.ascontiguousarray(successors, dtype=np.int64)
    if following.ndim != 3 or 0 in following.shape:
        raise ValueError(f"successors must have shape (S, A, K), none of them 0; got {following.shape}.")
    states = len(following)
    wrong = following[(following < -1) | (following >= states)]
    if wrong.size:
        raise ValueError(f"successors must be states 0 to {states - 1}, or -1 for none; got {wrong[0]}.")
    if constraint is None and target is None:
        raise ValueError("give constraint (h), target (l), or both.")
    h, l = (_per_state(each, states, name) for each, name in ((constraint, "constraint"), (target, "target")))  # noqa: E741
    ends = np.zeros(states, np.bool_) if terminal is None else np.asarray(terminal, dtype=np.bool_)
    if ends.shape != (states,):
        raise ValueError(f"terminal must have shape ({states},); got {ends.shape}.")
    lonely = np.any(np.all(following < 0, axis=2), axis=1) & ~ends
    if lonely.any():
        raise ValueError(f"state {int(np.argmax(lonely))} has an action without successor and is not terminal.")
    shares = _shares(probabilities, following, ends)
    if not 0 <= discount <= 1:
        raise ValueError(f"discount must be in [0, 1]; got {discount}.")
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive; got {tolerance}.")
    if sweep not in ("jacobi", "gauss_seidel"):
        raise ValueError(f"sweep must be jacobi or gauss_seidel; got {sweep!r}.")
    problem = AVOID if target is None else (REACH if constraint is None else REACH_AVOID)
    values = (h if problem == AVOID else (l if problem == REACH else np.maximum(h, l))).copy()
    policy = np.zeros(states, np.int64)
    factor = discount / (1 - discount) if discount < 1 else math.inf
    if max_sweeps is None:
        max_sweeps = states + 1 if probabilities is None else 100_000
        if discount < 1:
            span = 2 * max(float(np.abs(each).max()) for each in (h, l))  # no change is greater
            share = tolerance / max(span * factor, tolerance)  # to which it must fall
            max_sweeps = 2 + math.ceil(math.log(share) / math.log(discount)) if share < 1 else 2
    change, done = math.inf, 0
    while done < max_sweeps and not (change <= tolerance if discount == 1 else change * factor <= tolerance):
        before = values if sweep == "gauss_seidel" else values.copy()
        backwards = sweep == "gauss_seidel" and done % 2 == 1
        change = _sweep(before, values, policy, following, shares, h, l, ends, problem, discount, backwards)
        done += 1
    bound = None if discount == 1 else float(change * factor)
    return FiniteValue(values, policy, done, bound, bool(change <= tolerance if bound is None else bound <= tolerance))


def _per_state(values: ArrayLike | None, states: int, name: str) -> NDArray[np.float64]:
    array = np.zeros(states) if values is None else np.asarray(values, dtype=np.float64)
    if array.shape != (states,) or not np.isfinite(array).all():
        raise ValueError(f"{name} must be {states} finite numbers; got shape {array.shape}.")
    return array


def _shares(
    probabilities: ArrayLike | None, following: NDArray[np.int64], ends: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Probabilities with zeros where there is no successor; of size 0 where an adversary chooses."""
    if probabilities is None:
        return np.zeros((0, 0, 0))
    shares = np.ascontiguousarray(probabilities, dtype=np.float64)
    if shares.shape != following.shape:
        raise ValueError(f"probabilities must have the shape of successors, {following.shape}; got {shares.shape}.")
    sums = np.where(following >= 0, shares, 0.0).sum(axis=2)
    wrong = (~(np.abs(sums - 1) <= 1e-6) | (shares < 0).any(axis=2)).any(axis=1) & ~ends  # also refuses nan
    if wrong.any():
        raise ValueError(f"probabilities of state {int(np.argmax(wrong))} must be >= 0 with sum 1 for every action.")
    return shares


@numba.njit(cache=True)
def _sweep(before, values, policy, following, shares, h, l, ends, problem, g, backwards):  # noqa: E741
    greatest = 0.0
    states = following.shape[0]
    for step in range(states):
        s = states - 1 - step if backwards else step
        if ends[s]:
            continue
        best, chosen, incumbent = np.inf, 0, np.inf
        for a in range(following.shape[1]):
            ahead = -np.inf if shares.size == 0 else 0.0
            for k in range(following.shape[2]):
                then = following[s, a, k]
                if then >= 0:
                    ahead = max(ahead, before[then]) if shares.size == 0 else ahead + shares[s, a, k] * before[then]
            if ahead < best:
                best, chosen = ahead, a
            if a == policy[s]:
                incumbent = ahead
        if best < incumbent:
            policy[s] = chosen
        if problem == AVOID:
            new = (1 - g) * h[s] + g * max(h[s], best)
        elif problem == REACH:
            new = (1 - g) * l[s] + g * min(l[s], best)
        else:
            new = (1 - g) * max(h[s], l[s]) + g * max(h[s], min(l[s], best))
        greatest = max(greatest, abs(new - before[s]))
        values[s] = new
    return greatest
