"""The time and the disk that a plan is said to need, against sums by hand; and the probes that measure."""

from dataclasses import replace

import pytest

from saferl.benchmarking.calls import CallError
from saferl.benchmarking.estimate import Estimator, longest_first
from saferl.benchmarking.plan_report import duration, size
from saferl.benchmarking.probe import (
    AgentTimes,
    EnvTimes,
    Probes,
    Shape,
    agent_key,
    env_key,
    probe_agent,
    probe_env,
    shape_of,
)
from saferl.benchmarking.runs import complete_run
from saferl.training.checkpoint import checkpoints
from tests.benchmarking.small import planned


def probes_for(plan, folder, update=0.5):
    probes = Probes(folder / "probes.json")
    for number, run in enumerate(plan.runs):
        probes.add(env_key(run), EnvTimes(make=2.0, step=0.01))
        times = AgentTimes(setup=3.0, update=update * (number + 1), act=0.02, checkpoint=1_000)
        probes.add(agent_key(run, shape_of(run, plan.facts[run.task.name])), times)
    return probes


def test_a_run_needs_its_updates_and_the_steps_of_its_episodes(tmp_path):
    plan = planned(tmp_path, "seeds=1", "limits=[0,5]")
    estimate = Estimator(plan.facts, probes_for(plan, tmp_path)).of(plan.runs[0])
    steps = plan.facts["point_robot"].longest
    assert estimate.seconds == pytest.approx(3.0 + 20 * 0.5 + 2.0 + steps * (0.01 + 0.02))
    assert 2 * 1_000 < estimate.bytes < 2 * 1_000 + 200_000


def test_what_is_done_needs_no_time(tmp_path):
    plan = planned(tmp_path, "seeds=1")
    estimator = Estimator(plan.facts, probes_for(plan, tmp_path))
    complete_run(plan.runs[0])
    assert estimator.of_all(list(plan.runs)).seconds == 0
    (plan.runs[0].folder / plan.runs[0].evaluations[0].file_name).unlink()
    steps = plan.facts["point_robot"].longest
    assert estimator.of(plan.runs[0]).seconds == pytest.approx(3.0 + 2.0 + steps * 0.03)
    assert estimator.of(plan.runs[0]).bytes == 0


def test_what_was_not_measured_is_unknown(tmp_path):
    plan = planned(tmp_path)
    assert Estimator(plan.facts, Probes(tmp_path / "probes.json")).of_all(list(plan.runs)).seconds is None


def test_the_longest_runs_of_a_task_come_first(tmp_path):
    plan = planned(tmp_path, "agents=[bc,cpq]", "limits=[5]", "seeds=1")
    estimator = Estimator(plan.facts, probes_for(plan, tmp_path))
    assert [run.agent for run in longest_first(plan, estimator)] == ["cpq", "bc"]


def test_probes_are_kept_on_disk(tmp_path):
    Probes(tmp_path / "probes.json").add("key", EnvTimes(1.0, 2.0))
    assert Probes(tmp_path / "probes.json").env("key") == EnvTimes(1.0, 2.0)


def test_a_probe_measures_an_agent_and_the_size_of_its_checkpoints(tmp_path):
    run = planned(tmp_path, "seeds=1").runs[0]
    times = probe_agent(run)
    assert 0 < times.update < 1
    assert 0 < times.act < 1
    complete_run(run)
    saved = checkpoints(run.folder / "checkpoints")[-1]
    assert times.checkpoint == pytest.approx(sum(file.stat().st_size for file in saved.iterdir()), rel=0.02)


def test_data_that_are_not_here_yet_are_made_up_for_the_probe(tmp_path):
    run = planned(tmp_path, "seeds=1").runs[0]
    run = replace(
        run, task=replace(run.task, env="OfflineBallCircle-v0"), config=replace(run.config, env="point_robot")
    )
    assert shape_of(run, None) == (8, 2, 200)  # of DSRL's table
    own = planned(tmp_path, "seeds=1").runs[0]
    assert shape_of(own, None) is None
    times = probe_agent(own, Shape(11, 2, 300))
    assert 0 < times.update < 1


def test_a_probe_measures_an_environment(tmp_path):
    times = probe_env(planned(tmp_path, "seeds=1").runs[0])
    assert 0 < times.step < 1


def test_a_probe_finds_an_environment_that_can_not_be_made(tmp_path):
    run = planned(tmp_path, "seeds=1").runs[0]
    with pytest.raises(CallError, match="MetaDrive"):
        probe_env(replace(run, task=replace(run.task, env="OfflineMetadrive-easysparse-v0")))


def test_a_probe_finds_an_environment_without_costs(tmp_path):
    run = planned(tmp_path, "tasks=[Pendulum-v1]", f"data={{Pendulum-v1:{tmp_path / 'small.hdf5'}}}").runs[0]
    with pytest.raises(CallError, match=r"Pendulum-v1 gives no info\['cost'\]"):
        probe_env(run)


def test_a_probe_finds_data_that_do_not_fit(tmp_path):
    run = planned(tmp_path, "tasks=[Pendulum-v1]", f"data={{Pendulum-v1:{tmp_path / 'small.hdf5'}}}").runs[0]
    with pytest.raises(CallError, match="11 values, but Pendulum-v1 has 3"):
        probe_agent(run)


@pytest.mark.parametrize(
    ("shown", "words"),
    [(duration(12), "12 s"), (duration(204), "3.4 min"), (duration(7200), "2.0 h"), (size(34_000), "34 kB"),
     (size(3.42e6), "3.42 MB"), (size(5.6e9), "5.6 GB")],
)  # fmt: skip
def test_quantities_are_shown_in_units_that_people_read(shown, words):
    assert shown == words
