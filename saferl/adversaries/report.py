"""What a comparison of attacks says: tables, findings and the one-page report."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from scipy import stats

from saferl.adversaries.catalogue import ADVERSARIES
from saferl.evaluation.report import Facts, as_text, comparison_table
from saferl.evaluation.statistics import CONFIDENCE, RESAMPLES, paired_difference

KEPT = 0.9  # an attack is stealthy while this share of the clean reward is left


def label(facts: Facts) -> str:
    """How a row is called."""
    return "no attack" if facts["eps"] == 0 else f"{facts['adversary']}, eps {facts['eps']:g}"


def reward_kept(attacked: Facts, clean: Facts) -> tuple[float, float, float] | None:
    """Stealth: the share of the clean return that is left, with its paired bootstrap interval.

    (R - R_min) / (R_clean - R_min) with the reference's R_min where there is a reference, else R / R_clean.

    Returns: (share, low, high); None where the clean return is not above R_min (0 without a reference), so that a
        share means nothing.
    """
    reference = clean["reference"]
    least = 0.0 if reference is None else reference["min_return"]
    before = np.asarray(clean["per_episode"]["returns"]) - least
    after = np.asarray(attacked["per_episode"]["returns"]) - least
    if before.mean() <= 0:
        return None
    share = float(after.mean() / before.mean())
    if len(before) < 2:
        return share, share, share
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = stats.bootstrap(
            (after, before),
            lambda a, b, axis: a.mean(axis=axis) / b.mean(axis=axis),
            paired=True,
            vectorized=True,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
    return share, float(drawn.low), float(drawn.high)


def attack_tables(results: Sequence[Facts], title: str) -> list[Table]:
    """Two tables: what the episodes were, and how strong and how stealthy each attack is against the clean victim."""
    clean = results[0]
    count = len(clean["per_episode"]["returns"])
    first = comparison_table(
        f"{title}, {count} episodes, mean and 95 % interval", {label(each): each for each in results}
    )
    second = Table(title="against the clean victim, paired by start", box=box.SIMPLE_HEAD, title_justify="left")
    second.add_column("adversary")
    columns = [
        "reward kept", "return added", "cost added", "target reached", "questions / step", "questions to train",
        "attacked / s",
    ]  # fmt: skip
    shown = [name for name in columns if _worth_showing(name, results)]
    for name in shown:
        second.add_column(name, justify="right")
    for each in results[1:]:
        cells = {
            "reward kept": _share(reward_kept(each, clean)),
            "return added": _difference(each, clean, "returns"),
            "cost added": _difference(each, clean, "costs"),
            "target reached": _rate(each.get("target")),
            "questions / step": f"{each['queries'] / max(each['attacked_observations'], 1):.0f}",
            "questions to train": f"{each.get('queries_training', 0):,}",
            "attacked / s": f"{each['attacked_observations'] / max(each['seconds']['adversary'], 1e-9):,.0f}",
        }
        second.add_row(label(each), *(cells[name] for name in shown))
    return [first, second]


def _worth_showing(column: str, results: Sequence[Facts]) -> bool:
    if column == "target reached":
        return "target" in results[0]
    if column in ("reward kept", "return added"):
        return (column == "reward kept") == (reward_kept(results[1], results[0]) is not None)
    asked = {"questions / step": "queries", "questions to train": "queries_training"}
    return column not in asked or any(each.get(asked[column], 0) for each in results)


def _share(kept: tuple[float, float, float] | None) -> str:
    if kept is None:
        return "-"
    return f"{100 * kept[0]:.0f} %\n[{100 * kept[1]:.0f}, {100 * kept[2]:.0f}]"


def _difference(attacked: Facts, clean: Facts, key: str) -> str:
    each = paired_difference(attacked["per_episode"][key], clean["per_episode"][key])
    return f"{each.mean:+.3g}\n[{each.low:.3g}, {each.high:.3g}]"


def _rate(rate: dict[str, Any] | None) -> str:
    return "-" if rate is None else f"{100 * rate['rate']:.0f} %\n[{100 * rate['low']:.0f}, {100 * rate['high']:.0f}]"


def findings(results: Sequence[Facts]) -> list[str]:
    """What the numbers say, in sentences."""
    clean, attacked = results[0], results[1:]
    limit, costs = clean["limits"][0]["limit"], clean["per_episode"]["costs"]
    cost = clean["cost"]["mean"]
    lines = [f"Clean: return {clean['return']['mean']:.3g}, cost {cost:.3g} (limit {limit:g})."]
    if cost <= limit:
        lines.append(f"Over the limit under: {_listed([each for each in attacked if each['cost']['mean'] > limit])}.")
    else:
        lines.append("The clean victim is over the limit already, so only what an attack adds tells something.")
    added = [(each, paired_difference(each["per_episode"]["costs"], costs)) for each in attacked]
    certain = [each for each, difference in added if difference.low > 0]
    lines.append(f"Cost is added, the interval above 0, by: {_listed(certain)}.")
    kept = {label(each): reward_kept(each, clean) for each in certain}
    stealthy = [each for each in certain if (share := kept[label(each)]) is not None and share[0] >= KEPT]
    if certain:
        lines.append(f"Of these with {100 * KEPT:.0f} % of the reward kept or more: {_listed(stealthy)}.")
    return lines


def _listed(results: Sequence[Facts]) -> str:
    """Adversaries with their radii: "mc (0.1, 0.2), mr (0.2)"."""
    radii: dict[str, list[str]] = {}
    for each in results:
        radii.setdefault(each["adversary"], []).append(f"{each['eps']:g}")
    return ", ".join(f"{name} ({', '.join(values)})" for name, values in radii.items()) or "none"


def report_text(results: Sequence[Facts], title: str, settings: dict[str, Any], pictures: Sequence[str]) -> str:
    """The page as Markdown."""
    about = results[-1]["about"]
    names = list(dict.fromkeys(each["adversary"] for each in results[1:]))
    ball = "each dimension by itself (l-infinity)" if settings["norm"] == "linf" else "Euclidean (l2)"
    lines = [
        f"# Attacks on {title}",
        "",
        *[f"- {line}" for line in findings(results)],
        "",
        "## Threat",
        "",
        f"What the victim sees may be shifted by eps, {ball}, in normalised units: {about['units']}.",
        "The true state is never touched, and all adversaries meet the same starts.",
    ]
    if about["constant_dimensions"]:
        lines.append(f"{about['constant_dimensions']} dimensions never vary and can't be perturbed.")
    if "critics" in about:
        lines += ["", f"Critics: {about['critics']}. {_quality(about['critics_agreement'])}"]
    for each in results:
        if "intention" in each:
            own = _rate(each["intention"]).replace("\n", " ")
            lines += ["", f"RAT's intention, eps {each['eps']:g}: acting by itself it shows the target in {own}."]
    lines += ["", "## Numbers", "", "```", as_text(*attack_tables(results, title)).rstrip(), "```", ""]
    lines += [f"![{name}]({name})" for name in pictures]
    if failure := results[0].get("filmed", {}).get("failure"):
        lines += ["", f"No film of the robot: {failure}"]
    lines += ["", "## Adversaries", "", *[f"- `{name}`: {ADVERSARIES[name].about}" for name in names], ""]
    return "\n".join(lines)


def _quality(agreement: dict[str, float]) -> str:
    """How well critics rank the clean steps, in a sentence."""
    words = [
        f"{name} {value:.2f}" if value == value else f"{name} none (nothing to tell apart)"
        for name, value in agreement.items()
    ]
    return f"Rank correlation with what clean episodes brought: {', '.join(words)}."
