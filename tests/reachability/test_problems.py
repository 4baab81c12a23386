"""The ready problems: each solves, each says what it means, and PointRobot's is the environment's own."""

import numpy as np
import pytest

from saferl.envs import point_robot
from saferl.reachability import SYSTEMS
from saferl.reachability.hamilton_jacobi import Scheme, solve
from saferl.reachability.problems import PROBLEMS, avoid_discs, reach_discs
from tests.reachability.oracles import oracle


def tiny(problem):
    most = {2: 15, 3: 12, 4: 9, 6: 5}[len(problem.shape)]
    return problem.grid([min(nodes, most) for nodes in problem.shape])


@pytest.mark.parametrize("name", sorted(PROBLEMS))
def test_a_ready_problem_solves_and_is_worse_than_its_constraint(name):
    problem, system = PROBLEMS[name], SYSTEMS[name]()
    grid = tiny(problem)
    value = solve(
        system, grid, horizon=problem.horizon, constraint=problem.constraint, target=problem.target,
        scheme=Scheme(space="upwind1", time=1),
    )  # fmt: skip
    h = grid.evaluate(problem.constraint)
    assert (value.values >= h - 1e-6).all()
    assert (value.values > h + 0.01).any()
    assert (value.values > 0).any()
    assert (value.values <= 0).any()


@pytest.mark.parametrize("name", sorted(PROBLEMS))
def test_a_picture_of_a_ready_problem_stays_in_its_box(name):
    problem = PROBLEMS[name]
    assert problem.grid().shape == problem.shape
    assert len(set(problem.axes)) == 2
    for axis, values in problem.at.items():
        assert axis not in problem.axes
        assert all(problem.low[axis] <= each <= problem.high[axis] for each in values)


@pytest.mark.parametrize(
    ("name", "recording"),
    [("double_integrator", "double_integrator_avoid"), ("dubins_car", "dubins3d_avoid"), ("air3d", "air3d_avoid")],
)
def test_the_ready_problem_is_the_recorded_one(name, recording):
    recorded, problem = oracle(recording), PROBLEMS[name]
    assert problem.grid() == recorded.grid
    assert problem.horizon == recorded.facts["horizon_T"]
    # The recorded value ends at h far from everything, where nothing can go wrong: V >= h, and equal somewhere.
    rise = recorded.recorded - recorded.at_recorded(recorded.grid.evaluate(problem.constraint))
    assert rise.min() == pytest.approx(0, abs=1e-5)


def test_the_pendulum_meets_the_branch_that_leads_to_its_saddle():
    # Under full torque against the fall, rate^2 / 2 - F(angle) is constant; the last state that comes back runs into
    # the angle where that torque just holds the weight. The mirror image bounds the other side.
    problem = PROBLEMS["inverted_pendulum"]
    value = solve(
        SYSTEMS["inverted_pendulum"](), problem.grid(), horizon=problem.horizon, constraint=problem.constraint
    )
    top = np.arcsin(5 / 9.81)

    def comes_back(angle, rate):
        rise = 9.81 * (np.cos(top) - np.cos(angle)) + 5 * (top - angle)
        return rate <= -np.sign(angle - top) * np.sqrt(2 * np.maximum(rise, 0))

    angle, rate = value.grid.open_mesh()
    exact = (np.abs(angle) <= 0.8) & comes_back(angle, rate) & comes_back(-angle, -rate)
    assert np.mean((value.values <= 0) != exact) < 0.005


def test_point_robot_avoids_the_hazards_of_the_environment():
    states = np.random.default_rng(0).uniform(-3, 3, (500, 4))
    h = PROBLEMS["point_robot"].constraint(*states.T)
    np.testing.assert_allclose(h, point_robot.margin(states), atol=1e-12)
    assert PROBLEMS["point_robot"].high[0] == point_robot.ARENA


def test_discs_measure_the_distance_to_the_nearest_edge():
    h = avoid_discs([[0, 0, 1], [4, 0, 0.5]])
    x = np.array([0.0, 1.0, 2.0, 4.0, 3.2])
    np.testing.assert_allclose(h(x, np.zeros(5), np.zeros(5)), [1, 0, -1, 0.5, -0.3])
    np.testing.assert_allclose(reach_discs([[0, 0, 1], [4, 0, 0.5]])(x, np.zeros(5)), [-1, 0, 1, -0.5, 0.3])


def test_discs_broadcast_over_an_open_mesh():
    assert avoid_discs([[0, 0, 1]])(np.zeros((3, 1, 1)), np.zeros((1, 4, 1)), np.zeros((1, 1, 5))).shape == (3, 4, 1)


@pytest.mark.parametrize("discs", [[], [[0, 0]], [[0, 0, 0]], [[0, 0, -1]], [[0, np.nan, 1]]])
def test_wrong_discs_are_refused(discs):
    with pytest.raises(ValueError, match="disc"):
        avoid_discs(discs)
