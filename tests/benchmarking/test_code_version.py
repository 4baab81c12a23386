"""The digest of an agent's code: what runs counts, in the agent's file and in those that it imports."""

import pytest

from saferl.agents import AGENTS
from saferl.benchmarking.code_version import _closure, code_version

SOURCE = '''"""An agent."""

from saferl.nn.averaging import average_into


def update(x):
    """Add."""
    return x + 1  # why
'''


@pytest.fixture
def version_of(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)

    def version(source):
        name = "agent_of_a_test"
        (tmp_path / f"{name}.py").write_text(source)
        code_version.cache_clear()
        return code_version(name)

    return version


@pytest.mark.parametrize(
    "changed",
    [
        SOURCE.replace("# why", "# because"),
        SOURCE.replace('"""Add."""', '"""Sum."""').replace("An agent", "The agent"),
        SOURCE.replace("x + 1", "(x +\n            1)"),
        SOURCE.replace("\n\n\ndef", "\n\ndef"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(version_of, changed):
    assert changed != SOURCE
    assert version_of(changed) == version_of(SOURCE)


@pytest.mark.parametrize(
    "changed", [SOURCE.replace("+ 1", "+ 2"), SOURCE.replace("averaging import average_into", "mlp import MLP")]
)
def test_what_runs_and_what_is_imported_count(version_of, changed):
    assert changed != SOURCE
    assert version_of(changed) != version_of(SOURCE)


def test_modules_are_followed_into_networks_and_data_but_not_into_other_agents():
    found = _closure({"saferl.agents.fisor"})
    assert {"saferl.agents.feasibility", "saferl.nn.diffusion", "saferl.nn.dense", "saferl.offline_data.batch"} <= found
    assert not {"saferl.agents.bc", "saferl.agents", "saferl.training.loop"} & found


def test_every_agent_has_a_version_of_its_own():
    modules = {agent.__module__ for _, agent in AGENTS.values()}
    assert len({code_version(module) for module in modules}) == len(modules)
