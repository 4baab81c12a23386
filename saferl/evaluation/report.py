"""An evaluation as numbers for eval.json and as tables for people."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from saferl.evaluation.rollout import Episodes
from saferl.evaluation.scores import Reference, normalised_return, verdict
from saferl.evaluation.statistics import estimate, paired_difference, rate_interval

Facts = dict[str, Any]


def evaluation_facts(episodes: Episodes, reference: Reference | None, limits: Sequence[float]) -> Facts:
    """Everything that is known from some episodes, as plain values.

    Args:
        episodes: of one policy.
        reference: what is 0 and 1 of the normalised return; None leaves it out.
        limits: of the cost of an episode.
    Returns: "return", "cost", "violations", "length" (and "normalised_return") with the fields of ``Estimate``;
        "violation_rate" (and "success_rate") with rate, low, high; "limits"; "per_episode".
    """
    samples = {
        "return": episodes.returns,
        "cost": episodes.costs,
        "violations": episodes.violations,
        "length": episodes.lengths,
    }
    if reference is not None:
        samples["normalised_return"] = normalised_return(episodes.returns, reference)
    estimates = {name: estimate(values) for name, values in samples.items()}
    facts: Facts = {name: each.as_dict() for name, each in estimates.items()}
    facts["violation_rate"] = _rate(episodes.violations > 0)
    if episodes.successes is not None:
        facts["success_rate"] = _rate(episodes.successes)
    facts["reference"] = None if reference is None else asdict(reference)
    verdicts = [verdict(estimates["cost"], limit) for limit in limits]
    facts["limits"] = [{**asdict(each), "verdict": each.word} for each in verdicts]
    facts["per_episode"] = {
        "seeds": episodes.seeds.tolist(),
        "returns": episodes.returns.tolist(),
        "costs": episodes.costs.tolist(),
        "violations": episodes.violations.tolist(),
        "lengths": episodes.lengths.tolist(),
        "successes": None if episodes.successes is None else episodes.successes.tolist(),
    }
    return facts


def _rate(happened: np.ndarray) -> dict[str, float]:
    low, high = rate_interval(int(happened.sum()), len(happened))
    return {"rate": float(happened.mean()), "low": low, "high": high}


def pooled_facts(runs: Sequence[Facts], limits: Sequence[float]) -> Facts:
    """One policy's evaluations over several training seeds as one: intervals are over seeds and episodes."""
    facts: Facts = {"pooled": len(runs)}
    reference = runs[0]["reference"]
    for name, key in (("return", "returns"), ("cost", "costs"), ("violations", "violations"), ("length", "lengths")):
        facts[name] = estimate([run["per_episode"][key] for run in runs]).as_dict()
    if all(run["reference"] == reference for run in runs) and reference is not None:
        scores = [normalised_return(run["per_episode"]["returns"], Reference(**reference)) for run in runs]
        facts["normalised_return"] = estimate(scores).as_dict()
    facts["violation_rate"] = _rate(np.concatenate([run["per_episode"]["violations"] for run in runs]) > 0)
    if all("success_rate" in run for run in runs):
        facts["success_rate"] = _rate(np.concatenate([run["per_episode"]["successes"] for run in runs]))
    cost = estimate([run["per_episode"]["costs"] for run in runs])
    facts["limits"] = [{**asdict(each := verdict(cost, limit)), "verdict": each.word} for limit in limits]
    return facts


_ROWS = (
    ("return", "return"),
    ("normalised_return", "normalised return"),
    ("cost", "cost"),
    ("violations", "violations (steps with cost)"),
    ("length", "length (steps)"),
)
_RATES = (("violation_rate", "episodes with a violation"), ("success_rate", "episodes that reach the goal"))


