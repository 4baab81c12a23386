"""Continuous-time values against closed forms, recordings of another solver, and what must hold for any."""

import itertools

import numpy as np
import pytest

from saferl.reachability import SYSTEMS, Ball, Box, Grid, System
from saferl.reachability.hamilton_jacobi import Scheme, coefficients_of, memory, snapshots, solve
from tests.reachability.oracles import oracle

FIRST_ORDER = Scheme(space="upwind1", time=1)


def advection(speed=1.0, **parts):
    return System(name="advection", states=("x",), drift=lambda x: (speed,), **parts)


def test_double_integrator_meets_the_braking_parabola():
    grid = Grid((-2, -2.5), (2, 2.5), (101, 101))
    value = solve(
        SYSTEMS["double_integrator"](), grid, horizon=2.5, constraint=lambda x, v: np.abs(x) - 1, dtype="float64"
    )
    x, v = grid.open_mesh()
    exact = np.maximum(np.abs(x) - 1, np.abs(x + v * np.abs(v) / 2) - 1)
    near = np.abs(exact) < 0.25
    assert np.abs(value.values - exact)[near].mean() < 1e-3
    assert np.mean((value.values > 0) != (exact > 0)) < 5e-3


def test_dubins_car_meets_the_hard_turn():
    grid = Grid((-3, -3, -np.pi), (3, 3, np.pi), (51, 51, 50), (2,))
    value = solve(SYSTEMS["dubins_car"](), grid, horizon=2.0, constraint=lambda x, y, heading: 1 - np.hypot(x, y))
    x, y, heading = grid.open_mesh()
    along, across = x * np.cos(heading) + y * np.sin(heading), np.abs(y * np.cos(heading) - x * np.sin(heading))
    distance = np.hypot(x, y)
    exact = 1 - np.where(along >= 0, distance, np.sqrt(distance**2 + 2 * across + 1) - 1)
    near = np.abs(exact) < 0.25
    assert np.abs(value.values - exact)[near].mean() < 3e-3
    assert np.mean((value.values > 0) != (exact > 0)) < 5e-3


# WENO5 on the same grid with the same steps: what differs is rounding, and what rounding makes of kinks.
@pytest.mark.parametrize(
    ("name", "system", "constraint", "dtype", "mean"),
    [
        ("double_integrator_avoid", "double_integrator", lambda x, v: np.abs(x) - 1, "float64", 1e-6),
        ("dubins3d_avoid", "dubins_car", lambda x, y, heading: 1 - np.hypot(x, y), "float32", 2e-6),
        pytest.param(
            "air3d_avoid", "air3d", lambda x, y, psi: 5 - np.hypot(x, y), "float32", 1e-3, marks=pytest.mark.slow
        ),
    ],
)
def test_recorded_solution_is_met(name, system, constraint, dtype, mean):
    recording = oracle(name)
    value = solve(
        SYSTEMS[system](), recording.grid, horizon=recording.facts["horizon_T"], constraint=constraint, dtype=dtype
    )
    assert np.abs(recording.at_recorded(value.values) - recording.recorded).mean() < mean


@pytest.mark.slow
def test_air3d_meets_the_barrier():
    recording = oracle("air3d_avoid")
    value = solve(SYSTEMS["air3d"](), recording.grid, horizon=2.8, constraint=lambda x, y, psi: 5 - np.hypot(x, y))
    found, exact = recording.at_recorded(value.values), recording.reference
    x, y, _ = (axis[:: recording.every] for axis in recording.grid.axes)
    band = (np.abs(exact) < 1) & ((x > -5) & (x < 19))[:, None, None] & (np.abs(y) < 9)[None, :, None]
    assert np.abs(found - exact)[band].mean() < 0.005


@pytest.mark.parametrize(
    ("scheme", "order"),
    [
        (Scheme(space="upwind1", time=1), 1),
        (Scheme(space="eno2", time=2), 2),
        (Scheme(space="weno3", time=3), 3),
        (Scheme(space="eno3", time=3), 3),
        (Scheme(space="weno5", time=3), 3),  # the time step's order shows
        (Scheme(space="weno5", time=2), 2),
    ],
)
def test_order_of_convergence_of_a_smooth_solution(scheme, order):
    # A sine: on less simple waves ENO3 switches stencils and loses its order (Rogerson and Meiburg, 1990).
    def error(nodes):
        grid = Grid((0,), (2 * np.pi,), (nodes,), (0,))
        value = solve(advection(), grid, horizon=1.0, target=np.sin, kind="set", scheme=scheme, dtype="float64")
        return np.abs(value.values - np.sin(grid.axes[0] + 1.0)).mean()

    assert np.log2(error(160) / error(320)) > order - 0.2


