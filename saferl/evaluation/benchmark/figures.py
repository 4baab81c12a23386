"""The benchmark's pictures: reward against cost, interquartile means, profiles, probabilities of improvement.

Agents differ in colour and marker at once: seven colours that colour-blind readers tell apart, each with seven markers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from saferl.evaluation.benchmark.results import Result
from saferl.evaluation.benchmark.statistics import Span, performance_profile, stratified_mean
from saferl.evaluation.benchmark.summary import SCORES, Improvement, Summary, run_scores
from saferl.evaluation.figures import (
    BLUE,
    GREEN,
    GREY,
    LIGHT,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    new_figure,
)  # fmt: skip

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS, MARKERS, LINES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, GREY), "os^DvPX", ("-", "--", "-.", ":")
AXES = {"normalised_return": "normalised return", "normalised_cost": "cost / limit", "safe_return": "safe return"}
FILES = ("pareto.png", "means.png", "profiles.png", "improvement.png", "pairs.png")


@dataclass(frozen=True)
class Picture:
    """A figure, the file that holds it, and what the page says about it."""

    file: str
    title: str
    note: str
    figure: "Figure"


def pictures(results: Sequence[Result], everything: Sequence[Summary], pairs: Sequence[Improvement]) -> list[Picture]:
    """All pictures that these results allow.

    Args:
        results: one at least.
        everything: the agents over all tasks.
        pairs: every score and pair of agents.
    """
    found = [
        Picture(
            "pareto.png", "Return over cost", "A point for each agent: means over seeds and cost limits, with 95 % "
            "intervals over seeds. Left of the dashed line is safe. The grey line joins agents that no other beats in "
            "both; the cost axis is logarithmic beyond the limit.", pareto(results),
        ),
        Picture(
            "means.png", "Interquartile means over all tasks", "The mean of the middle half of all runs, which a few "
            "extreme runs don't move; bars are 95 % stratified bootstrap intervals.", interquartile_means(everything),
        ),
        Picture(
            "profiles.png", "Performance profiles", "Share of runs that reach a level, with 95 % bootstrap bands: of "
            "returns the runs above it, of costs those at or below. Higher is better everywhere.", profiles(results),
        ),
    ]  # fmt: skip
    agents = list(dict.fromkeys(each.agent for each in results))
    baseline = "bc" if "bc" in agents else agents[0]
    safe = [each for each in pairs if each.score == "safe_return"]
    if over := [each for each in safe if each.over == baseline]:
        note = f"How probable it is that a run of the agent has a better safe return than one of {baseline} on the "
        note += (
            "same task, ties half. A bar that misses the dashed line tells the two apart, with few seeds too readily."
        )
        found.append(Picture("improvement.png", f"Probability of improvement over {baseline}", note, improvement(over)))
    if len(agents) > 2 and safe:
        note = "Probability that the agent of the row has a better safe return than that of the column. Bold: the 95 % "
        note += "interval misses one half."
        order = [each.agent for each in everything]
        found.append(Picture("pairs.png", "Probability of improvement, all pairs", note, pair_matrix(safe, order)))
    return found


def pareto(results: Sequence[Result]) -> "Figure":
    """For each task, return over normalised cost: a point per agent, with 95 % intervals over seeds."""
    tasks = list(dict.fromkeys(each.task for each in results))
    agents = list(dict.fromkeys(each.agent for each in results))
    columns = min(len(tasks), 2 if len(tasks) <= 4 else 4)
    figure = new_figure(columns, -(-len(tasks) // columns), 5.2 if columns < 3 else 3.8, 3.9 if columns < 3 else 3.0)
    for axes, task in zip(figure.axes, tasks):
        here = [each for each in results if each.task == task]
        normalised = all(each.normalised_returns is not None for each in here)
        costs = run_scores(here, SCORES["normalised_cost"])
        gains = run_scores(here, SCORES["normalised_return"] if normalised else lambda each: each.mean_return)
        axes.axvspan(-1, 1, color=GREEN, alpha=0.08, linewidth=0)
        axes.axvline(1, color=GREY, linestyle="--", linewidth=1)
        points, farthest = [], 1.0
        for index, agent in enumerate(agents):
            if costs.get(agent) and gains.get(agent):
                cost, gain = stratified_mean([costs[agent][task]]), stratified_mean([gains[agent][task]])
                points.append((cost.value, gain.value))
                farthest = float(np.nanmax([farthest, cost.value, cost.high]))
                axes.plot([cost.low, cost.high], [gain.value] * 2, color=_colour(index), linewidth=0.8)
                axes.plot([cost.value] * 2, [gain.low, gain.high], color=_colour(index), linewidth=0.8)
                axes.plot(*points[-1], linestyle="", markersize=6, color=_colour(index), marker=_marker(index))
        front = frontier(points)
        axes.step([cost for cost, _ in front], [gain for _, gain in front], color=LIGHT, where="post", zorder=0)
        _cost_scale(axes, farthest)
        axes.set_title(task, fontsize=10)
        axes.set_xlabel("cost / limit", fontsize=9)
        axes.set_ylabel("normalised return" if normalised else "return", fontsize=9)
    for axes in figure.axes[len(tasks) :]:
        axes.remove()
    marks: list[Any] = [
        figure.axes[0].plot([], [], color=_colour(i), marker=_marker(i), linestyle="", label=agent)[0]
        for i, agent in enumerate(agents)
    ]
    _legend(figure, marks, agents)
    return figure


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (cost, return) points that no other one beats or equals in both, by rising cost."""
    found: list[tuple[float, float]] = []
    for cost, gain in sorted(points, key=lambda point: (point[0], -point[1])):
        if not found or gain > found[-1][1]:
            found.append((cost, gain))
    return found


