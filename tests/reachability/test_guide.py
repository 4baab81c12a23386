"""docs/reachability.md: its code runs and says what the guide says."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

from saferl.reachability import SYSTEMS, Grid, discounted

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "reachability.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture(scope="module")
def printed():
    """What the guide's blocks print, one after the other as a reader would run them."""
    names, out = {}, io.StringIO()
    with contextlib.redirect_stdout(out):
        for block in BLOCKS[:2]:
            exec(block, names)
    return names, out.getvalue().splitlines()


def test_own_system_runs_as_shown(printed):
    names, lines = printed
    assert lines[0] == "[ True False]"
    along, across = names["value"].safe_control([[-1.5, 0.3]])[0]
    assert along == -1  # against the river
    assert across == 1  # away from the rock's centre line
    assert len(BLOCKS[0].split("boat = ")[1].split("\n)")[0].splitlines()) < 10


def test_bias_of_the_guide_is_measured(printed):
    names, _ = printed
    x = names["line"].open_mesh()[0]
    unsafe = names["values"][-1].values > 0
    inside = np.broadcast_to(np.abs(x) <= 1, unsafe.shape)
    rows = re.findall(r"^\| \.(\d+) \| -[.\d]+ \| ([\d.]+) % \| ([\d.]+) % \|", GUIDE, re.MULTILINE)
    assert len(rows) == 3
    for digits, everywhere, inside_share in rows:
        value = discounted.solve(
            SYSTEMS["double_integrator"](), names["line"], dt=0.025, discount=float(f"0.{digits}"),
            constraint=names["walls"], tolerance=1e-5,
        )  # fmt: skip
        hidden = (value.values <= 0) & unsafe
        assert 100 * hidden.sum() / unsafe.sum() == pytest.approx(float(everywhere), abs=0.6)
        assert 100 * (hidden & inside).sum() / (unsafe & inside).sum() == pytest.approx(float(inside_share), abs=0.6)
    assert isinstance(names["line"], Grid)
