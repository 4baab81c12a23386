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
from saferl.adversaries.victim import Response, clipped


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


def test_a_saturated_squashed_victim_still_tells_which_way_to_go():
    """A loaded SAC model: its mean is known, not its deviation. Behind the tanh the slope at 9 would be 6e-8 / 0.01."""
    mean, deviation, other_mean, other_deviation = drawn()
    intended = Intended(other_mean, other_deviation)
    alone = distance(Response(mean.tanh(), mean, squashed=True), intended)
    full = distance(Response(mean.tanh(), mean, deviation, squashed=True), intended)
    at_intention = distance(Response(other_mean.tanh(), other_mean, deviation, squashed=True), intended)
    torch.testing.assert_close(alone, full - at_intention)  # all of the divergence that depends on the mean
    saturated = torch.full((1, 1), 9.0, requires_grad=True)
    response = Response(saturated.tanh(), saturated, squashed=True)
    distance(response, Intended(-torch.ones(1, 1), 0.5 * torch.ones(1, 1))).sum().backward()
    assert float(saturated.grad) == pytest.approx((9 + 1) / 0.25)


def test_a_mean_beyond_the_box_is_as_far_as_the_action_that_is_carried_out():
    """PPO's mean of 3 is clipped to 1: an intention at 1 has nothing to object to."""
    intended, deviation = Intended(torch.full((1, 1), 4.0), torch.full((1, 1), 0.1)), torch.full((1, 1), 0.1)
    mean = torch.tensor([[3.0]], requires_grad=True)
    beyond = distance(Response(clipped(mean), mean, deviation), intended)
    assert float(beyond) < 1e-3  # the intention's mean is tanh(4) = 0.9993
    far = distance(Response(clipped(mean), mean, deviation), Intended(torch.full((1, 1), -4.0), intended.deviation))
    far.sum().backward()
    assert float(mean.grad) == pytest.approx(2 / 0.01, rel=1e-2)  # and one at -1 still pulls