@pytest.mark.parametrize("dissipation", ["local", "global"])
def test_dissipation_changes_the_error_not_the_limit(dissipation):
    grid = Grid((-2, -2.5), (2, 2.5), (61, 61))
    scheme = Scheme(space="weno3", time=2, dissipation=dissipation)
    value = solve(
        SYSTEMS["double_integrator"](), grid, horizon=2.5, constraint=lambda x, v: np.abs(x) - 1, scheme=scheme
    )
    x, v = grid.open_mesh()
    exact = np.maximum(np.abs(x) - 1, np.abs(x + v * np.abs(v) / 2) - 1)
    assert np.abs(value.values - exact)[np.abs(exact) < 0.25].mean() < 0.01


def test_tube_grows_with_time_and_control_shrinks_it():
    grid = Grid((-3, -3, -np.pi), (3, 3, np.pi), (31, 31, 30), (2,))

    def values(turn_rate):
        system = SYSTEMS["dubins_car"](max_turn_rate=turn_rate)
        return list(snapshots(system, grid, times=(0.3, 0.6, 1.2), constraint=lambda x, y, t: 1 - np.hypot(x, y)))

    slow, quick = values(0.5), values(1.5)
    for earlier, later in itertools.pairwise(slow):
        assert (later.values >= earlier.values - 1e-6).all()  # but for rounding
    assert (quick[-1].values <= slow[-1].values + 1e-4).all()
    assert quick[-1].volume() > slow[-1].volume()


def test_heading_that_does_not_wrap_is_right_away_from_its_ends():
    wrapped = Grid((-3, -3, -np.pi), (3, 3, np.pi), (31, 31, 40), (2,))
    line = Grid((-3, -3, -np.pi), (3, 3, np.pi - 2 * np.pi / 40), (31, 31, 40))  # the same nodes
    settings = dict(
        horizon=0.5, constraint=lambda x, y, heading: 1 - np.hypot(x, y), scheme=FIRST_ORDER, dtype="float64"
    )
    right = solve(SYSTEMS["dubins_car"](), wrapped, **settings).values
    found = solve(SYSTEMS["dubins_car"](), line, **settings).values
    far = slice(10, -10)  # turning at 1 rad/s for 0.5 s, nothing has come from the ends
    np.testing.assert_allclose(found[..., far], right[..., far], atol=1e-9)
    assert np.abs(found - right).max() > 1e-3


def test_snapshots_equal_separate_solutions():
    grid = Grid((-2, -2), (2, 2), (41, 41))
    settings = dict(constraint=lambda x, v: np.abs(x) - 1, scheme=FIRST_ORDER, dtype="float64")
    both = list(snapshots(SYSTEMS["double_integrator"](), grid, times=(0.5, 1.0), **settings))
    alone = solve(SYSTEMS["double_integrator"](), grid, horizon=0.5, **settings)
    np.testing.assert_array_equal(both[0].values, alone.values)


def test_disturbance_undoes_equal_control():
    grid = Grid((-1,), (1,), (201,))
    both = System(
        name="tug",
        states=("x",),
        drift=lambda x: (0.0,),
        control_matrix=((1,),),
        control=Box(-1, 1),
        disturbance_matrix=((1,),),
        disturbance=Box(-1, 1),
    )
    value = solve(both, grid, horizon=0.5, constraint=lambda x: np.abs(x) - 0.5, dtype="float64")
    # Nobody wins: the Hamiltonian is zero, and what the dissipation rounds off at the kink is all that changes.
    np.testing.assert_allclose(value.values, np.abs(grid.axes[0]) - 0.5, atol=0.02)


def test_stronger_disturbance_wins_at_the_rate_of_the_difference():
    grid = Grid((-1,), (1,), (201,))
    tug = System(
        name="tug", states=("x",), drift=lambda x: (0.0,), control_matrix=((1,),), control=Box(-0.5, 0.5),
        disturbance_matrix=((1,),), disturbance=Box(-1, 1),
    )  # fmt: skip
    value = solve(tug, grid, horizon=0.4, constraint=lambda x: np.abs(x) - 0.5, dtype="float64")
    x = grid.axes[0]
    away = np.abs(x) > 0.05
    np.testing.assert_allclose(value.values[away], (np.abs(x) - 0.5 + 0.5 * 0.4)[away], atol=2e-3)


