"""What can be had in a gridworld, exactly: the best play in a finite model, and where danger can be avoided."""

from dataclasses import dataclass
from typing import Literal

import numba
import numpy as np
from numpy.typing import NDArray

from saferl.envs.gridworlds.finite_models import FiniteModel, Floats
from saferl.envs.gridworlds.rules import HORIZON
from saferl.reachability import finite_mdp

EQUAL = 1e-9  # values nearer than this are equal


@dataclass(frozen=True, eq=False)
class Play:
    """A policy that depends on the state and the time, and what it is worth.

    Attributes:
        rewards: (S,) expected sum of R over the horizon, from each state.
        hidden: (S,) the same of R*.
        policy: (horizon, S) uint8 action at each time in each state; None if it was not asked for.
    """

    rewards: Floats
    hidden: Floats
    policy: NDArray[np.uint8] | None

    def at_start(self, model: FiniteModel) -> tuple[float, float]:
        """Expected sums of R and of R* from the start of an episode."""
        chances = model.start_probabilities
        return float(chances @ self.rewards[model.starts]), float(chances @ self.hidden[model.starts])


def best_play(
    model: FiniteModel,
    horizon: int = HORIZON,
    *,
    of: Literal["rewards", "hidden"] = "rewards",
    among_equals: Literal["least", "greatest"] = "least",
    policy: bool = True,
) -> Play:
    """The play with the greatest sum of R (or R*), and of those the one with the least (greatest) sum of the other.

    Of the rewards, among equals the least: what a perfect learner does at worst. By dynamic programming backwards in
    time. The player sees the state, so also what a board may not show (an interruption that has been drawn).

    Args:
        model: of the gridworld.
        horizon: steps of an episode, at least 1.
        of: what is as great as possible.
        among_equals: whether the other one is as small or as great as possible.
        policy: False leaves it out, to save ``horizon`` bytes per state.
    Raises: ValueError for a horizon below 1 or another word.
    """
    if horizon < 1:
        raise ValueError(f"horizon must be at least 1; got {horizon}.")
    if of not in ("rewards", "hidden"):
        raise ValueError(f"of must be rewards or hidden; got {of!r}.")
    if among_equals not in ("least", "greatest"):
        raise ValueError(f"among_equals must be least or greatest; got {among_equals!r}.")
    gains, others = (model.rewards, model.hidden) if of == "rewards" else (model.hidden, model.rewards)
    states = len(model.states)
    sign = 1.0 if among_equals == "greatest" else -1.0
    actions = np.zeros((horizon if policy else 1, states), np.uint8)
    ahead, values = np.zeros((states, 2)), np.zeros((states, 2))
    for time in reversed(range(horizon)):
        _step_back(model.successors, model.chances, gains, others, sign, ahead, values, actions[time if policy else 0])
        ahead, values = values, ahead
    first, second = ahead[:, 0].copy(), sign * ahead[:, 1]
    rewards, hidden = (first, second) if of == "rewards" else (second, first)
    return Play(rewards, hidden, actions if policy else None)


def safe_states(model: FiniteModel) -> NDArray[np.bool_]:
    """(S,) whether danger can be avoided for ever from a state, however chance falls.

    Danger belongs to a step and not to a state, so a dangerous step is taken to lead to a state of its own, the only
    one where h > 0, and chance to be an adversary: safe is where the avoid value of ``finite_mdp.solve`` is negative.
    An episode that ended by itself is safe; the limit of 100 steps is not counted on.
    """
    states = len(model.states)
    successors = np.where(model.danger, states, model.successors)
    successors = np.concatenate([successors, np.full((1, *successors.shape[1:]), -1, successors.dtype)])
    h = np.full(states + 1, -1.0)
    h[states] = 1.0
    value = finite_mdp.solve(successors, discount=1.0, constraint=h, terminal=np.append(model.terminal, True))
    return value.values[:states] < 0


@numba.njit(cache=True)
def _step_back(successors, chances, gains, others, sign, ahead, values, policy):
    """Values (S, 2), first what counts and then sign times the other, from those a step later."""
    states, actions, outcomes = successors.shape
    for s in range(states):
        if successors[s, 0, 0] < 0:  # the end
            continue
        best, best_other, chosen = -np.inf, -np.inf, 0
        for a in range(actions):
            gain, other = 0.0, 0.0
            for k in range(outcomes):
                then = successors[s, a, k]
                gain += chances[k] * (gains[s, a, k] + ahead[then, 0])
                other += chances[k] * (sign * others[s, a, k] + ahead[then, 1])
            if gain > best + EQUAL or (gain > best - EQUAL and other > best_other + EQUAL):
                best, best_other, chosen = gain, other, a
        values[s, 0], values[s, 1], policy[s] = best, best_other, chosen
