"""Minari datasets: round trip, the format as the package minari sees it, malformed datasets."""

import json
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

from saferl.offline_data import DatasetError, OfflineDataset, load_minari, save_minari
from tests.offline_data.arrays import assert_same, toy, toy_arrays

minari = pytest.importorskip("minari", reason="the extra minari is not installed")
# minari asks for author, code and more of what it calls a published dataset
pytestmark = [pytest.mark.filterwarnings(f"ignore:.*{what}") for what in ("is set to None", "env_spec is None")]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))


def toy_env() -> gymnasium.Env:
    env = gymnasium.Env()
    env.observation_space, env.action_space = Box(-9, 9, (3,), np.float32), Box(-2, 2, (2,), np.float32)
    return env


@pytest.mark.parametrize("margins", [False, True])
def test_costs_and_margins_come_back(tmp_path, margins):
    dataset = toy((3, 1, 4), margins=margins)
    save_minari(dataset, tmp_path / "toy-v0")
    assert_same(load_minari(tmp_path / "toy-v0"), dataset)


def test_metadata_come_back(tmp_path):
    facts = {"env": "Toy-v0", "seed": 3, "share": 0.25}
    save_minari(OfflineDataset(**toy_arrays(), metadata=facts), tmp_path / "toy-v0")
    assert load_minari(tmp_path / "toy-v0").metadata == facts


def test_next_observations_that_no_row_repeats_come_back(tmp_path):
    arrays = toy_arrays()
    arrays["next_observations"] += 0.25
    save_minari(OfflineDataset(**arrays), tmp_path / "toy-v0")
    assert_same(load_minari(tmp_path / "toy-v0"), OfflineDataset(**arrays))


def test_minari_itself_reads_what_was_written(tmp_path):
    dataset = toy((3, 1, 4), margins=True)
    save_minari(dataset, tmp_path / "toy-v0", toy_env())
    other = minari.load_dataset("toy-v0")
    assert (other.total_episodes, other.total_steps) == (3, 8)
    assert (other.observation_space, other.action_space) == (toy_env().observation_space, toy_env().action_space)
    for episode, rows in zip(other.iterate_episodes(), dataset.episode_slices):
        np.testing.assert_array_equal(episode.observations[:-1], dataset.observations[rows])
        np.testing.assert_array_equal(episode.observations[1:], dataset.next_observations[rows])
        np.testing.assert_array_equal(episode.terminations, dataset.terminals[rows])
        np.testing.assert_array_equal(episode.infos["cost"], [0, *dataset.costs[rows]])  # 0 at reset
        np.testing.assert_array_equal(episode.infos["margin"], [np.nan, *dataset.margins[rows]])
        assert "next_observation" not in episode.infos


class Walk(gymnasium.Env):
    """Two numbers that drift by the action; costs 1 where the first is positive; ends after five steps."""

    observation_space, action_space = Box(-99, 99, (2,), np.float32), Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.time = self.np_random.normal(size=2).astype(np.float32), 0
        return self.place, {"cost": 0.0}

    def step(self, action):
        self.place, self.time = self.place + action, self.time + 1
        return self.place, float(self.place[1]), self.time == 5, False, {"cost": float(self.place[0] > 0)}


def test_what_minari_recorded_is_read(tmp_path):
    """Three whole episodes and a cut one, recorded by minari's own collector, against a log kept beside it."""
    pytest.importorskip("jax", reason="minari's collector needs jax")
    env, log = minari.DataCollector(Walk(), record_infos=True), []
    generator = np.random.default_rng(0)
    for episode in range(4):
        observation, _ = env.reset(seed=episode)
        for step in range(5 if episode < 3 else 2):
            action = generator.uniform(-1, 1, 2).astype(np.float32)
            following, reward, terminated, _, info = env.step(action)
            log.append((observation, action, reward, info["cost"], following, terminated, episode == 3 and step == 1))
            observation = following
    with pytest.warns(UserWarning, match="author"):  # minari asks for one
        env.create_dataset("walk-v0")
    dataset = load_minari(tmp_path / "walk-v0")
    names = ("observations", "actions", "rewards", "costs", "next_observations", "terminals", "timeouts")
    for name, column in zip(names, zip(*log)):
        np.testing.assert_allclose(getattr(dataset, name), np.array(column, dtype=np.float32), atol=1e-6, err_msg=name)
    assert dataset.costs.any()
    assert not dataset.costs.all()


def buffers(**changes) -> list:
    """One episode of two steps as minari takes it."""
    parts = {
        "observations": np.zeros((3, 3), np.float32),
        "actions": np.zeros((2, 2), np.float32),
        "rewards": [0.0, 0.0],
        "terminations": [False, True],
        "truncations": [False, False],
        "infos": {"cost": np.zeros(3)},
    }
    return [minari.data_collector.EpisodeBuffer(**(parts | changes))]


