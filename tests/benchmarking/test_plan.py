"""What a plan holds: which trainings and evaluations there are, and under which names they are kept."""

from dataclasses import dataclass, replace

import pytest

from saferl.agents import AGENTS, BC, BCConfig
from saferl.benchmarking.plan import Problem, identity
from saferl.benchmarking.runs import Evaluation
from saferl.command_line import UsageError
from tests.benchmarking.small import planned


@dataclass(frozen=True, kw_only=True)
class ActingConfig(BCConfig):
    """BC that claims to take its limit when it acts."""

    cost_limit: float | None = None

    @property
    def limit_use(self):
        return "acting"


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(ActingConfig):
    """BC that claims to take its limit when it trains."""

    @property
    def limit_use(self):
        return "training"


@pytest.fixture
def agent_of(monkeypatch):
    return lambda config_class: monkeypatch.setitem(AGENTS, "bc", (config_class, BC))


def test_an_agent_without_limits_is_trained_and_evaluated_once_and_judged_at_all(tmp_path):
    runs = planned(tmp_path, "limits=[0,5,10]").runs
    assert [(run.config.seed, run.limit) for run in runs] == [(0, None), (1, None)]
    assert runs[0].evaluations == (Evaluation(3, None, (0.0, 5.0, 10.0)),)


def test_a_limit_that_enters_the_training_needs_a_training_each(tmp_path, agent_of):
    agent_of(TrainingConfig)
    runs = planned(tmp_path, "limits=[0,5]", "seeds=1").runs
    assert [(run.limit, run.config.agent.cost_limit) for run in runs] == [(0, 0), (5, 5)]
    assert [run.evaluations for run in runs] == [(Evaluation(3, None, (0.0,)),), (Evaluation(3, None, (5.0,)),)]
    assert len({run.digest for run in runs}) == 2


def test_a_limit_that_enters_the_acting_needs_an_evaluation_each(tmp_path, agent_of):
    agent_of(ActingConfig)
    (run,) = planned(tmp_path, "limits=[0,5]", "seeds=1").runs
    assert run.config.agent.cost_limit is None
    assert run.evaluations == (Evaluation(3, 0.0, (0.0,)), Evaluation(3, 5.0, (5.0,)))
    assert len({each.file_name for each in run.evaluations}) == 2


def test_a_run_is_known_by_what_its_numbers_depend_on(tmp_path):
    def digests(*words):
        return {run.digest for run in planned(tmp_path, *words).runs}

    alone = digests("seeds=1")
    assert alone <= digests("seeds=3")
    assert alone <= digests("seeds=1", "agents=[bc,cpq]", "limits=[10]")
    assert alone == digests("seeds=1", "episodes=7", "limits=[3]", "protocol=hard")
    small = "agent.hidden=16,agent.batch_size=32"
    assert alone == digests("seeds=1", f"overrides=[{small},log_every=7,checkpoint_every=9]")
    for other in ("steps=21", "seeds=[1]", "filters={noise:0.1}", f"overrides=[{small},data.reward_scale=2.0]"):
        assert not alone & digests("seeds=1", other)


def test_the_same_settings_on_other_data_are_another_training(tmp_path):
    run = planned(tmp_path).runs[0]
    assert identity(run.config, "one") != identity(run.config, "two")
    moved = replace(run.config, data=replace(run.config.data, path="elsewhere.hdf5"), out="elsewhere")
    assert identity(run.config, "one") == identity(moved, "one")
    named = replace(run.config, env="saferl/PointRobot-v0")
    assert identity(run.config, "one") == identity(named, "one")


def test_steps_are_the_agents_own_unless_given(tmp_path):
    runs = planned(tmp_path, "agents=[bc,fisor_small]", "overrides=[]", "steps=null", "seeds=1").runs
    assert [run.config.steps for run in runs] == [100_000, 6_000]  # default_steps of their YAML
    runs = planned(tmp_path, "agents=[bc,fisor_small]", "overrides=[]", "agent_overrides={bc:[steps=9]}").runs
    assert {run.agent: run.config.steps for run in runs} == {"bc": 9, "fisor_small": 20}


def test_what_will_fail_is_not_done(tmp_path):
    plan = planned(tmp_path, "agents=[bc,cpq]", "limits=[10]", "seeds=1")
    assert [run.agent for run in plan.open_runs()] == ["bc", "cpq"]
    assert [run.agent for run in replace(plan, problems=(Problem("point_robot", "cpq", "why"),)).open_runs()] == ["bc"]
    assert replace(plan, problems=(Problem("point_robot", None, "why"),)).open_runs() == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["agents=[bcc]"], "no agent named 'bcc'. Did you mean agent=bc?"),
        (["overrides=[agent.lrr=1]"], "no key named 'agent.lrr'. Did you mean agent.lr=?"),
        (["overrides=[agent.lr=-1]"], "bc on point_robot: agent.lr must be > 0; got -1.0."),
        (["overrides=[device=gpu]"], "bc on point_robot: device must be auto, cpu, cuda"),
        (["filters={nose:1}"], "bc on point_robot: filters: no filter named 'nose'. Did you mean noise?"),
        (["tasks=[point_robt]"], "no task named 'point_robt'. Did you mean tasks=[point_robot]?"),
        (["data={point_robot:nowhere.hdf5}"], "data={point_robot: nowhere.hdf5}: no such file or folder."),
    ],
)
def test_a_mistake_is_found_before_anything_runs(words, message, tmp_path):
    with pytest.raises(UsageError) as error:
        planned(tmp_path, *words)
    assert message in str(error.value)
