"""Values as functions: inputs, saving, loading."""

import numpy as np
import pytest

from saferl.reachability import SYSTEMS, Ball, Grid, System, Value


@pytest.fixture
def parabola():
    """The double integrator's exact value."""
    grid = Grid((-2, -2.5), (2, 2.5), (161, 161))
    x, v = grid.open_mesh()
    values = np.maximum(np.abs(x) - 1, np.abs(x + v * np.abs(v) / 2) - 1)
    return Value(grid, values, SYSTEMS["double_integrator"](), {"problem": "avoid"})


def test_value_and_gradient_meet_the_closed_form(parabola):
    states = np.array([[0.3, 0.9], [-0.2, -1.1]])
    x, v = states.T
    np.testing.assert_allclose(parabola(states), np.abs(x + v * np.abs(v) / 2) - 1, atol=1e-3)
    np.testing.assert_allclose(parabola.gradient(states)[:, 0], np.sign(x + v), atol=1e-6)
    np.testing.assert_allclose(parabola.gradient(states)[:, 1], np.sign(x + v) * np.abs(v), atol=1e-3)


def test_safe_control_brakes(parabola):
    np.testing.assert_allclose(parabola.safe_control([[0.3, 0.9], [-0.2, -1.1]]), [[-1], [1]])


def test_worst_disturbance_pushes_uphill():
    grid = Grid((-1, -1), (1, 1), (21, 21))
    x, y = grid.open_mesh()
    system = System(
        name="pushed", states=("x", "y"), drift=lambda x, y: (0.0, 0.0),
        disturbance_matrix=((1, 0), (0, 1)), disturbance=Ball((0, 0), 0.5),
    )  # fmt: skip
    value = Value(grid, 3 * x + 4 * y, system)
    np.testing.assert_allclose(value.worst_disturbance([[0.0, 0.0]]), [[0.3, 0.4]])
    with pytest.raises(ValueError, match="has no control"):
        value.safe_control([[0.0, 0.0]])


def test_saved_value_is_the_same_function(parabola, tmp_path):
    folder = parabola.save(tmp_path / "value")
    loaded = Value.load(folder, SYSTEMS["double_integrator"]())
    states = np.random.default_rng(0).uniform(-1, 1, (50, 2))
    np.testing.assert_array_equal(loaded(states), parabola(states))
    assert loaded.facts == parabola.facts
    np.testing.assert_array_equal(loaded.safe_control(states), parabola.safe_control(states))
    assert sorted(path.name for path in folder.iterdir()) == ["value.json", "value.safetensors"]


def test_loading_says_what_is_wrong(parabola, tmp_path):
    with pytest.raises(ValueError, match=r"holds no value \(value.json is missing\)"):
        Value.load(tmp_path)
    folder = parabola.save(tmp_path / "value")
    with pytest.raises(ValueError, match="of system double_integrator; got dubins_car"):
        Value.load(folder, SYSTEMS["dubins_car"]())
    (folder / "value.safetensors").write_bytes(b"spoiled")
    with pytest.raises(ValueError, match="holds a damaged value"):
        Value.load(folder)


def test_value_must_fit_its_grid(parabola):
    with pytest.raises(ValueError, match=r"shape \(2, 2\) on a grid of shape \(161, 161\)"):
        Value(parabola.grid, np.zeros((2, 2)))
    spoiled = parabola.values.copy()
    spoiled[80, 80] = np.nan
    with pytest.raises(ValueError, match=r"not finite at state \[0.0, 0.0\]"):
        Value(parabola.grid, spoiled)
    with pytest.raises(ValueError, match="3 states; the grid 2 axes"):
        Value(parabola.grid, parabola.values, SYSTEMS["dubins_car"]())


def test_inputs_need_a_system(parabola):
    with pytest.raises(ValueError, match="has no system"):
        Value(parabola.grid, parabola.values).safe_control([[0.0, 0.0]])
