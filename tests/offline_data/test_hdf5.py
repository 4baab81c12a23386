"""DSRL's HDF5 files: round trip, the format on disk, malformed files."""

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from saferl.offline_data import DatasetError, OfflineDataset, load_hdf5, save_hdf5
from tests.offline_data.arrays import assert_same, toy, toy_arrays

ORACLE = Path(__file__).parents[3] / "shared" / "oracles" / "fisor" / "point_robot_mix_100k.hdf5"
DSRL_KEYS = {"observations", "next_observations", "actions", "rewards", "costs", "terminals", "timeouts"}


def write(path: Path, arrays: dict, **settings) -> Path:
    """A file written by h5py alone."""
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            if array is not None:
                file.create_dataset(key, data=array, **settings)
    return path


@pytest.mark.parametrize("margins", [False, True])
def test_a_written_dataset_is_read_back(tmp_path, margins):
    dataset = toy((3, 1, 4), margins=margins)
    save_hdf5(dataset, tmp_path / "new" / "data.hdf5")
    assert_same(load_hdf5(tmp_path / "new" / "data.hdf5"), dataset)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["data.hdf5"]  # no temporary file stays


def test_metadata_are_attributes_of_the_file(tmp_path):
    facts = {"env": "Toy-v0", "seed": 3, "share": 0.25}
    save_hdf5(OfflineDataset(**toy_arrays(), metadata=facts), tmp_path / "data.hdf5")
    with h5py.File(tmp_path / "data.hdf5") as file:
        assert dict(file.attrs) == facts
    loaded = load_hdf5(tmp_path / "data.hdf5").metadata
    assert loaded == facts
    assert [type(value) for value in loaded.values()] == [str, int, float]


def test_the_format_on_disk_is_the_one_of_dsrl(tmp_path):
    save_hdf5(toy(margins=True), tmp_path / "data.hdf5")
    with h5py.File(tmp_path / "data.hdf5") as file:
        assert set(file) == DSRL_KEYS | {"h"}
        assert {node.dtype for node in file.values()} == {np.dtype("<f4")}
        assert {node.compression for node in file.values()} == {"gzip"}
        assert file["observations"].shape == (8, 3)
        assert {file[key].shape for key in ("rewards", "costs", "terminals", "timeouts", "h")} == {(8,)}
        assert np.array_equal(file["terminals"][:], toy().terminals.astype(float))


def test_other_widths_columns_of_one_and_foreign_keys_are_read(tmp_path):
    arrays = toy_arrays()
    other = {key: array if array.dtype == bool else array.astype(np.float64) for key, array in arrays.items()}
    other |= {"rewards": other["rewards"][:, None], "infos/speed": np.zeros(8), "name": np.bytes_(b"x")}
    assert_same(load_hdf5(write(tmp_path / "data.hdf5", other)), toy())


@pytest.mark.skipif(not ORACLE.is_file(), reason="the reference data are not beside this checkout")
def test_the_recorded_point_robot_data():
    dataset = load_hdf5(ORACLE)
    assert (len(dataset), dataset.obs_dim, dataset.act_dim, dataset.n_episodes) == (100_000, 11, 2, 1_624)
    assert (dataset.terminals.sum(), dataset.timeouts.sum()) == (1_311, 313)  # counts of the data's description
    centres = np.array([[0.4, -1.2], [-0.4, 1.2]])
    distance = np.linalg.norm(dataset.next_observations[:, None, :2] - centres, axis=-1).min(axis=1)
    np.testing.assert_allclose(dataset.margins, 0.8 - distance, atol=1e-6)  # h belongs to the state after the step
    np.testing.assert_array_equal(dataset.costs, dataset.margins > 0)


def without(key: str) -> dict:
    return {name: array for name, array in toy_arrays().items() if name != key}


def with_value(key: str, row: object, value: float) -> dict:
    arrays = toy_arrays()
    arrays[key][row] = value
    return arrays


