"""ScoreNetwork: a LayerNorm residual network that predicts the noise in an action."""

import copy
import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saferl.nn.dense import FrozenDense, dense


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _mish(x: Tensor) -> Tensor:
    wide = _at_least_float32(x)
    opposite = -wide
    denominator = opposite.sigmoid().square_().add_(1)
    return torch.addcdiv(opposite, wide, denominator, value=2).to(x.dtype)


def _mish_slope(x: Tensor) -> Tensor:
    """2 r - 1 + 4 x q^2 (1 - q) r^2 with q = sigmoid(-x) and r = 1 / (1 + q^2)."""
    wide = _at_least_float32(x)
    q = (-wide).sigmoid_()
    square = q * q
    r = (square + 1).reciprocal_()
    return q.neg_().add_(1).mul_(square).mul_(wide).mul_(2).mul_(r).add_(1).mul_(r).mul_(2).sub_(1)


class _Mish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _mish(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return _mish_slope(x).mul_(gradient).to(x.dtype)


def mish(x: Tensor) -> Tensor:
    """x tanh(softplus(x)), elementwise, as x (2 / (1 + q^2) - 1) with q = sigmoid(-x).

    One exponential forward and one backward, where torch's own takes four; absolute error below 2e-6 max(1, |x|).
    """
    return _Mish.apply(x) if torch.is_grad_enabled() else _mish(x)


def dropout_scales(shape: tuple[int, ...], share: float, device: torch.device) -> Tensor:
    """Random factors ``shape``: 0 with probability ``share`` (to 1/65536), else 1 / (1 - share).

    Drawn from torch's global generator, four factors from each 64-bit draw: several times cheaper than a uniform
    number per element.
    """
    count = math.prod(shape)
    draws = torch.empty((count + 3) // 4, dtype=torch.int64, device=device).random_(-(2**63), None)
    halves = draws.view(torch.int16)[:count].view(shape)
    dropped = round(share * 2**16)
    return (halves >= dropped - 2**15).to(torch.float32).mul_(2**16 / (2**16 - dropped))


class ResidualBlock(nn.Module):
    """x + dense(mish(dense(LayerNorm(dropout(x))))): widths (hidden, expansion * hidden, hidden)."""

    def __init__(self, hidden: int, expansion: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden, eps=1e-6)
        self.expand = nn.Linear(hidden, expansion * hidden)
        self.contract = nn.Linear(expansion * hidden, hidden)
        for layer in (self.expand, self.contract):
            _init_lecun_normal(layer)

    def forward(self, x: Tensor, scales: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Map rows (B, hidden) to (B, hidden).

        Args:
            x: (B, hidden).
            scales: (B, hidden) dropout factors; None for none.
            dtype: precision of the products; the sum that runs through the blocks stays in that of ``x``.
        """
        kept = self.norm(x if scales is None else x * scales)
        wide = mish(dense(kept, self.expand.weight, self.expand.bias, dtype=dtype))
        return x + dense(wide, self.contract.weight, self.contract.bias, dtype=dtype)


class ScoreNetwork(nn.Module):
    """Noise prediction eps(x_t, s, t): learnable Fourier time features, then a LayerNorm residual network.

    Args:
        obs_dim, act_dim: sizes of an observation and an action.
        diffusion_steps: T; the step index t is one of 0..T-1 and enters the features as it is.
        hidden, blocks, expansion: width, number of residual blocks, width inside a block as a multiple.
        frequencies, time_dim: number of Fourier frequencies, width of the time network.
        dropout: share of a block's inputs that is zeroed while training.
        dtype: precision of the large products; weights, sums between the blocks and gradients stay in float32.

    The first layer acts on [action, observation, time features]. As there are only T different time features, their
    part of it is computed once per step index and not once per row.
    """

    def __init__(
        self,
        obs_dim: int,
        act_dim: int,
        diffusion_steps: int = 5,
        hidden: int = 256,
        blocks: int = 3,
        expansion: int = 4,
        frequencies: int = 32,
        time_dim: int = 128,
        dropout: float = 0.1,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.obs_dim, self.act_dim, self.dropout, self.dtype = obs_dim, act_dim, dropout, dtype
        self.diffusion_steps, self.hidden = diffusion_steps, hidden
        self.frequencies = nn.Parameter(0.2 * torch.randn(frequencies))
        self.time_in = nn.Linear(2 * frequencies, time_dim)
        self.time_out = nn.Linear(time_dim, time_dim)
        self.first = nn.Linear(act_dim + obs_dim + time_dim, hidden)
        self.blocks = nn.ModuleList(ResidualBlock(hidden, expansion) for _ in range(blocks))
        self.last = nn.Linear(hidden, act_dim)
        for layer in (self.time_in, self.time_out, self.first, self.last):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def step_features(self) -> Tensor:
        """The first layer's time part and bias (T, hidden), one row per step index."""
        steps = torch.arange(self.diffusion_steps, device=self.frequencies.device, dtype=self.frequencies.dtype)
        phase = 2 * math.pi * steps[:, None] * self.frequencies
        features = self.time_out(mish(self.time_in(torch.cat([phase.cos(), phase.sin()], dim=1))))
        return F.linear(features, self.first.weight[:, self.act_dim + self.obs_dim :], self.first.bias)

    def residual_blocks(self) -> list[ResidualBlock]:
        """The blocks in order."""
        return [cast(ResidualBlock, block) for block in self.blocks]

    def draw_dropout(self, rows: int) -> list[Tensor] | None:
        """Random dropout factors (rows, hidden) for each block; None outside training or without dropout."""
        if not self.training or self.dropout == 0:
            return None
        shape = (len(self.blocks), rows, self.hidden)
        return list(dropout_scales(shape, self.dropout, self.frequencies.device))

    def forward(
        self, noisy_actions: Tensor, observations: Tensor, steps: Tensor, scales: list[Tensor] | None = None
    ) -> Tensor:
        """Predicted noise (B, act_dim).

        Args:
            noisy_actions: (B, act_dim) actions with noise.
            observations: (B, obs_dim).
            steps: (B,) int64 step indices in 0..T-1.
            scales: dropout factors (B, hidden) of each block, from ``draw_dropout``; None drops nothing.
        """
        choice = F.one_hot(steps, self.diffusion_steps).to(noisy_actions.dtype)
        inputs = torch.cat([noisy_actions, observations, choice], dim=1)
        # The step index picks its row by the same product that handles the other inputs: no gather, no scatter.
        own = self.first.weight[:, : self.act_dim + self.obs_dim]
        kernel = torch.cat([own, self.step_features().T], dim=1)
        hidden = dense(inputs, kernel, torch.zeros_like(self.first.bias), dtype=self.dtype).to(inputs.dtype)
        return self.after_first_layer(hidden, scales)

    def after_first_layer(self, hidden: Tensor, scales: list[Tensor] | None = None) -> Tensor:
        """Predicted noise (B, act_dim) from the first layer's sums (B, hidden) and the dropout factors."""
        for index, block in enumerate(self.residual_blocks()):
            hidden = block(hidden, None if scales is None else scales[index], self.dtype)
        return dense(mish(hidden), self.last.weight, self.last.bias, dtype=self.dtype).to(hidden.dtype)


class _FrozenBlock:
    """A residual block with the weights it has now."""

    def __init__(self, block: ResidualBlock, dtype: torch.dtype) -> None:
        self.norm = copy.deepcopy(block.norm)
        self.expand = FrozenDense(block.expand.weight, block.expand.bias, dtype)
        self.contract = FrozenDense(block.contract.weight, block.contract.bias, dtype)

    def __call__(self, x: Tensor) -> Tensor:
        return self.contract(mish(self.expand(self.norm(x))), base=x)


class FrozenScore:
    """A score network with the weights it has now, ready to denoise few rows many times; no gradient, no dropout.

    Args:
        network: what to copy; later changes of its weights don't show.
    """

    @torch.no_grad()
    def __init__(self, network: ScoreNetwork) -> None:
        act_dim, weight = network.act_dim, network.first.weight.detach().clone()
        self.of_step = network.step_features()  # (T, hidden)
        self.of_action, self.of_observation = weight[:, :act_dim].T, weight[:, act_dim : act_dim + network.obs_dim].T
        self.blocks = [_FrozenBlock(block, network.dtype) for block in network.residual_blocks()]
        self.last_weight, self.last_bias = network.last.weight.detach().T.clone(), network.last.bias.detach().clone()

    def observation_features(self, observations: Tensor) -> Tensor:
        """The first layer's observation part (B, hidden) for observations (B, obs_dim)."""
        return observations @ self.of_observation

    @torch.no_grad()
    def __call__(self, noisy_actions: Tensor, features: Tensor, step: int) -> Tensor:
        """Predicted noise (B, act_dim) in (B, act_dim) at one step index, from ``observation_features`` (B, hidden)."""
        x = torch.addmm(features + self.of_step[step], noisy_actions, self.of_action)
        for block in self.blocks:
            x = block(x)
        return torch.addmm(self.last_bias, mish(x), self.last_weight)


def _init_lecun_normal(layer: nn.Linear) -> None:
    """Weights from a normal cut at two deviations, of deviation 1 / sqrt(fan_in) after the cut; zero biases."""
    deviation = layer.in_features**-0.5 / 0.87962566  # deviation of the unit normal cut at +-2
    nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
    nn.init.zeros_(layer.bias)
