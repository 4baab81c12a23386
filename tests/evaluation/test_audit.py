"""Audits of hand-made regions with known overlap, the truth against the paper's manoeuvre, and what rollouts prove."""

import math

import numpy as np
import pytest
from scipy import stats

from saferl.envs import point_robot
from saferl.envs.point_robot import analytic_infeasible, margin
from saferl.evaluation.audit import Rate, audit, border_regions, speed_regions
from saferl.evaluation.audit_figures import audit_maps
from saferl.evaluation.audit_robots import PointRobotAudit, Slice, auditable
from saferl.evaluation.audit_run import AuditMap, run_audit
from saferl.evaluation.figures import SKY, VERMILLION, YELLOW
from saferl.evaluation.monte_carlo import avoid_policies, monte_carlo
from saferl.evaluation.simulators import PointRobotSimulator
from tests.evaluation.test_feasible_region import share_of


def disc(x, y, centre):  # radius 1
    return 1 - np.hypot(x - centre, y)


def lens(distance):
    """Overlap of two discs of radius 1."""
    return 2 * math.acos(distance / 2) - distance / 2 * math.sqrt(4 - distance**2)


@pytest.mark.parametrize("distance", [0.0, 0.5, 1.2])
def test_shifted_discs_overlap_as_their_lens_says(distance):
    axis = np.linspace(-3, 3, 1201)
    x, y = np.meshgrid(axis, axis)
    found = audit(disc(x, y, distance).ravel(), disc(x, y, 0).ravel(), sampled=False).overall
    overlap, union = lens(distance), 2 * math.pi - lens(distance)
    assert found.iou.rate == pytest.approx(overlap / union, abs=2e-3)
    assert found.false_safe.rate == pytest.approx(1 - overlap / math.pi, abs=2e-3)
    assert found.false_unsafe.rate == pytest.approx((math.pi - overlap) / (36 - math.pi), abs=2e-3)
    assert found.infeasible.rate == pytest.approx(math.pi / 36, abs=2e-3)
    assert found.iou.low is None  # a lattice is no sample


def test_counts_of_eight_states():
    learned = [1, 1, 1, 0, 0, 0, 0, 0]
    truth = [0.5, 0.1, -0.2, 0.3, -1, -1, 0, 0]  # V = 0 is feasible
    left = np.arange(8) < 4
    found = audit(np.array(learned) - 0.5, truth, {"left": left, "right": ~left})
    overall = found.overall
    assert (overall.iou.count, overall.iou.total) == (2, 4)
    assert (overall.false_safe.count, overall.false_safe.total) == (1, 3)
    assert (overall.false_unsafe.count, overall.false_unsafe.total) == (1, 5)
    right = found.regions[1]
    assert (right.name, right.false_safe.total, right.false_safe.rate) == ("right", 0, None)
    assert found.as_dict()["regions"][0]["iou"]["rate"] == 0.5


@pytest.mark.parametrize(("count", "total"), [(0, 100), (3, 40), (40, 40)])
def test_intervals_are_clopper_and_pearson(count, total):  # by the beta quantiles that define them
    rate = Rate.of(np.arange(total) < count, np.ones(total, bool))
    low = stats.beta.ppf(0.025, count, total - count + 1) if count else 0
    high = stats.beta.ppf(0.975, count + 1, total - count) if count < total else 1
    assert (rate.low, rate.high) == pytest.approx((low, high), abs=1e-9)


def test_regions_split_the_states():
    speeds = np.array([0, 0.49, 0.5, 1.2, 2.0])
    parts = speed_regions(speeds, (0, 0.5, 1, 2))
    assert [mask.tolist() for mask in parts.values()] == [
        [True, True, False, False, False],
        [False, False, True, False, False],
        [False, False, False, True, True],
    ]
    parts = border_regions([0.05, -0.2, 0.3], [-0.1, -0.3, 0.0])
    assert [mask.tolist() for mask in parts.values()] == [
        [True, True, True],
        [True, False, False],
        [False, True, True],
    ]


@pytest.mark.parametrize(
    ("learned", "truth", "regions", "message"),
    [
        ([1.0], [1.0, 2.0], {}, "one N >= 1"),
        ([], [], {}, "one N >= 1"),
        ([[1.0]], [1.0], {}, r"learned must have shape \(N,\)"),
        ([np.nan], [1.0], {}, "learned is not finite at 1 of 1"),
        ([1.0], [1.0], {"fast": [1]}, "region 'fast' must be a mask"),
    ],
)
def test_what_does_not_fit_is_refused(learned, truth, regions, message):
    with pytest.raises(ValueError, match=message):
        audit(np.array(learned), np.array(truth), regions)


