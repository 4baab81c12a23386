"""The safety filter against closed forms: the braking parabola, planes, and controls tried one by one."""

import sys

import numpy as np
import pytest

from saferl.reachability import SYSTEMS, Ball, Box, Grid, System, Value
from saferl.reachability.safety_filter import SafetyFilter, nearest_in_halfspace

MODES = ("switch", "blend", "cbf")
DT = 0.05
MARGIN = 0.02  # for the kinks between nodes


@pytest.fixture(scope="module")
def parabola() -> Value:
    """The double integrator's exact value for |x| <= 1."""
    grid = Grid((-2, -2.5), (2, 2.5), (161, 161))
    x, v = grid.open_mesh()
    values = np.maximum(np.abs(x) - 1, np.abs(x + v * np.abs(v) / 2) - 1)
    return Value(grid, values, SYSTEMS["double_integrator"](), {"problem": "avoid"})


@pytest.fixture(scope="module")
def plane() -> Value:
    """V = x + 2y - 1 over velocities (u_1, u_2) in a box: every condition can be solved by hand."""
    grid = Grid((-4, -4), (4, 4), (9, 9))
    x, y = grid.open_mesh()
    system = System(
        name="velocities", states=("x", "y"), drift=lambda x, y: (0.0, 0.0),
        control_matrix=((1, 0), (0, 1)), control=Box((-1, -0.5), (1, 0.5)),
    )  # fmt: skip
    return Value(grid, x + 2 * y - 1, system)


def filter_of(value: Value, mode: str, **settings) -> SafetyFilter:
    if mode == "cbf":
        pytest.importorskip("proxsuite")
    return SafetyFilter(value, dt=DT, mode=mode, **settings)


def exact(states: np.ndarray) -> np.ndarray:
    x, v = states.T
    return np.maximum(np.abs(x), np.abs(x + v * np.abs(v) / 2)) - 1


def safe_starts(n: int, margin: float) -> np.ndarray:
    states = np.random.default_rng(0).uniform((-1, -2), (1, 2), (4 * n, 2))
    return states[exact(states) <= -margin][:n]


def nominal_controls(kind: str, states: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    x, v = states.T
    return {
        "random": generator.uniform(-1.5, 1.5, (len(states), 1)),  # some beyond the box
        "outwards": np.where(x + v >= 0, 1.0, -1.0)[:, None],
        "right": np.ones((len(states), 1)),
    }[kind]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["random", "outwards", "right"])
def test_closed_loop_never_leaves_the_safe_set(parabola, mode, kind):
    safe = filter_of(parabola, mode, threshold=MARGIN)
    states = safe_starts(2000 if mode != "cbf" else 400, MARGIN)
    generator = np.random.default_rng(1)
    for _ in range(100):  # 5 s
        u, _ = safe.filter(states, nominal_controls(kind, states, generator))
        assert (np.abs(u) <= 1).all()
        x, v = states.T
        states = np.column_stack([x + v * DT + u[:, 0] * DT**2 / 2, v + u[:, 0] * DT])  # exact for constant u
        assert np.abs(states[:, 0]).max() <= 1
    assert safe.counts.interventions > len(states)  # it was asked to
    assert safe.counts.outside == 0


def test_without_the_filter_the_same_controls_leave_it():
    states = safe_starts(200, MARGIN)
    for _ in range(100):
        states = np.column_stack([states[:, 0] + states[:, 1] * DT + DT**2 / 2, states[:, 1] + DT])
    assert (np.abs(states[:, 0]) > 1).all()


@pytest.mark.parametrize("mode", MODES)
def test_nominal_is_untouched_deep_inside(parabola, mode):
    generator = np.random.default_rng(0)
    states = generator.uniform((-0.3, -0.5), (0.3, 0.5), (500, 2))  # V <= -0.575, and at most 0.08 more a step later
    nominal = generator.uniform(-1, 1, (500, 1))
    actions, intervened = filter_of(parabola, mode, rate=10.0).filter(states, nominal)
    np.testing.assert_array_equal(actions, nominal)
    assert not intervened.any()


