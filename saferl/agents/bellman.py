"""What every agent with critics shares: Bellman targets, ends of episodes, the discounted threshold of a cost limit."""

import torch
from torch import Tensor

from saferl.offline_data.batch import Batch

FORMS = ("corrected", "published")  # of an agent whose reference code has faults; docs/faults.md shows both


def bellman_target(gains: Tensor, ends: Tensor, next_values: Tensor, discount: float) -> Tensor:
    """g + gamma (1 - d) V(s'), of rewards or of costs; all (B,)."""
    return gains + discount * (1 - ends) * next_values


def cost_value_threshold(cost_limit: float, discount: float, episode_length: int) -> float:
    """kappa = L (1 - gamma^T) / ((1 - gamma) T).

    The discounted sum of a cost that is spread evenly over T steps and adds up to ``cost_limit`` = L.
    """
    return cost_limit * (1 - discount**episode_length) / (1 - discount) / episode_length


def ends(batch: Batch, form: str = "corrected") -> tuple[Tensor, Tensor]:
    """d of the reward's and of the cost's target, each (B,): 1 where nothing follows.

    Corrected: both end where the task ended and go on where only the time ran out. Published: the reference code of
    the field (OSRL) ends the reward at time limits too, and never ends the cost.
    """
    if form == "published":
        return torch.maximum(batch.terminals, batch.timeouts), torch.zeros_like(batch.terminals)
    return batch.terminals, batch.terminals
