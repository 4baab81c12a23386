"""ActionVAE: divergence in closed form, decoding many latents at once, and fitting an action."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from saferl.nn.vae import PRIOR_LIMIT, ActionVAE


@pytest.fixture
def vae():
    torch.manual_seed(0)
    return ActionVAE(3, 2, 16)


def test_the_divergence_is_that_of_two_normals(vae):
    encoding = vae.encode(torch.randn(5, 3), torch.rand(5, 2))
    expected = kl_divergence(Normal(encoding.mean, encoding.log_std.exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(encoding.divergence(), expected, atol=1e-5, rtol=1e-5)


def test_draws_are_decoded_row_by_row_from_the_clipped_prior(vae):
    observations = torch.randn(4, 3)
    drawn = vae.draw(observations, 6, torch.Generator().manual_seed(2))
    latents = torch.randn(4, 6, 4, generator=torch.Generator().manual_seed(2)).clamp(-PRIOR_LIMIT, PRIOR_LIMIT)
    for row in range(4):
        inputs = torch.cat([observations[row].expand(6, 3), latents[row]], dim=1)
        torch.testing.assert_close(drawn[row], vae.decoder(inputs), atol=1e-5, rtol=1e-5)


def test_it_learns_the_data_actions_of_two_states():
    torch.manual_seed(0)
    vae = ActionVAE(1, 1, 32)
    optimizer = torch.optim.Adam(vae.parameters(), lr=3e-3)
    observations = torch.tensor([[1.0], [-1.0]]).repeat(32, 1)
    actions = torch.where(observations > 0, 0.8, -0.5)
    for _ in range(500):
        loss = vae.loss(observations, actions, divergence_weight=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    drawn = vae.draw(torch.tensor([[1.0], [-1.0]]), 50).tanh()
    assert drawn.mean(dim=(1, 2)).tolist() == pytest.approx([0.8, -0.5], abs=0.05)
