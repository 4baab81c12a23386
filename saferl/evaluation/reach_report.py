"""A reachability value as numbers: how much of the box is safe, what reachability adds, and a table for people."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from saferl.evaluation.reach_figures import name_and_unit
from saferl.reachability import Grid, Value

NodeValues = NDArray[Any] | None  # (n_1, ..., n_d), h or l


@dataclass(frozen=True)
class Share:
    """Part of the box, by nodes: ``share`` of it, and its ``volume`` in the product of the states' units."""

    meaning: str
    share: float
    volume: float


def shares(value: Value, constraint: NodeValues, target: NodeValues, limit: Value | None = None) -> list[Share]:
    """How much of the box is safe (V <= 0), how much looks it, and what looks it and is not, or is and does not.

    Args:
        value: V.
        constraint, target: h and l at the nodes; not both None.
        limit: the undiscounted value; None adds nothing.
    Returns: for avoid V <= 0, h <= 0, and h <= 0 < V; for reach V <= 0, l <= 0, and V <= 0 < l; for reach-avoid V <= 0,
        l <= 0 and h <= 0 together, h <= 0, and h <= 0 < V; with a limit, where that is <= 0, last.
    """
    good = value.values <= 0
    if target is None:
        assert constraint is not None
        clear = constraint <= 0
        sets = {"safe: V <= 0": good, "looks safe: h <= 0": clear, "looks safe and is not: h <= 0 < V": clear & ~good}
    elif constraint is None:
        there = target <= 0
        sets = {
            "reaches the target: V <= 0": good,
            "is there: l <= 0": there,
            "is not there and reaches it: V <= 0 < l": good & ~there,
        }
    else:
        clear = constraint <= 0
        sets = {
            "reaches the target safely: V <= 0": good,
            "is there: l <= 0 and h <= 0": clear & (target <= 0),
            "looks safe: h <= 0": clear,
            "looks safe and does not reach it safely: h <= 0 < V": clear & ~good,
        }
    if limit is not None:
        sets["V <= 0 without the discount"] = limit.values <= 0
    whole = math.prod(high - low for low, high in zip(value.grid.low, value.grid.high))
    return [Share(name, float(np.mean(each)), float(np.mean(each)) * whole) for name, each in sets.items()]


def hidden_unviolated(value: Value, limit: Value, constraint: NodeValues) -> dict[str, float]:
    """What a user of a discounted value loses: of the states that are lost but look safe (h <= 0 < limit), the share
    that the value calls safe, as "hidden_unviolated"; nothing without h or where there are no such states.
    """
    lost = limit.values > 0
    if constraint is None or not (lost := lost & (constraint <= 0)).any():
        return {}
    return {"hidden_unviolated": float(np.mean(value.values[lost] <= 0))}


def volume_unit(states: Sequence[str]) -> str:
    """The unit of a volume: "m^2 rad" for x [m], y [m], heading [rad]; states without a unit count for nothing."""
    units = Counter(unit for unit in (name_and_unit(state)[1] for state in states) if unit)
    named = {unit if count == 1 else f"({unit})" if "/" in unit else unit: count for unit, count in units.items()}
    return " ".join(unit if count == 1 else f"{unit}^{count}" for unit, count in named.items())


def reach_facts(value: Value, parts: Sequence[Share], seconds: float) -> dict[str, Any]:
    """Everything of the table as plain values for JSON: "shares", "seconds", and the facts of the solver."""
    return {"shares": [asdict(each) for each in parts], "seconds": seconds, **value.facts}


def reach_table(title: str, value: Value, parts: Sequence[Share], seconds: float, unit: str) -> Table:
    """The table that the command prints.

    Args:
        title: above it.
        value: V; its facts say how it was computed.
        parts: as ``shares`` gives them.
        seconds: s, time of the computation.
        unit: of h.
    """
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", min_width=max(60, len(title)))
    table.add_column("")
    table.add_column("of the box", justify="right")
    states = () if value.system is None else value.system.states
    table.add_column(volume_unit(states) or "volume", justify="right")
    for each in parts:
        table.add_row(each.meaning, f"{each.share:.2%}", f"{each.volume:.4g}")
    table.add_section()
    for name, text in _solver_rows(value.facts, unit):
        table.add_row(name, text, "")
    table.add_row("seconds", f"{seconds:.1f}", "")
    return table


def _solver_rows(facts: Mapping[str, Any], unit: str) -> list[tuple[str, str]]:
    if "steps" in facts:
        last = "at rest" if facts["at_rest"] else f"{facts['rate']:.2g} {unit}/s"
        return [("steps", str(facts["steps"])), ("fastest change of V at the end", last)]
    rows = [("sweeps", str(facts["sweeps"]))]
    if facts.get("bound") is not None:
        rows.append(("distance to the fixed point, at most", f"{facts['bound']:.2g} {unit}"))
    else:
        rows.append(("change in the last sweep", f"{facts['change']:.2g} {unit}"))
    if "discount_bias" in facts:
        bias = facts["discount_bias"]
        if bias["refused"] > bias["hidden"]:  # where something is to be reached
            rows.append(("refused by the discount: of the safe", f"{bias['refused']:.2%}"))
        else:
            rows.append(("hidden by the discount: of the unsafe", f"{bias['hidden']:.2%}"))
        if "hidden_unviolated" in bias:
            rows.append(("hidden by the discount: of the unsafe with h <= 0", f"{bias['hidden_unviolated']:.2%}"))
        rows.append(("V without the discount minus V, mean", f"{bias['mean']:.2g} {unit}"))
    return rows


def remarks(value: Value, constraint: NodeValues, target: NodeValues) -> list[str]:
    """What a reader should know about a result that is not what it seems: one line each."""
    lines, facts = [], value.facts
    if constraint is not None and not (constraint > 0).any():
        lines.append("h <= 0 at every node: there is nothing to avoid on this grid.")
    if constraint is not None and (constraint > 0).all():
        lines.append("h > 0 at every node: no state of this grid is safe.")
    if target is not None and not (target <= 0).any():
        lines.append("l > 0 at every node: the target holds no node of this grid, so nothing reaches it.")
    if facts.get("converged") is False:
        lines.append("the sweeps ended before the tolerance was met; raise max_sweeps or tolerance.")
    return lines


def grid_words(grid: Grid) -> str:
    """A grid for people: "101 x 101 = 10,201 nodes"."""
    return f"{' x '.join(map(str, grid.shape))} = {grid.size:,} nodes" if grid.ndim > 1 else f"{grid.size:,} nodes"
