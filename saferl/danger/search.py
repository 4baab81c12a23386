"""Which rules explain the warnings best: greedy additions, then dropping, replacing and refining, and what else fits.

A rule is here a tuple of column numbers of the vocabulary, in rising order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saferl.danger.moments import Flags
from saferl.danger.scoring import Floats, Priors, Warnings, added_scores, rule_cost, rules_evidence
from saferl.danger.specification import MAX_RULES

Columns = tuple[int, ...]
CANDIDATES = 30
STARTS = 5  # single rules to climb from
ALIKE = 0.5  # share of common steps from which two rules are too much alike to climb from both
_POOL = 300  # best pairs that are looked at for distinct ones
_LEAST = 1e-6  # nats that count as better


@dataclass(frozen=True)
class Candidate:
    """A rule that may stand in one place of a specification.

    Attributes:
        rule: its columns; empty for no rule at all.
        score: of the whole specification with it, nats.
        share: of the posterior among the candidates for that place.
    """

    rule: Columns
    score: float
    share: float


def matched(columns: Flags, rules: Sequence[Columns]) -> Flags:
    """(N,) whether any of the rules holds in each row of ``columns`` (N, V)."""
    found = np.zeros(len(columns), np.bool_)
    for rule in rules:
        holds = columns[:, rule[0]]
        for column in rule[1:]:
            holds = holds & columns[:, column]
        found |= holds
    return found


class Search:
    """The search over specifications for one set of warnings.

    Args:
        warnings: what was told, over N steps.
        priors: of the rates.
        known: (E, V) literals of the steps that can happen, by which rules count as distinct; None: those of warnings.
    """

    def __init__(self, warnings: Warnings, priors: Priors, known: Flags | None = None) -> None:
        self.warnings, self.priors = warnings, priors
        self.known = np.asfortranarray(warnings.columns if known is None else known)  # it is read by columns
        self.size = warnings.columns.shape[1]
        cost = np.full((self.size, self.size), rule_cost(2, self.size))
        np.fill_diagonal(cost, rule_cost(1, self.size))
        self.cost = cost  # (V, V)
        self._scores: dict[frozenset[Columns], float] = {}  # several climbs come by the same rules
        self._additions: dict[frozenset[Columns], Floats] = {}

    def counts(self, rules: Sequence[Columns]) -> tuple[int, int, int, int]:
        """n11, n10, n01, n00 of the rules together."""
        return self.warnings.counts(matched(self.warnings.columns, rules))

    def score(self, rules: Sequence[Columns]) -> float:
        """Log evidence less the cost of the rules."""
        key = frozenset(rules)
        if key not in self._scores:
            evidence = rules_evidence(*self.counts(rules), self.priors)
            self._scores[key] = float(evidence) - self._paid(rules)
        return self._scores[key]

    def additions(self, rules: Sequence[Columns]) -> Floats:
        """(V, V) scores of the rules with each pair of literals as one rule more; singles on the diagonal."""
        key = frozenset(rules)
        if key not in self._additions:
            taken = matched(self.warnings.columns, rules)
            self._additions[key] = added_scores(self.warnings, taken, self.priors) - self.cost - self._paid(rules)
        return self._additions[key]

    def _paid(self, rules: Sequence[Columns]) -> float:
        return sum(rule_cost(len(rule), self.size) for rule in rules)

    def best(self, start: Sequence[Columns] = ()) -> list[Columns]:
        """The best rules found by climbing from none, from ``start``, and from each of the most promising single rules.

        The last are for dangers that a wide rule covers nearly and only two narrow ones together do exactly.
        """
        starts: list[list[Columns]] = [[], list(start)] if start else [[]]
        starts += [[rule] for rule in self._promising()]
        found: list[list[Columns]] = []
        for rules in starts:
            if not any(set(rules) == set(end) for end in found):
                found.append(self._climb(rules))
        return max(found, key=self.score)

    def _promising(self) -> list[Columns]:
        """The best single rules of which no two match mostly the same steps."""
        scores = self.additions([])
        upper = np.triu_indices(self.size)
        kept: list[tuple[Columns, Flags]] = []
        for place in np.argsort(-scores[upper], kind="stable")[:_POOL].tolist():
            i, j = int(upper[0][place]), int(upper[1][place])
            rule = (i,) if i == j else (i, j)
            steps = matched(self.warnings.columns, [rule])
            alike = [(steps & other).sum() > ALIKE * (steps | other).sum() for _, other in kept]
            if np.isfinite(scores[i, j]) and steps.any() and not any(alike):
                kept.append((rule, steps))
                if len(kept) == STARTS:
                    break
        return [rule for rule, _ in kept]

    def _climb(self, rules: list[Columns]) -> list[Columns]:
        """Change one rule at a time while the score rises."""
        score = self.score(rules)
        while True:
            better = self._added(rules, score) or self._changed(rules, score)
            if better is None:
                return rules
            rules = better
            score = self.score(rules)

    def _added(self, rules: list[Columns], score: float) -> list[Columns] | None:
        if len(rules) >= MAX_RULES:
            return None
        rule, new = _highest(self.additions(rules))
        return [*rules, rule] if new > score + _LEAST else None

    def _changed(self, rules: list[Columns], score: float) -> list[Columns] | None:
        """The best change of one rule: without it, another one for it, or a third literal more."""
        options: list[tuple[float, list[Columns]]] = []
        for place, rule in enumerate(rules):
            others = rules[:place] + rules[place + 1 :]
            options.append((self.score(others), others))
            other, new = _highest(self.additions(others))
            options.append((new, [*others, other]))
            if len(rule) == 2:
                options.append(self._refined(others, rule))
        if not options:
            return None
        new, better = max(options, key=lambda option: option[0])
        return better if new > score + _LEAST else None

    def _refined(self, others: list[Columns], rule: Columns) -> tuple[float, list[Columns]]:
        taken = matched(self.warnings.columns, others)
        also = np.asarray(self.warnings.columns[:, rule].all(axis=1))
        singles = np.diagonal(added_scores(self.warnings, taken, self.priors, also)).copy()
        singles[list(rule)] = -np.inf
        third = int(singles.argmax())
        return float(singles[third]) - self._paid(others) - rule_cost(3, self.size), [
            *others,
            tuple(sorted((*rule, third))),
        ]

    def candidates(self, others: Sequence[Columns], present: Columns = ()) -> list[Candidate]:
        """The best distinct rules for one place beside ``others``, "no rule" among them, best first.

        Of rules that match the same of the ``known`` steps, the one with the better score stands for all.

        Args:
            others: the rest of the specification.
            present: the rule in this place, which is listed in any case.
        """
        scores = self.additions(others)
        upper = np.triu_indices(self.size)
        order = np.argsort(-scores[upper], kind="stable")[:_POOL]
        pool: list[tuple[float, Columns]] = [(self.score(others), ())]
        if present:
            pool.append((self.score([*others, present]), present))
        for i, j in zip(upper[0][order].tolist(), upper[1][order].tolist()):
            pool.append((float(scores[i, j]), (i,) if i == j else (i, j)))
        seen: set[bytes] = set()
        kept: list[tuple[float, Columns]] = []
        for score, rule in pool:
            if len(kept) > CANDIDATES:
                break
            key = matched(self.known, [rule] if rule else []).tobytes()
            if key not in seen:
                seen.add(key)
                kept.append((score, rule))
        kept.sort(key=lambda each: -each[0])
        weights = np.exp(np.array([score for score, _ in kept]) - kept[0][0])
        shares = weights / weights.sum()
        return [Candidate(rule, score, float(share)) for (score, rule), share in zip(kept, shares)]


def _highest(scores: Floats) -> tuple[Columns, float]:
    """The best pair of a symmetric (V, V) array, and its score; of equals the first, singles before pairs."""
    singles = np.diagonal(scores)
    i = j = int(singles.argmax())
    pair = int(scores.argmax())
    if scores.ravel()[pair] > singles[i] + _LEAST:
        i, j = divmod(pair, len(scores))
    return ((i,) if i == j else (min(i, j), max(i, j))), float(scores[i, j])
