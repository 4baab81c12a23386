"""The settings of a benchmark: what is understood and what is refused."""

import pytest
from omegaconf import OmegaConf

from saferl.benchmarking.config import parse_benchmark, quoted
from saferl.command_line import UsageError, composed


def parsed(*words):
    return parse_benchmark(OmegaConf.to_container(composed("benchmark", quoted(words))))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("overrides=[agent.hidden=128,agent.lr=1e-3]", ("agent.hidden=128", "agent.lr=1e-3")),
        ("overrides=['agent.hidden=128']", ("agent.hidden=128",)),
        ("overrides=agent.hidden=128", ("agent.hidden=128",)),
        ("overrides=[agent.layers=[1,2],+agent.x={a:1,b:2}]", ("agent.layers=[1,2]", "+agent.x={a:1,b:2}")),
        ("overrides=[ agent.hidden=128, agent.lr=1e-3 ]", ("agent.hidden=128", "agent.lr=1e-3")),
        ("overrides=[]", ()),
        ("agent_overrides={bc:[agent.hidden=3,steps=5]}", ("agent.hidden=3", "steps=5")),
        ("agent_overrides={bc: agent.hidden=3}", ("agent.hidden=3",)),
    ],
)
def test_settings_of_trainings_need_no_quotes_of_their_own(word, expected):
    assert parsed("agents=[bc]", word).words_for("bc") == expected


def test_an_agents_own_overrides_come_last_and_reach_no_other():
    config = parsed("agents=[bc,fisor]", "overrides=[agent.hidden=1]", "agent_overrides={bc:[agent.hidden=2]}")
    assert config.words_for("bc") == ("agent.hidden=1", "agent.hidden=2")
    assert config.words_for("fisor") == ("agent.hidden=1",)


def test_seeds_are_a_number_or_a_list():
    assert parsed("agents=[bc]", "seeds=4").seed_list == (0, 1, 2, 3)
    assert parsed("agents=[bc]", "seeds=[7,3]").seed_list == (7, 3)


def test_one_agent_and_one_limit_need_no_brackets():
    config = parsed("agents=bc", "limits=5")
    assert config.agent_names == ("bc",)
    assert config.limit_list == (5.0,)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "agents has no value; give agents="),
        (["agents=[bc]", "suite=dslr"], "no suite named 'dslr'. Did you mean suite=dsrl?"),
        (["agents=[bc]", "protocol=fisr"], "no protocol named 'fisr'. Did you mean protocol=fisor?"),
        (["agents=[bc]", "seeds=0"], "seeds must be a number >= 1 or a list"),
        (["agents=[bc]", "seeds=[-1]"], "seeds must be in 0 .. 2**32 - 1"),
        (["agents=[bc]", "seeds=[1,1]"], "seeds has a value twice"),
        (["agents=[bc,bc]"], "agents has a value twice"),
        (["agents=[bc]", "limits=[-5]"], "limits must be finite and >= 0; got [-5.0]."),
        (["agents=[bc]", "limits=[]"], "must not be empty"),
        (["agents=[bc]", "episodes=0"], "episodes must be >= 1; got 0."),
        (["agents=[bc]", "steps=0"], "steps must be >= 1; got 0."),
        (["agents=[bc]", "workers=0"], "workers must be >= 1; got 0."),
        (["agents=[bc]", "engine=slurm"], "no engine named 'slurm'"),
        (["agents=[bc]", "ray_address=auto"], "ray_address goes with engine=ray."),
        (["agents=[bc]", "engine=ray", "workers=2"], "workers goes with engine=local"),
        (["agents=[bc]", "agent_overrides={bcc:[agent.lr=1]}"], "no agent of this benchmark named 'bcc'. Did you"),
        (["agents=[bc]", "overrides=[seed=1]"], "a benchmark sets seed itself; give seeds=... instead."),
        (["agents=[bc]", "overrides=[agent.cost_limit=1]"], "give limits=[...] instead"),
        (["agents=[bc]", "overrides=[lr]"], "written key=value; got 'lr'"),
        (["agents=[bc]", "data=path.hdf5"], "data must be like {NAME: value}; got 'path.hdf5'."),
        (["agents=[bc]", "sed=1"], "no key named 'sed'. Did you mean seeds=?"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named(words, message):
    with pytest.raises(UsageError) as error:
        parsed(*words)
    assert message in str(error.value)
