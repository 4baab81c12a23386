"""The vocabulary of rules: visible properties of a step, made from the symbols of the boards and never for one game.

    vocabulary = vocabulary_of(scene, known)     # about 30 to 50 literals
    columns = vocabulary.columns(moments)        # (N, V) bool

A user's own literals: a function that takes a ``Scene`` and returns a list of ``VisibleLiteral``.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import numpy as np

from saferl.danger.agent_literals import actions, contexts, routes, surroundings, tiles
from saferl.danger.moments import Flags, Moments, Property, Scene, moment_of_step
from saferl.danger.object_literals import objects
from saferl.danger.specification import Step

LATE = (5, 10, 20)  # steps
OwnLiterals = Callable[[Scene], "Sequence[VisibleLiteral]"]


@dataclass(frozen=True)
class VisibleLiteral:
    """A property of steps that boards, actions and their order tell.

    Attributes:
        name: in rules written as JSON, ``enters(B)``.
        phrase: in sentences, "the agent enters B".
        of: the property, (N,) bool of N moments.
        scene: of the environment.
        since: for a literal about time, the step number from which it holds; ``of`` must agree.
    """

    name: str
    phrase: str
    of: Property = field(compare=False, repr=False)
    scene: Scene = field(compare=False, repr=False)
    since: int | None = None

    def holds(self, step: Step) -> bool:
        """Whether one step has the property; slow, since it reads the episode so far."""
        return bool(self.of(moment_of_step(self.scene, step))[0])


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The literals that rules of one environment may use."""

    literals: tuple[VisibleLiteral, ...]

    def __len__(self) -> int:
        return len(self.literals)

    @property
    def by_name(self) -> Mapping[str, VisibleLiteral]:
        """The literals by their names."""
        return {literal.name: literal for literal in self.literals}

    def columns(self, moments: Moments) -> Flags:
        """(N, V) whether each literal holds at each moment."""
        return np.stack([literal.of(moments) for literal in self.literals], axis=1)


def vocabulary_of(known: Moments, own: OwnLiterals | None = None, without: Collection[str] = ()) -> Vocabulary:
    """The general literals, without those that never differ on the ``known`` steps or repeat an earlier one there.

    Args:
        known: steps that show what can happen.
        own: a user's literals, which are kept in any case.
        without: names of general literals that are left out, and with them whatever says the same.
    Raises: ValueError if two literals have one name, or for a name in ``without`` that is none.
    """
    scene = known.scene
    kept: list[VisibleLiteral] = [] if own is None else list(own(scene))
    seen = {literal.of(known).tobytes() for literal in kept}
    general = list(general_literals(known))
    unknown = set(without) - {literal.name for literal in general}
    if unknown:
        known_names = ", ".join(literal.name for literal in general)
        raise ValueError(f"there is no literal {sorted(unknown)[0]!r} to leave out here; known: {known_names}.")
    seen |= {literal.of(known).tobytes() for literal in general if literal.name in without}
    for literal in general:
        column = literal.of(known)
        if literal.since is not None:
            kept += [literal] if literal.name not in without else []
        elif column.any() and not column.all() and column.tobytes() not in seen:
            seen.add(column.tobytes())
            kept.append(literal)
    names = [literal.name for literal in kept]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two literals are named {name!r}; give each a name of its own.")
    return Vocabulary(tuple(kept))


def general_literals(known: Moments) -> Iterator[VisibleLiteral]:
    """Every literal of the vocabulary, the plainest first."""
    for name, phrase, of in chain(
        tiles(known), objects(known), routes(known), actions(known), contexts(known), surroundings(known)
    ):
        yield VisibleLiteral(name, phrase, of, known.scene)
    for number in LATE:
        of = partial(_late, number=number)
        yield VisibleLiteral(f"late({number})", f"the step number is {number} or more", of, known.scene, number)


def _late(m: Moments, number: int) -> Flags:
    return np.asarray(m.index >= number)