@pytest.fixture(scope="module")
def truth():
    return PointRobotAudit().truth(1.0)


def test_the_grid_agrees_with_the_papers_manoeuvre(truth):
    robot = PointRobotAudit()
    axis = np.linspace(-3, 3, 201)
    x, y = (each.ravel() for each in np.meshgrid(axis, axis))
    for where, share in zip(robot.slices, (0.121, 0.141, 0.159)):  # the shares of the paper's maps
        states = robot.at(where, x, y)
        grid, paper = truth(states) > 0, analytic_infeasible(states)
        assert grid.mean() == pytest.approx(share, abs=0.002)
        assert (grid & paper).sum() / (grid | paper).sum() > 0.99
        assert np.abs(truth(states)[grid != paper]).max() < 0.02  # they differ by less than the grid resolves


def test_rollouts_never_call_an_infeasible_state_feasible(truth):
    simulator, generator = PointRobotSimulator(), np.random.default_rng(1)
    states = PointRobotAudit().sample(4_000, generator)
    result = monte_carlo(simulator, states, avoid_policies(simulator))
    assert not (result.shown & (truth(states) > 0.02)).any()
    assert not (result.shown & (margin(states) > 0)).any()
    # One-sided, but sharp here: what is not shown is nearly all infeasible.
    assert (result.infeasible & (truth(states) < -0.03)).sum() <= 4
    assert (result.by[result.shown] >= 0).all()


def test_more_policies_show_more():
    simulator, generator = PointRobotSimulator(), np.random.default_rng(2)
    states = PointRobotAudit().sample(2_000, generator)
    policies = avoid_policies(simulator)
    few = monte_carlo(simulator, states, dict(list(policies.items())[:1]))
    many = monte_carlo(simulator, states, policies)
    assert (few.shown <= many.shown).all()
    assert few.shown.sum() < many.shown.sum()
    assert (many.worst <= few.worst + 1e-12).all()


def test_a_rollout_that_does_not_come_to_rest_shows_nothing():
    def coast(states, step):
        return np.zeros((len(states), 2))

    away = np.array([[-2.9, -2.9, 1.0, -math.pi], [2.9, 0, 0, 0]])  # safe for all time to come; the second at rest
    result = monte_carlo(PointRobotSimulator(), away, {"coast": coast})
    assert result.shown.tolist() == [False, True]


def test_the_audit_of_the_hazards_alone(truth, monkeypatch):  # V_h = h: safe until it is too late
    robot = PointRobotAudit()
    monkeypatch.setattr(robot, "truth", lambda discount: truth)
    data = point_robot.observation(robot.sample(500, np.random.default_rng(3)))

    def hazards_only(observations):
        return margin(point_robot.states_of(observations))

    facts, maps = run_audit(robot, hazards_only, observations=data, samples=3_000)
    uniform, of_data = facts["samples"]
    assert uniform["overall"]["infeasible"]["total"] == 3_000
    assert of_data["overall"]["infeasible"]["total"] == 500
    regions = {each["name"]: each for each in uniform["regions"]}
    ahead = regions["no violation yet (h <= 0)"]
    assert ahead["false_safe"]["rate"] == 1  # it sees none of these coming
    assert uniform["overall"]["false_unsafe"]["rate"] < 0.002
    assert regions["1.5 to 2 m/s"]["iou"]["rate"] < regions["0 to 0.5 m/s"]["iou"]["rate"]
    hazards = 2 * math.pi * 0.64 / 36
    for each, share in zip(facts["slices"], (0.121, 0.141, 0.159)):
        assert each["iou"] == pytest.approx(hazards / share, abs=0.02)
        assert each["manoeuvre"]["infeasible"] == pytest.approx(share, abs=1e-3)
    assert facts["checks"]["monte_carlo"]["learned_infeasible_but_shown_feasible"] == 0
    assert len(maps) == 3


def test_the_picture_shows_both_errors(tmp_path):
    axis = np.linspace(-3, 3, 101)
    x, y = np.meshgrid(axis, axis)
    maps = [AuditMap(Slice(1, 0, 0), 3.0, disc(x, y, 0.5) > 0, disc(x, y, 0), None)] * 2
    audit_maps(maps, tmp_path / "audit.png", "shifted", point_robot=False)
    for colour in (SKY, VERMILLION, YELLOW):
        assert share_of(tmp_path / "audit.png", colour) > 0.005


def test_environments_without_a_known_truth():
    with pytest.raises(ValueError, match="audit=reachability knows the true feasible region of point_robot"):
        auditable("Pendulum-v1")
