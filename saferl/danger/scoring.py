"""How well rules explain warnings: the log marginal likelihood, with the rates of warnings integrated out.

Steps that a specification calls dangerous are warned about with an unknown rate of prior Beta(a1, b1), all others with
one of prior Beta(a0, b0). With n11 of n11 + n10 such steps warned about, and n01 of n01 + n00 others, the score is

    log B(a1 + n11, b1 + n10) / B(a1, b1) + log B(a0 + n01, b0 + n00) / B(a0, b0) - cost of the rules,

B the beta function (Gelman et al., Bayesian Data Analysis, 3rd edition, section 2.4). Where one bit is given for a
whole episode, "step" reads "episode": an episode is called dangerous if one of its steps is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln

from saferl.danger.moments import Flags

Floats = NDArray[np.float64]
DECLARED_WEIGHT = 50.0  # steps that a declared rate counts for


@dataclass(frozen=True)
class Priors:
    """Beta priors of the two rates.

    Attributes:
        danger: (a1, b1), of warnings about steps that are called dangerous; the default expects nine in ten.
        other: (a0, b0), of warnings about the others; the default expects one in four, loosely.
    """

    danger: tuple[float, float] = (9.0, 1.0)
    other: tuple[float, float] = (1.0, 3.0)


def declared_priors(p: float, q: float) -> Priors:
    """Priors for a user who knows the rates of false warnings p and of missing ones q, about as sure as of 50 steps.

    Raises: ValueError unless both are probabilities and warnings about danger are the more frequent ones.
    """
    if not (0 <= p <= 1 and 0 <= q <= 1 and p < 1 - q):
        raise ValueError(f"declared rates need 0 <= p < 1 - q <= 1; got p={p:g}, q={q:g}.")
    half = 0.5  # Jeffreys', so that a declared 0 is not a certainty
    weight = DECLARED_WEIGHT
    return Priors((weight * (1 - q) + half, weight * q + half), (weight * p + half, weight * (1 - p) + half))


@dataclass(frozen=True, eq=False)
class Warnings:
    """What a learner was told about N steps of E episodes.

    Attributes:
        columns: (N, V) bool, which literals hold.
        warned: (N,) bool; with ``per_episode`` (E,).
        episode: (N,) number of the episode of each step, from 0, none left out.
        per_episode: whether a bit is for a whole episode.
    """

    columns: Flags
    warned: Flags
    episode: NDArray[np.int64]
    per_episode: bool = False

    @property
    def cases(self) -> int:
        """How many bits there are."""
        return len(self.warned)

    def called(self, steps: Flags) -> Flags:
        """Which cases a specification that matches these ``steps`` (N,) calls dangerous."""
        if not self.per_episode:
            return steps
        return np.bincount(self.episode, steps, minlength=self.cases) > 0

    def counts(self, steps: Flags) -> tuple[int, int, int, int]:
        """n11, n10, n01, n00 of a specification that matches these ``steps`` (N,)."""
        called = self.called(steps)
        warned, matched = int((called & self.warned).sum()), int(called.sum())
        elsewhere = int(self.warned.sum()) - warned
        return warned, matched - warned, elsewhere, self.cases - matched - elsewhere

    def pair_counts(self, taken: Flags, also: Flags | None = None) -> tuple[Floats, Floats]:
        """Of the cases not called dangerous through the ``taken`` steps (N,), how many each pair of literals adds.

        Args:
            taken: (N,) steps that are matched already.
            also: (N,) only these steps count, those where a third literal holds; None: all.
        Returns: (V, V) cases matched, and those of them with a warning; the diagonal is for single literals.
        """
        columns = self.columns if also is None else self.columns & also[:, None]
        free = ~self.called(taken)
        if not self.per_episode:
            held = columns[free].astype(np.float32)  # counts up to 2^24 are exact
            told = columns[free & self.warned].astype(np.float32)
            return (held.T @ held).astype(np.float64), (told.T @ told).astype(np.float64)
        size = columns.shape[1]
        matched, warned = np.zeros((size, size)), np.zeros((size, size))
        for number in np.flatnonzero(free):
            held = columns[self.episode == number].astype(np.float32)
            together = (held.T @ held) > 0
            matched += together
            warned += together & bool(self.warned[number])
        return matched, warned


def log_evidence(n11: ArrayLike, n10: ArrayLike, n01: ArrayLike, n00: ArrayLike, priors: Priors) -> Floats:
    """The log marginal likelihood of the warnings; see the head of this file. Arrays broadcast."""
    (a1, b1), (a0, b0) = priors.danger, priors.other
    inside = betaln(a1 + np.asarray(n11), b1 + np.asarray(n10)) - betaln(a1, b1)
    outside = betaln(a0 + np.asarray(n01), b0 + np.asarray(n00)) - betaln(a0, b0)
    return np.asarray(inside + outside, np.float64)


def rules_evidence(n11: ArrayLike, n10: ArrayLike, n01: ArrayLike, n00: ArrayLike, priors: Priors) -> Floats:
    """As ``log_evidence``; -inf where warnings are rarer at what is called dangerous than elsewhere.

    Else rules that say what is safe would do as well as rules that say what is dangerous.
    """
    warned, silent, elsewhere, rest = (np.asarray(each, np.float64) for each in (n11, n10, n01, n00))
    reversed_ = warned * rest < silent * elsewhere
    return np.where(reversed_, -np.inf, log_evidence(warned, silent, elsewhere, rest, priors))


def rule_cost(literals: int, size: int) -> float:
    """What a rule costs, in nats: log(V) + 1 for one literal, log(V) each for two or more.

    Args:
        literals: of the rule.
        size: V, literals of the vocabulary.
    """
    return literals * float(np.log(size)) + (1.0 if literals == 1 else 0.0)


def added_scores(warnings: Warnings, taken: Flags, priors: Priors, also: Flags | None = None) -> Floats:
    """``rules_evidence`` of the specification that matches ``taken`` (N,), with each pair of literals added as a rule.

    Returns: (V, V), without the cost of rules. ``also`` as in ``Warnings.pair_counts``.
    """
    n11, n10, n01, n00 = warnings.counts(taken)
    matched, warned = warnings.pair_counts(taken, also)
    silent = matched - warned
    return rules_evidence(n11 + warned, n10 + silent, n01 - warned, n00 - silent, priors)
