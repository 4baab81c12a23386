"""The pictures of a run: learning curves, reward against cost, and PointRobot's feasible region.

Colours are Okabe and Ito's, which colour-blind readers tell apart. matplotlib is imported by the first picture.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from saferl.envs.point_robot import ARENA, GOAL, GOAL_RADIUS, HAZARD_RADIUS, HAZARDS
from saferl.evaluation.feasible_region import RegionMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
YELLOW = "#F0E442"
GREY, LIGHT = "#444444", "#BBBBBB"
_CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
KINDS = (  # of states on a map of a learned region: colour and meaning
    ("white", "feasible"),
    (SKY, "infeasible, and learned so"),
    (VERMILLION, "infeasible, missed"),
    (YELLOW, "feasible, learned infeasible"),
)
_MAX_POINTS = 1_000  # of a curve; more can't be seen


def learning_curves(lines: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Draw every metric of a metrics.jsonl over the updates: losses and other quantities of each part, evaluations.

    Args:
        lines: the parsed lines; keys are "part/quantity" or "eval/quantity".
        path: the PNG.
        title: above the panels.
    """
    panels: dict[str, list[str]] = {}
    for key in dict.fromkeys(key for line in lines for key in line if "/" in key):
        panels.setdefault(_panel(key), []).append(key)
    if all(line.get("eval/violations") == line.get("eval/cost") for line in lines):
        panels.pop(_panel("eval/violations"), None)  # every cost is 0 or 1
    figure = new_figure(columns := min(3, max(1, len(panels))), math.ceil(len(panels) / columns), 4.2, 2.9)
    for axes, (panel, keys) in zip(figure.axes, panels.items()):
        evaluation = keys[0].startswith("eval/")
        for key, colour in zip(keys, _CYCLE * len(keys)):
            points = [(line["step"], line[key]) for line in lines if key in line]
            steps, values = zip(*points[:: max(1, len(points) // _MAX_POINTS)])
            label = key.split("/", 1)[1].replace("_", " ")
            axes.plot(steps, values, color=colour, linewidth=1.2, marker="o" if evaluation else None, label=label)
        axes.set_title(panel, fontsize=10)
        axes.set_xlabel("updates")
        axes.set_xlim(left=0)
        if panel.endswith("losses"):
            _log_scale_if_wide(axes)
        if len(keys) > 1 or not evaluation:
            axes.legend(fontsize=8, frameon=False)
    for axes in figure.axes[len(panels) :]:
        axes.remove()
    save_figure(figure, path, title)


def _panel(key: str) -> str:
    """Title of the panel that a metric is drawn in."""
    part, quantity = key.split("/", 1)
    if part == "eval":
        return f"evaluation: {quantity.replace('_', ' ')}"
    return f"{part}: losses" if quantity.endswith("loss") else part


def return_cost_scatter(
    data: tuple[ArrayLike, ArrayLike] | None,
    policies: Mapping[str, tuple[ArrayLike, ArrayLike]],
    limits: Sequence[float],
    path: Path,
    title: str,
) -> None:
    """Draw reward against cost of whole episodes: of the data and of one or more policies.

    Args:
        data: returns (E,) and costs (E,) of the data's episodes; None draws none.
        policies: name to (returns, costs) of its episodes.
        limits: cost limits, drawn as lines.
        path: the PNG.
        title: above the picture.
    """
    figure = new_figure(1, 1, 6.4, 4.4)
    axes = figure.axes[0]
    if data is not None:
        returns, costs = np.asarray(data[0]), np.asarray(data[1])
        axes.scatter(costs, returns, s=9, color=LIGHT, linewidths=0, label=f"data, {len(returns)} episodes", zorder=1)
    for (name, sample), colour in zip(policies.items(), (VERMILLION, BLUE, *_CYCLE[2:]) * len(policies)):
        returns, costs = np.asarray(sample[0]), np.asarray(sample[1])
        label = f"{name}, {len(returns)} episodes"
        axes.scatter(costs, returns, s=16, color=colour, alpha=0.6, linewidths=0, label=label, zorder=3)
        mean = (costs.mean(), returns.mean())
        axes.plot(*mean, marker="D", color=colour, markeredgecolor="black", markersize=8, linestyle="", zorder=4)
    for limit in limits:
        axes.axvline(limit, color=GREY, linestyle="--", linewidth=1, zorder=2)
    listed = ", ".join(f"{each:g}" for each in limits)
    axes.plot([], [], color=GREY, linestyle="--", linewidth=1, label=f"cost limit {listed}")
    axes.plot([], [], marker="D", color="white", markeredgecolor="black", linestyle="", label="mean of a policy")
    axes.set_xlabel("cost of an episode")
    axes.set_ylabel("return of an episode")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    save_figure(figure, path, title)


def feasible_region(maps: Sequence[RegionMap], path: Path, title: str) -> None:
    """Draw learned and true infeasible sets of PointRobot, a panel for each speed and heading.

    Args:
        maps: as ``region_maps`` gives them.
        path: the PNG.
        title: above the panels.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Circle, Patch

    figure = new_figure(len(maps), 1, 3.7, 3.9)
    extent = (-ARENA, ARENA, -ARENA, ARENA)
    for axes, each in zip(figure.axes, maps):
        kind = np.where(each.true, np.where(each.learned, 1, 2), np.where(each.learned, 3, 0))
        colours = ListedColormap([colour for colour, _ in KINDS])
        axes.imshow(kind, cmap=colours, vmin=-0.5, vmax=3.5, origin="lower", extent=extent, interpolation="nearest")
        axes.contour(each.true, levels=[0.5], colors="black", linewidths=1.1, extent=extent)
        for hazard in HAZARDS:
            axes.add_patch(Circle(hazard, HAZARD_RADIUS, fill=False, linestyle=":", linewidth=1.2, color=GREY))
        axes.add_patch(Circle(GOAL, GOAL_RADIUS, fill=False, linewidth=1.2, color=GREEN))
        axes.annotate("goal", GOAL, (GOAL[0], GOAL[1] - 0.6), ha="center", fontsize=8, color=GREEN)
        tip = (-2.5 + 0.7 * math.cos(each.heading), -2.5 + 0.7 * math.sin(each.heading))
        axes.annotate("", tip, (-2.5, -2.5), arrowprops={"arrowstyle": "-|>", "color": "black"})
        degrees = math.degrees(each.heading)
        axes.set_title(f"v = {each.speed:g} m/s, heading {degrees:.0f}°: IoU {each.iou:.3f}", fontsize=10)
        axes.set_xlabel("x (m)")
    figure.axes[0].set_ylabel("y (m)")
    handles: list[Any] = [Patch(facecolor=colour, edgecolor=GREY, label=label) for colour, label in KINDS[1:]]
    handles += [
        figure.axes[0].plot([], [], color="black", label="border of the true set")[0],
        figure.axes[0].plot([], [], color=GREY, linestyle=":", label="hazard")[0],
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)
    save_figure(figure, path, title)


def new_figure(columns: int, rows: int, width: float, height: float) -> "Figure":
    """A figure of panels, each ``width`` by ``height`` inches; no window is opened and no global state touched."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * width, max(rows, 1) * height), layout="constrained")
    FigureCanvasAgg(figure)
    for axes in np.atleast_1d(figure.subplots(max(rows, 1), columns)).flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(which="both", labelsize=8)
    return figure


def _log_scale_if_wide(axes: "Axes") -> None:
    """A logarithmic axis where positive values span more than a decade."""
    values = np.concatenate([np.asarray(line.get_ydata(), np.float64) for line in axes.lines])
    if values.min() > 0 and values.max() > 10 * values.min():
        axes.set_yscale("log")


def save_figure(figure: "Figure", path: Path, title: str) -> None:
    """Write a figure as a PNG with a title above; a reader never sees half a file."""
    figure.suptitle(title, fontsize=11)
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, dpi=130, format="png")
    temporary.replace(path)