def interquartile_means(everything: Sequence[Summary]) -> "Figure":
    """Interquartile means of every score that is known, over all runs of each agent, with intervals."""
    known = [score for score in AXES if any(score in each.iqms for each in everything)] or ["normalised_cost"]
    names = [_with_tasks(each.agent, each.tasks.get("normalised_cost", 0), each.all_tasks) for each in everything]
    figure = new_figure(len(known), 1, 4.0, 0.9 + 0.26 * len(names))
    for axes, score in zip(figure.axes, known):
        for row, each in enumerate(everything):
            if score in each.iqms:
                _bar(axes, row, each.iqms[score])
        _rows(axes, names if axes is figure.axes[0] else [""] * len(names))
        axes.set_title(AXES[score], fontsize=10)
        if score == "normalised_cost":
            values = [each.iqms[score] for each in everything if score in each.iqms]
            _cost_scale(axes, max((np.nanmax([each.value, each.high]) for each in values), default=1))
            axes.axvline(1, color=VERMILLION, linestyle="--", linewidth=1)
    return figure


def profiles(results: Sequence[Result]) -> "Figure":
    """Performance profiles of every score that is known."""
    scores = {score: run_scores(results, SCORES[score]) for score in AXES}
    known = [score for score, runs in scores.items() if any(runs.values())] or ["normalised_cost"]
    agents = list(dict.fromkeys(each.agent for each in results))
    figure = new_figure(len(known), 1, 4.6, 3.6)
    shade = 0.15 if len(agents) <= 4 else 0.05
    for axes, score in zip(figure.axes, known):
        strata = {agent: list(tasks.values()) for agent, tasks in scores[score].items() if tasks}
        values = [value for tasks in strata.values() for runs in tasks for value in runs]
        cost = score == "normalised_cost"
        low, high = (0.0, max([1.2, *values])) if cost else (min([0.0, *values]), max([1.0, *values]))
        levels = np.linspace(low - 0.02 * (high - low), high + 0.02 * (high - low), 241)  # (T,)
        if cost:
            levels = np.unique(np.concatenate([np.linspace(0, 1.2, 121), np.geomspace(1.2, 1.05 * high, 120)]))
        for index, agent in enumerate(agents):
            if agent in strata:
                shares = performance_profile(strata[agent], levels)  # (3, T)
                value, lower, upper = 1 - shares if cost else shares
                line = LINES[index // len(COLOURS) % len(LINES)]
                axes.step(levels, value, color=_colour(index), where="post", linewidth=1.3, linestyle=line, label=agent)
                axes.fill_between(levels, lower, upper, color=_colour(index), step="post", alpha=shade, linewidth=0)
        axes.set_xlabel(AXES[score], fontsize=9)
        axes.set_ylabel("share of runs at or below" if cost else "share of runs above", fontsize=9)
        axes.set_ylim(-0.02, 1.02)
        if cost:
            _cost_scale(axes, high)
            axes.axvline(1, color=GREY, linestyle="--", linewidth=1)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    _legend(figure, handles, labels)
    return figure


def improvement(pairs: Sequence[Improvement]) -> "Figure":
    """Probabilities of improvement over one agent, with intervals.

    Args:
        pairs: of one score and one agent that the others are compared with.
    """
    ranked = sorted(pairs, key=lambda each: -each.probability.value)
    figure = new_figure(1, 1, 6.0, 0.9 + 0.26 * len(ranked))
    axes = figure.axes[0]
    for row, each in enumerate(ranked):
        _bar(axes, row, each.probability)
    axes.axvline(0.5, color=VERMILLION, linestyle="--", linewidth=1)
    most = max(each.tasks for each in ranked)
    _rows(axes, [_with_tasks(each.agent, each.tasks, most) for each in ranked])
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel(f"P(better {AXES[ranked[0].score]} than {ranked[0].over})", fontsize=9)
    return figure


def pair_matrix(pairs: Sequence[Improvement], agents: Sequence[str]) -> "Figure":
    """Probabilities of improvement of the row's agent over the column's, for all pairs of agents."""
    table = {(each.agent, each.over): each.probability for each in pairs}
    size = 2.0 + 0.42 * len(agents)
    figure = new_figure(1, 1, size + 0.6, size)
    axes = figure.axes[0]
    values = np.array([[table[a, b].value if (a, b) in table else np.nan for b in agents] for a in agents])
    image = axes.pcolormesh(values, cmap="RdBu", vmin=0, vmax=1, edgecolors="none", alpha=0.85)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            span = table[agents[row], agents[column]]
            weight = "bold" if span.low > 0.5 or span.high < 0.5 else "normal"
            colour = "#fefefe" if abs(value - 0.5) > 0.3 else "#111111"
            place = (column + 0.5, row + 0.5)
            axes.annotate(
                f"{value:.2f}", place, ha="center", va="center", fontsize=7.5, color=colour, fontweight=weight
            )
    axes.set_xticks(np.arange(len(agents)) + 0.5, agents, rotation=90, fontsize=8)
    axes.set_yticks(np.arange(len(agents)) + 0.5, agents, fontsize=8)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.6)
    bar.set_label("P(row better than column)", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _marker(index: int) -> str:
    return MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]  # neighbours differ in both, no pair comes twice


