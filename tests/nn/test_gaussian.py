"""SquashedGaussian against integrals, torch's own distributions and a fit."""

import pytest
import torch
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from saferl.nn.gaussian import SquashedGaussian


@pytest.fixture
def policy():
    torch.manual_seed(0)
    return SquashedGaussian(3, 2, (16, 16))


def test_densities_are_those_of_a_transformed_normal(policy):
    observations, actions = torch.randn(5, 3), torch.rand(5, 2) * 1.8 - 0.9
    mean, log_std = policy(observations)
    normal = Independent(Normal(mean, log_std.exp()), 1)
    expected = TransformedDistribution(normal, [TanhTransform()]).log_prob(actions)
    torch.testing.assert_close(policy.log_prob(observations, actions), expected, atol=1e-4, rtol=1e-4)


def test_the_density_integrates_to_one():
    torch.manual_seed(1)
    policy = SquashedGaussian(2, 1, (8, 8))
    grid = torch.linspace(-1 + 1e-5, 1 - 1e-5, 40_001)
    density = policy.log_prob(torch.randn(1, 2).expand(len(grid), 2), grid[:, None]).exp()
    assert torch.trapezoid(density, grid).item() == pytest.approx(1, abs=2e-3)


def test_a_drawn_action_has_the_density_that_comes_with_it(policy):
    observations = torch.randn(6, 3)
    drawn = policy.sample(observations)
    torch.testing.assert_close(policy.log_prob(observations, drawn.actions), drawn.log_probs, atol=2e-3, rtol=2e-3)
    several = policy.sample(observations, 4)
    assert several.actions.shape == (6, 4, 2)
    assert several.log_probs.shape == (6, 4)


def test_draws_of_one_generator_repeat(policy):
    observations = torch.randn(6, 3)
    first, second = (policy.sample(observations, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first.actions, second.actions)


def test_maximum_likelihood_reproduces_a_data_action_of_nine_tenths():
    # The published COptiDICE fits an unsquashed density but acts with tanh(mean): 0.9 comes back as 0.716.
    torch.manual_seed(0)
    policy = SquashedGaussian(1, 1, (16, 16))
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
    observations = torch.zeros(64, 1)
    actions = 0.9 + 0.02 * torch.randn(64, 1)
    for _ in range(800):
        loss = -policy.log_prob(observations, actions).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert policy.mode(observations[:1]).item() == pytest.approx(0.9, abs=0.01)
