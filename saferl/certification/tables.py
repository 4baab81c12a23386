"""What the command prints: episodes needed, candidates, checks."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from saferl.certification.bounds import BOUNDS
from saferl.certification.candidates import Candidate
from saferl.certification.plan import Plan


def plan_table(plan: Plan) -> Table:
    """Episodes of each half by constraint, margin and bound."""
    to = "for a value to be predicted to pass, and to pass," if plan.searched else "to pass"
    title = f"episodes that each half needs, {to} with probability {100 * plan.power:g} %"
    table = _table(title, ("it must hold that", "bound"), ("delta", "margin", "if the truth is", "episodes"))
    last = None
    for need in plan.needs:
        for name, episodes in need.episodes.items():
            first = need.constraint.words if need.constraint is not last else ""
            last = need.constraint
            needed = "more than 10,000,000" if episodes is None else f"{episodes:,}"
            cells = (f"{need.constraint.delta:g}", f"{100 * need.margin:g} %", f"{need.expected:.4g}", needed)
            table.add_row(first, BOUNDS[name].label, *cells)
    return table


def candidates_table(candidates: Sequence[Candidate], parameter: str | None) -> Table:
    """A row for each value of the parameter, None for a policy as it is."""
    title = f"candidate half, {len(candidates[0].episodes)} episodes"
    table = _table(
        title,
        (parameter or "policy",),
        ("mean return", "mean cost", "observed", "predicted bounds", "predicted to pass"),
    )
    for each in candidates:
        bounds = [f"{value:.4g} ({BOUNDS[one.bound].label})" for value, one in zip(each.predicted, each.constraints)]
        table.add_row(
            "as it is" if each.value is None else f"{each.value:g}",
            f"{each.episodes.returns.mean():.4g}",
            f"{each.episodes.costs.mean():.4g}",
            ", ".join(f"{value:.4g}" for value in each.observed),
            ", ".join(bounds),
            "yes" if each.passes else "no",
        )
    return table


def checks_table(facts: Mapping[str, Any]) -> Table:
    """A row for each constraint of a certificate."""
    header = ("limit", "observed", "upper bound", "delta", "episodes", "passed")
    table = _table(f"{facts['half']} half", ("it must hold that", "bound"), header)
    for check in facts["checks"]:
        upper = "none" if check["upper_bound"] is None else f"{check['upper_bound']:.4g}"
        cells = (f"{check['limit']:g}", f"{check['mean']:.4g}", upper, f"{check['delta']:g}", f"{check['episodes']:,}")
        passed = "yes" if check["passed"] else "no"
        table.add_row(check["constraint"], BOUNDS[check["bound"]].label, *cells, passed)
    return table


def _table(title: str, words: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for column in words:
        table.add_column(column)
    for column in numbers:
        table.add_column(column, justify="right")
    return table
