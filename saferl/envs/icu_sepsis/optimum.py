"""The best policy of the ICU-Sepsis MDP under a limit on its expected cost, exactly.

It solves the occupancy linear programme max <x, r> subject to the balance of flow and <x, c> <= L (Altman, Constrained
Markov Decision Processes, 1999) by Dantzig-Wolfe decomposition. With one constraint the master problem has two columns,
a policy on either side of the limit, and its optimum is a mixture of the two; policy iteration prices new columns.
A second instead of the minute that HiGHS takes; a test compares the two.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saferl.envs.icu_sepsis.model import ACTIONS, LIVE, STATES, SURVIVAL, Array, SepsisModel, Value

TOLERANCE = 1e-11  # on a gain in survival


class Optimum(NamedTuple):
    """The solution."""

    value: Value  # undiscounted
    objective: float  # the survival, discounted if that was asked for
    policy: Array  # (716, 25)
    multiplier: float  # survival per unit of cost that the limit is worth


class _Column(NamedTuple):
    """A deterministic policy as a column of the master problem."""

    actions: NDArray[np.int64]  # (713,)
    survival: float  # discounted
    cost: float  # discounted


def optimum(
    model: SepsisModel,
    limit: float | None = None,
    cost: str = "sofa",
    discount: float = 1.0,
    allowed: NDArray[np.bool_] | None = None,
) -> Optimum:
    """The best survival of all policies whose expected cost of an episode keeps to ``limit``.

    Args:
        model: the MDP.
        limit: on the cost, discounted as the reward is; None: none.
        cost: "sofa" or "fluid".
        discount: g in (0, 1].
        allowed: (716, 25) bool, actions that may be taken; None: all.
    Raises: ValueError if no policy keeps to the limit, or a state is without an action that is allowed.
    """
    costs = model.costs(cost)[:LIVE]
    barred = np.zeros((LIVE, ACTIONS), np.bool_) if allowed is None else ~allowed[:LIVE]
    if (without := barred.all(axis=1)).any():
        raise ValueError(f"allowed: no action may be taken in state {int(without.argmax())}; allow one in each.")
    dear = _best_response(model, costs, 1.0, 0.0, discount, barred)
    if limit is None or dear.cost <= limit:
        policy = _matrix(dear.actions)
        return Optimum(model.value(policy, cost), dear.survival, policy, 0.0)
    cheap = _best_response(model, costs, 0.0, 1.0, discount, barred)
    if cheap.cost > limit + TOLERANCE:
        raise ValueError(f"no policy has a cost ({cost}) of {limit} or less; the least is {cheap.cost:.6f}.")
    while True:
        multiplier = (dear.survival - cheap.survival) / (dear.cost - cheap.cost)
        new = _best_response(model, costs, 1.0, multiplier, discount, barred, dear.actions)
        gain = new.survival - multiplier * new.cost - (dear.survival - multiplier * dear.cost)
        if gain <= TOLERANCE:
            break
        dear, cheap = (dear, new) if new.cost <= limit + TOLERANCE else (new, cheap)
    share = min(1.0, max(0.0, (limit - cheap.cost) / (dear.cost - cheap.cost)))  # of episodes that take the dear one
    columns = [(share, _matrix(dear.actions)), (1 - share, _matrix(cheap.actions))]
    occupancy = sum(weight * model.visits(each, discount)[:, None] * each[:LIVE] for weight, each in columns)
    total = np.asarray(occupancy).sum(1, keepdims=True)
    policy = columns[0][1].copy()  # where nobody comes
    policy[:LIVE] = np.where(total > 0, occupancy / np.where(total > 0, total, 1), policy[:LIVE])
    survival = share * dear.survival + (1 - share) * cheap.survival
    return Optimum(model.value(policy, cost), survival, policy, multiplier)


def _best_response(
    model: SepsisModel,
    costs: Array,
    of_survival: float,
    of_cost: float,
    discount: float,
    barred: NDArray[np.bool_],
    actions: NDArray[np.int64] | None = None,
) -> _Column:
    """The policy that maximises of_survival * survival - of_cost * cost, by policy iteration from ``actions``."""
    live = np.arange(LIVE)
    if actions is None:
        actions = np.argmin(barred, axis=1)  # the first that is allowed
    while True:
        flow = model.outcomes[model.rows[live, actions]]  # (713, 716)
        gains = np.stack([flow[:, SURVIVAL], costs[live, actions]], axis=1)
        values = np.linalg.solve(np.eye(LIVE) - discount * flow[:, :LIVE], gains)  # (713, 2)
        ahead = model.outcomes[:, :LIVE] @ (values @ [of_survival, -of_cost])  # (K,)
        ahead = discount * ahead + of_survival * model.outcomes[:, SURVIVAL]
        scores = np.where(barred, -np.inf, ahead[model.rows[:LIVE]] - of_cost * costs)  # (713, 25)
        better = scores.max(1) > scores[live, actions] + TOLERANCE * max(1.0, of_cost)
        if not better.any():
            survival, spent = (float(each) for each in model.start[:LIVE] @ values)
            return _Column(actions, survival, spent)
        actions = np.where(better, scores.argmax(1), actions)


def _matrix(actions: NDArray[np.int64]) -> Array:
    """The policy (716, 25) that takes these actions (713,); even in the terminal states."""
    policy = np.full((STATES, ACTIONS), 1 / ACTIONS)
    policy[:LIVE] = np.eye(ACTIONS)[actions]
    return policy
