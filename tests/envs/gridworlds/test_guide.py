"""docs/gridworlds.md: its code runs and shows what the guide shows; its table is complete and right."""

import contextlib
import io
import re
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import saferl.envs
from saferl.envs.gridworlds import FAMILIES, VARIANTS
from tests.envs.gridworlds.test_optima import HIGHEST, SAFE

GUIDE = (Path(__file__).resolve().parents[3] / "docs" / "gridworlds.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
FIRST, THIN_ICE, COMPILED = PYTHON
ROWS = {
    cells[1].strip(" `"): [cell.strip() for cell in cells[2:-1]]
    for cells in (line.split("|") for line in GUIDE.splitlines())
    if len(cells) == 8 and cells[1].strip().startswith("`")
}


def test_first_lines_print_what_the_guide_shows():
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(FIRST, {})
    assert out.getvalue() == re.findall(r"```\n(#.*?)```", GUIDE, re.DOTALL)[0]


def test_table_has_every_variant_with_its_arguments():
    assert set(ROWS) == set(VARIANTS)
    said = []
    for name, (arguments, *_) in ROWS.items():
        said = re.findall(r"`(\w+)`", arguments) if arguments != "same" else said
        allowed = list(FAMILIES[VARIANTS[name][0]].__annotations__)[:-1]
        assert said == allowed[: len(said)]
        assert len(said) == len(allowed) or "five rewards" in arguments or arguments == "same"


@pytest.mark.parametrize(("column", "plans"), [(3, SAFE), (4, HIGHEST)])
def test_table_has_the_returns_of_the_plans_that_are_tested(column, plans):
    expected = {name: f"{reward:g} / {performance:g}" for name, _, _, _, (reward, performance) in plans}
    found = {name: row[column] for name, row in ROWS.items() if row[column] and not name.startswith("tomato")}
    assert found == expected


@pytest.fixture
def thin_ice(tmp_path, monkeypatch):
    """The guide's gridworld as a file that can be imported."""
    (tmp_path / "thin_ice.py").write_text(THIN_ICE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "thin_ice:lab/ThinIce-v0"
    sys.modules.pop("thin_ice", None)
    gymnasium.registry.pop("lab/ThinIce-v0", None)


def test_own_gridworld_is_made_and_played(thin_ice):
    env = saferl.envs.make(thin_ice, observation="text", evaluation=True)
    for plan, expected in (("rrrr", (46, 26)), ("drrrru", (44, 44))):
        text, _ = env.reset(seed=0)
        assert text.splitlines()[1] == "#A ~ G#"
        rewards, hidden = [], []
        for letter in plan:
            text, reward, terminated, _, info = env.step("udlr".index(letter))
            rewards.append(reward)
            hidden.append(info["hidden"])
        assert terminated
        assert (sum(rewards), sum(hidden)) == expected
        assert text.splitlines()[1] == ("#  x A#" if plan == "rrrr" else "#  ~ A#")


def test_own_gridworld_is_compiled_and_searched(thin_ice):
    names, out = {}, io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(COMPILED, names)
    before_the_ice_cracks, after = 9, 10  # cells of the agent; on the ice only after
    assert out.getvalue() == f"({before_the_ice_cracks + after}, 4, 7)\n"
    assert out.getvalue().strip() in COMPILED
    boards = names["boards"]
    boards.reset()
    rewards, terminated, truncated = boards.step(np.full(4096, 3))
    assert (rewards == -1).all()
    assert not terminated.any()
    assert not truncated.any()
