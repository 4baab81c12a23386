"""Kernel density and k nearest neighbours: guardians that keep rows of the data."""

import math
from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp

from saferl.guardians.guardian import Guardian, GuardianConfig, Scale, quantile_threshold
from saferl.guardians.neighbours import Neighbours, rows_elsewhere, squared_distances

NEAREST = 5  # k of knn where the settings leave it open
_BLOCK = 1 << 23  # distances that are held at a time (32 MB)
_COARSE = np.geomspace(1e-3, 10, 17)  # bandwidths tried, times sqrt(d)
_FINE = np.geomspace(10**-0.25, 10**0.25, 11)  # then around the best of them: steps of 12 %
_HELD_OUT, _KEPT = 500, 10_000  # rows that judge a bandwidth, and at most so many that carry its kernels


class StoreGuardian(Guardian):
    """What both have in common: the scaled reference rows, all data or ``config.rows`` of them.

    Args:
        config, obs_dim, act_dim: as of ``Guardian``.
        scale: of the training data.
        rows: (N, d) float32, scaled.
        threshold: None takes it from these rows.
        fitted, centres: what an earlier fit decided.
        episodes: (N,) of the rows; None: each row is one.
    """

    def __init__(
        self,
        config: GuardianConfig,
        obs_dim: int,
        act_dim: int,
        scale: Scale,
        rows: NDArray[np.float32],
        threshold: float | None = None,
        centres: NDArray[np.float32] | None = None,
        episodes: NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__(config, obs_dim, act_dim)
        self.episodes = episodes
        self.scale, self.rows, self.reference_rows = scale, rows, len(rows)
        self.neighbours = Neighbours(rows, config.search, centres) if self.count is not None else None
        self._left_out: NDArray[np.float32] | None = None
        self.threshold = quantile_threshold(self.left_out_scores(), config.alpha) if threshold is None else threshold

    @property
    def count(self) -> int | None:
        """Nearest rows that count; None: all."""
        return self.config.neighbours

    def left_out_scores(self) -> NDArray[np.float32]:
        """The score of each reference row among those of other episodes, (N,); computed once."""
        if self._left_out is None:
            self._left_out = np.asarray(self._among_others(), np.float32)
        return self._left_out

    @abstractmethod
    def _among_others(self) -> NDArray[Any]:
        """What ``left_out_scores`` gives."""

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The reference rows, their scale and the centres of inverted lists."""
        centres = None if self.neighbours is None else self.neighbours.centres
        arrays: dict[str, NDArray[Any]] = {"rows": self.rows, "low": self.scale.low, "high": self.scale.high}
        optional = {"centres": centres, "episodes": self.episodes}
        return arrays | {key: array for key, array in optional.items() if array is not None}

    def packages(self) -> tuple[str, ...]:
        """numpy, scipy, torch, and faiss where it searches."""
        names = ("numpy", "scipy", "torch")
        return (*names, "faiss-cpu") if self.config.search == "faiss" and self.neighbours is not None else names


class NearestGuardian(StoreGuardian):
    """Score: minus the distance to the k-th nearest reference row, in units of the scaled inputs."""

    @property
    def count(self) -> int:
        """k, less where there are not so many other rows."""
        return min(self.config.neighbours or NEAREST, self.reference_rows - 1)

    def _score(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        assert self.neighbours is not None
        return -self.neighbours.query(self.scale(rows), self.count)[0][:, -1]

    def _among_others(self) -> NDArray[Any]:
        assert self.neighbours is not None
        distances, others = self.neighbours.query_left_out(self.count, self.episodes)
        farthest = np.minimum(others, self.count) - 1  # where other episodes have fewer than k rows, the last of them
        return -distances[np.arange(len(distances)), farthest]


class KernelGuardian(StoreGuardian):
    """Score: the logarithm of f(x) = mean_i exp(-|x - x_i|^2 / (2 sigma^2)), which grows with f.

    The mean is over the N reference rows, and over those of other episodes for a row of the set itself. With
    ``config.neighbours`` the sum has only the nearest rows' kernels, a lower bound on f: data and queries alike.

    Args: ``sigma`` the bandwidth; None takes the settings' or, if they leave it open, ``held_out_bandwidth``.
    """

    def __init__(self, *args: Any, sigma: float | None = None, seed: int = 0, **kwargs: Any) -> None:
        config, rows = args[0], args[4]
        self.sigma = sigma or config.bandwidth or held_out_bandwidth(rows, seed, kwargs.get("episodes"))
        super().__init__(*args, **kwargs)

    @property
    def count(self) -> int | None:
        """Nearest rows whose kernels count, None: all."""
        wanted = self.config.neighbours
        return None if wanted is None or wanted >= self.reference_rows - 1 else wanted

    def facts(self) -> dict[str, Any]:
        """The bandwidth."""
        return {"sigma": self.sigma}

    def _score(self, rows: NDArray[np.float64]) -> NDArray[Any]:
        points = self.scale(rows)
        if self.neighbours is None or self.count is None:
            return log_density(points, self.rows, self.sigma)
        return self._log_sum(self.neighbours.query(points, self.count)[0]) - math.log(self.reference_rows)

    def _among_others(self) -> NDArray[Any]:
        if self.neighbours is None or self.count is None:
            parts = np.arange(self.reference_rows) if self.episodes is None else self.episodes
            return log_density(self.rows, self.rows, self.sigma, parts)
        distances, others = self.neighbours.query_left_out(self.count, self.episodes)
        return self._log_sum(distances) - np.log(others)

    def _log_sum(self, distances: NDArray[np.float64]) -> NDArray[np.float64]:
        """ln of the sum of the kernels at distances (B, k)."""
        return np.asarray(logsumexp(-0.5 * np.square(distances / self.sigma), axis=1))


def log_density(
    points: NDArray[np.float32], rows: NDArray[np.float32], sigma: float, episodes: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """ln mean_i exp(-|x - x_i|^2 / (2 sigma^2)) (B,) of points (B, d) over rows (N, d).

    Args:
        episodes: (N,); the points are the rows, and the mean of each is over the rows of other episodes.
    """
    reference = torch.from_numpy(rows).to(_precision(sigma, rows.shape[1]))
    norms = reference.square().sum(1)  # (N,)
    scores = np.empty(len(points), np.float32)
    step = max(1, _BLOCK // len(rows))
    for start in range(0, len(points), step):
        squares = squared_distances(torch.from_numpy(points[start : start + step]).to(reference), reference, norms)
        if episodes is not None:
            parts = torch.from_numpy(episodes)
            squares[parts[start : start + step, None] == parts] = torch.inf
        scores[start : start + step] = squares.mul_(-0.5 / sigma**2).logsumexp(dim=1).numpy()
    return scores - np.log(len(rows) if episodes is None else rows_elsewhere(episodes)).astype(np.float32)


def _precision(sigma: float, columns: int) -> torch.dtype:
    """float64 where the rounding of squared distances would show against 2 sigma^2."""
    return torch.float64 if 2 * sigma**2 < 1e-3 * columns else torch.float32


def held_out_bandwidth(rows: NDArray[np.float32], seed: int = 0, episodes: NDArray[np.int64] | None = None) -> float:
    """The sigma between 1e-3 sqrt(d) and 10 sqrt(d) under which held-out rows are likeliest, to 12 %.

    The density is the mean of Gaussians N(x_i, sigma^2 I). A tenth of the rows is held out, 500 at most, and 10,000 of
    the others carry the kernels: more of both moves the choice little, as sigma falls with N^(-1 / (d + 4)).

    Args:
        rows: (N, d) scaled, N >= 2.
        seed: of the choice of rows.
        episodes: (N,), two or more; held-out rows are then of episodes that carry no kernels.
    """
    columns, rng = rows.shape[1], np.random.default_rng(seed)
    shuffled = rng.permutation(len(rows))
    if episodes is None:
        count = max(1, min(_HELD_OUT, len(rows) // 10))
        away, others = shuffled[:count], shuffled[count:]
    else:
        numbers = rng.permutation(np.unique(episodes))
        apart = np.isin(episodes[shuffled], numbers[: max(1, len(numbers) // 10)])
        away, others = shuffled[apart][:_HELD_OUT], shuffled[~apart]
    held, kept = rows[away], torch.from_numpy(rows[others[:_KEPT]]).double()
    squares = squared_distances(torch.from_numpy(held).double(), kept, kept.square().sum(1))

    def likelihood(sigma: float) -> float:
        return float((squares * (-0.5 / sigma**2)).logsumexp(1).mean()) - columns * math.log(sigma)

    coarse = max(columns**0.5 * _COARSE, key=likelihood)
    return float(max(coarse * _FINE, key=likelihood))
