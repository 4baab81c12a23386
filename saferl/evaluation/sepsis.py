"""Exact evaluation on ICU-Sepsis: what a policy is worth and how it treats, by linear solves instead of episodes.

    report = exact_report(finite_model(), policy_table(finite_model(), policy))

Source of the clinical measures: OGSRL (arXiv 2505.16242), section on experiments, in the words of this MDP's levels.
"""

from typing import NamedTuple

import numpy as np

from saferl.envs.icu_sepsis.environment import action_indices
from saferl.envs.icu_sepsis.model import ACTIONS, HIGH_SOFA, LEVELS, LIVE, STATES, Array, SepsisModel
from saferl.policy import FeedbackPolicy, Policy

LEVEL_PAIRS = np.stack(np.divmod(np.arange(ACTIONS), LEVELS), axis=1).astype(np.float64)  # (25, 2) fluids, vasopressor


class Report(NamedTuple):
    """Expectations over an episode; ratios are ratios of expectations."""

    survival: float  # probability, which is the return
    mortality: float
    cost: float
    length: float  # steps of 4 h
    agreement: float  # MCR: share of the clinicians' steps in which the policy would take the same action
    intervention: float  # AIR: of the steps with SOFA >= 10, the first apart, the share with a higher dose of either
    dose_change: float  # ACP: mean distance, in levels, between the doses of two steps in a row


def policy_table(model: SepsisModel, policy: Policy, samples: int = 64, seed: int = 0) -> Array:
    """(716, 25) shares of each action among ``samples`` calls of a policy in every state.

    A policy that answers alike twice in all 716 states counts as deterministic and is not asked again.

    Raises: ValueError for a policy that remembers: what it does is no function of the state.
    """
    if isinstance(policy, FeedbackPolicy):
        raise ValueError("a policy with a memory of the episode has no exact value here; evaluate it by episodes.")
    policy.reset(seed=seed)
    states = np.arange(STATES)
    counts = np.zeros((STATES, ACTIONS))
    for done in range(1, samples + 1):
        policy.reset(mask=np.ones(STATES, np.bool_))
        counts[states, action_indices(policy.act(model.observations))] += 1
        if done == 2 and (counts.max(1) == 2).all():
            break
    return counts / counts.sum(1, keepdims=True)


def exact_report(model: SepsisModel, policy: Array, cost: str = "sofa") -> Report:
    """The value and the clinical measures of a policy (716, 25)."""
    value = model.value(policy, cost)
    visits = model.visits(policy)[:, None] * policy[:LIVE]  # (713, 25)
    records = model.visits(model.clinician)[:, None] * model.clinician[:LIVE]
    agreement = (records * policy[:LIVE]).sum() / records.sum()

    # pairs[b, s] = expected number of times that action b is followed by the live state s
    pairs = np.stack([visits[:, b] @ model.outcomes[model.rows[:LIVE, b], :LIVE] for b in range(ACTIONS)])
    change = np.linalg.norm(LEVEL_PAIRS[:, None] - LEVEL_PAIRS[None], axis=2)  # (25, 25)
    rises = (LEVEL_PAIRS[None] > LEVEL_PAIRS[:, None]).any(2).astype(np.float64)  # (before, after)
    needy = model.sofa[:LIVE] >= HIGH_SOFA
    after = policy[:LIVE].T  # (25, 713)
    raised = (pairs * (rises @ after))[:, needy].sum()
    return Report(
        survival=value.survival,
        mortality=value.mortality,
        cost=value.cost,
        length=value.length,
        agreement=float(agreement),
        intervention=float(raised / pairs[:, needy].sum()),
        dose_change=float((pairs * (change @ after)).sum() / pairs.sum()),
    )
