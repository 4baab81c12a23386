"""Rules as a person reads them."""

from dataclasses import dataclass

import pytest

from saferl.danger.sentences import specification_text
from saferl.danger.specification import Evidence, Rule


@dataclass(frozen=True)
class Said:
    name: str
    phrase: str

    def holds(self, step):
        return False


def rule(*literals, evidence=None):
    return Rule(tuple(Said(*literal) for literal in literals), evidence)


@pytest.mark.parametrize(
    ("literals", "sentence"),
    [
        ([("enters(B)", "the agent enters B")], "Do not enter B"),
        ([("first(B)", "the agent enters B for the first time")], "Do not enter B for the first time"),
        ([("ends(X,corner)", "X ends in a corner")], "Do not let X end in a corner"),
        ([("pushed(X)", "the agent pushes X")], "Do not push X"),
        ([("vanishes(X)", "X vanishes")], "Do not let X vanish"),
        ([("not_clockwise", "the agent does not move clockwise")], "Always move clockwise"),
        ([("absent(S)", "no S is on the board")], "Do not take a step in which no S is on the board"),
        (
            [("absent(S)", "no S is on the board"), ("on(P)", "the agent ends on P")],
            "Do not end on P in a step in which no S is on the board",
        ),
        (
            [("action(up)", "the action is up"), ("late(5)", "the step number is 5 or more")],
            "Do not take a step in which the action is up and the step number is 5 or more",
        ),
    ],
)
def test_a_rule_is_a_sentence(literals, sentence):
    assert specification_text([rule(*literals)]) == f"1. {sentence}\n"


def test_rules_that_differ_in_one_tile_or_direction_are_one_sentence():
    rules = [
        rule(("enters(p)", "the agent enters p")),
        rule(("moves(O,north)", "O moves north")),
        rule(("enters(Q)", "the agent enters Q")),
        rule(("enters(P)", "the agent enters P")),
        rule(("moves(O,south)", "O moves south")),
    ]
    text = "1. Do not enter p, Q or P\n2. Do not let O move north or south\n"
    assert specification_text(rules) == text


def test_evidence_stands_behind_the_sentence():
    one = Evidence(warned=9, matched=9, warned_elsewhere=3, elsewhere=210, posterior=0.994)
    two = Evidence(warned=4, matched=5, warned_elsewhere=3, elsewhere=210, posterior=0.871)
    rules = [
        rule(("enters(p)", "the agent enters p"), evidence=one),
        rule(("enters(q)", "the agent enters q"), evidence=two),
    ]
    assert specification_text(rules[:1]) == ("1. Do not enter p (warned 9 of 9; otherwise 3 of 210; posterior 0.99)\n")
    assert specification_text(rules) == (
        "1. Do not enter p or q (warned 9 of 9, 4 of 5; otherwise 3 of 210; posterior 0.99, 0.87)\n"
    )


def test_no_rule_is_said_too():
    assert specification_text([]).startswith("No rule yet")
