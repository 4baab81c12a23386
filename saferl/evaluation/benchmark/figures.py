"""The benchmark's pictures: reward against cost, interquartile means, profiles, probability of improvement."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saferl.evaluation.benchmark.results import Result
from saferl.evaluation.benchmark.statistics import (
    performance_profile,
    probability_of_improvement,
    stratified_iqm,
)
from saferl.evaluation.figures import BLUE, GREY, LIGHT, VERMILLION, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Score = Callable[[Result], float]


def strata(results: Sequence[Result], agent: str, score: Score) -> dict[tuple[str, float], list[float]]:
    """Scores of an agent's runs for each (task, limit)."""
    found: dict[tuple[str, float], list[float]] = {}
    for each in results:
        if each.agent == agent and np.isfinite(score(each)):
            found.setdefault((each.task, each.limit), []).append(score(each))
    return found


def agents_of(results: Sequence[Result]) -> list[str]:
    """The agents in their order."""
    return list(dict.fromkeys(each.agent for each in results))


def pareto(results: Sequence[Result]) -> "Figure":
    """For each task, normalised return over normalised cost: a point per agent and limit, seeds' range as a cross."""
    tasks = list(dict.fromkeys(each.task for each in results))
    names = agents_of(results)
    figure = new_figure(min(2, len(tasks)), -(-len(tasks) // 2), 5.6, 4.2)
    colours, markers = _colours(len(names)), "os^Dv<>ph*XP"
    for axes, task in zip(figure.axes, tasks):
        axes.axvspan(-1, 1, color="#009E73", alpha=0.08, linewidth=0)
        axes.axvline(1, color=GREY, linestyle="--", linewidth=1)
        for index, name in enumerate(names):
            for limit in sorted({each.limit for each in results if each.task == task}):
                runs = [each for each in results if (each.task, each.agent, each.limit) == (task, name, limit)]
                if not runs:
                    continue
                cost = np.array([each.normalised_cost for each in runs])
                gain = np.array([each.normalised_return for each in runs])
                axes.errorbar(
                    cost.mean(), gain.mean(),
                    xerr=_reach(cost), yerr=_reach(gain),
                    color=colours[index], marker=markers[index % len(markers)], markersize=5, linewidth=0.7,
                    linestyle="",
                )  # fmt: skip
        _cost_scale(axes)
        axes.set_xlim(left=0)
        axes.set_title(task, fontsize=10)
        axes.set_xlabel("cost / limit (1: the limit)")
        axes.set_ylabel("normalised return")
    for axes in figure.axes[len(tasks) :]:
        axes.remove()
    handles = [
        figure.axes[0].plot([], [], color=colours[i], marker=markers[i % len(markers)], linestyle="", label=name)[0]
        for i, name in enumerate(names)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(7, len(names)), fontsize=8, frameon=False)
    return figure


def interquartile_means(results: Sequence[Result]) -> "Figure":
    """Interquartile means of return, cost and safe return over all runs of each agent, with intervals."""
    names = agents_of(results)
    figure = new_figure(3, 1, 4.2, 0.9 + 0.26 * len(names))
    scores: list[tuple[str, Score]] = [
        ("normalised return", lambda each: each.normalised_return),
        ("cost / limit", lambda each: each.normalised_cost),
        ("safe return (0 where unsafe)", lambda each: each.safe_return),
    ]
    for axes, (title, score) in zip(figure.axes, scores):
        for row, name in enumerate(names):
            groups = list(strata(results, name, score).values())
            if groups:
                span = stratified_iqm(groups)
                axes.plot([span.low, span.high], [row, row], color=LIGHT, linewidth=7, solid_capstyle="butt")
                axes.plot([span.value] * 2, [row - 0.3, row + 0.3], color=BLUE, linewidth=2)
        axes.set_yticks(range(len(names)), names if axes is figure.axes[0] else [""] * len(names), fontsize=8)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_title(title, fontsize=10)
        if title.startswith("cost"):
            _cost_scale(axes)
            axes.axvline(1, color=VERMILLION, linestyle="--", linewidth=1)
    return figure


def profiles(results: Sequence[Result]) -> "Figure":
    """Performance profiles: share of runs whose safe return exceeds a level, and whose cost stays below one."""
    names = agents_of(results)
    figure = new_figure(2, 1, 6.0, 4.2)
    colours = _colours(len(names))
    gains = np.linspace(-0.1, 1.1, 61)
    costs = np.concatenate([np.linspace(0, 1, 21), np.geomspace(1.05, 40, 40)])
    for index, name in enumerate(names):
        safe = list(strata(results, name, lambda each: each.safe_return).values())
        spent = list(strata(results, name, lambda each: each.normalised_cost).values())
        style = {"color": colours[index], "linewidth": 1.3, "linestyle": "-" if index % 2 == 0 else "--"}
        if safe:
            value, low, high = performance_profile(safe, gains)
            figure.axes[0].plot(gains, value, label=name, **style)
            figure.axes[0].fill_between(gains, low, high, color=colours[index], alpha=0.06, linewidth=0)
        if spent:
            value, low, high = 1 - performance_profile(spent, costs)
            figure.axes[1].plot(costs, value, label=name, **style)
    figure.axes[0].set_xlabel("safe return")
    figure.axes[0].set_ylabel("share of runs above")
    figure.axes[1].set_xlabel("cost / limit")
    figure.axes[1].set_ylabel("share of runs at or below")
    _cost_scale(figure.axes[1])
    figure.axes[1].axvline(1, color=GREY, linestyle="--", linewidth=1)
    handles, labels = figure.axes[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(7, len(names)), fontsize=8, frameon=False)
    return figure


def improvements(results: Sequence[Result], baseline: str) -> "Figure":
    """Probability that an agent's safe return exceeds the baseline's, with intervals, over the tasks both have."""
    names = [name for name in agents_of(results) if name != baseline]
    figure = new_figure(1, 1, 6.0, 0.9 + 0.26 * max(len(names), 1))
    axes = figure.axes[0]
    theirs = strata(results, baseline, lambda each: each.safe_return)
    for row, name in enumerate(names):
        ours = strata(results, name, lambda each: each.safe_return)
        both = [key for key in ours if key in theirs]
        if both:
            span = probability_of_improvement([ours[key] for key in both], [theirs[key] for key in both])
            axes.plot([span.low, span.high], [row, row], color=LIGHT, linewidth=7, solid_capstyle="butt")
            axes.plot([span.value] * 2, [row - 0.3, row + 0.3], color=BLUE, linewidth=2)
    axes.axvline(0.5, color=GREY, linestyle="--", linewidth=1)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"P(safe return above {baseline}'s)")
    return figure


def _reach(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far (2, 1) the values go below and above their mean; rounding must not make it negative."""
    return np.array([[values.mean() - values.min()], [values.max() - values.mean()]]).clip(min=0)


def _cost_scale(axes: Any) -> None:
    """Costs over their limit: linear up to the limit, logarithmic beyond."""
    ticks = [0, 0.25, 0.5, 0.75, 1, 2, 5, 10, 20, 50]
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    axes.set_xticks([], minor=True)


def _colours(count: int) -> Any:
    from matplotlib import colormaps

    return [colormaps["tab20"](index % 20) for index in range(count)]