MALFORMED = {
    "missing key": (without("timeouts"), "key 'timeouts' is missing; found: actions, costs, next_observations,"),
    "misspelt key": (without("costs") | {"cost": np.zeros(8)}, "key 'costs' is missing; did you mean 'cost'? found:"),
    "group": (without("costs") | {"costs/all": np.zeros(8)}, "costs: a group; allowed: an array of real numbers"),
    "shape": (toy_arrays() | {"actions": np.zeros(8)}, "actions: shape (8,); allowed: (N, act_dim)"),
    "scalar": (toy_arrays() | {"rewards": np.float32(1)}, "rewards: shape (); allowed: (N,)"),
    "dtype": (toy_arrays() | {"rewards": np.array([b"1"] * 8)}, "rewards: dtype |S1; allowed: real numbers"),
    "unequal": (toy_arrays() | {"costs": np.zeros(5)}, "costs, row 5: 5 rows, but observations has 8"),
    "no rows": ({key: array[:0] for key, array in toy_arrays().items()}, "observations: 0 rows"),
    "nan": (with_value("next_observations", (4, 1), np.nan), "next_observations, row 4, column 1: nan;"),
    "inf": (with_value("actions", (0, 0), -np.inf), "actions, row 0, column 0: -inf;"),
    "negative cost": (with_value("costs", 2, -1), "costs, row 2: -1.0; a cost must be >= 0"),
    "never ends": (
        toy_arrays() | {"terminals": np.zeros(8), "timeouts": np.zeros(8)},
        "terminals, timeouts: none of 8",
    ),
    "margin": (toy_arrays() | {"h": np.append(np.zeros(7), np.nan)}, "h, row 7: nan; every value must be finite"),
    "margin shape": (toy_arrays() | {"h": np.zeros(3)}, "h, row 3: 3 rows, but observations has 8"),
}


@pytest.mark.parametrize(("arrays", "message"), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_file_gives_one_line(tmp_path, arrays, message):
    path = write(tmp_path / "data.hdf5", arrays)
    with pytest.raises(DatasetError) as caught:
        load_hdf5(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file (0 bytes)"),
        (b"not a data file", "a file that begins with b'not a da', not HDF5"),
        (b"<!DOCTYPE html><html>404</html>", "an HTML page, not HDF5"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer, not HDF5"),
        (pickle.dumps(toy_arrays()), "a file that begins with"),
    ],
)
def test_a_file_that_is_no_hdf5_is_refused(tmp_path, content, message):
    path = tmp_path / "data.hdf5"
    path.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        load_hdf5(path)
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path, share):
    path = tmp_path / "data.hdf5"
    save_hdf5(toy((500,)), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DatasetError) as caught:
        load_hdf5(path)
    assert str(caught.value).startswith(f"{path}: truncated HDF5 file ({int(share * len(content))} bytes")


def test_a_damaged_chunk_is_refused(tmp_path):
    path = tmp_path / "data.hdf5"
    save_hdf5(toy((500,)), path)
    with h5py.File(path) as file:
        place = file["rewards"].id.get_chunk_info(0)
    with path.open("r+b") as file:
        file.seek(place.byte_offset)
        file.write(b"\xff" * place.size)
    with pytest.raises(DatasetError) as caught:
        load_hdf5(path)
    assert str(caught.value).startswith(f"{path}: rewards: damaged")
    assert "\n" not in str(caught.value)


def test_an_absent_file_names_the_close_one(tmp_path):
    save_hdf5(toy(), tmp_path / "data.hdf5")
    with pytest.raises(DatasetError, match=r"dta.hdf5: no such file. Did you mean .*/data.hdf5\?"):
        load_hdf5(tmp_path / "dta.hdf5")
    with pytest.raises(DatasetError, match="is a folder"):
        load_hdf5(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "data.hdf5"
    save_hdf5(toy(), path)
    before = path.read_bytes()
    dataset = OfflineDataset(**toy_arrays(), metadata={"bad": object()})  # HDF5 has no type for it
    with pytest.raises(TypeError):
        save_hdf5(dataset, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["data.hdf5"]
