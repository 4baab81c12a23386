"""Victims whose best attacks are known."""

import itertools

import numpy as np
import torch

from saferl.adversaries.critics import Critics
from saferl.adversaries.threat import Normaliser, Threat, Units
from saferl.adversaries.victim import Response, Victim, clipped
from saferl.policy import CallablePolicy


def normaliser(dim, seed=0):
    """Units that differ from dimension to dimension."""
    generator = np.random.default_rng(seed)
    mean = generator.normal(0, 2, dim).astype(np.float32)
    return Normaliser(mean, generator.uniform(0.2, 3, dim).astype(np.float32), "made up")


def threat(dim, eps, norm="linf", seed=0):
    return Threat(Units(normaliser(dim, seed)), eps, norm)


def observations(count, dim, seed=0):
    """Observations (count, dim) that are standard normal in those units."""
    units = normaliser(dim, seed)
    rows = np.random.default_rng(seed + 100).standard_normal((count, dim))
    return (units.mean + units.scale * rows).astype(np.float32)


def linear_victim(weights, limit=1e6, white_box=True):
    """a = W s, in a box so wide that nothing is clipped; the actions of its responses are in units of the box."""
    matrix = torch.as_tensor(weights, dtype=torch.float32) / limit
    bound = np.full(len(matrix), limit, np.float32)

    def respond(rows, generator):
        mean = rows @ matrix.T
        return Response(clipped(mean), mean)

    def act(rows):
        return limit * np.asarray(rows) @ matrix.numpy().T

    policy = CallablePolicy(act)
    return Victim(policy, matrix.shape[1], -bound, bound, "linear", respond if white_box else None)


def corners(dim, eps):
    """All 2^d corners (2^d, dim) of the l-infinity ball."""
    return eps * np.array(list(itertools.product((-1.0, 1.0), repeat=dim)), np.float32)


def critics(reward=None, cost=None):
    """Critics of which only one is in question."""
    missing = lambda states, actions: (_ for _ in ()).throw(AssertionError("not to be asked"))  # noqa: E731
    reward, cost = reward or missing, cost or missing
    return Critics(reward=reward, cost=cost, value=reward, robust=reward, source="made up")
