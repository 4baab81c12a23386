"""Audit of a learned feasible region against the true one: overlap, and the rates of its two errors, with intervals.

Sign convention: a value > 0 calls a state infeasible (no control avoids a violation), as in ``saferl.reachability``.
The number that matters is the false-safe rate: of the truly infeasible states, the share that the learned value calls
safe. A false alarm (called infeasible, truly feasible) costs reward only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich import box
from rich.table import Table

from saferl.evaluation.statistics import rate_interval

NEAR = 0.1  # |V| in the unit of h, below which a state counts as close to the border

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Rate:
    """A share: ``count`` of ``total``; all but these are None where there is nothing to count."""

    count: int
    total: int
    rate: float | None
    low: float | None  # exact (Clopper-Pearson) 95 % interval; None also for a lattice, which is no random sample
    high: float | None

    @classmethod
    def of(cls, happened: Mask, among: Mask, sampled: bool = True) -> "Rate":
        """The share of ``among`` (N,) where ``happened`` (N,)."""
        count, total = int((happened & among).sum()), int(among.sum())
        low, high = rate_interval(count, total) if sampled and total else (None, None)
        return cls(count, total, count / total if total else None, low, high)


@dataclass(frozen=True)
class RegionAudit:
    """The agreement over one set of states."""

    name: str
    infeasible: Rate  # truly infeasible, of all states
    iou: Rate  # states infeasible in both, of those infeasible in either: intersection over union
    false_safe: Rate  # learned safe, of the truly infeasible: the dangerous error
    false_unsafe: Rate  # learned infeasible, of the truly feasible: a false alarm

    def as_facts(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Audit:
    """The agreement overall and by region."""

    overall: RegionAudit
    regions: tuple[RegionAudit, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def audit(
    learned: ArrayLike,
    truth: ArrayLike,
    regions: Mapping[str, ArrayLike] | None = None,
    *,
    name: str = "all states",
    sampled: bool = True,
) -> Audit:
    """Compare a learned infeasible set with the true one, over states that someone has drawn.

    Args:
        learned, truth: (N,) values (> 0 infeasible) or masks (true infeasible) at the same N states.
        regions: name to mask (N,) of the states that it holds.
        name: of all states together.
        sampled: whether the states are a random sample; False (a lattice) leaves the intervals out.
    Raises: ValueError for shapes that differ, no states, or values that are not finite.
    """
    said, true = infeasible_mask(learned, "learned"), infeasible_mask(truth, "truth")
    if said.shape != true.shape or not len(said):
        raise ValueError(f"learned and truth must be (N,) of one N >= 1; got {said.shape} and {true.shape}.")
    parts = []
    for title, mask in {name: np.ones(len(said), np.bool_), **(regions or {})}.items():
        inside = np.asarray(mask)
        if inside.shape != said.shape or inside.dtype != np.bool_:
            raise ValueError(f"region {title!r} must be a mask of shape {said.shape}; got {inside.shape}.")
        parts.append(
            RegionAudit(
                title,
                infeasible=Rate.of(true, inside, sampled),
                iou=Rate.of(said & true, inside & (said | true), sampled),
                false_safe=Rate.of(~said, inside & true, sampled),
                false_unsafe=Rate.of(said, inside & ~true, sampled),
            )
        )
    return Audit(parts[0], tuple(parts[1:]))


def infeasible_mask(values: ArrayLike, name: str = "values") -> Mask:
    """Where values (N,) are > 0; a mask comes back as it is. Raises: ValueError for other shapes, or nan."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} must have shape (N,); got {array.shape}.")
    if array.dtype == np.bool_:
        return array
    if not np.isfinite(array).all():
        raise ValueError(f"{name} is not finite at {int((~np.isfinite(array)).sum())} of {len(array)} states.")
    return np.asarray(array > 0)


def border_regions(values: ArrayLike, margins: ArrayLike, near: float = NEAR) -> dict[str, Mask]:
    """Regions by the true value V (N,) and the constraint h (N,): close to the border and beyond, not yet violating."""
    v, h = np.asarray(values), np.asarray(margins)
    return {
        "no violation yet (h <= 0)": h <= 0,
        f"close to the border (|V| < {near:g} m)": np.abs(v) < near,
        "farther away": np.abs(v) >= near,
    }


def speed_regions(speeds: ArrayLike, edges: Sequence[float]) -> dict[str, Mask]:
    """Bins of speeds (N,), m/s, between ``edges``; each holds its lower edge, the last one both."""
    v, last = np.asarray(speeds), len(edges) - 2
    return {
        f"{low:g} to {high:g} m/s": (v >= low) & ((v < high) | ((index == last) & (v <= high)))
        for index, (low, high) in enumerate(pairwise(edges))
    }


def audit_table(title: str, facts: Mapping[str, Any]) -> Table:
    """The table of an audit's facts (``run_audit``): a row for each region of each set of states."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for column in ("states", "number", "truly infeasible", "IoU", "false safe", "false alarm"):
        table.add_column(column, justify="left" if column == "states" else "right")
    for sample in facts["samples"]:
        for index, each in enumerate((sample["overall"], *sample["regions"])):
            cells = [_cell(each[key]) for key in ("infeasible", "iou", "false_safe", "false_unsafe")]
            name = each["name"] if index == 0 else f"  {each['name']}"
            table.add_row(name, f"{each['infeasible']['total']:,}", cells[0].partition(" [")[0], *cells[1:])
        table.add_section()
    return table


def _cell(rate: Mapping[str, Any]) -> str:
    if rate["rate"] is None:
        return "-"
    if rate["low"] is None:
        return f"{100 * rate['rate']:.1f} %"
    return f"{100 * rate['rate']:.1f} % [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"