def create(parts: list, observation_space: gymnasium.Space | None = None) -> None:
    with pytest.warns(UserWarning, match="author"):
        minari.create_dataset_from_buffers(
            "other-v0",
            parts,
            observation_space=observation_space or Box(-9, 9, (3,), np.float32),
            action_space=Box(-1, 1, (2,), np.float32),
        )


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"infos": None}, "episode 0: infos/cost is missing; found in infos: nothing."),
        ({"infos": {"speed": np.zeros(3)}}, "episode 0: infos/cost is missing; found in infos: speed."),
        ({"infos": {"cost": np.zeros(5)}}, "episode 0: infos/cost: 5 values; allowed: 3 (with reset) or 2."),
        ({"observations": np.zeros((2, 3))}, "episode 0: observations: 2 rows; allowed: 3, one more than steps."),
        ({"actions": np.zeros((3, 2))}, "episode 0: actions: 3 rows; allowed: 2, as many as rewards."),
        ({"infos": {"cost": np.array([0, 0, -1.0])}}, "costs, row 1: -1.0; a cost must be >= 0."),
        ({"rewards": [0.0, np.nan]}, "rewards, row 1: nan; every value must be finite in float32."),
    ],
)
def test_a_malformed_episode_gives_one_line(tmp_path, parts, message):
    create(buffers(**parts))
    with pytest.raises(DatasetError) as caught:
        load_minari(tmp_path / "other-v0")
    assert str(caught.value).startswith(f"{tmp_path / 'other-v0'}: {message}")
    assert "\n" not in str(caught.value)


def test_infos_without_the_one_of_reset_are_read(tmp_path):
    create(buffers(infos={"cost": np.array([0.25, 0.5])}))
    assert load_minari(tmp_path / "other-v0").costs.tolist() == [0.25, 0.5]


def test_observations_that_are_no_vector_are_refused(tmp_path):
    create(buffers(observations={"a": np.zeros((3, 3), np.float32)}), Dict({"a": Box(-1, 1, (3,), np.float32)}))
    with pytest.raises(DatasetError, match="observation_space: Dict of shape None; allowed: a Box"):
        load_minari(tmp_path / "other-v0")


def rewrite_header(folder: Path, **changes) -> None:
    file = folder / "data" / "metadata.json"
    header = {key: value for key, value in (json.loads(file.read_text()) | changes).items() if value is not None}
    file.write_text(json.dumps(header))


def test_the_environment_that_a_dataset_names_is_not_made(tmp_path):
    """Without its spaces, minari's reader would call the entry point that the file names: any function there is."""
    save_minari(toy(), tmp_path / "toy-v0")
    spec = gymnasium.envs.registration.EnvSpec("Harm-v0", entry_point="tests.offline_data.test_minari_io:harm")
    rewrite_header(tmp_path / "toy-v0", env_spec=spec.to_json(), observation_space=None)
    with pytest.raises(DatasetError, match="key 'observation_space' is missing"):
        load_minari(tmp_path / "toy-v0")


def harm() -> None:
    raise AssertionError("the data's entry point was called")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_format": "arrow"}, "data_format 'arrow'; allowed: 'hdf5'."),
        ({"total_steps": 7}, "it does not fit the 7 steps of metadata.json"),
        ({"total_steps": 9}, "metadata.json names 9 steps, the episodes have 8"),
        ({"total_episodes": 4}, "damaged Minari dataset at step 8 of 8"),
        ({"total_steps": None}, "key 'total_steps' is missing"),
        ({"action_space": "{"}, "damaged"),
    ],
)
def test_a_header_that_disagrees_is_refused(tmp_path, changes, message):
    save_minari(toy(), tmp_path / "toy-v0")
    rewrite_header(tmp_path / "toy-v0", **changes)
    with pytest.raises(DatasetError) as caught:
        load_minari(tmp_path / "toy-v0")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused(tmp_path):
    save_minari(toy(), tmp_path / "toy-v0")
    file = tmp_path / "toy-v0" / "data" / "main_data.hdf5"
    file.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(DatasetError, match=r"toy-v0: damaged Minari dataset at step 0 of 8 \(.*truncated"):
        load_minari(tmp_path / "toy-v0")


def test_no_dataset_there(tmp_path):
    with pytest.raises(DatasetError, match="not a Minari dataset"):
        load_minari(tmp_path)


def test_names_and_folders_that_do_not_do(tmp_path):
    with pytest.raises(DatasetError, match="is called NAME-vN"):
        save_minari(toy(), tmp_path / "toy")
    save_minari(toy(), tmp_path / "toy-v0")
    with pytest.raises(DatasetError, match="exists already"):
        save_minari(toy(), tmp_path / "toy-v0")
    with pytest.raises(DatasetError, match="observations, row 0: 4 values, but Env has 3"):
        save_minari(toy(obs_dim=4), tmp_path / "toy-v1", toy_env())
    assert [entry.name for entry in tmp_path.iterdir()] == ["toy-v0"]


def test_without_the_package_one_line_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "minari.dataset.minari_storage", None)
    with pytest.raises(ImportError, match=r'pip install "saferl\[minari\]"'):
        save_minari(toy(), tmp_path / "toy-v0")
