"""Distances from the intention against torch's own divergence, sampling, and the published slip."""

import pytest
import torch
from torch.distributions import Normal, TransformedDistribution, kl_divergence
from torch.distributions.transforms import TanhTransform

from saferl.adversaries.objectives import Situation
from saferl.adversaries.rat.distance import (
    FLOOR,
    Intended,
    distance,
    distance_to,
    gaussian_divergence,
    mahalanobis,
    squashed_moments,
)
from saferl.adversaries.victim import Response


def drawn(count=50, dim=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn((2, count, dim), generator=generator)
    deviations = torch.rand((2, count, dim), generator=generator) + 0.2
    return means[0], deviations[0], means[1], deviations[1]


def test_the_divergence_divides_by_the_variance_and_not_by_the_deviation():
    """The published code divides by the deviation, and gets 1.056853 here."""
    zero, one = torch.zeros(1, 1), torch.ones(1, 1)
    value = gaussian_divergence(0.5 * one, one, zero, 0.5 * one)
    assert float(value) == pytest.approx(1.306853, abs=1e-6)
    mean, deviation, other_mean, other_deviation = drawn()
    expected = kl_divergence(Normal(mean, deviation), Normal(other_mean, other_deviation)).sum(-1)
    torch.testing.assert_close(gaussian_divergence(mean, deviation, other_mean, other_deviation), expected)


def test_the_mahalanobis_distance_is_what_the_divergence_has_of_the_mean():
    mean, deviation, other_mean, other_deviation = drawn()
    full = gaussian_divergence(mean, deviation, other_mean, other_deviation)
    without = gaussian_divergence(other_mean, deviation, other_mean, other_deviation)
    torch.testing.assert_close(mahalanobis(mean, other_mean, other_deviation), full - without)


def test_moments_behind_the_tanh_are_those_of_draws():
    intended = Intended(torch.tensor([[0.3, -1.0, 2.5]]), torch.tensor([[0.5, 1.2, 0.1]]))
    noise = torch.randn((400_000, 3), generator=torch.Generator().manual_seed(0))
    draws = (intended.mean + intended.deviation * noise).tanh()
    mean, deviation = squashed_moments(intended)
    torch.testing.assert_close(mean[0], draws.mean(0), atol=3e-3, rtol=0)
    torch.testing.assert_close(deviation[0, :2], draws.std(0)[:2], atol=3e-3, rtol=0)
    assert float(deviation[0, 2]) == pytest.approx(FLOOR)  # 0.003 in truth


def test_squashing_both_leaves_their_divergence_as_it_was():
    mean, deviation, other_mean, other_deviation = drawn(4, 1)
    response = Response(mean.tanh(), mean, deviation, squashed=True)
    exact = distance(response, Intended(other_mean, other_deviation))
    own = TransformedDistribution(Normal(mean, deviation), TanhTransform())
    other = TransformedDistribution(Normal(other_mean, other_deviation), TanhTransform())
    torch.manual_seed(0)
    draws = own.sample((200_000,)).clamp(-1 + 1e-6, 1 - 1e-6)
    sampled = (own.log_prob(draws) - other.log_prob(draws)).mean(0).sum(-1)
    torch.testing.assert_close(exact, sampled, rtol=0.05, atol=0.03)


def test_a_victim_without_a_gaussian_is_compared_by_its_action_and_the_intention_looks_at_the_truth():
    true, seen = torch.full((2, 1), 1.0), torch.full((2, 1), 2.0)
    intention = lambda states: Intended(states, 0.3 * torch.ones(2, 1))  # noqa: E731
    response = Response(0.2 * seen, 0.2 * seen)
    value = distance_to(intention)(Situation(true, response), seen, response)
    mean, deviation = squashed_moments(intention(true))
    torch.testing.assert_close(value, 0.5 * ((0.4 - mean) / deviation)[:, 0].square())