def single_table(title: str, facts: Facts) -> Table:
    """The table of one policy: a row for each quantity."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for column in ("per episode", "mean", "95 % interval", "interquartile mean", "its interval"):
        table.add_column(column, justify="left" if column == "per episode" else "right")
    for key, label in _ROWS:
        if key in facts:
            each = facts[key]
            mean, iqm = _number(each["mean"]), _number(each["iqm"])
            table.add_row(label, mean, _span(each["low"], each["high"]), iqm, _span(each["iqm_low"], each["iqm_high"]))
    for key, label in _RATES:
        if key in facts:
            each = facts[key]
            table.add_row(label, _percent(each["rate"]), f"[{_percent(each['low'])}, {_percent(each['high'])}]")
    for each in facts["limits"]:
        table.add_row(f"at cost limit {each['limit']:g}: {each['verdict']}", _number(each["normalised_cost"]))
    for each in facts.get("feasible_region", []):
        table.add_row(f"IoU at {each['speed']:g} m/s, {np.degrees(each['heading']):.0f}°", f"{each['iou']:.3f}")
    return table


def comparison_table(title: str, policies: Mapping[str, Facts]) -> Table:
    """The table of several policies: a row for each.

    Rows of one seed beside its setting's mean (facts with "pooled") show means only; all others their intervals too.
    """
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    everything = list(policies.values())
    table.add_column("policy", overflow="fold")
    columns = [key for key, _ in _ROWS[:4] if all(key in facts for facts in everything)]
    if all(facts["violations"]["mean"] == facts["cost"]["mean"] for facts in everything):
        columns.remove("violations")  # every cost is 0 or 1
    headers = {"normalised_return": "normalised"}
    for key in columns:
        table.add_column(headers.get(key, key), justify="right")
    rates = [key for key, _ in _RATES if all(key in facts for facts in everything)]
    for key in rates:
        table.add_column(
            {"violation_rate": "episodes with violation", "success_rate": "reach goal"}[key], justify="right"
        )
    for each in everything[0]["limits"]:
        table.add_column(f"cost / limit {each['limit']:g}" if each["limit"] else "cost limit 0", justify="right")
    maps = [facts["feasible_region"] for facts in everything if "feasible_region" in facts]
    slices: list[dict[str, float]] = maps[0] if maps else []
    for each in slices:
        table.add_column(f"IoU {each['speed']:g} m/s", justify="right")
    pooled = any("pooled" in facts for facts in everything)
    for name, facts in policies.items():
        brief = pooled and "pooled" not in facts
        cells = [_cell(facts[key], facts[key]["mean"], _number, brief) for key in columns]
        cells += [_cell(facts[key], facts[key]["rate"], _percent, brief) for key in rates]
        for each in facts["limits"]:
            cells.append(f"{_number(each['normalised_cost'])} {each['verdict']}" if each["limit"] else each["verdict"])
        cells += [f"{each['iou']:.3f}" for each in facts.get("feasible_region", [])]
        table.add_row(name, *cells, style="bold" if "pooled" in facts else None)
    return table


def _cell(each: Mapping[str, float], value: float, written: Callable[[float], str], brief: bool) -> str:
    return written(value) if brief else f"{written(value)}\n[{written(each['low'])}, {written(each['high'])}]"


def difference_table(title: str, policies: Mapping[str, Sequence[Facts]]) -> Table:
    """Return and cost of each policy minus those of the first one, paired by the episodes' seeds.

    Args:
        title: above the table.
        policies: name to its evaluations, one per training seed, which are averaged episode by episode.
    """

    def per_episode(runs: Sequence[Facts], key: str) -> np.ndarray:
        return np.mean([run["per_episode"][key] for run in runs], axis=0)  # (E,)

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    names = list(policies)
    for column in ("policy", "return", "95 % interval", "cost", "95 % interval"):
        table.add_column(column, justify="left" if column == "policy" else "right")
    for name in names[1:]:
        cells: list[str] = []
        for key in ("returns", "costs"):
            each = paired_difference(per_episode(policies[name], key), per_episode(policies[names[0]], key))
            cells += [f"{each.mean:+.3g}", _span(each.low, each.high)]
        table.add_row(name, *cells)
    return table


def show(*tables: Table) -> None:
    """Print tables on standard output."""
    console = Console()
    if console.is_terminal:
        for table in tables:
            console.print(table)
    else:
        print(as_text(*tables), end="")


def as_text(*tables: Table) -> str:
    """Tables as plain text, 140 columns wide."""
    buffer = io.StringIO()
    console = Console(file=buffer, width=140)
    for table in tables:
        console.print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _span(low: float, high: float) -> str:
    return f"[{_number(low)}, {_number(high)}]"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
