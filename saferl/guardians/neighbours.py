"""Nearest rows of a reference set: exact by a k-d tree or all distances, approximate by faiss for large stores."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

PROBES = 16  # inverted lists that a query looks into; docs/guardians.md has what that finds
_TRAINED = 50  # rows per list from which faiss learns the lists' centres
_TREE_COLUMNS = 20  # up to so many a k-d tree is faster than all distances
_BLOCK = 1 << 22  # differences or distances that are held at a time (32 MB)
_ROWS = 1 << 14  # reference rows of one product
MISSING = (
    "guardian.search=faiss needs the package faiss-cpu: pip install 'saferl[guardian]', or take guardian.search=exact."
)


class Neighbours:
    """The nearest of N reference rows, by Euclidean distance.

    Args:
        rows: (N, d) float32.
        search: "exact" (a k-d tree, with more than 20 columns all distances) or "faiss".
        centres: (lists, d) of the inverted lists, where they are known already (a saved guardian's).
    Raises: ValueError if faiss is asked for and not installed.
    """

    def __init__(self, rows: NDArray[np.float32], search: str, centres: NDArray[np.float32] | None = None) -> None:
        self.rows, self.centres = rows, centres
        self._tree = cKDTree(rows) if search == "exact" and rows.shape[1] <= _TREE_COLUMNS else None
        self._index: Any = None if search == "exact" else self._inverted_lists()

    def query(
        self, points: NDArray[np.float32], count: int, probes: int = PROBES
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Distances (B, count), ascending, and row numbers (B, count) of the nearest; inf where fewer were found.

        ``probes`` is the number of inverted lists that faiss looks into.
        """
        if self._tree is not None:
            distances, found = self._tree.query(points, k=np.arange(1, count + 1))
            return distances, found
        if self._index is None:
            found = nearest_of_all(points, self.rows, count)
        else:
            self._index.nprobe = min(probes, self._index.nlist)
            found = self._index.search(np.ascontiguousarray(points), count)[1]
        # Both found them by |x|^2 - 2 x y + |y|^2, which loses small distances to rounding.
        distances = np.empty(found.shape)
        step = max(1, _BLOCK // (count * self.rows.shape[1]))
        for start in range(0, len(points), step):
            block = slice(start, start + step)
            differences = points[block, None].astype(np.float64) - self.rows[found[block]]
            distances[block] = np.linalg.norm(differences, axis=2)
        distances[found < 0] = np.inf
        order = distances.argsort(axis=1, kind="stable")
        return np.take_along_axis(distances, order, axis=1), np.take_along_axis(found, order, axis=1)

    def query_left_out(
        self, count: int, episodes: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Distances (N, count) from each reference row to the nearest of other episodes, and how many those have, (N,).

        Where there are fewer than ``count`` distances are inf. Without ``episodes`` (N,) each row is one.
        """
        total = len(self.rows)
        parts = np.arange(total) if episodes is None else episodes
        distances, pending, asked, probes = np.full((total, count), np.inf), np.arange(total), count + 1, PROBES
        while len(pending):
            near, found = self.query(self.rows[pending], min(asked, total), probes)
            others = (parts[found] != parts[pending, None]) & np.isfinite(near)
            everything = asked >= total and (self._index is None or probes >= self._index.nlist)
            done = (others.sum(axis=1) >= count) | everything
            order = np.argsort(~others[done], axis=1, kind="stable")[:, :count]
            taken = np.where(others[done], near[done], np.inf)
            distances[pending[done], : order.shape[1]] = np.take_along_axis(taken, order, axis=1)
            # A row's own episode may fill all lists that were looked into.
            pending, asked, probes = pending[~done], 2 * asked, 2 * probes
        return distances, rows_elsewhere(parts)

    def _inverted_lists(self) -> Any:
        try:
            import faiss
        except ImportError as error:
            raise ValueError(MISSING) from error
        count, columns = self.rows.shape
        quantizer = faiss.IndexFlatL2(columns)
        centres: Any = self.centres
        if centres is None:
            lists = max(1, int(count**0.5))
            means = faiss.Kmeans(columns, lists, seed=0, max_points_per_centroid=_TRAINED, min_points_per_centroid=1)
            means.train(self.rows)
            self.centres = centres = means.centroids
        quantizer.add(centres)
        index = faiss.IndexIVFFlat(quantizer, columns, len(centres))
        index.add(self.rows)
        return index


def rows_elsewhere(episodes: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many rows are of other episodes than each one's, (N,)."""
    _, place, counts = np.unique(episodes, return_inverse=True, return_counts=True)
    return len(episodes) - counts[place]


def nearest_of_all(points: NDArray[np.float32], rows: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Numbers (B, count) of the nearest of ``rows`` (N, d) to ``points`` (B, d), N >= count, by all B N distances."""
    reference = torch.from_numpy(rows)
    norms = reference.square().sum(1)
    found = np.empty((len(points), count), np.int64)
    step = max(1, _BLOCK // _ROWS)
    for start in range(0, len(points), step):
        asked = torch.from_numpy(points[start : start + step])
        best = torch.zeros(len(asked), 0), torch.zeros(len(asked), 0, dtype=torch.int64)
        for first in range(0, len(rows), _ROWS):
            block = slice(first, first + _ROWS)
            squares = squared_distances(asked, reference[block], norms[block])
            near, places = squares.topk(min(count, squares.shape[1]), dim=1, largest=False)
            near, places = torch.cat([best[0], near], dim=1), torch.cat([best[1], places + first], dim=1)
            near, order = near.topk(min(count, near.shape[1]), dim=1, largest=False)
            best = near, places.gather(1, order)
        found[start : start + step] = best[1].numpy()
    return found


def squared_distances(points: Tensor, rows: Tensor, norms: Tensor) -> Tensor:
    """|x - x_i|^2 (B, N) of points (B, d) and rows (N, d), whose squared norms (N,) are known.

    By one product; of inputs in [-1, 1] float32 loses about 1e-6 d to rounding.
    """
    return torch.addmm(norms, points, rows.T, alpha=-2).add_(points.square().sum(1, keepdim=True)).clamp_(min=0)
