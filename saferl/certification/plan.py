"""What a test by rollouts will cost: the episodes of each half, before any is spent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from saferl.certification.candidates import AUTOMATIC, INFLATION
from saferl.certification.episodes_needed import episodes_needed
from saferl.certification.gate import Constraint
from saferl.command_line import UsageError

MARGINS = (0.25, 0.5, 0.75, 1.0)  # of the table
MOST_UNASKED = 4_000  # episodes of a half that are spent without being asked for by number


@dataclass(frozen=True)
class Need:
    """Episodes of the test half that one constraint needs at one margin, by bound; None: no number is enough."""

    constraint: Constraint
    margin: float
    expected: float
    episodes: dict[str, int | None]

    @property
    def least(self) -> int | None:
        """Those of the best bound."""
        return min((each for each in self.episodes.values() if each is not None), default=None)


@dataclass(frozen=True)
class Plan:
    """Episodes of a half, and what they are needed for.

    Attributes:
        half: episodes of each half.
        needs: of every constraint, by rising margin.
        margin: at which ``half`` was chosen, None if it was given.
        power: probability to pass at the margin.
        searched: whether that is the probability to be predicted to pass, and to pass.
    """

    half: int
    needs: tuple[Need, ...]
    margin: float | None
    power: float
    searched: bool

    def as_facts(self) -> dict[str, Any]:
        """Plain values for JSON."""
        rows = [
            {
                "constraint": need.constraint.words,
                "delta": need.constraint.delta,
                "margin": need.margin,
                "expected": need.expected,
                "episodes": need.episodes,
            }
            for need in self.needs
        ]
        return {
            "episodes_of_each_half": self.half,
            "margin": self.margin,
            "power": self.power,
            "searched": self.searched,
            "needs": rows,
        }


def plan_of(
    constraints: Sequence[Constraint],
    free: Sequence[bool],
    margin: float,
    power: float,
    episodes: int | None,
    searched: bool = False,
) -> Plan:
    """The plan of a test.

    Args:
        constraints: at least one.
        free: whether the bound of each is chosen on the candidate half; the best one then counts.
        margin: by what share of its limit the truth is expected below it.
        power: wanted probability that all constraints pass if it is, however they depend on each other.
        searched: whether a parameter is tuned, so that the candidate half must predict that its value will pass.
        episodes: of both halves together; None takes what the margin needs.
    Raises: UsageError if no number of episodes is enough, or so many that they must be asked for.
    """
    margins = sorted({*MARGINS, margin})
    own = 1 - (1 - power) / len(constraints)
    needs = [
        _need(constraint, choosable, each, own, INFLATION if searched else None)
        for constraint, choosable in zip(constraints, free)
        for each in margins
    ]
    if episodes is not None:
        return Plan(episodes // 2, tuple(needs), None, power, searched)
    wanted = [need for need in needs if need.margin == margin]
    for need in wanted:
        if need.least is None:
            raise UsageError(
                f"{need.constraint.words}: no number of episodes up to ten million shows it at a margin of "
                f"{100 * margin:g} %; take a greater margin=, delta= or limit."
            )
    half = max(need.least or 0 for need in wanted)
    plan = Plan(max(half, 2), tuple(needs), margin, power, searched)
    if half > MOST_UNASKED:
        raise UsageError(
            f"the test needs {half:,} episodes at a margin of {100 * margin:g} %, and as many to choose with: ask for "
            f"them by episodes={2 * half}, or expect a greater distance from the limit by margin=; plan=true shows the "
            "episodes for several margins."
        )
    return plan


def _need(constraint: Constraint, choosable: bool, margin: float, power: float, inflation: float | None) -> Need:
    expected = (1 - margin) * constraint.limit
    names = AUTOMATIC if choosable else (constraint.bound,)
    episodes = {
        name: episodes_needed(
            name,
            constraint.delta,
            constraint.limit,
            expected,
            high=max(constraint.high, expected),
            power=power,
            inflation=inflation,
        )
        for name in names
    }
    return Need(constraint, margin, expected, episodes)
