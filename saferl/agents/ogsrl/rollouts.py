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
    gains: Tensor  # (1 + C, T, B): mean reward and cost, whether the support was left; 0 where a path is over
    ahead: Tensor  # (1 + C, T, B): mean values of what follows, by the model; 0 where nothing does
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
    values: Callable[[Tensor], Tensor],
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
        values: (1 + C, B) of the gains from observations (B, obs_dim) on.
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
        after = model.step(seen[here], taken, values)
        rewards, costs, ends, following_values = after.rewards, after.costs, after.terminals, after.ahead
        gains, ahead = starts.new_zeros(2, 1 + constraints, count)
        if support is not None:
            outside = support.cost(seen[here], taken)
            gains[2, here] = outside
            rewards = torch.where(outside > 0, exit_reward, rewards)
            costs = torch.where(outside > 0, 0.0, costs)
            ends = torch.maximum(ends, outside)
            following_values = following_values * (1 - outside)
        gains[0, here], gains[1, here], ahead[:, here] = rewards, costs, following_values
        following, over = seen.clone(), torch.ones_like(alive)
        following[here], over[here] = after.next_observations, ends
        columns.append((seen, actions, gains, ahead, over, alive))
        seen, alive = following, alive * (1 - over)
        if not alive.any():
            break
    observations, acted, all_gains, all_ahead, all_over, all_alive = zip(*columns)
    return Rollouts(
        torch.stack(observations),
        torch.stack(acted),
        torch.stack(all_gains, dim=1),
        torch.stack(all_ahead, dim=1),
        torch.stack(all_over),
        torch.stack(all_alive),
    )


def advantages(
    gains: Tensor, values: Tensor, ahead: Tensor, over: Tensor, alive: Tensor, discount: float, trace: float
) -> Tensor:
    """Generalised advantage estimates (..., T, B), 0 where a path is over.

    A_t = d_t + g l A_{t+1}, d_t = E[gain + g V(s') | s, a] - V(s), V = 0 where the task ends; where only the time is
    up, V(s') stands for what follows. Expectations, which a learned model can tell, instead of what was drawn leave
    the estimate's mean as it is and take the noise of one draw out of each d_t.

    Args:
        gains, values, ahead: (..., T, B), of the gains and of V(s') the expectations.
        over, alive: (T, B).
        discount, trace: g and l.
    Source: Schulman et al., High-Dimensional Continuous Control Using Generalized Advantage Estimation (2016).
    """
    goes_on = discount * (1 - over)
    errors = (gains + discount * ahead - values) * alive
    result = torch.zeros_like(errors)
    following = torch.zeros_like(errors[..., 0, :])
    for step in reversed(range(errors.shape[-2])):
        following = errors[..., step, :] + trace * goes_on[step] * following
        result[..., step, :] = following
    return result
