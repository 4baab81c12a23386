"""What the report says of made-up results, and what targets say of made-up episodes."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest

from saferl.adversaries.figures import eps_curves, robot_paths, speed_curves
from saferl.adversaries.report import attack_tables, findings, report_text, reward_kept
from saferl.adversaries.targets import TARGETS, successes, target_named
from saferl.adversaries.trajectories import Trajectory
from saferl.command_line import UsageError
from saferl.evaluation.figures import save_figure
from saferl.evaluation.report import as_text, evaluation_facts
from saferl.evaluation.rollout import Episodes
from saferl.evaluation.scores import Reference

SETTINGS = {"norm": "linf"}


def facts(name, eps, returns, costs, reference=None, **more):
    returns, costs = np.array(returns, float), np.array(costs, float)
    episodes = Episodes(np.arange(len(returns)), returns, costs, costs.astype(int), np.full(len(returns), 10))
    about = {"units": "made up", "constant_dimensions": 0}
    rest = {"seconds": {"adversary": 2.0}, "attacked_observations": 300, "queries": 0, "about": about}
    return {"adversary": name, "eps": eps, **evaluation_facts(episodes, reference, [5.0]), **rest, **more}


def test_the_reward_that_is_kept_is_a_share_of_the_clean_one():
    clean = facts("none", 0, [10, 20, 30, 20], [0, 0, 0, 0])
    assert reward_kept(facts("mc", 0.1, [5, 10, 15, 10], [0] * 4), clean) == pytest.approx((0.5, 0.5, 0.5))
    share, low, high = reward_kept(facts("mc", 0.1, [0, 20, 30, 20], [0] * 4), clean)
    assert share == pytest.approx(70 / 80)
    draws = np.array(list(itertools.product(range(4), repeat=4)))  # all resamples of the starts
    shares = np.array([0, 20, 30, 20])[draws].sum(1) / np.array([10, 20, 30, 20])[draws].sum(1)
    np.testing.assert_allclose([low, high], np.quantile(shares, [0.025, 0.975]), atol=0.02)


def test_with_a_reference_it_is_counted_from_its_least_return():
    reference = Reference(-10.0, 30.0, "made up")
    clean = facts("none", 0, [10, 10], [0, 0], reference)
    assert reward_kept(facts("mc", 0.1, [0, 0], [0, 0], reference), clean)[0] == pytest.approx(0.5)
    negative = facts("none", 0, [-5, -5], [0, 0])
    assert reward_kept(facts("mc", 0.1, [-7, -7], [0, 0]), negative) is None


def results():
    generator = np.random.default_rng(0)
    clean = generator.uniform(8, 12, 20)
    none = np.zeros(20)
    return [
        facts("none", 0, clean, none, target={"name": "x", "rate": 0.0, "low": 0.0, "high": 0.2}),
        facts("random", 0.1, clean, none, target={"name": "x", "rate": 0.1, "low": 0.0, "high": 0.3}),
        facts("mr", 0.1, clean + 1, none + 3, target={"name": "x", "rate": 0.4, "low": 0.2, "high": 0.6}),
        facts("mr", 0.2, clean + 1, none + 9, target={"name": "x", "rate": 0.8, "low": 0.6, "high": 0.9}),
        facts("q", 0.2, clean / 4, none + 7, target={"name": "x", "rate": 0.0, "low": 0.0, "high": 0.2}),
    ]


def test_findings_tell_broken_from_stealthy():
    lines = findings(results())
    assert "Over the limit under: mr (0.2), q (0.2)." in lines
    assert "Cost is added, the interval above 0, by: mr (0.1, 0.2), q (0.2)." in lines
    assert "Of these with 90 % of the reward kept or more: mr (0.1, 0.2)." in lines


def test_a_victim_that_is_over_the_limit_by_itself_is_not_said_to_be_broken():
    clean = facts("none", 0, [1, 2, 3], [9, 9, 9])
    lines = findings([clean, facts("mc", 0.1, [1, 2, 3], [9, 9, 9])])
    assert any("over the limit already" in line for line in lines)
    assert not any(line.startswith("Over the limit under") for line in lines)
    assert "Cost is added, the interval above 0, by: none." in lines


def test_tables_and_page_hold_every_adversary(tmp_path):
    text = as_text(*attack_tables(results(), "made up"))
    assert re.search(r"mr, eps 0.2\s+11\d %\s+\+9\s+80 %\s+150", text)
    assert "questions / step" not in text  # nobody was asked
    asked = [each | {"queries": 3_000} for each in results()]
    assert re.search(r"mr, eps 0.2\s.*\s10\s+150", as_text(*attack_tables(asked, "made up")))
    page = report_text(results(), "made up", SETTINGS, ["curves.png"])
    assert "![curves.png](curves.png)" in page
    assert "`mr`: " in page
    assert "l-infinity" in page


def test_where_no_share_can_be_kept_the_difference_is_shown():
    poor = [each | {"per_episode": {**each["per_episode"], "returns": [-1.0] * 20}} for each in results()[:1]]
    text = as_text(*attack_tables([*poor, facts("mc", 0.1, [-3.0] * 20, [0] * 20)], "made up"))
    assert "reward kept" not in text
    assert re.search(r"mc, eps 0.1\s+-2\s+\+0\s", text)


@pytest.mark.parametrize(("adversaries", "points"), [(3, 3), (5, 100), (8, 3)])  # four panels a row
def test_pictures_are_drawn(adversaries, points, tmp_path, monkeypatch):
    panels = []

    def save(figure, path, title):
        panels.append(len(figure.axes))
        save_figure(figure, path, title)

    monkeypatch.setattr("saferl.adversaries.figures.save_figure", save)
    clean = facts("none", 0, [1, 2, 3], [0, 1, 2])
    found = [clean, *(facts(f"adversary {i}", 0.1, [1, 2, 3], [0, 1, 2]) for i in range(adversaries))]
    eps_curves(found, tmp_path / "curves.png", "made up")
    path = np.linspace([0.0, 0.0], [1.5, 2.0], points).tolist()
    robot_paths([each | {"paths": [path, path]} for each in found], tmp_path / "paths.png", "made up")
    speeds = {"about": "speed (m/s)", "values": [np.linspace(0, 1, points).tolist()]}
    speed_curves([each | {"speeds": speeds} for each in found], tmp_path / "speeds.png", "made up")
    assert panels == [3, adversaries, adversaries]
    for name in ("curves.png", "paths.png", "speeds.png"):
        assert (tmp_path / name).stat().st_size > 10_000


def episode(path, costs=None):
    path = np.asarray(path, np.float32)
    steps = len(path) - 1
    rows = np.concatenate([path, np.zeros((len(path), 9), np.float32)], axis=1)
    actions = np.zeros((steps, 2), np.float32)
    return Trajectory(rows, actions, actions, np.zeros(steps), np.zeros(steps) if costs is None else costs, False)


def test_targets_are_functions_of_an_episode():
    line = np.linspace(0, 1, 9)[:, None]
    to_wrong = episode(line * [[-2.2, 1.8]])
    to_goal = episode(line * [[2.2, 2.2]])
    stops = episode(np.concatenate([np.linspace(0, 1, 4), np.full(9, 1.1)])[:, None] * [[1, 1]])
    costly = episode(line * [[1, 0]], costs=np.eye(8)[3])
    assert successes(TARGETS["reaches_wrong_goal"], [to_wrong, to_goal, stops]).tolist() == [True, False, False]
    assert successes(TARGETS["stays"], [to_wrong, to_goal, stops]).tolist() == [False, False, True]
    assert not TARGETS["stays"](replace(stops, terminated=True))  # it is over, nobody stayed
    assert successes(TARGETS["violates"], [to_goal, costly]).tolist() == [False, True]
    assert target_named("stays") is TARGETS["stays"]
    assert target_named("tests.adversaries.test_report:ends_right")(to_goal)
    with pytest.raises(UsageError, match="Did you mean target=stays"):
        target_named("stay")


def ends_right(episode):
    return episode.observations[-1, 0] > 2
