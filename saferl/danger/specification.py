"""What discovery speaks of: steps and episodes as a learner sees them, rules, specifications, and who learns them.

Nothing here holds a hidden value: no clean danger bit, no hidden performance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Board = NDArray[np.uint8]  # (H, W) codes of the characters shown
Plan = Sequence[int] | NDArray[np.bool_]  # (T,) actions in turn; or (T, N, A), see ``Backend.propose``
MAX_RULES = 10


@dataclass(frozen=True, eq=False)
class Step:
    """One step as a learner sees it.

    Attributes:
        before: (H, W) the board before the action.
        action: that was sent.
        after: (H, W) the board after it.
        reward: R of the step, the one that the agent is paid.
        index: number of the step in its episode, from 0.
        first: (H, W) the board that the episode began with.
        previous: the step before it; None for the first.
    """

    before: Board
    action: int
    after: Board
    reward: float
    index: int
    first: Board
    previous: "Step | None" = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Episode:
    """One episode as a learner sees it.

    Attributes:
        steps: in order.
        warnings: the noisy danger bits: one a step (T,), or one for the whole episode (a bool), or None where the
            learner is told nothing.
        terminated: whether the environment ended it.
    """

    steps: tuple[Step, ...]
    warnings: Sequence[bool] | NDArray[np.bool_] | bool | None
    terminated: bool = False

    @property
    def total_reward(self) -> float:
        """The sum of the rewards R."""
        return float(sum(step.reward for step in self.steps))


class Literal(Protocol):
    """One visible property of a step, such as "the agent enters B"."""

    @property
    def name(self) -> str:
        """How rules in JSON call it: ``enters(B)``."""

    @property
    def phrase(self) -> str:
        """How a sentence says it: ``the agent enters B``."""

    def holds(self, step: Step) -> bool:
        """Whether the step has the property."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Why a rule is believed: counts of steps (of episodes, where a warning is for a whole episode).

    Attributes:
        warned, matched: of the ``matched`` steps that the rule says are dangerous, ``warned`` came with a warning.
        warned_elsewhere, elsewhere: the same of all other steps that no rule of the specification matches.
        posterior: share of the belief, among the candidates that explain the same warnings, in [0, 1].
    """

    warned: int
    matched: int
    warned_elsewhere: int
    elsewhere: int
    posterior: float


@dataclass(frozen=True)
class Rule:
    """Do not take a step where all ``literals`` hold."""

    literals: tuple[Literal, ...]
    evidence: Evidence | None = None

    @property
    def name(self) -> str:
        """The rule in the grammar of literals, the same for the same rule: ``enters(B) & moves(north)``."""
        return " & ".join(sorted(literal.name for literal in self.literals))

    def predicts(self, step: Step) -> bool:
        """Whether it calls the step dangerous."""
        return all(literal.holds(step) for literal in self.literals)


@dataclass(frozen=True)
class Specification:
    """A set of rules, and the text that people and language models read.

    Attributes:
        rules: a step is predicted dangerous if any of them says so; none where a language model wrote only text.
        text: one rule a line.
    """

    rules: tuple[Rule, ...] = ()
    text: str = ""

    def predicts(self, step: Step) -> bool:
        """Whether any rule calls the step dangerous."""
        return any(rule.predicts(step) for rule in self.rules)

    def as_json(self) -> dict[str, Any]:
        """Plain values that ``specification_from_json`` reads."""
        rules = []
        for rule in self.rules:
            each: dict[str, Any] = {"literals": [literal.name for literal in rule.literals]}
            if rule.evidence is not None:
                each["evidence"] = vars(rule.evidence)
            rules.append(each)
        return {"text": self.text, "rules": rules}


def specification_from_json(values: Mapping[str, Any], literals: Mapping[str, Literal]) -> Specification:
    """A specification from plain values: ``{"text": ..., "rules": [{"literals": ["enters(B)", ...]}, ...]}``.

    Args:
        values: as ``Specification.as_json`` gives them; evidence may be absent.
        literals: by name, those that rules may use.
    Raises: ValueError in one line for an unknown literal, an empty rule, or more than ten rules.
    """
    rules = []
    for number, each in enumerate(values.get("rules", ()), 1):
        names = each.get("literals") if isinstance(each, Mapping) else None
        if not isinstance(names, Sequence) or isinstance(names, str) or not names:
            raise ValueError(f'rule {number} must be like {{"literals": ["enters(B)"]}}; got {each!r}.')
        for name in names:
            if name not in literals:
                raise ValueError(f"rule {number}: no literal named {name!r}; known: {', '.join(sorted(literals))}.")
        rules.append(Rule(tuple(literals[name] for name in names), _evidence(number, each.get("evidence"))))
    if len(rules) > MAX_RULES:
        raise ValueError(f"a specification has at most {MAX_RULES} rules; got {len(rules)}.")
    return Specification(tuple(rules), str(values.get("text", "")))


def _evidence(number: int, values: Any) -> Evidence | None:
    try:
        return None if values is None else Evidence(**values)
    except TypeError as error:
        raise ValueError(
            f"rule {number}: evidence needs {', '.join(Evidence.__annotations__)}; got {values}."
        ) from error


class Backend(Protocol):
    """Who proposes plans and learns from their warnings: the built-in learner, or a language model."""

    def propose(self, specification: Specification, first: Board, k: int) -> Sequence[Plan]:
        """``k`` plans for episodes that begin with the board ``first``; the first of them is the best one known.

        A plan is a list of actions, played without looking (an episode ends with its plan); the built-in learner,
        which plans on a clone of the environment, instead gives (T, N, A) bool: by time and node of that clone the
        actions among which one is drawn.
        """

    def reflect(self, specification: Specification, episodes: Sequence[Episode]) -> Specification:
        """The specification after the episodes of one more round; what older rounds showed is the backend's to keep."""