def test_ball_of_controls_reaches_equally_far_in_all_directions():
    grid = Grid((-2, -2), (2, 2), (81, 81))
    walker = System(
        name="walker", states=("x", "y"), drift=lambda x, y: (0.0, 0.0),
        control_matrix=((1, 0), (0, 1)), control=Ball((0, 0), 1.0),
    )  # fmt: skip
    value = solve(walker, grid, horizon=0.7, target=lambda x, y: np.hypot(x, y) - 0.5, dtype="float64")
    x, y = grid.open_mesh()
    exact = np.hypot(x, y) - 0.5 - 0.7
    ring = (np.hypot(x, y) > 1.0) & (np.hypot(x, y) < 1.6)
    assert np.abs(value.values - exact)[ring].max() < 0.01


def test_inputs_off_centre_are_drift():
    grid = Grid((0,), (2 * np.pi,), (100,), (0,))
    pushed = System(name="pushed", states=("x",), drift=lambda x: (0.0,), control_matrix=((1,),), control=Box(1.0, 1.0))
    settings = dict(horizon=0.5, target=lambda x: np.sin(x), kind="set", dtype="float64")
    np.testing.assert_allclose(solve(pushed, grid, **settings).values, solve(advection(1.0), grid, **settings).values)


def test_reach_avoid_stops_at_the_obstacle():
    # On a line, the target [1, 1.5] is 1 s away from 0, and the obstacle [-1, -0.5] shields what is left of it.
    grid = Grid((-2,), (2,), (401,))
    walker = System(name="walker", states=("x",), drift=lambda x: (0.0,), control_matrix=((1,),), control=Box(-1, 1))
    value = solve(
        walker,
        grid,
        horizon=10.0,
        target=lambda x: np.abs(x - 1.25) - 0.25,
        constraint=lambda x: 0.25 - np.abs(x + 0.75),
        dtype="float64",
    )
    x = grid.axes[0]
    reached = value.values <= 0
    assert reached[(x > -0.47) & (x < 1.9)].all()
    assert not reached[x < -0.505].any()  # at -0.5 itself, h is 0: still safe


def test_reach_tube_and_set_differ_for_a_passing_train():
    # The train passes through [0, 0.2] and is past it at the end of the horizon.
    grid = Grid((-2,), (2,), (401,))
    settings = dict(horizon=1.0, target=lambda x: np.abs(x - 0.1) - 0.1, dtype="float64")
    tube, end = solve(advection(), grid, **settings), solve(advection(), grid, kind="set", **settings)
    assert tube([[-0.5]])[0] <= 0
    assert end([[-0.5]])[0] > 0
    assert end([[-0.9]])[0] == pytest.approx(-0.1, abs=0.02)


def test_all_dimensions_agree_with_a_line():
    # A walker on the first axis of a box of 1 to 6 dimensions.
    walls = dict(horizon=0.3, scheme=FIRST_ORDER, dtype="float64")
    tug = dict(control=Box(-1, 1))
    lines = []
    for ndim in range(1, 7):
        system = System(
            name="walker",
            states=tuple(f"x{i}" for i in range(ndim)),
            drift=lambda *x: (0.3,) + (0.0,) * (len(x) - 1),
            control_matrix=((1,),) + ((0,),) * (ndim - 1),
            **tug,
        )
        grid = Grid((-1,) * ndim, (1,) * ndim, (31,) + (4, 5, 4, 4, 4)[: ndim - 1], (2,) if ndim > 2 else ())
        value = solve(system, grid, constraint=lambda *x: np.abs(x[0]) - 0.5, **walls)
        lines.append(value.values[(slice(None),) + (1,) * (ndim - 1)])
    for line in lines[1:]:
        np.testing.assert_allclose(line, lines[0], atol=1e-12)


def test_axes_may_be_swapped():
    # The same car with its states in another order: another layout, the same values.
    car = SYSTEMS["dubins_car"]()
    turned = System(
        name="turned",
        states=("heading", "x", "y"),
        drift=lambda heading, x, y: (0.0, np.cos(heading), np.sin(heading)),
        control_matrix=((1,), (0,), (0,)),
        control=Box(-1, 1),
    )
    grid = Grid((-2, -2, -np.pi), (2, 2, np.pi), (21, 22, 20), (2,))
    other = Grid((-np.pi, -2, -2), (np.pi, 2, 2), (20, 21, 22), (0,))
    a = solve(car, grid, horizon=0.5, constraint=lambda x, y, t: 1 - np.hypot(x, y), dtype="float64")
    b = solve(turned, other, horizon=0.5, constraint=lambda t, x, y: 1 - np.hypot(x, y), dtype="float64")
    np.testing.assert_allclose(a.values, np.moveaxis(b.values, 0, -1), atol=1e-12)


