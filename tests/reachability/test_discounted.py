"""Discounted values against a recorded fixed point, closed forms, and a plain rewrite of the operator."""

import itertools
import tracemalloc

import numpy as np
import pytest

from saferl.reachability import SYSTEMS, Box, Grid, System, Value, discounted
from saferl.reachability.discounted import anneal, discount_bias, discount_for, solve
from tests.reachability.oracles import oracle


def walls(x, v):
    return np.abs(x) - 1


def disc(x, y, *rest):
    return 1 - np.hypot(x, y)


def line(n=201):
    return Grid((-2, -2.5), (2, 2.5), (n, n))


def braking(grid):
    x, v = grid.open_mesh()
    return np.maximum(np.abs(x) - 1, np.abs(x + v * np.abs(v) / 2) - 1)


@pytest.mark.parametrize("sweep", ["jacobi", "gauss_seidel"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_recorded_fixed_point_is_met(sweep, dtype):
    recording = oracle("double_integrator_discounted")
    settings = dict(dt=0.05, discount=0.99, constraint=walls, sweep=sweep, dtype=dtype, tolerance=1e-6)
    value = solve(SYSTEMS["double_integrator"](), recording.grid, **settings)
    error = np.abs(value.values - recording.recorded).max()
    assert error < 1e-5
    assert error <= value.facts["bound"] + 1e-6
    assert value.facts["converged"]


def plain_sweep(system, grid, values, h, l, dt, g, interpolation):  # noqa: E741
    """The operator, one node at a time, with interpolation as a sum over all nodes around a foot."""
    u = [()] if system.control is None else system.control.samples(3)
    d = [()] if system.disturbance is None else system.disturbance.samples(3)
    out = np.empty(grid.shape)
    for index in np.ndindex(*grid.shape):
        state = [np.array(axis[i]) for axis, i in zip(grid.axes, index)]

        def foot(control, disturbance, index=index, state=state):
            moves = system.displacement(state, control, disturbance, dt)
            taps = []
            for k, move in enumerate(moves):
                at = float(move) / grid.spacing[k]
                floor = int(np.floor(at + 1e-9))
                w = max(at - floor, 0.0)
                if interpolation == "linear":
                    weights = {0: 1 - w, 1: w}
                else:
                    weights = {j: np.prod([(w - m) / (j - m) for m in (-1, 0, 1, 2) if m != j]) for j in (-1, 0, 1, 2)}
                axis = []
                for j, weight in weights.items():
                    node = index[k] + floor + j
                    node = node % grid.shape[k] if k in grid.periodic else min(max(node, 0), grid.shape[k] - 1)
                    axis.append((node, weight, j in (0, 1) and (j == 0 or w > 1e-9)))
                taps.append(axis)
            total, corners = 0.0, []
            for combination in itertools.product(*taps):
                v = values[tuple(node for node, _, _ in combination)]
                total += np.prod([weight for _, weight, _ in combination]) * v
                if all(corner for _, _, corner in combination):
                    corners.append(v)
            return min(max(total, min(corners)), max(corners)) if interpolation == "cubic" else total

        ahead = min(max(foot(a, b) for b in d) for a in u)
        if l is None:
            out[index] = (1 - g) * h[index] + g * max(h[index], ahead)
        elif h is None:
            out[index] = (1 - g) * l[index] + g * min(l[index], ahead)
        else:
            out[index] = (1 - g) * max(h[index], l[index]) + g * max(h[index], min(l[index], ahead))
    return out


CASES = {
    "dubins_car": (Grid((-2, -2, -np.pi), (2, 2, np.pi), (6, 5, 8), (2,)), 0.4),
    "air3d": (Grid((-3, -3, 0), (3, 3, 2 * np.pi), (5, 6, 5), (2,)), 0.1),
    "double_integrator": (Grid((-2, -2.5), (2, 2.5), (9, 8)), 0.3),
    "car4d": (Grid((-2, -2, 0, -np.pi), (2, 2, 2, np.pi), (4, 5, 3, 4), (3,)), 0.3),
    "inverted_pendulum": (Grid((-np.pi, -4), (np.pi, 4), (8, 7), (0,)), 0.1),
}


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("problem", ["avoid", "reach", "reach-avoid"])
def test_sweeps_equal_a_plain_rewrite(name, interpolation, problem, monkeypatch):
    system, (grid, dt) = SYSTEMS[name](), CASES[name]
    generator = np.random.default_rng(0)
    h = None if problem == "reach" else generator.normal(size=grid.shape)
    l = None if problem == "avoid" else generator.normal(size=grid.shape)  # noqa: E741
    settings = dict(
        dt=dt, discount=0.9, constraint=h, target=l, interpolation=interpolation, max_sweeps=2, dtype="float64"
    )
    expected = h if l is None else (l if h is None else np.maximum(h, l))
    for _ in range(2):
        expected = plain_sweep(system, grid, expected, h, l, dt, 0.9, interpolation)
    np.testing.assert_allclose(solve(system, grid, **settings).values, expected, atol=1e-9)
    monkeypatch.setattr(discounted, "axes_order", lambda system, grid, *rest: (tuple(range(grid.ndim)), 0))
    np.testing.assert_allclose(solve(system, grid, **settings).values, expected, atol=1e-9)  # by nodes, not by planes


def test_six_axes_equal_a_plain_rewrite(monkeypatch):
    system, grid = SYSTEMS["planar_quadrotor"](), Grid((-1,) * 6, (1,) * 6, (2, 3, 4, 2, 2, 2), (2,))
    h = np.random.default_rng(0).normal(size=grid.shape)
    settings = dict(dt=0.1, discount=0.9, constraint=h, max_sweeps=1, dtype="float64")
    expected = plain_sweep(system, grid, h, h, None, 0.1, 0.9, "linear")
    np.testing.assert_allclose(solve(system, grid, **settings).values, expected, atol=1e-9)
    monkeypatch.setattr(discounted, "axes_order", lambda system, grid, *rest: (tuple(range(grid.ndim)), 0))
    np.testing.assert_allclose(solve(system, grid, **settings).values, expected, atol=1e-9)


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_planes_equal_nodes_in_single_precision(interpolation, monkeypatch):
    # Long steps: feet lie up to 5 nodes off, beyond the edges of some rows and around those that wrap.
    grid = Grid((-2, -2, -np.pi), (2, 2, np.pi), (23, 18, 8), (1, 2))
    h = np.random.default_rng(0).normal(size=grid.shape)
    settings = dict(dt=1.1, discount=0.95, constraint=h, max_sweeps=5, interpolation=interpolation)
    planes = solve(SYSTEMS["dubins_car"](), grid, **settings)
    assert planes.values.dtype == np.float32
    monkeypatch.setattr(discounted, "axes_order", lambda system, grid, *rest: (tuple(range(grid.ndim)), 0))
    nodes = solve(SYSTEMS["dubins_car"](), grid, **settings)
    np.testing.assert_allclose(planes.values, nodes.values, atol=2e-5)
    assert planes.facts["change"] == pytest.approx(nodes.facts["change"], abs=2e-5)


@pytest.mark.parametrize("by_nodes", [False, True])
def test_cubic_is_exact_on_cubics_and_stays_between_the_corners(by_nodes, monkeypatch):
    if by_nodes:
        monkeypatch.setattr(discounted, "axes_order", lambda system, grid, *rest: (tuple(range(grid.ndim)), 0))
    grid = Grid((-1, -2), (1, 2), (12, 15))
    drift = System(name="drift", states=("x", "y"), drift=lambda x, y: (0.3, -0.7))

    def ahead(values):  # nothing is violated: V is the value at the foot
        settings = dict(dt=0.2, discount=1.0, constraint=lambda x, y: -100 + 0 * x, max_sweeps=1, dtype="float64")
        return solve(drift, grid, start=Value(grid, values), interpolation="cubic", **settings).values

    def cubic(x, y):  # it rises along both axes, so that nothing is clipped
        return x**3 + 2 * x + y**3 + y + 0.1 * x * y

    x, y = grid.open_mesh()
    inner = (slice(2, -3), slice(3, -3))
    np.testing.assert_allclose(ahead(cubic(x, y))[inner], cubic(x + 0.06, y - 0.14)[inner], atol=1e-12)
    steps = np.broadcast_to(np.where(x > 0, 1.0, 0.0), grid.shape)
    assert ahead(steps).min() == 0
    assert ahead(steps).max() == 1


@pytest.mark.parametrize("name", ["planar_quadrotor", "point_robot", "bicycle"])
def test_planes_equal_nodes(name, monkeypatch):
    system = SYSTEMS[name]()
    grid = Grid((-1,) * system.ndim, (1,) * system.ndim, (5, 6, 4, 5, 4, 4)[: system.ndim], (2,))
    settings = dict(dt=0.1, discount=0.95, constraint=lambda *x: x[0] * x[1] + x[2], max_sweeps=3, dtype="float64")
    planes = solve(system, grid, **settings)
    monkeypatch.setattr(discounted, "axes_order", lambda system, grid, *rest: (tuple(range(grid.ndim)), 0))
    np.testing.assert_allclose(planes.values, solve(system, grid, **settings).values, atol=1e-12)


def test_large_planes_are_worked_on_in_tiles(monkeypatch):
    from saferl.reachability import semi_lagrangian_planes

    grid = Grid((-2, -2, -np.pi), (2, 2, np.pi), (120, 110, 8), (2,))  # a plane is larger than a tile
    assert semi_lagrangian_planes.TILE < 120 * 110 / 2
    settings = dict(dt=0.3, discount=1.0, constraint=disc, max_sweeps=4, dtype="float64", interpolation="cubic")
    planes = solve(SYSTEMS["dubins_car"](), grid, **settings)
    monkeypatch.setattr(discounted, "axes_order", lambda system, grid, *rest: (tuple(range(grid.ndim)), 0))
    np.testing.assert_allclose(planes.values, solve(SYSTEMS["dubins_car"](), grid, **settings).values, atol=1e-12)


def test_undiscounted_value_converges_to_the_braking_parabola():
    def error(n):
        grid = line(n)
        value = solve(SYSTEMS["double_integrator"](), grid, dt=0.05, discount=1.0, constraint=walls, dtype="float64")
        exact = braking(grid)
        return np.abs(value.values - exact)[np.abs(exact) < 0.25].mean()

    assert error(101) < 1e-12  # feet fall on nodes: nothing is interpolated
    assert error(201) < 1e-3
    assert error(401) < 1e-4


# Mean of V - exact near the zero level, and sweeps to a change of 1e-6: measured by another program on the same grid.
@pytest.mark.parametrize(
    ("discount", "dt", "bias", "sweeps"),
    [(0.9, 0.025, -0.153, 78), (0.99, 0.025, -0.045, 101), (0.999, 0.025, -0.0057, 101), (0.99, 0.05, -0.026, 51)],
)
def test_discount_errs_to_the_unsafe_side_as_recorded(discount, dt, bias, sweeps):
    value = solve(SYSTEMS["double_integrator"](), line(), dt=dt, discount=discount, constraint=walls, tolerance=1e-5)
    exact = braking(line())
    assert (value.values - exact)[np.abs(exact) < 0.25].mean() == pytest.approx(bias, abs=1e-3)
    assert value.facts["sweeps"] == sweeps
    assert np.sum(value.values > 0) < np.sum(exact > 0)


def test_annealing_ends_at_the_undiscounted_value_and_reports_the_bias():
    settings = dict(dt=0.05, constraint=walls, dtype="float64")
    values = anneal(SYSTEMS["double_integrator"](), line(101), **settings)
    limit = solve(SYSTEMS["double_integrator"](), line(101), discount=1.0, **settings)
    np.testing.assert_allclose(values[-1].values, limit.values, atol=1e-6)
    biases = [value.facts["discount_bias"] for value in values[:-1]]
    assert [bias["hidden"] for bias in biases] == sorted((bias["hidden"] for bias in biases), reverse=True)
    assert biases[0]["hidden"] > 0.01
    assert biases[0]["mean"] > 0
    for lower, higher in itertools.pairwise(values):
        assert (higher.values >= lower.values - 1e-4).all()


def test_bias_by_hand():
    grid = Grid((0,), (1,), (4,))
    bias = discount_bias(Value(grid, np.array([-1.0, -1, -1, 1])), Value(grid, np.array([-1.0, 1, 1, 1])))
    assert bias == {"hidden": pytest.approx(2 / 3), "refused": 0.0, "mean": 1.0, "max": 2.0}


def test_discount_converts_between_time_steps():
    assert discount_for(0.99, 0.05, 0.1) == pytest.approx(0.99**2)
    assert discount_for(0.81, 0.1, 0.05) == pytest.approx(0.9)


def test_hidden_share_is_that_of_the_recorded_fixed_point():
    recording = oracle("double_integrator_discounted")
    exact = Value(recording.grid, braking(recording.grid))
    value = solve(SYSTEMS["double_integrator"](), recording.grid, dt=0.05, discount=0.99, constraint=walls)
    unsafe = exact.values > 0
    expected = 1 - np.sum(recording.recorded[unsafe] > 0) / np.sum(unsafe)
    assert expected > 0.01
    assert discount_bias(value, exact)["hidden"] == pytest.approx(expected, abs=1e-3)


def test_bound_is_certain():
    settings = dict(dt=0.05, discount=0.95, constraint=walls, dtype="float64")
    exact = solve(SYSTEMS["double_integrator"](), line(61), tolerance=1e-12, **settings)
    for sweeps in (3, 10, 20):
        early = solve(SYSTEMS["double_integrator"](), line(61), max_sweeps=sweeps, **settings)
        assert np.abs(early.values - exact.values).max() <= early.facts["bound"] + 1e-12
        assert not early.facts["converged"] or early.facts["bound"] <= 1e-4


def walk(discount, **settings):
    """A walk on a line, whose sweeps average: nothing saturates, and rounding adds up."""
    system = System(
        name="walk", states=("x",), drift=lambda x: (0.0,), disturbance_matrix=((1,),), disturbance=Box(-1, 1)
    )
    settings = dict(dt=0.013, constraint=lambda x: np.sin(7 * x) + 0.3 * x, disturbance="expected") | settings
    return solve(system, Grid((-1,), (1,), (201,)), discount=discount, **settings)


@pytest.mark.parametrize("discount", [0.9, 0.99, 0.999])
def test_bound_and_rounding_hold_in_single_precision(discount):
    exact = walk(discount, dtype="float64", tolerance=1e-10)
    assert exact.facts["converged"]
    assert exact.facts["rounding"] < 1e-10
    for settings in (dict(tolerance=1e-2), dict(tolerance=1e-7)):  # the second can't be met
        value = walk(discount, **settings)
        error = np.abs(value.values - exact.values).max()
        assert error <= value.facts["bound"] + value.facts["rounding"]


def test_cubics_are_certified_only_where_they_contract():
    assert walk(0.9, interpolation="cubic").facts["bound"] is None
    assert walk(0.9, interpolation="cubic").facts["converged"]
    exact = walk(0.7, interpolation="cubic", dtype="float64", tolerance=1e-12)  # 0.7 x 1.25 < 1
    early = walk(0.7, interpolation="cubic", dtype="float64", max_sweeps=4)
    assert np.abs(early.values - exact.values).max() <= early.facts["bound"]


def test_slow_motion_adds_up():  # 5e-6 nodes a step
    system = System(name="slow", states=("x",), drift=lambda x: (1.0,))
    settings = dict(dt=5e-6, discount=1.0, constraint=lambda x: x, dtype="float64", tolerance=1e-9, max_sweeps=1000)
    value = solve(system, Grid((0,), (10,), (11,)), **settings)
    np.testing.assert_allclose(value.values[:-2], np.arange(9) + 0.005, atol=1e-9)  # away from the edge, which holds


@pytest.mark.parametrize("constraint", [None, walls])
def test_discount_errs_to_the_safe_side_of_what_is_to_be_reached(constraint):
    settings = dict(dt=0.1, constraint=constraint, target=lambda x, v: np.hypot(x, v) - 0.5, dtype="float64")
    values = anneal(SYSTEMS["double_integrator"](), line(41), discounts=(0.95, 1.0), **settings)
    assert (values[0].values >= values[1].values - 1e-4).all()
    bias = values[0].facts["discount_bias"]
    assert bias["hidden"] == 0
    assert bias["refused"] > 0.01


def test_gauss_seidel_needs_fewer_sweeps_for_the_same_value():
    settings = dict(dt=0.025, discount=0.999, constraint=walls, tolerance=1e-5, dtype="float64")
    jacobi = solve(SYSTEMS["double_integrator"](), line(), **settings)
    seidel = solve(SYSTEMS["double_integrator"](), line(), sweep="gauss_seidel", **settings)
    assert seidel.facts["sweeps"] < jacobi.facts["sweeps"] / 2
    assert np.abs(jacobi.values - seidel.values).max() <= jacobi.facts["bound"] + seidel.facts["bound"] + 1e-12


def test_undiscounted_sweeps_are_steps_and_rise():
    grid = Grid((-3, -3, -np.pi), (3, 3, np.pi), (31, 31, 32), (2,))
    values = [
        solve(SYSTEMS["dubins_car"](), grid, dt=0.2, discount=1.0, constraint=disc, max_sweeps=n, tolerance=1e-9).values
        for n in (1, 3, 6)
    ]
    for fewer, more in itertools.pairwise(values):
        assert (more >= fewer).all()


def test_more_control_is_safer():
    grid = Grid((-3, -3, -np.pi), (3, 3, np.pi), (31, 31, 32), (2,))

    def values(rate):
        system = SYSTEMS["dubins_car"](max_turn_rate=rate)
        return solve(system, grid, dt=0.2, discount=1.0, constraint=disc, controls=9, max_sweeps=12).values

    assert np.mean(values(1.5) > 0) < np.mean(values(0.5) > 0)


def test_disturbance_worst_and_expected():
    # One step on a line: x' = x + d, d in {-1, 0, 1}, h = x.
    grid = Grid((-10,), (10,), (21,))
    pushed = System(
        name="pushed", states=("x",), drift=lambda x: (0.0,), disturbance_matrix=((1,),), disturbance=Box(-1, 1)
    )
    settings = dict(dt=1.0, discount=0.5, constraint=lambda x: x, max_sweeps=1, dtype="float64")
    x, inner = grid.axes[0], slice(1, -1)
    worst = solve(pushed, grid, **settings)
    np.testing.assert_allclose(worst.values[inner], (0.5 * x + 0.5 * (x + 1))[inner])
    drawn = solve(pushed, grid, disturbance="expected", probabilities=(0.2, 0.0, 0.8), **settings)
    np.testing.assert_allclose(drawn.values[inner], (0.5 * x + 0.5 * (x + 0.6))[inner])
    even = solve(pushed, grid, disturbance="expected", **settings)
    np.testing.assert_allclose(even.values[inner], x[inner])


def test_zero_width_inputs_are_one_input():
    grid = line(31)
    fixed = System(
        name="fixed", states=("x", "v"), drift=lambda x, v: (v, 0.0), control_matrix=((0,), (1,)), control=Box(1, 1)
    )
    free = System(name="free", states=("x", "v"), drift=lambda x, v: (v, 1.0))
    settings = dict(dt=0.1, discount=0.9, constraint=walls, dtype="float64")
    np.testing.assert_allclose(solve(fixed, grid, **settings).values, solve(free, grid, **settings).values, atol=1e-12)


def test_empty_target_is_never_reached():
    value = solve(SYSTEMS["double_integrator"](), line(31), dt=0.1, discount=0.99, target=lambda x, v: 1 + 0 * x)
    np.testing.assert_allclose(value.values, 1, atol=1e-6)


def test_one_axis_and_a_free_one():
    still = System(name="still", states=("x",), drift=lambda x: (0.0,), control_matrix=((1,),), control=Box(-1, 1))
    grid = Grid((-2,), (2,), (41,))
    value = solve(still, grid, dt=0.1, discount=1.0, constraint=lambda x: np.abs(x) - 1, dtype="float64")
    np.testing.assert_allclose(value.values, np.abs(grid.axes[0]) - 1)


def test_progress_rises_to_the_end():
    seen = []
    settings = dict(dt=0.05, discount=0.99, constraint=walls, progress=seen.append)
    solve(SYSTEMS["double_integrator"](), line(61), **settings)
    assert max(seen) > 0.5
    assert all(0 <= share <= 1 for share in seen)


def test_memory_is_refused_before_anything_is_allocated():
    grid = Grid((-1,) * 6, (1,) * 6, (60,) * 6)
    with pytest.raises(MemoryError, match=r"avoid on 60 x 60 .* in float32 needs [\d,.]+ GiB"):
        solve(SYSTEMS["planar_quadrotor"](), grid, dt=0.1, discount=0.9, constraint=lambda *x: x[0])


@pytest.mark.parametrize(
    "function", [lambda x, y, *_: 1 - np.hypot(x, y), lambda x, y, v, th: 1 - np.hypot(x, y + v) * th]
)
@pytest.mark.parametrize("sweep", ["jacobi", "gauss_seidel"])
def test_memory_is_no_more_than_stated(function, sweep):
    system, grid = SYSTEMS["car4d"](), Grid((-2, -2, 0, -np.pi), (2, 2, 2, np.pi), (29, 25, 22, 20), (3,))
    settings = dict(dt=0.1, discount=0.9, constraint=function, max_sweeps=3, sweep=sweep)
    solve(system, grid, **settings)
    samples = discounted.Samples.of(system, 3, 3, "worst", None)
    tracemalloc.start()
    try:
        solve(system, grid, **settings)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.2 * discounted.memory(system, grid, np.dtype("float32"), samples, 0.1, reach_avoid=False)


def test_dynamics_that_are_not_numbers_are_refused():
    system = System(name="torn", states=("x", "v"), drift=lambda x, v: (np.where(x > 1, np.nan, v), 0.0))
    with pytest.raises(ValueError, match="dynamics are not finite at state"):
        solve(system, line(11), dt=0.1, discount=0.9, constraint=walls)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(controls=1), "controls must be at least 2 samples along each input, its ends; got 1"),
        (dict(disturbances=0), "disturbances must be at least 2"),
        (dict(dt=0.0), "dt must be positive and finite; got 0.0"),
        (dict(discount=1.1), r"discount must be in \[0, 1\]; got 1.1"),
        (dict(tolerance=0.0), "tolerance must be positive"),
        (dict(interpolation="spline"), "linear or cubic; got 'spline'"),
        (dict(sweep="sor"), "jacobi or gauss_seidel; got 'sor'"),
        (dict(disturbance="mean"), "worst or expected; got 'mean'"),
        (dict(probabilities=(1.0,)), "go with disturbance=expected"),
        (dict(disturbance="expected", probabilities=(0.5, 0.4)), "1 numbers >= 0 with sum 1"),
        (dict(device="tpu"), "cpu or cuda; got 'tpu'"),
        (dict(device="cuda", sweep="gauss_seidel"), "runs on the CPU"),
        (dict(constraint=None), "give constraint"),
        (dict(constraint=lambda x, v: np.where(x > 1.9, np.inf, x)), "constraint is inf at state"),
    ],
)
def test_unfit_settings_are_refused(changes, message):
    settings = dict(dt=0.1, discount=0.9, constraint=walls) | changes
    with pytest.raises(ValueError, match=message):
        solve(SYSTEMS["double_integrator"](), line(11), **settings)


def test_discounts_must_rise():
    with pytest.raises(ValueError, match="discounts must rise"):
        anneal(SYSTEMS["double_integrator"](), line(11), discounts=(0.9, 0.5), dt=0.1, constraint=walls)


def test_cubic_of_many_axes_is_refused_node_by_node():
    grid = Grid((-1,) * 6, (1,) * 6, (3, 3, 4, 3, 3, 3), (2,))
    settings = dict(dt=0.1, discount=0.9, constraint=lambda *x: x[0], interpolation="cubic", sweep="gauss_seidel")
    with pytest.raises(ValueError, match="at most 4 axes"):
        solve(SYSTEMS["planar_quadrotor"](), grid, **settings)
