"""Systems: shapes, input sets, motion, and the functions they are written as."""

import numba
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from saferl.reachability import SYSTEMS, Ball, Box, Grid, System
from saferl.reachability.tables import pack


def point(system):
    return np.random.default_rng(3).uniform(0.2, 1.0, system.ndim)


@pytest.mark.parametrize("name", SYSTEMS)
def test_motion_over_a_step_follows_the_differential_equation(name):
    system = SYSTEMS[name]()
    x = point(system)
    control = system.control.samples(2)[-1] * 0.7
    disturbance = () if system.disturbance is None else system.disturbance.samples(2)[0] * 0.3

    def velocity(_, state):
        return [float(each) for each in system.velocity(list(state), control, disturbance)]

    dt = 0.02
    exact = solve_ivp(velocity, (0, dt), x, rtol=1e-10, atol=1e-12).y[:, -1] - x
    found = [float(each) for each in system.displacement(list(x), control, disturbance, dt)]
    # PointRobot moves by Euler steps, as its environment does; the simulator's Point by its control step.
    tolerance = 3e-3 if name in ("point_robot", "safety_gymnasium_point") else 1e-6
    np.testing.assert_allclose(found, exact, atol=tolerance)


@pytest.mark.parametrize("name", SYSTEMS)
def test_functions_return_no_more_than_what_they_depend_on(name):
    system = SYSTEMS[name]()
    mesh = Grid((0.1,) * system.ndim, (1,) * system.ndim, (5,) * system.ndim).open_mesh()
    for component in system.drift_at(*mesh):
        assert component.size < 5**system.ndim or system.ndim == 2


def test_point_robot_moves_as_its_environment():
    from saferl.envs.point_robot_batched import step_states

    states = np.random.default_rng(0).uniform(-2, 2, (50, 4))
    actions = np.random.default_rng(1).uniform(-1, 1, (50, 2))
    after = step_states(states, actions)[0]
    change = SYSTEMS["point_robot"]().displacement(states.T, actions.T, (), 0.05)
    np.testing.assert_allclose(states + np.stack(change, axis=1), after, atol=1e-12)


def test_numba_function_of_numbers_is_evaluated_node_by_node():
    @numba.njit
    def drift(x, v):
        if v > 0:
            return v, -1.0
        return v, 1.0

    system = System(name="friction", states=("x", "v"), drift=drift)
    grid = Grid((-1, -1), (1, 1), (4, 5))
    x, v = system.drift_at(*grid.open_mesh())
    assert x.shape == (1, 5)  # found not to depend on the position
    np.testing.assert_allclose(v.ravel(), [1, 1, 1, -1, -1])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (dict(control=Box(-1, 1)), "give control and control_matrix together"),
        (dict(control_matrix=((1,),), control=Box(-1, 1)), r"must have 2 rows of 1 entries; got \[1\]"),
        (dict(control_matrix=((1, 2), (1, 2)), control=Box(-1, 1)), r"must have 2 rows of 1 entries; got \[2, 2\]"),
        (dict(drift=lambda x, y: (x,)), "drift must return 2 components; got 1"),
        (dict(drift=lambda x: (x, x)), "drift does not take 2 arrays"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        System(**(dict(name="bad", states=("x", "y"), drift=lambda x, y: (x, y)) | parts))


@pytest.mark.parametrize("bounds", [((0, 1), (1,)), (1, 0), (np.nan, 1)])
def test_impossible_boxes_are_refused(bounds):
    with pytest.raises(ValueError, match="needs finite low <= high"):
        Box(*bounds)


def test_box_samples_and_extremes():
    box = Box((-1, 0), (1, 4))
    assert box.samples(3).tolist() == [[a, b] for a in (-1, 0, 1) for b in (0, 2, 4)]
    np.testing.assert_allclose(box.extreme(np.array([[1.0, -2.0], [0.0, 0.0]])), [[1, 0], [0, 2]])
    assert len(Box((0, 1), (0, 1)).samples(5)) == 1  # of no width: one input


def test_ball_samples_lie_on_the_sphere():
    ball = Ball((1, 0), 2.0)
    distances = np.linalg.norm(ball.samples(5) - [1, 0], axis=1)
    assert distances[0] == 0
    np.testing.assert_allclose(distances[1:], 2)
    np.testing.assert_allclose(ball.extreme(np.array([[0.0, 3.0], [0.0, 0.0]])), [[1, 2], [1, 0]])


def test_tables_look_up_what_was_stored():
    grid = Grid((0, 0, 0), (1, 1, 1), (3, 4, 5))
    generator = np.random.default_rng(0)
    arrays = [generator.normal(size=shape) for shape in ((3, 4, 5), (1, 4, 1), (3, 1, 5), (1, 1, 1), ())]
    tables = pack(arrays, grid, np.dtype("float64"))
    for table, array in enumerate(arrays):
        full = np.broadcast_to(array, grid.shape)
        for index in np.ndindex(*grid.shape):
            entry = tables.entries[tables.offsets[table] + tables.strides[table] @ index]
            assert entry == full[index]
