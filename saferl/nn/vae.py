"""ActionVAE: a conditional variational autoencoder of the data's actions, from which likely actions are drawn."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from saferl.nn.mlp import MLP

LOG_STD_LIMITS = (-4.0, 15.0)
PRIOR_LIMIT = 0.5  # drawn latents are clipped to +- this: BCQ keeps to the dense middle of the prior


class Encoding(NamedTuple):
    """The latent Gaussians of pairs (s, a)."""

    mean: Tensor  # (..., latent_dim)
    log_std: Tensor  # (..., latent_dim)

    def divergence(self) -> Tensor:
        """KL(N(mean, std^2) || N(0, 1)) (..., latent_dim), dimension by dimension."""
        return 0.5 * (self.mean.square() + (2 * self.log_std).exp() - 1) - self.log_std


class ActionVAE(nn.Module):
    """Encoder (s, a) -> z and decoder (s, z) -> a, for actions in [-1, 1].

    Args:
        obs_dim, act_dim: sizes of an observation and an action; the latent has 2 act_dim values.
        hidden: width of the two ReLU layers of each network.
        dtype: precision of the products.

    Source: Fujimoto et al., Off-Policy Deep Reinforcement Learning without Exploration (2019), section 4.
    """

    def __init__(self, obs_dim: int, act_dim: int, hidden: int = 400, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.latent_dim = 2 * act_dim
        self.encoder = MLP(obs_dim + act_dim, 2 * self.latent_dim, (hidden, hidden), dtype)
        self.decoder = MLP(obs_dim + self.latent_dim, act_dim, (hidden, hidden), dtype)

    def encode(self, observations: Tensor, actions: Tensor) -> Encoding:
        """The latent Gaussian of pairs (B, obs_dim), (B, act_dim)."""
        return _encoding(self.encoder(torch.cat([observations, actions], dim=1)))

    def encode_candidates(self, observations: Tensor, actions: Tensor) -> Encoding:
        """The latent Gaussians (B, N, latent_dim) of N actions (B, N, act_dim) at each observation (B, obs_dim)."""
        return _encoding(self.encoder.over_candidates(observations, actions))

    def loss(self, observations: Tensor, actions: Tensor, divergence_weight: float = 0.5) -> Tensor:
        """Mean squared error of the decoded actions plus the weighted divergence, both means over rows and dims."""
        encoding = self.encode(observations, actions)
        latents = encoding.mean + encoding.log_std.exp() * torch.randn_like(encoding.mean)
        decoded = self.decoder(torch.cat([observations, latents], dim=1)).tanh()
        return (decoded - actions).square().mean() + divergence_weight * encoding.divergence().mean()

    def draw(self, observations: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Decoded actions before the tanh (B, count, act_dim), latents from the clipped prior."""
        shape = (len(observations), count, self.latent_dim)
        latents = torch.empty(shape, device=observations.device).normal_(generator=generator)
        return self.decoder.over_candidates(observations, latents.clamp_(-PRIOR_LIMIT, PRIOR_LIMIT))


def _encoding(output: Tensor) -> Encoding:
    mean, log_std = output.chunk(2, dim=-1)
    return Encoding(mean, log_std.clamp(*LOG_STD_LIMITS))