@pytest.mark.parametrize("mode", ["switch", "blend"])
def test_intervenes_exactly_where_the_next_value_breaks_the_condition(parabola, mode):
    states = safe_starts(3000, 0.103)  # from which some control is safe
    x, v = states.T
    stop = x + v * np.abs(v) / 2  # where it comes to rest
    nominal = np.sign(np.where(np.abs(x) > np.abs(stop), x, stop))[:, None]  # towards the edge that is in danger
    after = np.column_stack([x + v * DT + nominal[:, 0] * DT**2 / 2, v + nominal[:, 0] * DT])
    bound = -0.1 if mode == "switch" else -0.1 + (1 - 5 * DT) * np.minimum(exact(states) + 0.1, 0)
    excess = exact(after) - bound
    _, intervened = filter_of(parabola, mode, threshold=0.1, rate=5.0).filter(states, nominal)
    clear = np.abs(excess) > 0.01  # the rest is within the error of the grid at the kinks
    np.testing.assert_array_equal(intervened[clear & (excess <= 0)], False)
    assert intervened[clear & (excess > 0)].all()
    assert 100 < intervened.sum() < len(states) - 100


def test_switch_takes_the_nearest_safe_sample(plane):
    safe = filter_of(plane, "switch", controls=5)
    states, nominal = np.array([[1.0, -0.005]]), np.array([[0.9, 0.4]])  # V = -0.01: needs u_1 + 2 u_2 <= 0.2
    actions, intervened = safe.filter(states, nominal)
    samples = plane.system.control.samples(5)
    allowed = samples[samples @ [1, 2] <= 0.2 + 1e-9]
    nearest = allowed[np.argmin(((allowed - nominal) ** 2).sum(axis=1))]
    np.testing.assert_array_equal(actions[0], nearest)
    assert intervened.tolist() == [True]


def test_blend_takes_the_least_share_of_the_safest_control(plane):
    rate, states, nominal = 4.0, np.array([[0.5, 0.2], [0.7, 0.1]]), np.array([[0.9, 0.4], [0.2, 0.5]])
    value = states @ [1, 2] - 1
    safest = np.array([-1, -0.5])
    # V + dt (1, 2) . (u + s (safest - u)) = (1 - rate dt) V, solved for the share s
    share = (rate * value + nominal @ [1, 2]) / ((nominal - safest) @ [1, 2])
    actions, intervened = filter_of(plane, "blend", rate=rate).filter(states, nominal)
    assert intervened.all()
    np.testing.assert_allclose(actions, nominal + share[:, None] * (safest - nominal), atol=4e-3)
    assert (states @ [1, 2] - 1 + DT * actions @ [1, 2] <= (1 - rate * DT) * value + 1e-9).all()


def test_blend_at_a_rate_of_one_step_intervenes_where_switch_does(plane):
    generator = np.random.default_rng(0)
    states, nominal = generator.uniform(-1, 1, (500, 2)), generator.uniform((-1, -0.5), (1, 0.5), (500, 2))
    switched = filter_of(plane, "switch").filter(states, nominal)[1]
    np.testing.assert_array_equal(filter_of(plane, "blend", rate=1 / DT).filter(states, nominal)[1], switched)
    assert 0 < switched.sum() < 500


def test_program_is_the_best_of_a_fine_grid_of_controls(plane):
    rate, generator = 4.0, np.random.default_rng(0)
    states, nominal = generator.uniform((0.3, 0), (0.9, 0.3), (100, 2)), generator.uniform(-1, 1, (100, 2))
    nominal = np.clip(nominal, (-1, -0.5), (1, 0.5))
    value = states @ [1, 2] - 1
    keep = value < -0.01
    safe = filter_of(plane, "cbf", rate=rate)
    actions, intervened = safe.filter(states[keep], nominal[keep])
    lattice = plane.system.control.samples(201)
    for u, action, limit in zip(nominal[keep], actions, -rate * value[keep]):
        allowed = lattice[lattice @ [1, 2] <= limit]
        best = np.sqrt(((allowed - u) ** 2).sum(axis=1).min())
        distance = np.linalg.norm(action - u)
        assert action @ [1, 2] <= limit + 1e-6
        assert best - 0.012 <= distance <= best + 1e-6  # 0.012: between nodes of the lattice
    assert 5 < intervened.sum() < keep.sum()