def _with_tasks(agent: str, tasks: int, all_tasks: int) -> str:
    return agent if tasks == all_tasks else f"{agent} ({tasks} of {all_tasks} tasks)"


def _bar(axes: "Axes", row: int, span: Span) -> None:
    axes.plot([span.low, span.high], [row, row], color=LIGHT, linewidth=7, solid_capstyle="butt")
    axes.plot([span.value] * 2, [row - 0.3, row + 0.3], color=BLUE, linewidth=2)


def _rows(axes: "Axes", names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=LIGHT, alpha=0.4, linewidth=0.6)


def _legend(figure: "Figure", handles: Sequence[Any], labels: Sequence[str]) -> None:
    if not labels:
        return
    longest = max(map(len, labels))
    room = int(figure.get_size_inches()[0] / (0.45 + 0.075 * longest))
    columns = max(1, min(len(labels), room))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


def _cost_scale(axes: "Axes", greatest: float) -> None:
    """Costs over their limit: linear up to the limit, logarithmic beyond, with room for the greatest."""
    ticks = [0, 0.5, 1, *(digit * 10.0**power for power in range(7) for digit in (2, 5, 10))]
    end = max(1.5, 1.15 * greatest)
    shown = [tick for tick in ticks if tick <= end]
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(0, end)
    axes.set_xticks(shown, [f"{tick:g}" for tick in shown], minor=False)
    axes.set_xticks([], minor=True)
