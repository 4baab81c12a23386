"""Pictures of a reachability value: slices over two states with the others fixed, and tubes as they grow over time."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saferl.evaluation.figures import BLUE, GREEN, GREY, PURPLE, VERMILLION, new_figure
from saferl.reachability import Grid, Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
StateFunction = Callable[..., Any] | None
Point = Mapping[int, float]  # values of the states that a panel keeps fixed, by axis

MOST_PANELS = 12
_BANDS = 8  # of colour on either side of zero


def value_slices(
    value: Value,
    path: Path,
    title: str,
    *,
    axes: Sequence[int] = (0, 1),
    at: Mapping[int, Sequence[float]] | None = None,
    constraint: StateFunction = None,
    target: StateFunction = None,
    unit: str = "",
    earlier: Sequence[tuple[str, Value]] = (),
    limit: Value | None = None,
) -> None:
    """Draw V over two states, a panel for each choice of the others; a curve where there is one state only.

    Colours show V, white at zero; a thick line is V = 0, the border of the safe set, thin ones are h = 0 and l = 0.

    Args:
        value: V; its system, if it has one, names the states.
        path: the PNG.
        title: above the panels.
        axes: the two states that are drawn, by axis; not used for one state.
        at: values of other states by axis, one panel for each combination; states left out: see ``panels``.
        constraint, target: h and l, functions of the states; None draws none.
        unit: of V.
        earlier: (label, value) of shorter horizons, whose zero levels are drawn too.
        limit: the undiscounted value; its zero level is dashed.
    Raises: ValueError as ``panels``.
    """
    states = _names(value)
    lines = [(f"V = 0, {label}", each, {"color": colour}) for (label, each), colour in zip(earlier, _shades(earlier))]
    if limit is not None:
        lines.append(("V = 0 without discount", limit, {"color": "black", "linestyles": "dashed"}))
    if value.grid.ndim == 1:
        figure = new_figure(1, 1, 5.6, 3.8)
        _curve(figure.axes[0], value, lines, constraint, target, states[0], unit)
        figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)
        return _save(figure, path, title)
    drawn, points = panels(value.grid, axes, at or {})
    varying = {axis for axis in points[0] if len({point[axis] for point in points}) > 1}
    columns = _columns(points)
    figure = _panel_figure(value.grid, drawn, states, columns, math.ceil(len(points) / columns))
    planes = [_plane(value, value.grid, drawn, point) for point in points]
    levels = _levels(planes)
    for panel, point, plane in zip(figure.axes, points, planes):
        filled = panel.contourf(*_mesh(value.grid, drawn), plane.T, levels, colors=_colours(), extend="both")
        _zero_level(panel, value.grid, drawn, point, constraint, {"color": GREY, "linestyles": "dotted"})
        _zero_level(panel, value.grid, drawn, point, target, {"color": GREEN, "linestyles": "dotted"})
        for _, each, style in lines:
            _zero_level(panel, value.grid, drawn, point, each, style)
        _zero_level(panel, value.grid, drawn, point, value, {"color": "black", "linewidths": 2.2})
        panel.set_title(_point_words(states, point, varying), fontsize=9)
    panel_axes = list(figure.axes)
    for panel in panel_axes[len(points) :]:
        panel.remove()
    bar = figure.colorbar(filled, ax=panel_axes[: len(points)], ticks=levels[:: _BANDS // 2])
    bar.set_label("V" + (f" ({unit})" if unit else "") + f", > 0: {_meaning(constraint, target)}", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    _legend(figure, lines, constraint, target)
    same = _point_words(states, points[0], set(points[0]) - varying)  # in all panels
    _save(figure, path, f"{title}\n{same}" if same else title)


def panels(grid: Grid, axes: Sequence[int], at: Mapping[int, Sequence[float]]) -> tuple[tuple[int, int], list[Point]]:
    """The two drawn axes, and for each panel the values of the others.

    Args:
        grid: of two dimensions or more.
        axes: two axes.
        at: values of some of the others, by axis. The first two axes that are left out take three values evenly spread
            over the box while ``at`` is empty; what then remains is fixed in the middle of the box.
    Raises: ValueError for axes that do not exist or are drawn already, values beyond the box, or over 12 panels.
    """
    first, second = _two_axes(grid, axes)
    for axis, values in at.items():
        if not 0 <= axis < grid.ndim or axis in (first, second):
            raise ValueError(f"at: axis {axis} is drawn, or does not exist; fix others of the {grid.ndim} axes.")
        low, high = grid.low[axis], grid.high[axis]
        if not values or not all(low <= each <= high or axis in grid.periodic for each in values):
            raise ValueError(f"at: axis {axis} takes one or more values in [{low:g}, {high:g}]; got {list(values)}.")
    chosen: dict[int, Sequence[float]] = {}
    for axis in sorted(set(range(grid.ndim)) - {first, second}):
        low, extent = grid.low[axis], grid.high[axis] - grid.low[axis]
        shares: tuple[float, ...] = (0.5,)
        if not at and len(chosen) < 2:
            shares = (0, 1 / 3, 2 / 3) if axis in grid.periodic else (0.25, 0.5, 0.75)
        chosen[axis] = at.get(axis, [low + share * extent for share in shares])
    order = sorted(chosen, key=lambda axis: len(chosen[axis]))  # the longest list along the rows of panels
    rows = [dict(zip(order, values)) for values in product(*(chosen[axis] for axis in order))]
    points: list[Point] = [{axis: row[axis] for axis in chosen} for row in rows]
    if len(points) > MOST_PANELS:
        raise ValueError(f"at: {len(points)} panels are too many to be seen; give fewer values, {MOST_PANELS} at most.")
    return (first, second), points


def _two_axes(grid: Grid, axes: Sequence[int]) -> tuple[int, int]:
    if len(axes) != 2 or axes[0] == axes[1] or not all(0 <= axis < grid.ndim for axis in axes):
        raise ValueError(f"axes must be two of the {grid.ndim} axes, counted from 0; got {list(axes)}.")
    return axes[0], axes[1]


def name_and_unit(state: str) -> tuple[str, str]:
    """Parts of a state's name: "speed [m/s]" gives ("speed", "m/s"); without brackets the unit is empty."""
    match = re.fullmatch(r"(.*?)\s*\[(.*)\]", state)
    return (match[1], match[2]) if match else (state, "")


