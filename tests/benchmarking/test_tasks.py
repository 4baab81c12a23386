"""Tasks by name, family and suite, with the limits of each protocol."""

import pytest

from saferl.benchmarking.tasks import SUITES, chosen_tasks
from saferl.command_line import UsageError


def names(*words, protocol="dsrl"):
    return [task.name for task in chosen_tasks(words, protocol, None, {})]


@pytest.mark.parametrize(
    ("family", "count"),
    [("bullet", 8), ("navigation", 16), ("velocity", 5), ("safety_gymnasium", 21), ("metadrive", 9)],
)  # of DSRL's paper
def test_a_family_is_all_of_its_tasks(family, count):
    assert len(names(family)) == count


def test_the_suite_is_all_38_tasks():
    assert len(names(*SUITES["dsrl"])) == 38


def test_names_ids_and_families_may_be_mixed_and_doubles_count_once():
    found = names("CarRun", "OfflineBallRun-v0", "velocity", "SwimmerVelocity", "point_robot")
    assert found[:2] == ["CarRun", "BallRun"]
    assert found.count("SwimmerVelocity") == 1
    assert found[-1] == "point_robot"


@pytest.mark.parametrize(
    ("protocol", "limits"),  # of CarRun (Bullet), PointGoal1 (Safety-Gymnasium) and PointRobot
    [
        ("dsrl", [(10, 20, 40), (20, 40, 80), (0,)]),
        ("fisor", [(5,), (10,), (5,)]),
        ("hard", [(0,), (0,), (0,)]),
    ],
)
def test_a_protocol_sets_the_limits_that_its_paper_prints(protocol, limits):
    tasks = chosen_tasks(["CarRun", "PointGoal1", "point_robot"], protocol, None, {})
    assert [task.limits for task in tasks] == limits


def test_given_limits_replace_those_of_the_protocol():
    (task,) = chosen_tasks(["CarRun"], "fisor", (1.0, 2.0), {})
    assert task.limits == (1.0, 2.0)


def test_data_find_their_task_under_any_of_its_names():
    tasks = chosen_tasks(["CarRun", "BallRun"], "dsrl", None, {"OfflineCarRun-v0": "a.hdf5"})
    assert [task.data for task in tasks] == ["a.hdf5", None]


def test_an_environment_of_ones_own_is_of_the_family_other():
    (task,) = chosen_tasks(["InvertedPendulum-v5"], "dsrl", None, {})
    assert (task.name, task.env, task.family, task.limits) == (
        "InvertedPendulum-v5", "InvertedPendulum-v5", "other", (10,),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "data", "message"),
    [
        (["CarRum"], {}, "no task named 'CarRum'. Did you mean tasks=[CarRun]?"),
        (["bulet"], {}, "no task named 'bulet'. Did you mean tasks=[bullet]?"),
        (["nowhere:lab/Cart-v0"], {}, "no module named 'nowhere'"),
        (["CarRun"], {"BallRun": "x"}, "no task of this benchmark (data) named 'BallRun'"),
    ],
)
def test_a_wrong_name_comes_with_the_close_match(words, data, message):
    with pytest.raises(UsageError) as error:
        chosen_tasks(words, "dsrl", None, data)
    assert message in str(error.value)
