"""The pictures of a safety case, from the plain values of its certificate, so that they can be drawn again."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from saferl.evaluation.figures import BLUE, GREEN, GREY, VERMILLION, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Facts = Mapping[str, Any]


def pictures_of(facts: Facts) -> "dict[str, tuple[Figure, str]]":
    """By section of the page: a figure, and what it shows.

    Args:
        facts: a certificate.
    """
    pictures, settings = {}, facts["settings"]
    stated = {"mean cost": settings["cost_limit"], "share of events": settings["event_rate"]}
    limits = {name: limit for name, limit in stated.items() if limit is not None}
    if facts["checks"]:
        value = "estimate" if "off_policy" in facts else "mean"
        pictures["checks"] = (checks_figure(facts["checks"]), f"{value}, bound and limit of each constraint")
    if facts.get("test"):
        of_cost = {"mean cost": settings["cost_limit"], "share of events": settings["event_limit"]}
        figure = episodes_figure(facts["test"]["per_episode"], [of_cost[name] for name in limits])
        pictures["measured"] = (figure, "costs and returns of the test half")
    if facts.get("candidate") and facts["candidate"]["tuned"]:
        figure = candidates_figure(facts["candidate"], limits)
        pictures["candidate"] = (figure, "mean return and predicted bounds by value")
    return pictures


def checks_figure(checks: Sequence[Facts]) -> "Figure":
    """For each check the mean, its bound and the limit, on an axis of its own."""
    figure = new_figure(1, len(checks), 7.0, 1.15)
    for axes, check in zip(figure.axes, checks):
        _check(axes, check)
    return figure


def _check(axes: "Axes", check: Facts) -> None:
    event = check["kind"] == "event"
    limit, mean, upper, scale = check["limit"], check["mean"], check["upper_bound"], 100.0 if event else 1.0
    if upper is None:
        upper = 1.0 if event else check["greatest"]
    colour = GREEN if check["passed"] else VERMILLION
    axes.axvspan(0, scale * limit, color=GREEN, alpha=0.08, linewidth=0)
    axes.axvline(scale * limit, color=GREY, linestyle="--", linewidth=1.2)
    axes.plot([scale * mean, scale * upper], [0, 0], color=colour, linewidth=3, solid_capstyle="butt")
    axes.plot(scale * mean, 0, marker="o", color=colour, markersize=7)
    axes.plot(scale * upper, 0, marker="|", color=colour, markersize=16, markeredgewidth=3)
    for value, word in ((mean, "mean"), (upper, "bound")):
        axes.annotate(word, (scale * value, 0), (0, 10), textcoords="offset points", ha="center", fontsize=8)
    axes.annotate("limit", (scale * limit, -0.8), (3, 0), textcoords="offset points", fontsize=8, color=GREY)
    axes.set_ylim(-1, 1.4)
    axes.set_yticks([])
    axes.set_xlim(0, 1.12 * scale * max(limit, min(upper, 4 * limit), mean))
    axes.spines["left"].set_visible(False)
    axes.set_title(check["constraint"], fontsize=9, loc="left")
    axes.set_xlabel("% of episodes" if event else "cost of an episode", fontsize=8)


def episodes_figure(episodes: Facts, limits: Sequence[float]) -> "Figure":
    """Costs and returns of the test's episodes: shares of episodes up to a cost, and return over cost.

    Args:
        episodes: of the test half; their "costs" and "returns", (E,) each.
        limits: on an episode's cost, drawn as lines.
    """
    figure = new_figure(2, 1, 4.4, 3.0)
    left, right = figure.axes
    costs = np.sort(episodes["costs"])
    shares = np.arange(1, len(costs) + 1) / len(costs)
    left.step(np.concatenate([[0.0], costs]), np.concatenate([[(costs == 0).mean()], shares]), where="post", color=BLUE)
    left.set_ylim(0, 1.02)
    left.set_xlabel("cost of an episode", fontsize=9)
    left.set_ylabel("share of episodes that cost so much or less", fontsize=8)
    right.scatter(episodes["costs"], episodes["returns"], s=12, color=BLUE, alpha=0.5, linewidths=0)
    right.plot(costs.mean(), np.mean(episodes["returns"]), marker="D", color=VERMILLION, markersize=7)
    right.set_xlabel("cost of an episode", fontsize=9)
    right.set_ylabel("return (diamond: mean)", fontsize=8)
    for axes in (left, right):
        for limit in limits:
            axes.axvline(limit, color=GREY, linestyle="--", linewidth=1)
    return figure


def candidates_figure(candidate: Facts, limits: Mapping[str, float]) -> "Figure":
    """Mean return and predicted bounds over the parameter.

    Args:
        candidate: a certificate's facts of its candidate half.
        limits: by what they are on, in the order of the constraints.
    """
    values_tried = candidate["values"]
    figure = new_figure(1 + len(limits), 1, 3.4, 2.6)
    places = range(len(values_tried))
    labels = [f"{each['value']:g}" for each in values_tried]
    panels: list[tuple[str, list[float], float | None]] = [
        ("mean return", [each["mean_return"] for each in values_tried], None)
    ]
    for index, (name, bound_limit) in enumerate(limits.items()):
        panels.append(
            (f"predicted bound: {name}", [each["predicted_bounds"][index] for each in values_tried], bound_limit)
        )
    for axes, (title, values, limit) in zip(figure.axes, panels):
        axes.plot(places, values, color=BLUE, marker="o", linewidth=1)
        for place, each in zip(places, values_tried):
            if each["value"] == candidate["chosen"]:
                axes.plot(place, values[place], marker="o", color=GREEN, markersize=9)
        if limit is not None:
            axes.axhline(limit, color=GREY, linestyle="--", linewidth=1)
            axes.set_ylim(bottom=0)
        axes.set_xticks(list(places), labels)
        axes.set_xlabel(candidate["tuned"].replace("_", " "), fontsize=9)
        axes.set_title(title, fontsize=9)
    return figure