def test_program_in_many_directions():
    solver = pytest.importorskip("proxsuite").proxqp
    generator, box = np.random.default_rng(3), Box((-1, -0.5, 0), (1, 0.5, 2))
    lattice = box.samples(41)
    compared = 0
    for _ in range(40):
        normal, nominal = generator.normal(size=3) * 10.0 ** generator.integers(-3, 4), generator.uniform(-1, 1, 3)
        nominal = np.clip(nominal, box.low, box.high)
        limit = float(np.quantile(lattice @ normal, generator.uniform(0.05, 0.9)))
        if normal @ nominal <= limit:
            continue
        u = nearest_in_halfspace(solver, nominal, normal, limit, box)
        allowed = lattice[lattice @ normal <= limit]
        best = np.sqrt(((allowed - nominal) ** 2).sum(axis=1).min())
        assert normal @ u <= limit + 1e-7 * np.linalg.norm(normal)
        assert best - 0.05 <= np.linalg.norm(u - nominal) <= best + 1e-6
        compared += 1
    assert compared > 10


def test_cbf_takes_the_safest_sample_where_no_control_meets_the_inequality(plane):
    safe = filter_of(plane, "cbf", rate=10.0)
    states = np.array([[1.4, 0.0]])  # V = 0.4: too late
    actions, intervened = safe.filter(states, [[0.3, 0.2]])
    np.testing.assert_array_equal(actions, [[-1, -0.5]])
    assert intervened.tolist() == [True]
    assert safe.counts.unsafe == 1


@pytest.mark.parametrize("mode", MODES)
def test_too_late_the_control_with_the_least_next_value_is_taken(parabola, mode):
    safe = filter_of(parabola, mode)
    actions, intervened = safe.filter([[0.9, 1.5], [-0.9, -1.5]], [[1.0], [0.2]])
    np.testing.assert_array_equal(actions, [[-1], [1]])
    assert intervened.all()
    assert safe.counts.unsafe == 2


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_is_its_rows(parabola, mode):
    generator = np.random.default_rng(4)
    states, nominal = safe_starts(120, 0.0), generator.uniform(-1, 1, (120, 1))
    together, flags = filter_of(parabola, mode).filter(states, nominal)
    one = filter_of(parabola, mode)
    for row in range(len(states)):
        action, flag = one.filter(states[row : row + 1], nominal[row : row + 1])
        np.testing.assert_allclose(action[0], together[row], atol=1e-7)
        assert flag[0] == flags[row]
    assert one.counts.interventions == flags.sum()
    empty, no_flags = filter_of(parabola, mode).filter(np.zeros((0, 2)), np.zeros((0, 1)))
    assert empty.shape == (0, 1)
    assert no_flags.shape == (0,)


@pytest.mark.parametrize("mode", MODES)
def test_worst_disturbance_is_withstood(mode):
    grid = Grid((-2,), (2,), (81,))
    system = System(
        name="pushed", states=("x",), drift=lambda x: (0.0,), control_matrix=((1,),), control=Box(-1, 1),
        disturbance_matrix=((1,),), disturbance=Box(-0.4, 0.4),
    )  # fmt: skip
    safe = filter_of(Value(grid, np.abs(grid.axes[0]) - 1, system), mode, rate=20.0 if mode == "blend" else 5.0)
    x = np.linspace(-1, 1, 101)[:, None]
    for _ in range(100):
        u, _ = safe.filter(x, np.sign(x))
        x = x + DT * (u + 0.4 * np.sign(x))
        assert np.abs(x).max() <= 1 + 1e-9
    # By hand: at x = 0.95 the push alone adds 0.02, so that 0.6 m/s may still be added.
    u, intervened = safe.filter([[0.95], [0.95]], [[0.59], [0.65]])
    assert intervened.tolist() == ([False, True] if mode != "cbf" else [True, True])


