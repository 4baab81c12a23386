"""The picture of an audit: learned over true infeasible set, a panel for each slice, the two errors in colour."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from saferl.envs.point_robot import GOAL, GOAL_RADIUS, HAZARD_RADIUS, HAZARDS
from saferl.evaluation.audit_robots import WALL
from saferl.evaluation.audit_run import AuditMap
from saferl.evaluation.figures import GREEN, GREY, KINDS, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def audit_maps(maps: Sequence[AuditMap], path: Path, title: str, *, point_robot: bool) -> None:
    """Draw an audit's maps.

    The thick line is V = 0 of the reachability value, the border of the true set; the dashed one is the border by the
    FISOR paper's evasive manoeuvre, where a map has it.

    Args:
        maps: as ``run_audit`` gives them.
        path: the PNG.
        title: above the panels.
        point_robot: whether to draw PointRobot's hazards and goal, or Circle1's walls.
    """
    from matplotlib.colors import ListedColormap

    figure = new_figure(len(maps), 1, 3.7, 4.0)
    colours = ListedColormap([colour for colour, _ in KINDS])
    for axes, each in zip(figure.axes, maps):
        extent = (-each.half, each.half, -each.half, each.half)
        kind = np.where(each.true, np.where(each.learned, 1, 2), np.where(each.learned, 3, 0))
        axes.imshow(kind, cmap=colours, vmin=-0.5, vmax=3.5, origin="lower", extent=extent, interpolation="nearest")
        if each.value.min() < 0 < each.value.max():
            axes.contour(each.value, levels=[0.0], colors="black", linewidths=1.3, extent=extent)
        if each.manoeuvre is not None and 0 < each.manoeuvre.mean() < 1:
            style: dict[str, Any] = {"colors": "black", "linewidths": 0.8, "linestyles": "dashed"}
            axes.contour(each.manoeuvre, levels=[0.5], extent=extent, **style)
        (_draw_hazards if point_robot else _draw_walls)(axes)
        _arrow(axes, each)
        axes.set_title(f"{each.where.name}\nIoU {_iou(each):.3f}", fontsize=10)
        axes.set_xlabel("x (m)")
    figure.axes[0].set_ylabel("y (m)")
    figure.legend(
        handles=_handles(any(each.manoeuvre is not None for each in maps), point_robot),
        loc="outside lower center",
        ncols=6,
        fontsize=8,
        frameon=False,
    )
    save_figure(figure, path, title)


def _iou(each: AuditMap) -> float:
    return float((each.learned & each.true).sum() / max((each.learned | each.true).sum(), 1))


def _draw_hazards(axes: "Axes") -> None:
    from matplotlib.patches import Circle

    for hazard in HAZARDS:
        axes.add_patch(Circle(hazard, HAZARD_RADIUS, fill=False, linestyle=":", linewidth=1.2, color=GREY))
    axes.add_patch(Circle(GOAL, GOAL_RADIUS, fill=False, linewidth=1.2, color=GREEN))
    axes.annotate("goal", GOAL, (GOAL[0], GOAL[1] - 0.6), ha="center", fontsize=8, color=GREEN)


def _draw_walls(axes: "Axes") -> None:
    for x in (-WALL, WALL):
        axes.axvline(x, linestyle=":", linewidth=1.2, color=GREY)


def _arrow(axes: "Axes", each: AuditMap) -> None:
    """The body's heading, in a corner; beside it, thinner, the course where it is another."""
    corner, length = -0.83 * each.half, 0.24 * each.half
    for angle, width, colour in ((each.where.course, 0.8, GREY), (each.where.heading, 1.4, "black")):
        tip = (corner + length * math.cos(angle), corner + length * math.sin(angle))
        arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": width}
        axes.annotate("", tip, (corner, corner), arrowprops=arrow)


def _handles(manoeuvre: bool, point_robot: bool) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(facecolor=colour, edgecolor=GREY, label=label) for colour, label in KINDS[1:]]
    handles.append(Line2D([], [], color="black", linewidth=1.3, label="V = 0, border of the true set"))
    if manoeuvre:
        label = "border by the paper's manoeuvre"
        handles.append(Line2D([], [], color="black", linewidth=0.8, linestyle="dashed", label=label))
    handles.append(Line2D([], [], color=GREY, linestyle=":", label="hazard" if point_robot else "wall"))
    return handles
