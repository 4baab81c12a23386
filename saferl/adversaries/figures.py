"""Pictures of attacks: curves over eps, PointRobot's way, and any robot's speed and film under each adversary."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np

from saferl.adversaries.film import Pictures, moments
from saferl.envs.point_robot import ARENA, GOAL, GOAL_RADIUS, HAZARD_RADIUS, HAZARDS
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
    save_figure,
)
from saferl.evaluation.report import Facts

COLOURS = (VERMILLION, BLUE, GREEN, PURPLE, ORANGE, SKY)
LINES = ("-", "--", ":")  # with the colours 18 adversaries can be told apart
PANELS = (
    ("return", "mean", "return of an episode"),
    ("cost", "mean", "cost of an episode"),
    ("violation_rate", "rate", "share of episodes with a violation"),
    ("target", "rate", "share of episodes that reach the target"),
)


def eps_curves(results: Sequence[Facts], path: Path, title: str) -> None:
    """Draw return, cost, violations (and success of the target) over eps, with 95 % intervals.

    Args:
        results: the clean one first.
        path: the PNG.
        title: above the panels.
    """
    clean = results[0]
    panels = [panel for panel in PANELS if panel[0] in clean]
    names = list(dict.fromkeys(each["adversary"] for each in results[1:]))
    radii = sorted({each["eps"] for each in results})
    figure = new_figure(len(panels), 1, 3.6, 3.4)
    for axes, (key, value, words) in zip(figure.axes, panels):
        for index, name in enumerate(names):
            points = [clean] + [each for each in results if each["adversary"] == name]
            shift = (index - (len(names) - 1) / 2) * 0.012 * radii[-1]  # so that intervals don't hide each other
            middle = np.array([each[key][value] for each in points])
            spans = np.array([[each[key]["low"], each[key]["high"]] for each in points]).T
            axes.errorbar(
                [each["eps"] + (shift if each["eps"] > 0 else 0) for each in points],
                middle,
                yerr=np.maximum([middle - spans[0], spans[1] - middle], 0),
                color=COLOURS[index % len(COLOURS)],
                linestyle=LINES[index // len(COLOURS) % len(LINES)],
                linewidth=1.2,
                elinewidth=0.7,
                marker="o",
                markersize=3,
                label=name,
            )
        if key == "cost":
            axes.axhline(clean["limits"][0]["limit"], color=GREY, linestyle="--", linewidth=0.8)
        axes.set_xlabel("eps (normalised units)")
        axes.set_title(words, fontsize=9)
        axes.set_xticks(radii)
    figure.axes[-1].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    save_figure(figure, path, title)


def robot_paths(results: Sequence[Facts], path: Path, title: str) -> None:
    """Draw PointRobot's way from the same starts, clean and under each adversary at its largest eps.

    Args:
        results: with "paths", the clean one first.
        path: the PNG.
        title: above the panels.
    """
    from matplotlib.patches import Circle

    attacked = strongest(results)[1:]
    columns = min(4, len(attacked))
    figure = new_figure(columns, -(-len(attacked) // columns), 2.9, 3.0)
    for axes, each in zip(figure.axes, attacked):
        for hazard in HAZARDS:
            axes.add_patch(Circle(hazard, HAZARD_RADIUS, facecolor=ORANGE, alpha=0.35, linewidth=0))
        axes.add_patch(Circle(GOAL, GOAL_RADIUS, facecolor=GREEN, alpha=0.6, linewidth=0))
        colours = cycle((VERMILLION, BLUE, PURPLE, GREY, SKY, "black"))
        for clean, moved, colour in zip(results[0]["paths"], each["paths"], colours):
            x, y = np.array(clean).T
            axes.plot(x, y, color=LIGHT, linewidth=1.4)
            x, y = np.array(moved).T
            axes.plot(x, y, color=colour, linewidth=1.2)
            axes.plot(x[0], y[0], marker="o", color=colour, markersize=4)
            axes.plot(x[-1], y[-1], marker="x", color=colour, markersize=5)
        axes.set_xlim(-ARENA - 0.2, ARENA + 0.2)
        axes.set_ylim(-ARENA - 0.2, ARENA + 0.2)
        axes.set_aspect("equal")
        axes.set_title(f"{each['adversary']}, eps {each['eps']:g}", fontsize=9)
        axes.set_xlabel("x (m)", fontsize=8)
        axes.set_ylabel("y (m)", fontsize=8)
    for axes in figure.axes[len(attacked) :]:
        axes.remove()
    save_figure(figure, path, title)


def strongest(results: Sequence[Facts]) -> list[Facts]:
    """The clean result, and of each adversary that of its largest eps, which comes last."""
    return list({each["adversary"]: each for each in results}.values())


def speed_curves(results: Sequence[Facts], path: Path, title: str) -> None:
    """Draw a robot's speed over time in the same episodes, clean and under each adversary at its largest eps.

    Args:
        results: with "speeds", the clean one first.
        path: the PNG.
        title: above the panels.
    """
    clean, *attacked = strongest(results)
    columns = min(4, len(attacked))
    figure = new_figure(columns, -(-len(attacked) // columns), 3.1, 2.4)
    for axes, each in zip(figure.axes, attacked):
        for facts, colour in ((clean, LIGHT), (each, VERMILLION)):
            for values in facts["speeds"]["values"]:
                axes.plot(values, color=colour, linewidth=0.8)
        axes.axhline(0, color=GREY, linewidth=0.6)
        axes.set_title(f"{each['adversary']}, eps {each['eps']:g}", fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.set_ylabel(each["speeds"]["about"], fontsize=8)
    for axes in figure.axes[len(attacked) :]:
        axes.remove()
    save_figure(figure, path, title)


def film_strips(results: Sequence[Facts], films: Mapping[str, Pictures], path: Path, title: str) -> None:
    """Draw pictures of one episode from the same start, a row for the clean victim and for each adversary.

    Args:
        results: with "filmed", the clean one first.
        films: (6, height, width, 3) by adversary.
        path: the PNG.
        title: above the rows.
    """
    shown = [each for each in strongest(results) if each["adversary"] in films]
    figure = new_figure(len(next(iter(films.values()))), len(shown), 1.6, 1.75)
    panels = iter(figure.axes)
    for each in shown:
        film = films[each["adversary"]]
        for index, (picture, step) in enumerate(zip(film, moments(each["filmed"]["steps"]))):
            axes = next(panels)
            axes.imshow(picture)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            axes.set_title(f"step {step}", fontsize=7)
            if index == 0:
                name = "no attack" if each["adversary"] == "none" else each["adversary"]
                label = name if each["eps"] == 0 else f"{name}\neps {each['eps']:g}"
                axes.set_ylabel(label, fontsize=8)
    save_figure(figure, path, title)