def test_controls_of_a_ball():
    grid = Grid((-4, -4), (4, 4), (9, 9))
    x, y = grid.open_mesh()
    system = System(
        name="ball", states=("x", "y"), drift=lambda x, y: (0.0, 0.0),
        control_matrix=((1, 0), (0, 1)), control=Ball((0, 0), 1.0),
    )  # fmt: skip
    value = Value(grid, x + 0 * y - 1, system)
    for mode in ("switch", "blend"):
        actions, intervened = SafetyFilter(value, dt=DT, mode=mode).filter([[0, 0], [0.99, 0]], [[3, 4], [1, 0]])
        np.testing.assert_allclose(actions[0], [0.6, 0.8])  # drawn in, which is no intervention
        assert intervened.tolist() == [False, True]
        assert actions[1, 0] <= 0.2 + 1e-9  # 0.01 m in 0.05 s
        assert np.linalg.norm(actions[1]) <= 1 + 1e-12
    with pytest.raises(ValueError, match="take mode=switch or mode=blend for a ball"):
        SafetyFilter(value, dt=DT, mode="cbf")


def test_counts(parabola):
    safe = SafetyFilter(parabola, dt=DT)
    safe.filter([[0, 0], [0.9, 0.4], [3, 0], [0, -9]], np.ones((4, 1)))
    assert safe.counts.states == 4
    assert safe.counts.outside == 2
    assert safe.counts.interventions >= 1
    safe.counts.clear()
    assert (safe.counts.states, safe.counts.interventions, safe.counts.outside, safe.counts.unsafe) == (0, 0, 0, 0)


def test_a_state_beyond_the_box_counts_as_the_nearest_one_of_it(parabola):
    safe = SafetyFilter(parabola, dt=DT)
    far, _ = safe.filter([[0.0, 5.0]], [[0.3]])
    near, _ = safe.filter([[0.0, 2.5]], [[0.3]])
    np.testing.assert_array_equal(far, near)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "swich"}, "mode must be one of switch, blend, cbf; got 'swich'"),
        ({"dt": 0.0}, "dt must be positive"),
        ({"dt": float("nan")}, "dt must be positive"),
        ({"threshold": -0.1}, "threshold must be >= 0"),
        ({"mode": "blend", "rate": 0.0}, "rate must be above 0"),
        ({"mode": "blend", "rate": 21.0}, "at most 1/dt = 20"),
        ({"controls": 1}, "controls and disturbances must be at least 2"),
    ],
)
def test_wrong_settings_are_refused(parabola, settings, message):
    with pytest.raises(ValueError, match=message):
        SafetyFilter(parabola, **{"dt": DT, **settings})


def test_values_without_control_are_refused(parabola):
    with pytest.raises(ValueError, match="whose system has a control"):
        SafetyFilter(Value(parabola.grid, parabola.values), dt=DT)


def test_wrong_batches_are_refused(parabola):
    safe = SafetyFilter(parabola, dt=DT)
    with pytest.raises(ValueError, match=r"states must have shape \(B, 2\) for double_integrator; got \(2,\)"):
        safe.filter([0, 0], [[0]])
    with pytest.raises(ValueError, match=r"nominal must have shape \(B, 1\)"):
        safe.filter([[0, 0]], [[0, 0]])
    with pytest.raises(ValueError, match="must have one length; got 2 and 1"):
        safe.filter([[0, 0], [0, 0]], [[0]])
    with pytest.raises(ValueError, match="nominal row 1 is not finite"):
        safe.filter([[0, 0], [0, 0]], [[0], [np.nan]])
    with pytest.raises(ValueError, match="states row 0 is not finite"):
        safe.filter([[np.inf, 0]], [[0]])


def test_missing_solver_is_said_with_the_way_out(parabola, monkeypatch):
    monkeypatch.setitem(sys.modules, "proxsuite", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "saferl\[filter\]"'):
        SafetyFilter(parabola, dt=DT, mode="cbf")
    SafetyFilter(parabola, dt=DT, mode="blend")
