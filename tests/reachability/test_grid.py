"""Grids: nodes, wrapping, what is refused, and interpolation on them."""

import numpy as np
import pytest

from saferl.reachability import Grid
from saferl.reachability.grid import check_memory
from saferl.reachability.interpolation import interpolated, interpolated_gradient


def test_nodes_include_both_ends_but_not_the_seam():
    grid = Grid((-1, 0), (1, 2 * np.pi), (5, 4), (1,))
    np.testing.assert_allclose(grid.axes[0], [-1, -0.5, 0, 0.5, 1])
    np.testing.assert_allclose(grid.axes[1], [0, np.pi / 2, np.pi, 3 * np.pi / 2])
    np.testing.assert_allclose(grid.spacing, [0.5, np.pi / 2])
    assert grid.states().shape == (5, 4, 2)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (((0,), (1, 1), (3,)), "one entry per state"),
        (((0,) * 7, (1,) * 7, (3,) * 7), "1 to 6"),
        (((0,), (0,), (3,)), "axis 0 needs finite low < high"),
        (((0,), (np.inf,), (3,)), "axis 0 needs finite low < high"),
        (((0,), (1,), (1,)), "axis 0 needs at least 2 nodes; got 1"),
        (((0,), (1,), (3,), (0,)), "axis 0 needs at least 4 nodes"),
        (((0,), (1,), (3,), (1,)), "periodic axis 1 does not exist"),
    ],
)
def test_impossible_grids_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        Grid(*parts)


def test_memory_is_refused_with_both_sizes():
    check_memory(2**30, "work", available=2**30)
    with pytest.raises(MemoryError, match=r"work needs 2.0 GiB, and 1.0 GiB are available"):
        check_memory(2**31, "work", available=2**30)


def test_interpolation_is_exact_for_multilinear_functions():
    grid = Grid((-1, 0, 2), (1, 3, 4), (4, 5, 6))
    x, y, z = grid.open_mesh()
    points = np.random.default_rng(0).uniform(grid.low, grid.high, (200, 3))

    def function(x, y, z):
        return 1 + x - 2 * y * z + x * y * z

    found = interpolated(function(x, y, z), grid, grid.nodes_of(points))
    np.testing.assert_allclose(found, function(*points.T), atol=1e-12)


def test_interpolation_meets_the_nodes_and_wraps_around():
    grid = Grid((0, -1), (2 * np.pi, 1), (8, 3), (0,))
    values = np.random.default_rng(1).normal(size=grid.shape)
    nodes = grid.states().reshape(-1, 2)
    np.testing.assert_allclose(interpolated(values, grid, grid.nodes_of(nodes)), values.ravel(), atol=1e-12)
    around = interpolated(values, grid, grid.nodes_of(nodes + [4 * np.pi, 0]))
    np.testing.assert_allclose(around, values.ravel(), atol=1e-9)
    seam = interpolated(values, grid, grid.nodes_of([[2 * np.pi - np.pi / 8, -1]]))
    assert seam[0] == pytest.approx((values[7, 0] + values[0, 0]) / 2)


def test_beyond_the_box_the_edge_counts():
    grid = Grid((0,), (1,), (3,))
    values = np.array([1.0, 2.0, 5.0])
    np.testing.assert_allclose(interpolated(values, grid, grid.nodes_of([[-3.0], [9.0]])), [1, 5])
    assert grid.contains([[-3.0], [0.5], [1.0]]).tolist() == [False, True, True]


def test_points_that_are_not_finite_give_nan():
    grid = Grid((0,), (1,), (3,))
    assert np.isnan(interpolated(np.ones(3), grid, grid.nodes_of([[np.nan], [np.inf]]))).all()


def test_gradient_converges_in_second_order():
    def worst(nodes):
        grid = Grid((0, 0), (2 * np.pi, 1), (nodes, nodes), (0,))
        x, y = grid.open_mesh()
        points = np.random.default_rng(0).uniform((0, 0.2), (6, 0.8), (300, 2))
        found = interpolated_gradient(np.sin(x) * np.exp(y), grid, grid.nodes_of(points))
        a, b = points.T
        exact = np.stack([np.cos(a) * np.exp(b), np.sin(a) * np.exp(b)], axis=1)
        return np.abs(found - exact).max()

    assert np.log2(worst(40) / worst(80)) > 1.7


def test_gradient_at_the_edge_is_one_sided():
    grid = Grid((0,), (1,), (11,))
    gradient = interpolated_gradient(3 * grid.axes[0], grid, grid.nodes_of([[0.0], [1.0], [0.97]]))
    np.testing.assert_allclose(gradient[:, 0], 3, atol=1e-12)


def test_states_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"must have shape \(B, 2\); got \(3,\)"):
        Grid((0, 0), (1, 1), (3, 3)).nodes_of([1, 2, 3])
