"""Slices of values: what is drawn where, checked on values whose zero level is known."""

import matplotlib.image
import numpy as np
import pytest

from saferl.evaluation.figures import GREEN, PURPLE
from saferl.evaluation.reach_figures import name_and_unit, panels, value_slices
from saferl.reachability import Grid, Value
from tests.evaluation.test_feasible_region import share_of

SQUARE = Grid((0, 0), (2, 2), (21, 21))


def value_of(grid, function):
    return Value(grid, np.array(grid.evaluate(function)))


def test_the_first_axis_runs_to_the_right_and_the_unsafe_side_is_red(tmp_path):
    value_slices(value_of(SQUARE, lambda x, y: x - 1 + 0 * y), tmp_path / "x.png", "unsafe on the right", axes=(0, 1))
    value_slices(value_of(SQUARE, lambda x, y: x - 1 + 0 * y), tmp_path / "y.png", "unsafe above", axes=(1, 0))
    for name, axis, red_last in (("x.png", 1, True), ("y.png", 0, False)):  # images count rows from above
        image = matplotlib.image.imread(tmp_path / name)[:, : 400 * 550 // 572, :3]
        redness = (image[..., 0] - image[..., 2]).mean(axis=1 - axis)
        first, last = np.array_split(redness, 2)
        assert (last.mean() > first.mean()) == red_last


def test_the_zero_level_is_a_thick_black_line(tmp_path):
    value_slices(value_of(SQUARE, lambda x, y: x + y - 2), tmp_path / "with.png", "title")
    value_slices(value_of(SQUARE, lambda x, y: x + y - 9), tmp_path / "without.png", "title")  # and no warning
    assert share_of(tmp_path / "with.png", "#000000") > share_of(tmp_path / "without.png", "#000000") + 0.002


def test_earlier_levels_constraint_target_and_limit_are_drawn(tmp_path):
    value = value_of(SQUARE, lambda x, y: x + y - 2)
    value_slices(value, tmp_path / "plain.png", "title")
    value_slices(
        value, tmp_path / "all.png", "title",
        constraint=lambda x, y: x - 1.5, target=lambda x, y: y - 0.5, unit="m",
        earlier=[("1 s", value_of(SQUARE, lambda x, y: x + y - 3))],
        limit=value_of(SQUARE, lambda x, y: x + y - 1),
    )  # fmt: skip
    for colour in (GREEN, PURPLE):
        assert share_of(tmp_path / "all.png", colour) > share_of(tmp_path / "plain.png", colour)


@pytest.mark.parametrize("ndim", [1, 2, 3, 4, 6])
def test_values_of_any_dimension_are_drawn(ndim, tmp_path):
    grid = Grid((-1,) * ndim, (1,) * ndim, (5,) * ndim, (ndim - 1,) if ndim > 1 else ())
    value = value_of(grid, lambda *x: sum(np.abs(each) for each in x) - 0.5)
    value_slices(value, tmp_path / "slices.png", "title", constraint=lambda *x: x[0], unit="m")
    assert (tmp_path / "slices.png").stat().st_size < 200_000
    assert not list(tmp_path.glob(".*"))


def test_a_value_without_zero_or_without_any_slope_is_drawn(tmp_path):
    for number in (0.0, 1.0, -1.0):
        value_slices(value_of(SQUARE, lambda x, y, n=number: n + 0 * x), tmp_path / f"{number}.png", "flat")


def test_panels_are_the_combinations_of_the_given_values():
    grid = Grid((0,) * 5, (1,) * 5, (5,) * 5)
    drawn, points = panels(grid, (3, 1), {0: [0.1, 0.2], 4: [0.5]})
    assert drawn == (3, 1)
    assert points == [{0: 0.1, 2: 0.5, 4: 0.5}, {0: 0.2, 2: 0.5, 4: 0.5}]


def test_panels_without_given_values_spread_over_the_box():
    drawn, points = panels(Grid((0,) * 3, (4, 4, 6), (5, 5, 6), (2,)), (0, 1), {})
    assert drawn == (0, 1)
    assert [point[2] for point in points] == [0, 2, 4]  # thirds of the period
    assert len(panels(Grid((0,) * 6, (1,) * 6, (4,) * 6), (0, 1), {})[1]) == 9
    assert panels(SQUARE, (0, 1), {}) == ((0, 1), [{}])


@pytest.mark.parametrize(
    ("axes", "at", "message"),
    [
        ((0,), {}, "two of the 3 axes"),
        ((0, 0), {}, "two of the 3 axes"),
        ((0, 3), {}, "two of the 3 axes"),
        ((0, 1), {1: [0.5]}, "axis 1 is drawn"),
        ((0, 1), {5: [0.5]}, "does not exist"),
        ((0, 1), {2: [1.5]}, r"values in \[0, 1\]"),
        ((0, 1), {2: []}, "one or more values"),
        ((0, 1), {2: [0.1] * 13}, "13 panels are too many"),
    ],
)
def test_panels_that_can_not_be_are_refused(axes, at, message):
    with pytest.raises(ValueError, match=message):
        panels(Grid((0,) * 3, (1,) * 3, (5,) * 3), axes, at)


def test_a_state_has_a_name_and_a_unit():
    assert name_and_unit("speed [m/s]") == ("speed", "m/s")
    assert name_and_unit("x") == ("x", "")
