"""Tabular counts: how often a discrete pair was recorded."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saferl.guardians.guardian import Guardian, GuardianConfig, quantile_threshold


class CountGuardian(Guardian):
    """Score: the number of recorded rows with this very pair (s, a), all columns whole numbers.

    The threshold is at least 1, so that a pair that was never seen is outside whatever alpha says. More than alpha of
    the data are then outside where pairs seen once make up more than alpha (their share is the Good-Turing estimate of
    how often a new row is a pair never seen).

    Args:
        table: (K, d) int64, the pairs, each once, in lexical order.
        counts: (K,) int64, how often each was seen.
        left_out: (N,) float32, of each recorded row in how many of the others; None: all others count.
    """

    def __init__(
        self,
        config: GuardianConfig,
        obs_dim: int,
        act_dim: int,
        table: NDArray[np.int64],
        counts: NDArray[np.int64],
        threshold: float | None = None,
        left_out: NDArray[np.float32] | None = None,
    ) -> None:
        super().__init__(config, obs_dim, act_dim)
        self._left_out = left_out
        self.table, self.counts, self.reference_rows = table, counts, int(counts.sum())
        self._low, self._sizes = table.min(axis=0), np.ptp(table, axis=0) + 1
        if math.prod(int(size) for size in self._sizes) >= 2**62:
            raise ValueError(
                f"counts: columns with {self._sizes.tolist()} values each make too many pairs; take another kind."
            )
        self._strides = np.append(np.cumprod(self._sizes[:0:-1])[::-1], 1)
        self._keys = self._key(table)
        if threshold is None:
            threshold = max(1.0, quantile_threshold(self.left_out_scores(), config.alpha))
        self.threshold = threshold

    @classmethod
    def of(
        cls,
        config: GuardianConfig,
        obs_dim: int,
        act_dim: int,
        rows: NDArray[np.float64],
        episodes: NDArray[np.int64] | None = None,
    ) -> "CountGuardian":
        """The counts of rows (N, d), which belong to ``episodes`` (N,)."""
        table, place, counts = np.unique(_whole(rows), axis=0, return_inverse=True, return_counts=True)
        left_out = None
        if episodes is not None:
            both = np.stack([place, episodes], axis=1)
            _, together, own = np.unique(both, axis=0, return_inverse=True, return_counts=True)
            left_out = (counts[place] - own[together]).astype(np.float32)
        return cls(config, obs_dim, act_dim, table, counts, left_out=left_out)

    def _key(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """One number for each pair, in the table's order; (N,)."""
        return (rows - self._low) @ self._strides

    def _score(self, rows: NDArray[np.float64]) -> NDArray[Any]:
        whole = _whole(rows)
        known = ((whole >= self._low) & (whole < self._low + self._sizes)).all(axis=1)
        keys = self._key(np.where(known[:, None], whole, self._low))
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(known & (self._keys[place] == keys), self.counts[place], 0)

    def left_out_scores(self) -> NDArray[np.float32]:
        """How many other rows have the pair of each recorded row, (N,); without episodes in the table's order."""
        if self._left_out is not None:
            return self._left_out
        return np.repeat(self.counts - 1, self.counts).astype(np.float32)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The pairs and their counts."""
        tensors: dict[str, NDArray[Any]] = {"table": self.table, "counts": self.counts}
        return tensors if self._left_out is None else tensors | {"left_out": self._left_out}


def _whole(rows: NDArray[np.float64]) -> NDArray[np.int64]:
    whole = rows.astype(np.int64)
    if (whole != rows).any():
        row = int((whole != rows).any(axis=1).argmax())
        raise ValueError(f"counts needs whole numbers; row {row} is {rows[row].tolist()}. Take another kind.")
    return whole
