"""Rollouts in a learned model, and advantages along them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rollouts:
    """B paths of at most T steps; the constraints are C, cost first, then leaving the support if it is guarded."""

    observations: Tensor  # (T, B, obs_dim)
    actions: Tensor  # (T, B, act_dim), before they are clipped to [-1, 1]
    next_observations: Tensor  # (T, B, obs_dim)
    gains: Tensor  # (1 + C, T, B): reward, cost, whether the support was left; 0 where a path is over
    over: Tensor  # (T, B), 1 where nothing comes after the step
    alive: Tensor  # (T, B), 1 where the step was made

    @property
    def sums(self) -> Tensor:
        """(1 + C,) mean over paths of the undiscounted sums of the gains."""
        return self.gains.sum(1).mean(1)


@torch.no_grad()
def imagine(
    draw: Callable[[Tensor], Tensor],
    model: Any,
    support: Any,
    starts: Tensor,
    horizon: int,
    exit_reward: float,
) -> Rollouts:
    """Paths from observations (B, obs_dim) until the task ends, the support is left or the time is up.

    The step that leaves the support earns ``exit_reward`` instead of the model's reward, has a unit of the support's
    cost, and is the last: what is frozen until the horizon gains nothing more. Its sum over a path is then the event
    that the path leaves at all, whose probability the constraint bounds.

    Args:
        draw: actions (B, act_dim) at observations (B, obs_dim).
        model: its ``step`` gives a ``Transition``.
        support: its ``cost`` is 1 outside the support; None: no guard.
        starts, horizon: where paths begin, and how long they are at most.
        exit_reward: see above.
    """
    count, constraints = len(starts), 1 if support is None else 2
    seen, alive = starts, torch.ones(count, device=starts.device)
    columns: list[tuple[Tensor, ...]] = []
    for _ in range(horizon):
        actions = draw(seen)
        here = alive.nonzero().squeeze(1)
        taken = actions[here].clamp(-1, 1)
        after = model.step(seen[here], taken)
        rewards, costs, ends = after.rewards, after.costs, after.terminals
        gains = starts.new_zeros(1 + constraints, count)
        if support is not None:
            outside = support.cost(seen[here], taken)
            gains[2, here] = outside
            rewards = torch.where(outside > 0, exit_reward, rewards)
            costs = torch.where(outside > 0, 0.0, costs)
            ends = torch.maximum(ends, outside)
        gains[0, here], gains[1, here] = rewards, costs
        following, over = seen.clone(), torch.ones_like(alive)
        following[here], over[here] = after.next_observations, ends
        columns.append((seen, actions, following, gains, over, alive))
        seen, alive = following, alive * (1 - over)
        if not alive.any():
            break
    observations, acted, next_observations, all_gains, all_over, all_alive = zip(*columns)
    return Rollouts(
        torch.stack(observations),
        torch.stack(acted),
        torch.stack(next_observations),
        torch.stack(all_gains, dim=1),
        torch.stack(all_over),
        torch.stack(all_alive),
    )


def advantages(
    gains: Tensor, values: Tensor, next_values: Tensor, over: Tensor, alive: Tensor, discount: float, trace: float
) -> Tensor:
    """Generalised advantage estimates (..., T, B), 0 where a path is over.

    A_t = d_t + g l A_{t+1}, d_t = gain + g V(s') - V(s), without what follows the end of the task; where only the time
    is up, V(s') stands for it.

    Args:
        gains, values, next_values: (..., T, B).
        over, alive: (T, B).
        discount, trace: g and l.
    Source: Schulman et al., High-Dimensional Continuous Control Using Generalized Advantage Estimation (2016).
    """
    goes_on = discount * (1 - over)
    errors = (gains + goes_on * next_values - values) * alive
    result = torch.zeros_like(errors)
    following = torch.zeros_like(errors[..., 0, :])
    for step in reversed(range(errors.shape[-2])):
        following = errors[..., step, :] + trace * goes_on[step] * following
        result[..., step, :] = following
    return result
