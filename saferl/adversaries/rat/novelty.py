"""State entropy by nearest neighbours: the reward before a teacher has said anything.

Sources: Liu and Abbeel, Behavior From the Void, NeurIPS 2021; Lee et al., PEBBLE, ICML 2021.
"""

import torch
from torch import Tensor

REFERENCES = 4_000  # states that the others are compared with at most


def novelty(states: Tensor, neighbour: int, generator: torch.Generator) -> Tensor:
    """log of the distance (N,) of each state to its k-th nearest other one, in units of its standard deviation.

    Args:
        states: (N, obs_dim), normalised.
        neighbour: k.
        generator: draws the 4,000 states of comparison where there are more.
    """
    others = states
    if len(states) > REFERENCES:
        others = states[torch.randperm(len(states), generator=generator)[:REFERENCES]]
    rank = min(neighbour + 1, len(others))  # a state is its own nearest
    parts = [torch.cdist(rows, others).kthvalue(rank, dim=1).values for rows in states.split(512)]
    logs = (torch.cat(parts) + 1e-6).log()
    if len(logs) < 2:  # one state has no spread
        return torch.zeros_like(logs)
    return (logs - logs.mean()) / logs.std().clamp(min=1e-6)
