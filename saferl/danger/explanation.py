"""From warnings to a specification: the best rules, what else may stand in their places, evidence and text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saferl.danger.literals import Vocabulary
from saferl.danger.moments import Flags
from saferl.danger.scoring import Priors, Warnings
from saferl.danger.search import Candidate, Columns, Search
from saferl.danger.sentences import specification_text
from saferl.danger.specification import Evidence, Rule, Specification

REPEATED, MIXED = 5, 0.25  # pairs that must have been warned about and repeated; share of them that may be mixed


@dataclass(frozen=True)
class Explanation:
    """What explains the warnings best.

    Attributes:
        specification: with evidence and text, the rule that matched most first.
        places: for each rule, and for one rule more, the candidates.
    """

    specification: Specification
    places: tuple[tuple[Candidate, ...], ...]


def explanation(
    warnings: Warnings,
    vocabulary: Vocabulary,
    priors: Priors,
    known: Flags | None = None,
    start: Sequence[Columns] = (),
) -> Explanation:
    """The best rules for some warnings.

    Args:
        warnings: over N steps.
        vocabulary: of V literals.
        priors: of the rates.
        known: (E, V) literals of the steps that can happen, as for ``Search``.
        start: rules to begin with, for example those from fewer warnings.
    """
    search = Search(warnings, priors, known)
    rules = search.best(start)
    places = [search.candidates([other for other in rules if other is not rule], rule) for rule in rules]
    _, _, n01, n00 = search.counts(rules)
    found = []
    for rule, place in zip(rules, places):
        n11, n10, _, _ = search.counts([rule])
        share = next((each.share for each in place if each.rule == rule), 0.0)
        evidence = Evidence(warned=n11, matched=n11 + n10, warned_elsewhere=n01, elsewhere=n01 + n00, posterior=share)
        found.append((n11 + n10, Rule(tuple(vocabulary.literals[column] for column in rule), evidence)))
    ordered = tuple(rule for _, rule in sorted(found, key=lambda each: -each[0]))
    return Explanation(
        Specification(ordered, specification_text(ordered)),
        tuple(tuple(place) for place in [*places, search.candidates(rules)]),
    )


def independent_steps(pairs: NDArray[np.int64], bits: Flags) -> NDArray[np.int64]:
    """Which steps count as evidence of their own: all, unless what is seen once is seen at each repetition.

    Where the noise is drawn for every step, pairs (board, action) that were warned about once are mostly warned about
    at some repetitions only. Where it is drawn once for a pair, or there is none, hardly any is mixed; then a pair
    counts once for each bit that it was given, lest one false alarm looks like many.

    Args:
        pairs: (N,) number of the pair of each step.
        bits: (N,) that were given.
    Returns: (n,) positions, rising.
    """
    size = int(pairs.max()) + 1
    visits, warned = np.bincount(pairs, minlength=size), np.bincount(pairs, bits, minlength=size)
    repeated = (visits > 1) & (warned > 0)
    mixed = repeated & (warned < visits)
    if repeated.sum() < REPEATED or mixed.sum() > MIXED * repeated.sum():
        return np.arange(len(pairs))
    return np.sort(np.unique(2 * pairs + bits, return_index=True)[1])


def pair_numbers(boards: NDArray[np.uint8], actions: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) a number for each different pair of a board (N, H, W) and an action (N,)."""
    flat = boards.reshape(len(boards), -1)
    numbers = np.unique(flat, axis=0, return_inverse=True)[1].ravel()
    return numbers * (int(actions.max()) + 1) + actions