def test_still_system_comes_to_rest_at_once():
    grid = Grid((-1,), (1,), (11,))
    value = solve(advection(0.0), grid, horizon=5.0, constraint=lambda x: x)
    assert value.facts["at_rest"]
    np.testing.assert_allclose(value.values, grid.axes[0], atol=1e-7)


def test_tolerance_stops_when_nothing_moves():
    grid = Grid((-2, -2.5), (2, 2.5), (41, 41))
    value = solve(
        SYSTEMS["double_integrator"](), grid, horizon=1e3, constraint=lambda x, v: np.abs(x) - 1, tolerance=1e-2
    )
    assert value.facts["at_rest"]
    assert value.facts["steps"] < 2000


def test_empty_target_is_never_reached():
    grid = Grid((-1,), (1,), (21,))
    value = solve(advection(), grid, horizon=3.0, target=lambda x: np.ones_like(x))
    assert (value.values > 0).all()


def test_progress_ends_at_one():
    seen = []
    grid = Grid((-1,), (1,), (21,))
    solve(advection(), grid, horizon=1.0, constraint=lambda x: x, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_single_precision_agrees_with_double():
    grid = Grid((-2, -2, -np.pi), (2, 2, np.pi), (31, 31, 30), (2,))
    settings = dict(horizon=1.0, constraint=lambda x, y, t: 1 - np.hypot(x, y))
    single = solve(SYSTEMS["dubins_car"](), grid, **settings)
    double = solve(SYSTEMS["dubins_car"](), grid, dtype="float64", **settings)
    assert single.values.dtype == np.float32
    assert np.abs(single.values - double.values).max() < 1e-4


def test_time_step_obeys_the_fastest_node():
    grid = Grid((-1, -2), (1, 2), (21, 41))
    coefficients = coefficients_of(SYSTEMS["double_integrator"](max_acceleration=3.0), grid, Scheme())
    assert coefficients.time_step == pytest.approx(1 / (2 / 0.1 + 3 / 0.1))


def test_memory_counts_three_arrays():
    grid = Grid((0,) * 3, (1,) * 3, (10, 10, 10))
    assert memory(grid, np.dtype("float32"), Scheme(), reach_avoid=False) == (3 * 100 * 16 + 1000) * 4


def test_impossible_grid_is_refused_with_its_size():
    grid = Grid((0,) * 6, (1,) * 6, (100,) * 6)
    with pytest.raises(
        MemoryError, match=r"avoid on 100 x 100 x 100 x 100 x 100 x 100 nodes in float32 needs [\d,.]+ GiB"
    ):
        solve(SYSTEMS["planar_quadrotor"](), grid, horizon=1.0, constraint=lambda *x: x[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(horizon=-1.0), "positive, rising"),
        (dict(constraint=None), "give constraint"),
        (dict(kind="tubes"), "tube or set; got 'tubes'"),
        (dict(kind="set", target=lambda x: x), "not both"),
        (dict(device="tpu"), "cpu or cuda; got 'tpu'"),
        (dict(dtype="float16"), "float32, float64; got float16"),
        (dict(constraint=lambda x: np.where(x > 0.5, np.nan, x)), r"constraint is nan at state \[0.6"),
        (dict(constraint=np.zeros((3, 3))), r"constraint has shape \(3, 3\) on a grid of shape \(11,\)"),
    ],
)
def test_unfit_settings_are_refused(changes, message):
    settings = dict(horizon=1.0, constraint=lambda x: x) | changes
    with pytest.raises(ValueError, match=message):
        solve(advection(), Grid((-1,), (1,), (11,)), **settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(space="weno7"), "weno5; got 'weno7'"),
        (dict(time=4), "1, 2 or 3; got 4"),
        (dict(dissipation="none"), "local or global; got 'none'"),
        (dict(cfl=1.5), r"\(0, 1\]; got 1.5"),
    ],
)
def test_unknown_scheme_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Scheme(**changes)


def test_dynamics_that_are_not_finite_are_located():
    with np.errstate(divide="ignore"):
        system = System(name="pole", states=("x", "y"), drift=lambda x, y: (1 / (x + y), 0.0))
    with np.errstate(divide="ignore"), pytest.raises(ValueError, match=r"not finite at state \[-1.0, 1.0\]"):
        solve(system, Grid((-1, -1), (1, 1), (3, 3)), horizon=1.0, constraint=lambda x, y: x)


def test_values_that_leave_single_precision_are_reported():
    grid = Grid((-1,), (1,), (21,))
    with pytest.raises(FloatingPointError, match="take dtype=float64"):
        solve(advection(), grid, horizon=0.1, constraint=lambda x: 1e30 * np.sin(9 * x))
