"""Which literals hold on the edges of a clone, and so what rules say about every step that can happen, at any time."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saferl.danger.clone import Clone, Floats
from saferl.danger.literals import Vocabulary
from saferl.danger.moments import Flags
from saferl.danger.search import Candidate, Columns, matched

SMALL = 1e-3  # share of the belief below which a candidate is passed over


class EdgeLiterals:
    """The literals of a vocabulary on all edges.

    Attributes:
        columns: (E, V) at the first step of an episode.
        since: (V,) step number from which a literal about time holds, -1 for all others.
    """

    def __init__(self, clone: Clone, vocabulary: Vocabulary) -> None:
        self.columns = np.asfortranarray(vocabulary.columns(clone.steps))  # it is read by columns
        self.since = np.array([-1 if each.since is None else each.since for each in vocabulary.literals])
        self._timed = np.flatnonzero(self.since >= 0)

    def at(self, edges: NDArray[np.int64], index: NDArray[np.int64]) -> Flags:
        """(n, V) literals of steps over these ``edges`` (n,) with step numbers ``index`` (n,)."""
        columns = self.columns[edges]
        columns[:, self._timed] = index[:, None] >= self.since[self._timed]
        return columns

    def called(self, rules: Sequence[Columns], horizon: int) -> Flags:
        """Whether a rule calls an edge dangerous: (E,), or (T, E) if the rules speak of time."""
        return self._over_time(rules, horizon, lambda columns: matched(columns, rules))

    def belief(self, places: Sequence[Sequence[Candidate]], horizon: int) -> Floats:
        """Probability that an edge is dangerous: (E,), or (T, E) if likely candidates speak of time.

        Args:
            places: candidates for each rule of a specification; the danger of a step is that of any place.
            horizon: T.
        """
        likely = [[each for each in place if each.rule and each.share > SMALL] for place in places]

        def probability(columns: Flags) -> Floats:
            harmless = np.ones(len(columns))
            for place in likely:
                harmless *= 1 - sum((each.share * matched(columns, [each.rule]) for each in place), np.zeros(1))
            return 1 - harmless

        return self._over_time([each.rule for place in likely for each in place], horizon, probability)

    def _over_time(self, rules: Sequence[Columns], horizon: int, of: Callable[[Flags], NDArray[Any]]) -> NDArray[Any]:
        times = {int(self.since[column]) for rule in rules for column in rule if self.since[column] > 0}
        if not times:
            return of(self.columns)
        edges = np.arange(len(self.columns))
        starts = sorted({0, *(time for time in times if time < horizon)})
        parts = [
            np.repeat(of(self.at(edges, np.full(len(edges), begin)))[None], end - begin, axis=0)
            for begin, end in zip(starts, [*starts[1:], horizon])
        ]
        return np.concatenate(parts)
