"""The equations of FISOR, one function each: expectile losses, Bellman targets, feasibility weights, learning rate."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def expectile_loss(residual: Tensor, expectile: float) -> Tensor:
    """Mean of |expectile - 1[u < 0]| u^2 over residuals u = target - value, any shape."""
    return (residual.square() * torch.where(residual < 0, 1 - expectile, expectile)).mean()


def reversed_expectile_loss(residual: Tensor, expectile: float) -> Tensor:
    """Mean of |expectile - 1[u > 0]| u^2: near expectile 1, the value tends to the least of the targets."""
    return (residual.square() * torch.where(residual < 0, expectile, 1 - expectile)).mean()


def safety_bellman_target(margins: Tensor, ends: Tensor, next_values: Tensor, discount: float) -> Tensor:
    """(1 - d) [(1 - gamma) h + gamma max(h, V_h(s'))] + d h; all (B,). Source: Fisac et al. (2019), equation 7."""
    ahead = (1 - discount) * margins + discount * torch.maximum(margins, next_values)
    return torch.lerp(ahead, margins, ends)


@dataclass(frozen=True)
class Weighting:
    """Temperatures and greatest values of the two exponential weights."""

    reward_temperature: float  # alpha_2
    cost_temperature: float  # alpha_1
    reward_clip: float
    cost_clip: float


def feasibility_weights(q_r: Tensor, v_r: Tensor, q_h: Tensor, v_h: Tensor, weighting: Weighting) -> Tensor:
    """Weight (B,) of each row's action in the policy's loss, from the critics there, each (B,).

    Infeasible state (V_h > 0): exp(alpha_1 (V_h - Q_h)), towards less violation. Feasible state: exp(alpha_2
    (Q_r - V_r)) for an action that keeps the state feasible (Q_h <= 0), 0 for one that does not.
    """
    escape = (weighting.cost_temperature * (v_h - q_h)).exp().clamp(max=weighting.cost_clip)
    gain = (weighting.reward_temperature * (q_r - v_r)).exp().clamp(max=weighting.reward_clip)
    return torch.where(v_h > 0, escape, torch.where(q_h <= 0, gain, torch.zeros_like(gain)))


def cosine_rate(initial: float, update: Tensor, decay: int, end_share: float = 0.0) -> Tensor:
    """Learning rate () float64 at an update's index (from 0): half a cosine over ``decay`` updates, to a share of it.

    Args:
        initial: rate at index 0.
        update: () int64; a tensor, so that a recorded CUDA graph follows it.
        decay: length of the fall; 0 keeps the initial rate.
        end_share: what is left of the rate from ``decay`` on.
    """
    if not decay:
        return torch.full_like(update, initial, dtype=torch.float64)
    falling = 0.5 * (1 + torch.cos(math.pi * (update.double() / decay).clamp(max=1)))
    return initial * (end_share + (1 - end_share) * falling)
