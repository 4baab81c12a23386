"""SquashedGaussian: a Gaussian policy behind a tanh, whose density and mode are those of the squashed action."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saferl.nn.mlp import MLP

LOG_STD_LIMITS = (-20.0, 2.0)
_EDGE = 1 - 1e-6  # largest |action| whose inverse tanh is taken: float32 has no finite one at 1


class Sample(NamedTuple):
    """Actions drawn for B observations, with gradients through the draw."""

    actions: Tensor  # (..., act_dim) in (-1, 1)
    log_probs: Tensor  # (...), log-density of the squashed actions
    raw: Tensor  # (..., act_dim), before the tanh


class SquashedGaussian(nn.Module):
    """a = tanh(u), u ~ N(mean(s), diag(std(s)^2)); log std is clipped to [-20, 2].

    Args:
        obs_dim, act_dim: sizes of an observation and an action.
        hidden: widths of the ReLU layers.
        dtype: precision of the products.

    Source: Haarnoja et al., Soft Actor-Critic (2018), appendix C.
    """

    def __init__(
        self, obs_dim: int, act_dim: int, hidden: Sequence[int] = (256, 256), dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.act_dim = act_dim
        self.trunk = MLP(obs_dim, 2 * act_dim, hidden, dtype)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log std of u, each (B, act_dim), for observations (B, obs_dim)."""
        mean, log_std = self.trunk(observations).chunk(2, dim=-1)
        return mean, log_std.clamp(*LOG_STD_LIMITS)

    def mode(self, observations: Tensor) -> Tensor:
        """tanh(mean), (B, act_dim): the action without noise."""
        return self(observations)[0].tanh()

    def sample(
        self, observations: Tensor, count: int | None = None, generator: torch.Generator | None = None
    ) -> Sample:
        """Reparametrised actions: shapes (B, act_dim) and (B,), with ``count`` (B, count, act_dim) and (B, count)."""
        mean, log_std = self(observations)
        if count is not None:
            shape = (len(mean), count, self.act_dim)
            mean, log_std = mean.unsqueeze(1).expand(shape), log_std.unsqueeze(1).expand(shape)
        noise = torch.empty_like(mean, memory_format=torch.contiguous_format).normal_(generator=generator)
        raw = mean + log_std.exp() * noise
        return Sample(raw.tanh(), _normal_log_prob(noise, log_std) - _log_slope(raw), raw)

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Log-density (B,) of actions (B, act_dim) in (-1, 1), the tanh's slope included."""
        mean, log_std = self(observations)
        raw = torch.atanh(actions.clamp(-_EDGE, _EDGE))
        return _normal_log_prob((raw - mean) * (-log_std).exp(), log_std) - _log_slope(raw)


def _normal_log_prob(standardised: Tensor, log_std: Tensor) -> Tensor:
    """Log-density (...) of a diagonal Gaussian at ``standardised`` = (u - mean) / std, (..., act_dim)."""
    return -(0.5 * standardised.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)


def _log_slope(raw: Tensor) -> Tensor:
    """Sum (...) of log(1 - tanh(u)^2) over the dimensions, in a form that does not overflow."""
    return (2 * (math.log(2) - raw - F.softplus(-2 * raw))).sum(-1)
