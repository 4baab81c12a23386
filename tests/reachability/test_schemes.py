"""Upwind derivatives against exact ones."""

import numba
import numpy as np
import pytest

from saferl.reachability import schemes

ORDERS = {"upwind1": 1, "eno2": 2, "eno3": 3, "weno3": 3, "weno5": 5}


def derivatives(name, values, spacing):
    """Left and right derivative of a periodic function from its nodes."""
    rows = [np.roll(values, -step) for step in range(-3, 4)]
    scale = values.dtype.type(1 / spacing)
    mean, jump = np.array([getattr(schemes, name)(*point, scale) for point in zip(*rows)]).T
    return mean - jump, mean + jump


def mean_error(name, nodes):
    x = np.arange(nodes) * 2 * np.pi / nodes
    left, right = derivatives(name, np.exp(np.sin(x)), 2 * np.pi / nodes)
    exact = np.cos(x) * np.exp(np.sin(x))
    return np.array([np.abs(left - exact).mean(), np.abs(right - exact).mean()])


@pytest.mark.parametrize("name", schemes.SCHEMES)
def test_order_of_convergence(name):
    coarse, fine = mean_error(name, 320), mean_error(name, 640)
    assert (np.log2(coarse / fine) > ORDERS[name] - 0.25).all()


@pytest.mark.parametrize("name", schemes.SCHEMES)
def test_left_derivative_is_the_mirror_of_the_right_one(name):
    values = np.random.default_rng(0).normal(size=50)
    left, _ = derivatives(name, values, 0.1)
    _, right = derivatives(name, values[::-1].copy(), 0.1)
    np.testing.assert_allclose(left, -right[::-1], atol=1e-12)


@pytest.mark.parametrize("name", schemes.SCHEMES)
def test_derivative_beside_a_kink_comes_from_the_smooth_side(name):
    x = np.linspace(-1, 1, 101)
    values = np.abs(x)
    left, right = derivatives(name, values, x[1] - x[0])
    assert left[50] == pytest.approx(-1, abs=2e-3)
    assert right[50] == pytest.approx(1, abs=2e-3)
    inside = slice(10, 90)
    assert np.abs(left[inside]).max() < 1.2  # no overshoot


@pytest.mark.parametrize("name", schemes.SCHEMES)
def test_single_precision_stays_single(name):
    values = np.random.default_rng(0).normal(size=64).astype(np.float32)
    left, _ = derivatives(name, values, 0.1)
    exact, _ = derivatives(name, values.astype(np.float64), 0.1)
    compiled = {each.args[0]: each.return_type for each in getattr(schemes, name).nopython_signatures}
    assert compiled[numba.float32] == numba.types.UniTuple(numba.float32, 2)
    np.testing.assert_allclose(left, exact, rtol=2e-3, atol=2e-4)
