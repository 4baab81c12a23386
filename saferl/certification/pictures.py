"""The pictures of a safety case."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from saferl.certification.candidates import Candidate
from saferl.certification.gate import Check
from saferl.evaluation.figures import BLUE, GREEN, GREY, VERMILLION, new_figure
from saferl.evaluation.rollout import Episodes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def checks_figure(checks: Sequence[Check], unit: str = "") -> "Figure":
    """For each constraint the mean, its bound and the limit, on an axis of its own."""
    figure = new_figure(1, len(checks), 7.0, 1.15)
    for axes, check in zip(figure.axes, checks):
        _check(axes, check)
    return figure


def _check(axes: "Axes", check: Check) -> None:
    limit, scale = check.constraint.limit, 100.0 if check.constraint.kind == "event" else 1.0
    upper = check.constraint.high if check.upper is None else check.upper
    colour = GREEN if check.passed else VERMILLION
    axes.axvspan(0, scale * limit, color=GREEN, alpha=0.08, linewidth=0)
    axes.axvline(scale * limit, color=GREY, linestyle="--", linewidth=1.2)
    axes.plot([scale * check.mean, scale * upper], [0, 0], color=colour, linewidth=3, solid_capstyle="butt")
    axes.plot(scale * check.mean, 0, marker="o", color=colour, markersize=7)
    axes.plot(scale * upper, 0, marker="|", color=colour, markersize=16, markeredgewidth=3)
    for value, word in ((check.mean, "mean"), (upper, "bound")):
        axes.annotate(word, (scale * value, 0), (0, 10), textcoords="offset points", ha="center", fontsize=8)
    axes.annotate("limit", (scale * limit, -0.8), (3, 0), textcoords="offset points", fontsize=8, color=GREY)
    axes.set_ylim(-1, 1.4)
    axes.set_yticks([])
    axes.set_xlim(0, 1.12 * scale * max(limit, min(upper, 4 * limit), check.mean))
    axes.spines["left"].set_visible(False)
    axes.set_title(check.constraint.words, fontsize=9, loc="left")
    axes.set_xlabel("% of episodes" if check.constraint.kind == "event" else "cost of an episode", fontsize=8)


def episodes_figure(episodes: Episodes, limits: Sequence[float]) -> "Figure":
    """Costs and returns of the test's episodes: shares of episodes up to a cost, and return over cost.

    Args:
        episodes: of the test half.
        limits: on an episode's cost, drawn as lines.
    """
    figure = new_figure(2, 1, 4.4, 3.0)
    left, right = figure.axes
    costs = np.sort(episodes.costs)
    shares = np.arange(1, len(costs) + 1) / len(costs)
    left.step(np.concatenate([[0.0], costs]), np.concatenate([[(costs == 0).mean()], shares]), where="post", color=BLUE)
    left.set_ylim(0, 1.02)
    left.set_xlabel("cost of an episode", fontsize=9)
    left.set_ylabel("share of episodes that cost so much or less", fontsize=8)
    right.scatter(episodes.costs, episodes.returns, s=12, color=BLUE, alpha=0.5, linewidths=0)
    right.plot(episodes.costs.mean(), episodes.returns.mean(), marker="D", color=VERMILLION, markersize=7)
    right.set_xlabel("cost of an episode", fontsize=9)
    right.set_ylabel("return (diamond: mean)", fontsize=8)
    for axes in (left, right):
        for limit in limits:
            axes.axvline(limit, color=GREY, linestyle="--", linewidth=1)
    return figure


def candidates_figure(candidates: Sequence[Candidate], chosen: Any, name: str) -> "Figure":
    """Mean return and predicted bounds over the parameter.

    Args:
        candidates: at least two.
        chosen: value that was taken, None if none was.
        name: of the parameter.
    """
    constraints = candidates[0].constraints
    figure = new_figure(1 + len(constraints), 1, 3.4, 2.6)
    places = range(len(candidates))
    labels = [f"{each.value:g}" for each in candidates]
    panels: list[tuple[str, list[float], float | None]] = [
        ("mean return", [float(each.episodes.returns.mean()) for each in candidates], None)
    ]
    for index, constraint in enumerate(constraints):
        word = "predicted bound: " + ("mean cost" if constraint.kind == "mean" else "share of events")
        panels.append((word, [each.predicted[index] for each in candidates], constraint.limit))
    for axes, (title, values, limit) in zip(figure.axes, panels):
        axes.plot(places, values, color=BLUE, marker="o", linewidth=1)
        for place, each in zip(places, candidates):
            if each.value == chosen:
                axes.plot(place, values[place], marker="o", color=GREEN, markersize=9)
        if limit is not None:
            axes.axhline(limit, color=GREY, linestyle="--", linewidth=1)
            axes.set_ylim(bottom=0)
        axes.set_xticks(list(places), labels)
        axes.set_xlabel(name.replace("_", " "), fontsize=9)
        axes.set_title(title, fontsize=9)
    return figure
