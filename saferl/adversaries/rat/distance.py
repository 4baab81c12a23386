"""How far a victim's answer is from the intention: KL between Gaussians, or Mahalanobis without a Gaussian victim."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from saferl.adversaries.objectives import Objective, Situation
from saferl.adversaries.victim import Response

NODES = 16  # of the quadrature
FLOOR = 0.1  # least standard deviation of an intention, in [-1, 1] units: a tighter one would drown the other actions


class Intended(NamedTuple):
    """The intention's Gaussian before its tanh."""

    mean: Tensor  # (B, act_dim)
    deviation: Tensor  # (B, act_dim)


def gaussian_divergence(mean: Tensor, deviation: Tensor, other_mean: Tensor, other_deviation: Tensor) -> Tensor:
    """KL(N(mean, deviation^2) || N(other)) (B,), summed over dimensions; all (B, act_dim).

    log(s2 / s1) + (s1^2 + (m1 - m2)^2) / (2 s2^2) - 1/2 in each. RAT's published code divides (m1 - m2)^2 by s2.
    """
    spread = deviation.square() + (mean - other_mean).square()
    return ((other_deviation / deviation).log() + spread / (2 * other_deviation.square()) - 0.5).sum(-1)


def mahalanobis(actions: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Half the squared distance (B,) in standard deviations: all of KL that depends on a mean alone."""
    return 0.5 * ((actions - mean) / deviation).square().sum(-1)


def squashed_moments(intended: Intended) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (B, act_dim) of tanh(N(mean, deviation^2)), by Gauss-Hermite quadrature.

    The deviation is no less than 0.1.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    share = torch.as_tensor(weights / math.sqrt(2 * math.pi), dtype=torch.float32, device=intended.mean.device)
    places = torch.as_tensor(nodes, dtype=torch.float32, device=intended.mean.device)
    values = (intended.mean[..., None] + intended.deviation[..., None] * places).tanh()
    mean = (values * share).sum(-1)
    variance = ((values - mean[..., None]).square() * share).sum(-1)
    return mean, variance.sqrt().clamp(min=FLOOR)


def distance(response: Response, intended: Intended) -> Tensor:
    """D (B,) of a victim's answer from the intention.

    - a victim with a squashed Gaussian: KL of the two before their tanh, which is that behind it; where its deviation
      is not known, what KL has of its mean. Behind the tanh a saturated victim would have no slope;
    - with another Gaussian: KL to the Gaussian with the mean and deviation of the squashed intention. Its mean is
      cut to the box, as the action is: one beyond it is no further away;
    - without one: Mahalanobis distance of its action from that Gaussian.
    """
    if response.squashed:
        if response.deviation is None:
            return mahalanobis(response.mean, intended.mean, intended.deviation)
        return gaussian_divergence(response.mean, response.deviation, intended.mean, intended.deviation)
    mean, deviation = squashed_moments(intended)
    if response.deviation is None:
        return mahalanobis(response.actions, mean, deviation)
    return gaussian_divergence(response.actions, response.deviation, mean, deviation)


def distance_to(intention: Callable[[Tensor], Intended]) -> Objective:
    """D(pi(.|s~), intention(.|s)) (B,): the intention looks at the true state, the victim at the other."""

    def objective(situation: Situation, seen: Tensor, response: Response) -> Tensor:
        with torch.no_grad():
            intended = intention(situation.observations)
        return distance(response, intended)

    return objective
