"""load_dataset: which source wins, what is kept, what the error lists."""

from pathlib import Path

import pytest

from saferl.envs.tasks import TASKS
from saferl.offline_data import DatasetError, load_dataset, loading, save_hdf5, save_minari
from saferl.offline_data.download import DownloadError
from tests.offline_data.arrays import assert_same, toy

ENV_ID = "OfflinePointCircle1Gymnasium-v0"
FILE = TASKS[ENV_ID].dataset_file


def circle(length: int):
    """A dataset with the sizes of PointCircle1; its length tells where it came from."""
    return toy((length,), obs_dim=28, act_dim=2)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Data folder, cache and a fake web, each in its own folder; nothing reaches the network."""
    for variable, name in (("DSRL_DATASET_DIR", "shared"), ("SAFERL_CACHE", "cache")):
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.setenv("DSRL_DATASET_URL", "http://web/")

    def fetch(url: str, target: Path) -> Path:
        source = tmp_path / "web" / url.removeprefix("http://web/")
        if not source.exists():
            raise DownloadError(f"{url}: HTTP 404 Not Found.")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        return target

    monkeypatch.setattr(loading, "download", fetch)
    return tmp_path


def test_each_source_is_used_only_where_those_before_it_have_nothing(places):
    save_hdf5(circle(1), places / "mine.hdf5")
    save_hdf5(circle(2), places / "shared" / FILE)
    save_hdf5(circle(3), places / "cache" / "datasets" / FILE)
    save_hdf5(circle(4), places / "web" / FILE)
    assert len(load_dataset(ENV_ID, places / "mine.hdf5")) == 1
    assert len(load_dataset(ENV_ID)) == 2
    (places / "shared" / FILE).unlink()
    assert len(load_dataset(ENV_ID)) == 3
    (places / "cache" / "datasets" / FILE).unlink()
    assert len(load_dataset(ENV_ID)) == 4
    (places / "web" / FILE).unlink()
    assert len(load_dataset(ENV_ID)) == 4  # kept in the data folder
    assert (places / "shared" / FILE).is_file()


def test_without_a_data_folder_the_cache_keeps_the_download(places, monkeypatch):
    monkeypatch.delenv("DSRL_DATASET_DIR")
    save_hdf5(circle(4), places / "web" / FILE)
    load_dataset(ENV_ID)
    assert (places / "cache" / "datasets" / FILE).is_file()


def test_the_download_comes_from_dsrl_by_default(places, monkeypatch):
    monkeypatch.delenv("DSRL_DATASET_URL")
    with pytest.raises(
        DatasetError, match=f"https://huggingface.co/datasets/YYY-45/DSRL/resolve/main/{FILE}: HTTP 404"
    ):
        load_dataset(ENV_ID)


def test_a_path_may_be_a_minari_folder_or_one_with_the_dsrl_file(places):
    save_hdf5(circle(5), places / "mine" / FILE)
    assert_same(load_dataset(ENV_ID, places / "mine"), circle(5))
    pytest.importorskip("minari", reason="the extra minari is not installed")
    save_minari(circle(6), places / "circle-v0")
    assert_same(load_dataset(ENV_ID, places / "circle-v0"), circle(6))


def test_a_path_that_does_not_do_is_the_users_to_mend(places):
    save_hdf5(circle(2), places / "shared" / FILE)  # does not stand in
    with pytest.raises(DatasetError, match=r"absent\.hdf5: no such file"):
        load_dataset(ENV_ID, places / "absent.hdf5")
    (places / "empty").mkdir()
    with pytest.raises(DatasetError, match=f"nor a folder with {FILE}; it has: no HDF5 file"):
        load_dataset(ENV_ID, places / "empty")


def test_a_damaged_file_in_the_cache_is_reported_not_skipped(places):
    (places / "shared").mkdir()
    (places / "shared" / FILE).write_bytes(b"")
    with pytest.raises(DatasetError, match=f"{FILE}: empty file"):
        load_dataset(ENV_ID)


def test_data_of_another_task_is_refused(places):
    save_hdf5(toy((4,), obs_dim=60), places / "mine.hdf5")
    with pytest.raises(DatasetError, match=f"observations, row 0: 60 values, but {ENV_ID} has 28"):
        load_dataset(ENV_ID, places / "mine.hdf5")


def test_the_error_lists_what_was_tried_and_the_two_ways_out(places):
    with pytest.raises(DatasetError) as caught:
        load_dataset(ENV_ID)
    text = str(caught.value)
    for part in (
        f"no data for {ENV_ID}; tried: {places / 'shared' / FILE} (absent)",
        f"{places / 'cache' / 'datasets' / FILE} (absent)",
        f"download from http://web/{FILE}: HTTP 404 Not Found;",
        "built-in generator (none for this environment)",
        "data.path=...",
        f"python -m saferl.collect env={ENV_ID}",
    ):
        assert part in text
    assert "\n" not in text


def test_the_simulators_own_id_leads_to_the_dsrl_id(places):
    with pytest.raises(DatasetError, match=f"not an id of DSRL; did you mean env={ENV_ID}"):
        load_dataset("SafetyPointCircle1-v0")


def test_a_misspelt_id_leads_to_the_close_one(places):
    with pytest.raises(DatasetError, match=f"did you mean env={ENV_ID}"):
        load_dataset("OfflinePointCircl1Gymnasium-v0")


def test_generated_data_are_kept_and_used_again(places, monkeypatch):
    monkeypatch.setitem(loading.GENERATORS, "saferl/PointRobot-v0", "tests.offline_data.test_loading:made")
    made_data = load_dataset("point_robot")
    assert_same(made_data, made())
    monkeypatch.setitem(loading.GENERATORS, "saferl/PointRobot-v0", "tests.offline_data.test_loading:never")
    assert_same(load_dataset("saferl/PointRobot-v0"), made_data)


def made():
    return toy((3, 4), obs_dim=11, margins=True)


def test_generated_data_that_can_not_be_kept_are_used_with_a_warning(places, monkeypatch):
    monkeypatch.setitem(loading.GENERATORS, "saferl/PointRobot-v0", "tests.offline_data.test_loading:made")
    (places / "shared").write_text("in the way")
    monkeypatch.setenv("DSRL_DATASET_DIR", str(places / "shared"))
    with pytest.warns(UserWarning, match="can't be kept"):
        assert_same(load_dataset("point_robot"), made())


def test_the_point_robot_has_a_generator():
    module, function = loading.GENERATORS["saferl/PointRobot-v0"].split(":")
    assert callable(getattr(__import__(module, fromlist=[function]), function))