def _names(value: Value) -> list[str]:
    return [f"state {axis}" for axis in range(value.grid.ndim)] if value.system is None else list(value.system.states)


def _label(state: str) -> str:
    name, unit = name_and_unit(state)
    return f"{name} ({unit})" if unit else name


def _point_words(states: Sequence[str], point: Point, axes: set[int]) -> str:
    """Values of some states of a panel: "v = 1.5 m/s, heading = 0.785 rad"."""
    parts = [(*name_and_unit(states[axis]), point[axis]) for axis in sorted(axes)]
    return ", ".join(f"{name} = {number:.3g} {unit}".strip() for name, unit, number in parts)


def _meaning(constraint: StateFunction, target: StateFunction) -> str:
    if target is None:
        return "can't be kept safe"
    return "can't reach the target" + ("" if constraint is None else " safely")


def _columns(points: Sequence[Point]) -> int:
    """Panels in a row: as many as the state that varies fastest has values, if that is not too wide."""
    longest = max((len({point[axis] for point in points}) for axis in points[0]), default=1)
    return longest if 2 <= longest <= 4 else min(4, len(points))


def _panel_figure(grid: Grid, drawn: tuple[int, int], states: Sequence[str], columns: int, rows: int) -> "Figure":
    """Empty panels with labels outside, in proportion where both states have one unit."""
    width, height = (grid.high[axis] - grid.low[axis] for axis in drawn)
    same = name_and_unit(states[drawn[0]])[1] == name_and_unit(states[drawn[1]])[1] and 1 / 3 <= height / width <= 3
    size = 5.2 if columns * rows == 1 else 3.3
    figure = new_figure(columns, rows, size, size * (float(np.clip(height / width, 0.6, 1.4)) if same else 0.85))
    figure.set_layout_engine("compressed")  # keeps panels of fixed proportions together
    for index, panel in enumerate(figure.axes):
        if same:
            panel.set_aspect("equal")
        if index % columns == 0:
            panel.set_ylabel(_label(states[drawn[1]]), fontsize=9)
        if index >= columns * (rows - 1):
            panel.set_xlabel(_label(states[drawn[0]]), fontsize=9)
    return figure


def _mesh(grid: Grid, drawn: tuple[int, int]) -> tuple[Array, Array]:
    """Nodes along the drawn axes; a periodic one ends where it began."""
    first, second = (
        np.append(grid.axes[axis], grid.high[axis]) if axis in grid.periodic else grid.axes[axis] for axis in drawn
    )
    return first, second


