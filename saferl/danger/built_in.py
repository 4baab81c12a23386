"""The built-in learner: rules by score and search, plans by backward induction on the clone. No language model."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from saferl.danger.clone import Clone, Floats
from saferl.danger.edge_literals import EdgeLiterals
from saferl.danger.explanation import explanation, independent_steps, pair_numbers
from saferl.danger.literals import Vocabulary
from saferl.danger.moments import Flags
from saferl.danger.planning import Policy, best_policy
from saferl.danger.scoring import Priors, Warnings
from saferl.danger.search import Candidate, Columns
from saferl.danger.specification import Board, Episode, Specification

VETO = 1_000.0  # reward that a step called dangerous costs, more than any gridworld pays
PERTURBED = 0.3  # share of random actions in the rest
NOVELTY = (1e-6, 1e-5, 1e-3)  # what a step never taken is worth to each probe, beside up to 0.25 for a doubtful one
CAUTION = 0.02  # what a step that is surely dangerous costs a probe


@dataclass(frozen=True)
class LearnerSettings:
    """What the built-in learner is told.

    Args:
        horizon: T, steps of an episode.
        seed: of its explorations.
        priors: of the rates of warnings.
    """

    horizon: int
    seed: int = 0
    priors: Priors = field(default_factory=Priors)


class BuiltInBackend:
    """A ``Backend``: remembers every episode, keeps the rules that explain all warnings best, and probes doubtful ones.

    Of k plans the first is greedy: the best R with a veto on steps that the specification calls dangerous. Up to three
    probe: they go for steps about which the candidates for the rules disagree, p (1 - p) for a danger of probability p,
    and a little for steps never taken. The rest is the greedy plan with random actions in it, none called dangerous.
    """

    def __init__(self, clone: Clone, vocabulary: Vocabulary, settings: LearnerSettings) -> None:
        self.clone, self.vocabulary, self.settings = clone, vocabulary, settings
        self.edges = EdgeLiterals(clone, vocabulary)
        self.places: tuple[tuple[Candidate, ...], ...] = ()  # of the last reflection: for each rule, and for one more
        self._names = {literal.name: column for column, literal in enumerate(vocabulary.literals)}
        self._generator = np.random.default_rng([settings.seed, 1])
        self._walked: list[np.ndarray] = []  # edges of each episode
        self._warnings: list[np.ndarray] = []
        self._per_episode = False
        self._taken = np.zeros(len(clone.node))  # how often each edge was
        self._pairs = pair_numbers(clone.steps.before, clone.action)  # (E,)

    def columns_of(self, specification: Specification) -> list[Columns]:
        """Its rules as columns of the vocabulary."""
        return [tuple(sorted(self._names[literal.name] for literal in rule.literals)) for rule in specification.rules]

    def called(self, specification: Specification) -> Flags:
        """Whether it calls an edge dangerous: (E,) or (T, E)."""
        return self.edges.called(self.columns_of(specification), self.settings.horizon)

    def greedy(self, specification: Specification) -> Policy:
        """The best R without a step called dangerous, or with as few as there must be."""
        return self.avoiding(self.called(specification))

    def avoiding(self, called: Flags) -> Policy:
        """``greedy`` for steps called dangerous: (E,) or (T, E)."""
        return best_policy(self.clone, self.clone.rewards - VETO * called, self.settings.horizon)

    def propose(self, specification: Specification, first: Board, k: int) -> list[Policy]:
        """As ``Backend.propose``; the plans fit any first board."""
        greedy = self.greedy(specification)
        plans = [greedy]
        for novelty in NOVELTY[: k - 1]:
            plans.append(best_policy(self.clone, self._information(novelty), self.settings.horizon))
        while len(plans) < k:
            plans.append(self._perturbed(greedy, specification))
        return plans

    def _information(self, novelty: float) -> Floats:
        """What a probe finds out on each edge: (E,) or (T, E)."""
        danger = self.edges.belief(self.places, self.settings.horizon)
        return danger * (1 - danger) - CAUTION * danger + novelty / np.sqrt(1 + self._taken)

    def _perturbed(self, greedy: Policy, specification: Specification) -> Policy:
        """The plan with random actions at some times and nodes, but none that may be called dangerous there."""
        allowed = self._harmless(specification)
        drawn = self._generator.random(greedy.shape[:2]) < PERTURBED
        drawn &= allowed.any(axis=-1)
        options = np.broadcast_to(allowed, greedy.shape)
        return np.where(drawn[..., None], options, greedy)

    def _harmless(self, specification: Specification) -> Flags:
        """(N, A) or (T, N, A) whether no edge of an action is called dangerous."""
        called = np.atleast_2d(self.called(specification))
        counts = np.add.reduceat(called, self.clone.offsets[:-1], axis=1)
        return (counts == 0).reshape(len(called), self.clone.nodes, self.clone.actions)

    def reflect(self, specification: Specification, episodes: Sequence[Episode]) -> Specification:
        """As ``Backend.reflect``; episodes without any word about warnings change nothing."""
        for episode in episodes:
            edges = self.clone.edges_of(episode)
            np.add.at(self._taken, edges, 1)
            if episode.warnings is not None:
                self._walked.append(edges)
                self._per_episode = isinstance(episode.warnings, (bool, np.bool_))
                self._warnings.append(np.atleast_1d(np.asarray(episode.warnings, np.bool_)))
        if not self._walked:
            return specification
        found = explanation(
            self._told(), self.vocabulary, self.settings.priors, self.edges.columns, self.columns_of(specification)
        )
        self.places = found.places
        return found.specification

    def _told(self) -> Warnings:
        lengths = [len(edges) for edges in self._walked]
        index = np.concatenate([np.arange(length) for length in lengths])
        edges, bits = np.concatenate(self._walked), np.concatenate(self._warnings)
        episode = np.repeat(np.arange(len(lengths)), lengths)
        if not self._per_episode:
            kept = independent_steps(self._pairs[edges], bits)
            edges, index, bits, episode = edges[kept], index[kept], bits[kept], episode[kept]
        return Warnings(self.edges.at(edges, index), bits, episode, self._per_episode)
