"""Small clouds of pairs (s, a) for tests."""

import numpy as np


def cloud(rows, seed=0, obs_dim=3, act_dim=2):
    """Gaussian observations (rows, obs_dim), uniform actions (rows, act_dim)."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, obs_dim)), rng.uniform(-1, 1, (rows, act_dim))


def scaled(observations, actions, reference=None):
    """[s, a] mapped to [-1, 1] by the least and the greatest value of each column of ``reference`` (o, a)."""
    rows = np.hstack([observations, actions])
    low, high = (
        np.hstack(reference or (observations, actions)).min(0),
        np.hstack(reference or (observations, actions)).max(0),
    )
    return 2 * (rows - low) / (high - low) - 1