def _plane(function: Callable[..., Any], grid: Grid, drawn: tuple[int, int], point: Point) -> Array:
    """A value, or a function of the states, on the plane of a panel: (nodes along the first, along the second)."""
    first, second = _mesh(grid, drawn)
    shape = (len(first), len(second))
    states = np.empty((*shape, grid.ndim))
    states[..., drawn[0]], states[..., drawn[1]] = first[:, None], second
    for axis, number in point.items():
        states[..., axis] = number
    flat = states.reshape(-1, grid.ndim)
    values = function(flat) if isinstance(function, Value) else function(*flat.T)
    return np.array(np.broadcast_to(np.asarray(values, np.float64), len(flat)).reshape(shape))


def _levels(planes: Sequence[Array]) -> Array:
    """Borders of the colours, zero in their middle, as far as the side of zero goes that goes less far."""
    low, high = min(plane.min() for plane in planes), max(plane.max() for plane in planes)
    bound = min(-low, high) if low < 0 < high else max(abs(low), abs(high))
    return np.linspace(-1, 1, 2 * _BANDS + 1) * (float(f"{bound:.1g}") or 1.0)


def _colours() -> list[Any]:
    """From blue (safe) over white to vermillion, one for each band and one beyond either end."""
    from matplotlib.colors import LinearSegmentedColormap

    scale = LinearSegmentedColormap.from_list("safe", [BLUE, "white", VERMILLION])
    return [scale(share) for share in (np.arange(2 * _BANDS + 2) + 0.5) / (2 * _BANDS + 2)]


def _shades(earlier: Sequence[Any]) -> list[Any]:
    from matplotlib.colors import LinearSegmentedColormap

    scale = LinearSegmentedColormap.from_list("time", [PURPLE, "#4B1E39"])
    return [scale(share) for share in np.linspace(0, 1, max(len(earlier), 2))[: len(earlier)]]


def _zero_level(
    panel: "Axes",
    grid: Grid,
    drawn: tuple[int, int],
    point: Point,
    function: StateFunction,
    style: Mapping[str, Any],
) -> None:
    if function is None:
        return
    plane = _plane(function, grid, drawn, point)
    if plane.min() < 0 < plane.max():  # matplotlib warns of a level that is nowhere
        color, rest = style["color"], {key: each for key, each in style.items() if key != "color"}
        panel.contour(*_mesh(grid, drawn), plane.T, levels=[0.0], colors=[color], **{"linewidths": 1.4, **rest})


def _curve(
    panel: "Axes",
    value: Value,
    lines: Sequence[Any],
    constraint: StateFunction,
    target: StateFunction,
    state: str,
    unit: str,
) -> None:
    """V over its only state."""
    (nodes,) = value.grid.axes
    panel.axhline(0, color=GREY, linewidth=0.8)
    unsafe = (value.values > 0).tolist()
    meaning = f"V > 0: {_meaning(constraint, target)}"
    whole = panel.get_xaxis_transform()
    panel.fill_between(nodes, 0, 1, unsafe, transform=whole, color=VERMILLION, alpha=0.15, label=meaning)
    for label, function, colour in (("h", constraint, GREY), ("l", target, GREEN)):
        if function is not None:
            panel.plot(nodes, value.grid.evaluate(function), color=colour, linestyle="dotted", label=label)
    for label, each, style in lines:
        dashes, label = style.get("linestyles", "solid"), label.replace(" = 0", "")
        panel.plot(nodes, each.values, color=style["color"], linestyle=dashes, linewidth=1, label=label)
    panel.plot(nodes, value.values, color="black", linewidth=2.2, label="V")
    panel.set_xlabel(_label(state), fontsize=9)
    panel.set_ylabel("V" + (f" ({unit})" if unit else ""), fontsize=9)


def _legend(figure: "Figure", lines: Sequence[Any], constraint: StateFunction, target: StateFunction) -> None:
    from matplotlib.lines import Line2D

    entries: list[tuple[str, Any, Any, float]] = [("V = 0", "black", "solid", 2.2)]
    entries += [(label, style["color"], style.get("linestyles", "solid"), 1.2) for label, _, style in lines]
    entries += [("h = 0", GREY, "dotted", 1.2)] if constraint is not None else []
    entries += [("l = 0", GREEN, "dotted", 1.2)] if target is not None else []
    handles = [
        Line2D([], [], color=colour, linestyle=dashes, linewidth=width, label=label)
        for label, colour, dashes, width in entries
    ]
    columns = min(len(handles), 4 if figure.get_figwidth() < 8 else 7)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


def _save(figure: "Figure", path: Path, title: str) -> None:
    figure.suptitle(title, fontsize=11)
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, dpi=110, format="png")
    temporary.replace(path)
