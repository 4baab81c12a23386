"""The guide's code runs as it is printed, and the benchmark runs on a small dataset."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from saferl.offline_data import load_hdf5, load_minari
from tests.offline_data.arrays import assert_same, toy, toy_arrays

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8"), re.DOTALL)


def test_the_guides_tour_runs(tmp_path, monkeypatch):
    pytest.importorskip("minari", reason="the extra minari is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAFERL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DSRL_DATASET_DIR", raising=False)
    names: dict = {}
    exec(BLOCKS[0], names)
    assert_same(load_minari(tmp_path / "pointrobot-safe-v0"), names["safe"])
    assert load_hdf5(tmp_path / "mine.hdf5").n_episodes == names["safe"].n_episodes + 2


def test_the_guides_own_file_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(BLOCKS[1], {"arrays": toy_arrays()})
    assert_same(load_hdf5(tmp_path / "mine.hdf5"), toy())


def test_the_benchmark_runs_and_prints_its_ratio_last():
    command = [sys.executable, str(ROOT / "benchmarks" / "sampling.py"), "--rows", "5000", "--batches", "2"]
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    assert re.fullmatch(r"ratio: [\d.]+ \(aim: at least 30\)", output.splitlines()[-1])
