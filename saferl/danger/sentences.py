"""Rules as sentences that a person reads, with the evidence behind them."""

import re
from collections.abc import Sequence
from itertools import groupby

from saferl.danger.specification import Evidence, Literal, Rule

NOTHING = "No rule yet: nothing that was seen explains the warnings better than chance.\n"


def specification_text(rules: Sequence[Rule]) -> str:
    """One numbered sentence a line, with its evidence.

    Rules that differ in one tile or direction only become one sentence: "Do not enter p, P, q or Q".
    """
    if not rules:
        return NOTHING
    lines = []
    for number, group in enumerate(_merged(rules), 1):
        told = [rule.evidence for rule in group if rule.evidence is not None]
        lines.append(f"{number}. {_sentence(group)}{_evidence(told)}")
    return "\n".join(lines) + "\n"


def _merged(rules: Sequence[Rule]) -> list[list[Rule]]:
    """Rules with one literal of the same family, in groups; every other rule by itself."""

    def family(rule: Rule) -> str:
        (literal, *more) = rule.literals
        pattern = _pattern(literal)
        return pattern if not more and pattern != literal.name else rule.name

    order = [family(rule) for rule in rules]
    together = sorted(rules, key=lambda rule: order.index(family(rule)))
    return [list(group) for _, group in groupby(together, family)]


def _pattern(literal: Literal) -> str:
    """The name with its last argument left out: ``moves(O,north)`` is ``moves(O,*)``."""
    return re.sub(r"([^(,]+)\)$", "*)", literal.name)


def _sentence(group: Sequence[Rule]) -> str:
    literals = list(group[0].literals)
    main = next((each for each in literals if _command(each.phrase) is not None), None)
    if main is None:
        return f"Do not take a step in which {' and '.join(each.phrase for each in literals)}"
    literals.remove(main)
    condition = f" in a step in which {' and '.join(each.phrase for each in literals)}" if literals else ""
    phrase = main.phrase
    if len(group) > 1:
        phrase = _joined([rule.literals[0] for rule in group])
    command = _command(phrase)
    assert command is not None
    return command + condition


def _joined(literals: Sequence[Literal]) -> str:
    """One phrase for literals that differ in their last argument: "the agent enters p, P or q"."""
    arguments = [re.sub(r".*[(,]([^(,]+)\)$", r"\1", literal.name) for literal in literals]
    listed = f"{', '.join(arguments[:-1])} or {arguments[-1]}"
    words = literals[0].phrase.split(" ")
    place = max((i for i, word in enumerate(words) if word == arguments[0]), default=None)
    if place is None:
        return " or ".join([literals[0].phrase, *(each.phrase for each in literals[1:])])
    return " ".join([*words[:place], listed, *words[place + 1 :]])


def _command(phrase: str) -> str | None:
    """The phrase as something to avoid: "Do not enter B", "Do not let X end in a corner"; None where it can't be."""
    subject, predicate = (
        ("", phrase.removeprefix("the agent ")) if phrase.startswith("the agent ") else phrase.split(" ", 1)
    )
    if predicate.startswith("does not "):
        return f"Always {predicate.removeprefix('does not ')}"
    if (subject and len(subject) > 1) or not re.match(r"(?!is |was )\w+s ", f"{predicate} "):
        return None
    verb, _, rest = predicate.partition(" ")
    bare = verb.removesuffix("es") if verb.endswith("shes") else verb.removesuffix("s")
    doing = f"{bare} {rest}".strip()
    return f"Do not let {subject} {doing}" if subject else f"Do not {doing}"


def _evidence(told: Sequence[Evidence]) -> str:
    if not told:
        return ""
    warned = ", ".join(f"{each.warned} of {each.matched}" for each in told)
    posterior = ", ".join(f"{each.posterior:.2f}" for each in told)
    elsewhere = f"{told[0].warned_elsewhere} of {told[0].elsewhere}"
    return f" (warned {warned}; otherwise {elsewhere}; posterior {posterior})"
