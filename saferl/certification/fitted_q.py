"""Fitted-Q evaluation: the cost of a policy from recorded transitions, without any density. An estimate only.

Q_0 = 0 and Q_{k+1}(s, a) = c + Q_k(s', a') with a' from the policy and no Q_k where the episode ended, each fitted to
all rows by ridge regression. Q_H is then the undiscounted cost of an episode of H steps. Nothing bounds its error: the
features may not be able to express Q, and where the data lack the policy's actions it extrapolates.

Source: Le, Voloshin and Yue, Batch Policy Learning under Constraints (ICML 2019), algorithm 3; here with a linear fit,
whose H steps cost one factorisation. The size of values is kept below what k steps can cost, so that a fit that
exaggerates does not grow without bound; values below 0 stay, because to lift those that the fit puts there by chance
would raise the mean.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.spatial.distance import pdist

Array = NDArray[np.float64]
FEATURES = 400
_PAIRS = 500  # rows whose distances set the width of the features
_RIDGE = 1e-6  # of the mean square of a feature


@dataclass(frozen=True)
class Features:
    """Random Fourier features of a Gaussian kernel on standardised rows, with a constant and the rows themselves.

    Attributes:
        mean, scale: (D,) of the rows.
        frequencies: (D, F); phases: (F,).

    Source: Rahimi and Recht, Random Features for Large-Scale Kernel Machines (NeurIPS 2007).
    """

    mean: Array
    scale: Array
    frequencies: Array
    phases: Array

    @classmethod
    def fitted(cls, rows: NDArray[np.float32], seed: int, count: int = FEATURES) -> "Features":
        """For rows (N, D); the width is the median distance of some of them."""
        generator = np.random.default_rng(seed)
        values = np.asarray(rows, np.float64)
        mean, scale = values.mean(axis=0), values.std(axis=0)
        scale = np.where(scale > 1e-9, scale, 1.0)
        some = values[generator.choice(len(values), min(_PAIRS, len(values)), replace=False)]
        distances = pdist((some - mean) / scale)
        width = float(np.median(distances[distances > 0])) if (distances > 0).any() else 1.0
        shape = (values.shape[1], count)
        return cls(mean, scale, generator.standard_normal(shape) / width, generator.uniform(0, 2 * np.pi, count))

    def __call__(self, rows: NDArray[np.float32]) -> Array:
        """(N, 1 + D + F) of rows (N, D)."""
        standard = (np.asarray(rows, np.float64) - self.mean) / self.scale
        waves = np.sqrt(2 / len(self.phases)) * np.cos(standard @ self.frequencies + self.phases)
        return np.concatenate([np.ones((len(standard), 1)), standard, waves], axis=1)


def ridge_factor(features: Array) -> tuple[Array, bool]:
    """Cholesky factor of X^T X + ridge for ``scipy.linalg.cho_solve``, X (N, K)."""
    gram = features.T @ features
    gram[np.diag_indices_from(gram)] += _RIDGE * max(float(np.trace(gram)) / len(gram), 1e-12) + 1e-12
    return linalg.cho_factor(gram)


def fitted_q(
    features: Array, following: Array, costs: Array, ended: NDArray[np.bool_], horizon: int, greatest: float
) -> Array:
    """Weights (K,) of Q_H = features @ weights.

    Args:
        features: (N, K) of (s, a).
        following: (N, K) of (s', a'), a' from the policy.
        costs: (N,) >= 0.
        ended: (N,) whether the task ended behind the row; a recording that merely stopped did not.
        horizon: H >= 1, steps of an episode.
        greatest: cost of one step.
    """
    factor = ridge_factor(features)
    goes_on = (~ended).astype(np.float64)
    weights = linalg.cho_solve(factor, features.T @ costs)
    for step in range(1, horizon):
        ahead = np.clip(following @ weights, -greatest * step, greatest * step) * goes_on  # (N,) Q_step(s', a')
        weights = linalg.cho_solve(factor, features.T @ (costs + ahead))
    return weights


def unexplained_share(features: Array, targets: Array, weights: Array) -> float:
    """Variance of what the fit leaves of targets (N,), as a share of theirs: 0 is a perfect fit."""
    spread = float(targets.var())
    return float((targets - features @ weights).var() / spread) if spread > 0 else 0.0
