"""Data by their content: read once, fetched only when that is wanted."""

import hashlib
import os

import pytest

import saferl.benchmarking.data as data_module
from saferl.benchmarking.data import DataCatalogue
from saferl.offline_data import DatasetError
from saferl.offline_data.hdf5 import save_hdf5
from saferl.offline_data.point_robot import generate

SMALL = generate(n=2_000, seed=0)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.hdf5"
    save_hdf5(SMALL, path)
    return path


@pytest.fixture
def reads(monkeypatch):
    """Paths that were read."""
    seen = []
    load = data_module.load_dataset
    monkeypatch.setattr(data_module, "load_dataset", lambda env, path: seen.append(path) or load(env, path))
    return seen


def test_facts_are_those_of_the_file(file, tmp_path):
    facts = DataCatalogue(tmp_path / "data.json").facts("point_robot", str(file))
    returns, _ = SMALL.episode_returns()
    assert facts.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (facts.transitions, facts.obs_dim, facts.act_dim) == (len(SMALL), 11, 2)
    assert facts.longest == SMALL.episode_lengths.max()
    assert (facts.min_return, facts.max_return) == (returns.min(), returns.max())


def test_a_file_is_read_once_also_by_a_later_command_and_again_when_it_changes(file, tmp_path, reads):
    first = DataCatalogue(tmp_path / "data.json").facts("point_robot", str(file))
    assert DataCatalogue(tmp_path / "data.json").facts("point_robot", str(file)) == first
    assert len(reads) == 1
    save_hdf5(generate(n=1_000, seed=1), file)
    assert DataCatalogue(tmp_path / "data.json").facts("point_robot", str(file)) != first
    assert len(reads) == 2


def test_a_copy_elsewhere_has_the_same_digest(file, tmp_path):
    copy = tmp_path / "copy.hdf5"
    copy.write_bytes(file.read_bytes())
    os.utime(copy, (0, 0))
    catalogue = DataCatalogue(tmp_path / "data.json")
    assert catalogue.facts("point_robot", str(file)) == catalogue.facts("point_robot", str(copy))


def test_a_plan_alone_downloads_nothing(tmp_path, monkeypatch, reads):
    monkeypatch.setenv("SAFERL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DSRL_DATASET_DIR", raising=False)
    assert DataCatalogue(tmp_path / "data.json").facts("OfflineCarRun-v0", None, fetch=False) is None
    assert reads == []


def test_data_that_can_not_be_had_are_an_error_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("SAFERL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DSRL_DATASET_URL", "http://127.0.0.1:9/nothing")
    monkeypatch.delenv("DSRL_DATASET_DIR", raising=False)
    with pytest.raises(DatasetError, match=r"data\.path=.*saferl\.collect env=OfflineCarRun-v0"):
        DataCatalogue(tmp_path / "data.json").facts("OfflineCarRun-v0", None)


def test_data_in_the_data_folder_are_found_under_their_name(tmp_path, monkeypatch):
    monkeypatch.setenv("DSRL_DATASET_DIR", str(tmp_path))
    save_hdf5(SMALL, tmp_path / "saferl-PointRobot-v0.hdf5")
    facts = DataCatalogue(tmp_path / "data.json").facts("point_robot", None)
    assert facts.transitions == len(SMALL)


def test_data_that_lie_in_no_file_are_known_by_their_arrays(tmp_path, monkeypatch):
    # As a generator's are where no folder can be written.
    monkeypatch.setattr(data_module, "load_dataset", lambda env, path: SMALL)
    monkeypatch.setattr(data_module, "data_file", lambda env, path: None)
    assert DataCatalogue(tmp_path / "data.json").facts("point_robot", None).digest == SMALL.sha256()
    assert not (tmp_path / "data.json").exists()  # nothing tells whether they are still the same
