"""ScriptedTeacher: prefers the segment of the greater true score, with a share of mistakes."""

import numpy as np
from numpy.typing import NDArray


class ScriptedTeacher:
    """Answers comparisons of two segments by what they truly scored.

    Args:
        mistakes: share of the answers that come out the other way round, in [0, 0.5).
        seed: of the mistakes.
    Raises: ValueError for a share out of range.
    """

    def __init__(self, mistakes: float = 0.0, seed: int = 0) -> None:
        if not 0 <= mistakes < 0.5:
            raise ValueError(f"a teacher's share of mistakes must be in [0, 0.5); got {mistakes}.")
        self.mistakes = mistakes
        self._generator = np.random.default_rng(seed)

    def labels(self, first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float32]:
        """(M,) 1 where the first segment is preferred, 0 where the second, 1/2 where they scored the same.

        Args:
            first, second: (M, L) scores of each step.
        """
        totals = first.sum(axis=1), second.sum(axis=1)
        labels = 0.5 + 0.5 * np.sign(totals[0] - totals[1])
        flipped = self._generator.random(len(labels)) < self.mistakes
        return np.where(flipped, 1 - labels, labels).astype(np.float32)
