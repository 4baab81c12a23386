"""Plans on the clone: the best sum of some reward of its edges within a horizon, by backward induction.

A policy is (T, N, A) bool: by time and node the actions that are equally good, among which one is drawn.
"""

from collections.abc import Sequence

import numba
import numpy as np
from numpy.typing import NDArray

from saferl.danger.clone import Clone, Floats, World
from saferl.danger.specification import Plan

Policy = NDArray[np.bool_]  # (T, N, A)
TIE = 1e-7  # sums that differ by less are equal


def best_policy(clone: Clone, rewards: Floats, horizon: int) -> Policy:
    """The policy of greatest expected sum, with all actions that attain it.

    Args:
        clone: to plan on.
        rewards: (E,) of its edges; or (T, E) where they depend on the time.
        horizon: T, steps.
    Returns: (T, N, A).
    """
    by_time = np.ascontiguousarray(np.atleast_2d(rewards), np.float64)  # (1 or T, E)
    return _backward(clone.offsets, clone.following, clone.chances, by_time, horizon, clone.actions)


@numba.njit(cache=True)
def _backward(offsets, following, chances, rewards, horizon, actions):
    nodes = (len(offsets) - 1) // actions
    policy = np.zeros((horizon, nodes, actions), np.bool_)
    value, after, totals = np.zeros(nodes), np.zeros(nodes), np.zeros(actions)
    for back in range(horizon):
        t = horizon - 1 - back
        row = t if len(rewards) > 1 else 0
        value, after = after, value
        for n in range(nodes):
            for a in range(actions):
                totals[a] = 0.0
                for e in range(offsets[n * actions + a], offsets[n * actions + a + 1]):
                    ahead = after[following[e]] if following[e] >= 0 else 0.0
                    totals[a] += chances[e] * (rewards[row, e] + ahead)
            best = totals.max()
            value[n] = best
            for a in range(actions):
                policy[t, n, a] = totals[a] > best - TIE
    return policy


def policy_of(plan: Plan, clone: Clone, horizon: int) -> Policy:
    """A policy from any plan of a backend; a list of actions gives (T, 1, A), cut to the horizon.

    Raises: ValueError for an action that is not offered, or a table of another size.
    """
    table = np.asarray(plan)
    if table.ndim == 3 and table.dtype == np.bool_ and table.shape[1:] == (clone.nodes, clone.actions):
        return table[:horizon]
    if table.ndim != 1 or (table.size and not (np.issubdtype(table.dtype, np.integer) and table.min() >= 0)):
        raise ValueError(f"a plan must be a list of actions, or (T, N, A) bool; got {plan!r}.")
    if table.size and table.max() >= clone.actions:
        raise ValueError(f"a plan's actions must be 0 to {clone.actions - 1}; got {table.max()}.")
    return np.eye(clone.actions, dtype=np.bool_)[table[:horizon].astype(np.int64)][:, None, :]


def expected(world: World, policy: Policy, quantities: Sequence[Floats]) -> Floats:
    """Expected sums over an episode under a policy, exactly, from each start of the world.

    Args:
        world: in which it acts.
        policy: (T, N, A), or (T, 1, A) for one that doesn't look.
        quantities: Q arrays that broadcast to (J, A, K), each a number that every step adds.
    Returns: (Q, J0).
    """
    stacked = np.stack([np.broadcast_to(each, world.chances.shape) for each in quantities]).astype(np.float64)
    means = (stacked * world.chances).sum(axis=3)  # (Q, J, A)
    node = world.node if policy.shape[1] > 1 else np.zeros_like(world.node)
    return _followed(node, world.following, world.chances, means, policy)[:, world.starts]


@numba.njit(cache=True)
def _followed(node, following, chances, means, policy):
    kinds, pairs, actions = means.shape
    value, after = np.zeros((kinds, pairs)), np.zeros((kinds, pairs))
    for back in range(len(policy)):
        t = len(policy) - 1 - back
        value, after = after, value
        for j in range(pairs):
            allowed = policy[t, node[j]]
            share = 1.0 / max(1, allowed.sum())
            value[:, j] = 0.0
            for a in range(actions):
                if allowed[a]:
                    for q in range(kinds):
                        value[q, j] += share * means[q, j, a]
                    for k in range(following.shape[2]):
                        then = following[j, a, k]
                        if then >= 0:
                            for q in range(kinds):
                                value[q, j] += share * chances[j, a, k] * after[q, then]
    return value
