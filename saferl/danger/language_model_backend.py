"""Discovery by a language model: it writes plans and rules, a built-in learner helps out, and scores judge its rules.

backend = LanguageModelBackend(language_model_from_environment(), Task(rules, horizon=30), fallback=learner)
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from saferl.danger.language_model import LanguageModel, Message
from saferl.danger.prompts import (
    Task,
    parse_plan,
    parse_rules,
    parse_specification,
    plan_again_messages,
    plan_messages,
    reflection_messages,
)
from saferl.danger.scoring import Priors, Warnings, rule_cost, rules_evidence
from saferl.danger.specification import (
    MAX_RULES,
    Backend,
    Board,
    Episode,
    Evidence,
    Literal,
    Plan,
    Rule,
    Specification,
)

_LEAST = 1e-6  # nats that count as better


class LanguageModelBackend:
    """A ``Backend`` that asks a language model.

    ``propose``: one conversation a plan. An answer without a usable line of actions gets one more try, then
    ``fallback`` plans. ``reflect``: the text between the specification tags is the new specification; without any, the
    old one stays. Where ``literals`` are given, the model may also write its rules with them; those that explain the
    warnings of all episodes so far well enough to pay for their length are kept, by the built-in learner's score, and
    the others are dropped: a fluent rule that is wrong does not get into ``Specification.rules``.

    Args:
        model: whom to ask.
        task: the environment.
        fallback: plans where the model's answers can't be read; it must know the environment.
        literals: by name, what rules may be written with; None: the model writes text only.
        noisy: tell the model that warnings can be wrong.
        priors: of the rates of warnings, for the scores.
        size: literals of the vocabulary that a rule's length is paid by; None: as many as ``literals``.
        seed: sent with the first request, one more with each further one; None sends none.
    Attributes:
        retried: answers without a usable plan that were asked for again.
        fallbacks: plans that ``fallback`` made.
        unchanged: reflections without a new specification.
    """

    def __init__(
        self,
        model: LanguageModel,
        task: Task,
        fallback: Backend,
        literals: Mapping[str, Literal] | None = None,
        noisy: bool = False,
        priors: Priors | None = None,
        size: int | None = None,
        seed: int | None = None,
    ) -> None:
        self.model, self.task, self.fallback = model, task, fallback
        self.literals, self.noisy = dict(literals or {}), noisy
        self.retried = self.fallbacks = self.unchanged = 0
        self._scores = RuleScores(priors or Priors(), max(2, size or len(self.literals)))
        self._seed = seed

    def propose(self, specification: Specification, first: Board, k: int) -> list[Plan]:
        """``k`` plans for episodes that begin with the board ``first``.

        Raises: LanguageModelError if the model can't be asked.
        """
        return [self._plan(specification, first) for _ in range(k)]

    def _plan(self, specification: Specification, first: Board) -> Plan:
        messages = plan_messages(self.task, specification, first)
        answer = self._answer(messages)
        plan = parse_plan(answer, self.task)
        if plan is None:
            self.retried += 1
            plan = parse_plan(self._answer(plan_again_messages(self.task, messages, answer)), self.task)
        if plan is None:
            self.fallbacks += 1
            return self.fallback.propose(specification, first, 1)[0]
        return plan

    def reflect(self, specification: Specification, episodes: Sequence[Episode]) -> Specification:
        """The specification after the episodes of one more round.

        Raises: LanguageModelError if the model can't be asked; ValueError for episodes of different kinds of warnings.
        """
        messages = reflection_messages(self.task, specification, episodes, self.noisy, self.literals.values())
        answer = self._answer(messages)
        text = parse_specification(answer)
        self.unchanged += text is None
        self._scores.add(episodes)
        rules = (*specification.rules, *parse_rules(answer, self.literals))
        return replace(specification, text=text or specification.text, rules=self._scores.kept(rules))

    def _answer(self, messages: Sequence[Message]) -> str:
        seed = self._seed
        if seed is not None:
            self._seed = seed + 1
        return self.model.complete(messages, seed)


@dataclass(eq=False)
class RuleScores:
    """Which of some rules explain the warnings of all episodes so far, by the score of ``saferl.danger.scoring``.

    Args:
        priors: of the rates of warnings.
        size: V, literals of the vocabulary.
    """

    priors: Priors
    size: int

    def __post_init__(self) -> None:
        self._episodes: list[Episode] = []
        self._held: dict[str, list[bool]] = {}  # by literal, for the steps of all episodes

    def add(self, episodes: Iterable[Episode]) -> None:
        """Episodes with warnings count from now on; others tell nothing about rules."""
        self._episodes += [each for each in episodes if each.warnings is not None and each.steps]

    def kept(self, rules: Sequence[Rule]) -> tuple[Rule, ...]:
        """Those that raise the score, the best first, each with its evidence.

        The posterior of a rule is that against leaving it out.
        """
        options = {rule.name: rule for rule in rules}
        if not (self._episodes and options):
            return ()
        warnings, matched = self._told(options)
        none = np.zeros(len(warnings.columns), np.bool_)

        def score(chosen: Sequence[str]) -> float:
            steps = np.any([matched[name] for name in chosen] or [none], axis=0)
            paid = sum(rule_cost(len(options[name].literals), self.size) for name in chosen)
            return float(rules_evidence(*warnings.counts(steps), self.priors)) - paid

        chosen: list[str] = []
        while len(chosen) < MAX_RULES:
            left = [name for name in options if name not in chosen]
            best = max(left, key=lambda name: score([*chosen, name]), default=None)
            if best is None or score([*chosen, best]) <= score(chosen) + _LEAST:
                break
            chosen.append(best)
        _, _, n01, n00 = warnings.counts(np.any([matched[name] for name in chosen] or [none], axis=0))
        rules_kept = []
        for name in chosen:
            warned, silent, _, _ = warnings.counts(matched[name])
            without = score([other for other in chosen if other != name]) - score(chosen)
            evidence = Evidence(
                warned=warned,
                matched=warned + silent,
                warned_elsewhere=n01,
                elsewhere=n01 + n00,
                posterior=float(expit(-without)),
            )
            rules_kept.append(replace(options[name], evidence=evidence))
        return tuple(rules_kept)

    def _told(self, options: Mapping[str, Rule]) -> tuple[Warnings, dict[str, NDArray[np.bool_]]]:
        """All warnings so far, and of each rule the steps (N,) where it holds."""
        steps = [step for episode in self._episodes for step in episode.steps]
        literals = {literal.name: literal for rule in options.values() for literal in rule.literals}
        for name, literal in literals.items():
            held = self._held.setdefault(name, [])
            held += [literal.holds(step) for step in steps[len(held) :]]
        columns = {name: np.array(self._held[name], np.bool_) for name in literals}
        matched = {
            name: np.all([columns[literal.name] for literal in rule.literals], axis=0) for name, rule in options.items()
        }
        bits = [np.atleast_1d(np.asarray(episode.warnings, np.bool_)) for episode in self._episodes]
        lengths = [len(episode.steps) for episode in self._episodes]
        warnings = Warnings(
            np.stack(list(columns.values()), axis=1),
            np.concatenate(bits),
            np.repeat(np.arange(len(lengths)), lengths),
            per_episode=isinstance(self._episodes[0].warnings, (bool, np.bool_)),
        )
        return warnings, matched
