"""The picture of a guardian: scores with the threshold, and what it covers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from saferl.evaluation.figures import BLUE, GREEN, GREY, ORANGE, VERMILLION, new_figure
from saferl.guardians.coverage import Coverage
from saferl.guardians.guardian import Guardian

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = {"reference": GREY, "held_out": BLUE, "random_actions": ORANGE, "far": VERMILLION}
_SHOWN = 0.995  # share of the scores of recorded pairs that the axis of scores holds


def guardian_figure(
    guardian: Guardian, report: Mapping[str, Coverage], visited: Mapping[str, Mapping[str, Any]] | None = None
) -> "Figure":
    """Left: densities of the scores. Right: shares that are supported, with 95 % intervals.

    Args:
        guardian: whose threshold is drawn.
        report: of ``coverage_report``.
        visited: name of a policy to ``share``, ``low``, ``high`` of its visited pairs that are outside.
    """
    figure = new_figure(2, 1, 5.4, 3.2)
    scores, shares = figure.axes
    recorded = np.concatenate([report["reference"].scores, report["held_out"].scores])
    low, high = np.quantile(recorded, [1 - _SHOWN, _SHOWN])
    low = min(low, guardian.threshold) - 0.5 * (high - low) - 1e-6
    bins = np.linspace(low, high + 1e-6, 60).tolist()
    for key, each in report.items():
        clipped = np.clip(each.scores.astype(np.float64), bins[0], bins[-1])
        scores.hist(clipped, bins, density=True, histtype="step", color=_COLOURS[key], label=each.name, linewidth=1.3)
    scores.axvline(guardian.threshold, color=GREEN, linestyle="--", linewidth=1.2, label="threshold")
    scores.set_xlabel("score (what is beyond the axis is in its last bin)", fontsize=8)
    scores.set_yscale("log")
    scores.set_ylabel("density", fontsize=8)
    scores.set_ylim(top=200 * scores.get_ylim()[1])  # room for the legend
    scores.legend(fontsize=7, frameon=False, loc="upper left")
    rows = [(each.name, each.share, each.low, each.high, _COLOURS[key]) for key, each in report.items()]
    for name, facts in (visited or {}).items():
        rows.append((f"visited: {name}", 1 - facts["share"], 1 - facts["high"], 1 - facts["low"], GREEN))
    for place, (_, share, least, most, colour) in enumerate(rows):
        shares.barh(place, 100 * share, color=colour, alpha=0.35, height=0.6)
        shares.plot([100 * least, 100 * most], [place, place], color=colour, linewidth=2)
        shares.annotate(f"{100 * share:.1f} %", (102, place), fontsize=7, va="center")
    shares.axvline(100 * (1 - guardian.alpha), color=GREY, linestyle=":", linewidth=1)
    shares.set_yticks(range(len(rows)), [row[0] for row in rows])
    shares.invert_yaxis()
    shares.set_xlim(0, 115)
    shares.set_xlabel("% supported (dotted: 1 - alpha)", fontsize=8)
    return figure
