"""OfflineDataset: checks at construction, episodes, selection, concatenation."""

import hashlib
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

from saferl.offline_data import (
    DatasetError,
    OfflineDataset,
    concatenate,
    load_hdf5,
    load_minari,
    save_hdf5,
    save_minari,
)
from tests.offline_data.arrays import assert_same, toy, toy_arrays


def episodes_one_by_one(dataset: OfflineDataset) -> list[list[int]]:
    """Rows of each episode, found row by row."""
    episodes, current = [], []
    for row in range(len(dataset)):
        current.append(row)
        if dataset.terminals[row] or dataset.timeouts[row]:
            episodes.append(current)
            current = []
    assert not current
    return episodes


def random_dataset(seed: int) -> OfflineDataset:
    generator = np.random.default_rng(seed)
    arrays = toy_arrays(tuple(int(length) for length in generator.integers(1, 9, size=30)))
    arrays["costs"] = generator.random(len(arrays["costs"])).astype(np.float32)
    arrays["timeouts"] = arrays["timeouts"] | (generator.random(len(arrays["costs"])) < 0.1)  # some overlap terminals
    return OfflineDataset(**arrays)


def test_sizes():
    dataset = toy((3, 1, 4), obs_dim=5, act_dim=2)
    assert (len(dataset), dataset.obs_dim, dataset.act_dim, dataset.n_episodes) == (8, 5, 2, 3)
    assert dataset.nbytes == 8 * (4 * (5 + 5 + 2 + 1 + 1) + 2)


def test_float32_arrays_are_not_copied():
    arrays = toy_arrays()
    assert np.shares_memory(OfflineDataset(**arrays).observations, arrays["observations"])


def test_other_real_types_become_float32_and_bool():
    arrays = toy_arrays()
    arrays |= {"observations": arrays["observations"].astype(np.float64), "rewards": arrays["rewards"].astype(int)}
    arrays |= {key: arrays[key].astype(np.float64) for key in ("terminals", "timeouts")}
    assert_same(OfflineDataset(**arrays), toy())


@pytest.mark.parametrize("seed", range(3))
def test_episodes_are_those_of_a_row_by_row_search(seed):
    dataset = random_dataset(seed)
    expected = episodes_one_by_one(dataset)
    assert [list(range(len(dataset)))[rows] for rows in dataset.episode_slices] == expected
    assert dataset.episode_starts.tolist() == [rows[0] for rows in expected]
    assert dataset.episode_lengths.tolist() == [len(rows) for rows in expected]


def test_returns_are_the_sums_over_each_episode():
    dataset = random_dataset(3)
    returns, costs = dataset.episode_returns()
    for number, rows in enumerate(episodes_one_by_one(dataset)):
        assert returns[number] == pytest.approx(sum(float(dataset.rewards[row]) for row in rows))
        assert costs[number] == pytest.approx(sum(float(dataset.costs[row]) for row in rows))


def test_returns_do_not_lose_small_rewards_in_a_long_sum():
    n = 200_000
    arrays = toy_arrays((n,)) | {"rewards": np.full(n, 0.1, np.float32)}
    returns, _ = OfflineDataset(**arrays).episode_returns()
    assert returns[0] == pytest.approx(n * float(np.float32(0.1)), rel=1e-12)


def test_terminal_and_timeout_in_the_same_row_end_one_episode():
    arrays = toy_arrays((2, 2))
    arrays["timeouts"] = arrays["timeouts"] | arrays["terminals"]
    assert OfflineDataset(**arrays).n_episodes == 2


def test_select_takes_whole_episodes_in_the_order_asked_for():
    dataset = toy((3, 1, 4), margins=True)
    chosen = dataset.select([2, 0, 2])
    rows = [4, 5, 6, 7, 0, 1, 2, 4, 5, 6, 7]
    for key, array in chosen.arrays().items():
        np.testing.assert_array_equal(array, dataset.arrays()[key][rows], err_msg=key)
    assert chosen.n_episodes == 3


def test_select_by_mask_is_select_by_index():
    dataset = random_dataset(4)
    mask = dataset.episode_returns()[1] > 2
    assert 0 < mask.sum() < len(mask)
    assert_same(dataset.select(mask), dataset.select(np.flatnonzero(mask)))


@pytest.mark.parametrize(
    ("episodes", "message"),
    [
        ([], "no episode is selected"),
        ([False, False, False], "no episode is selected"),
        ([True], "must have shape (3,)"),
        ([3], "no episode 3; allowed: 0 to 2"),
        ([-1], "no episode -1; allowed: 0 to 2"),
        ([0.5], "must be (K,) integers"),
    ],
)
def test_select_refuses(episodes, message):
    with pytest.raises(DatasetError) as caught:
        toy().select(episodes)
    assert message in str(caught.value)


def test_concatenation_of_all_episodes_is_the_dataset():
    dataset = toy((3, 1, 4), margins=True)
    parts = [dataset.select([number]) for number in range(dataset.n_episodes)]
    assert_same(concatenate(parts), dataset)


def test_concatenation_keeps_the_metadata_that_all_share():
    first, second = (OfflineDataset(**toy_arrays(), metadata={"env": "A", "seed": seed}) for seed in (0, 1))
    assert concatenate([first, second]).metadata == {"env": "A"}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "at least one dataset"),
        ([toy(), toy(obs_dim=4)], "all must agree"),
        ([toy(), toy(margins=True)], "in all datasets or in none"),
    ],
)
def test_concatenation_refuses(parts, message):
    with pytest.raises(DatasetError, match=message):
        concatenate(parts)


def test_an_unfinished_last_episode_is_dropped_with_one_warning():
    arrays = toy_arrays((3, 1, 4))
    arrays["terminals"][7] = arrays["timeouts"][7] = False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset = OfflineDataset(**arrays, source="some.hdf5")
    assert len(dataset) == 4
    assert [str(warning.message) for warning in caught] == [
        "some.hdf5: terminals, timeouts, row 4: the last episode never ends; its 4 rows are dropped."
    ]


def changed(key: str, row: object, value: float, dtype: type = np.float32) -> dict:
    arrays = toy_arrays()
    arrays[key] = arrays[key].astype(dtype)
    arrays[key][row] = value
    return arrays


MALFORMED = {
    "nan": (changed("observations", (5, 2), np.nan), "observations, row 5, column 2: nan; every value must be finite"),
    "inf": (changed("rewards", 6, np.inf), "rewards, row 6: inf; every value must be finite"),
    "too large for float32": (changed("rewards", 1, 1e300, np.float64), "rewards, row 1: inf; every value"),
    "nan margin": (toy_arrays() | {"margins": np.full(8, np.nan)}, "margins, row 0: nan"),
    "negative cost": (changed("costs", 4, -0.5), "costs, row 4: -0.5; a cost must be >= 0"),
    "half a flag": (changed("terminals", 3, 0.5), "terminals, row 3: 0.5; allowed: 0 or 1"),
    "nan flag": (changed("timeouts", 2, np.nan), "timeouts, row 2: nan; allowed: 0 or 1"),
    "no end": (
        toy_arrays() | {"terminals": np.zeros(8, bool), "timeouts": np.zeros(8, bool)},
        "terminals, timeouts: none of 8 rows ends an episode",
    ),
    "short": (toy_arrays() | {"rewards": np.zeros(7)}, "rewards, row 7: 7 rows, but observations has 8"),
    "long": (toy_arrays() | {"actions": np.zeros((9, 2))}, "actions, row 8: 9 rows, but observations has 8"),
    "flat observations": (
        toy_arrays() | {"observations": np.zeros(8)},
        "observations: shape (8,); allowed: (N, obs_dim)",
    ),
    "deep costs": (toy_arrays() | {"costs": np.zeros((8, 2))}, "costs: shape (8, 2); allowed: (N,)"),
    "other next size": (
        toy_arrays() | {"next_observations": np.zeros((8, 4))},
        "next_observations, row 0: 4 values, but observations has 3",
    ),
    "no columns": (toy_arrays() | {"actions": np.zeros((8, 0))}, "actions: shape (8, 0); allowed: (N, act_dim)"),
    "no rows": ({key: array[:0] for key, array in toy_arrays().items()}, "observations: 0 rows"),
    "text": (toy_arrays() | {"rewards": np.array(["1"] * 8)}, "rewards: dtype <U1; allowed: real numbers"),
    "objects": (toy_arrays() | {"costs": np.array([None] * 8)}, "costs: dtype object; allowed: real numbers"),
    "complex": (toy_arrays() | {"actions": np.zeros((8, 2), complex)}, "actions: dtype complex128; allowed: real"),
    "ragged": (toy_arrays() | {"actions": [[1.0, 2.0], [3.0]]}, "actions: rows of unequal length"),
}


@pytest.mark.parametrize(("arrays", "message"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_arrays_are_refused_in_one_line(arrays, message):
    with pytest.raises(DatasetError) as caught:
        OfflineDataset(**arrays, source="some.hdf5")
    text = str(caught.value)
    assert text.startswith(f"some.hdf5: {message}")
    assert "\n" not in text


def test_a_bad_value_behind_the_first_block_is_found():
    n = 700_000  # rows of 3 values: more than one block of the check
    arrays = toy_arrays((n,))
    arrays["observations"][n - 2, 1] = np.nan
    with pytest.raises(DatasetError, match=f"observations, row {n - 2}, column 1: nan"):
        OfflineDataset(**arrays)


def environment(obs_space, act_space, **more):
    return SimpleNamespace(
        observation_space=obs_space, action_space=act_space, spec=SimpleNamespace(id="Toy-v0"), **more
    )


def test_a_matching_environment_passes_single_and_vectorised():
    toy().check_matches(environment(Box(-1, 1, (3,)), Box(-1, 1, (2,))))
    batched = environment(Box(-1, 1, (7, 3)), Box(-1, 1, (7, 2)))
    batched.single_observation_space, batched.single_action_space = Box(-1, 1, (3,)), Box(-1, 1, (2,))
    toy().check_matches(batched)


@pytest.mark.parametrize(
    ("obs_space", "act_space", "message"),
    [
        (Box(-1, 1, (4,)), Box(-1, 1, (2,)), "dataset: observations, row 0: 3 values, but Toy-v0 has 4"),
        (Box(-1, 1, (3,)), Box(-1, 1, (1,)), "dataset: actions, row 0: 2 values, but Toy-v0 has 1"),
        (Dict(), Box(-1, 1, (2,)), "Toy-v0: its observation space must be a flat Box"),
    ],
)
def test_an_environment_of_other_sizes_is_refused(obs_space, act_space, message):
    with pytest.raises(DatasetError) as caught:
        toy().check_matches(environment(obs_space, act_space))
    assert str(caught.value).startswith(message)


def test_the_hash_is_that_of_names_shapes_and_bytes():
    dataset, whole = toy((3, 1, 4), margins=True), b""
    for key in ("observations", "next_observations", "actions", "rewards", "costs", "margins", "terminals", "timeouts"):
        array = getattr(dataset, key)
        whole += key.encode() + str(array.shape).encode() + array.tobytes()
    assert dataset.sha256() == hashlib.sha256(whole).hexdigest()


@pytest.mark.parametrize("key", [*toy_arrays(), "margins"])
def test_one_bit_of_one_array_changes_the_hash(key):
    arrays = toy((3, 1, 4), margins=True).arrays()
    before = OfflineDataset(**arrays).sha256()
    changed = arrays[key].copy()
    changed.view(np.uint8).reshape(-1)[1] ^= 1  # of the first float32, or the second flag
    assert OfflineDataset(**arrays | {key: changed}).sha256() != before


def test_metadata_source_and_memory_layout_are_not_part_of_the_hash():
    dataset = toy()
    assert replace(dataset, metadata={"env": "Toy-v0"}, source="elsewhere").sha256() == dataset.sha256()
    arrays = toy_arrays()
    arrays["actions"] = np.asfortranarray(arrays["actions"].astype(np.float64))
    assert OfflineDataset(**arrays).sha256() == dataset.sha256()
    assert dataset.select([0, 1, 2]).sha256() == dataset.sha256() != dataset.select([1, 0, 2]).sha256()


@pytest.mark.parametrize("margins", [False, True])
def test_the_hash_survives_files(tmp_path, margins):
    dataset = toy((3, 1, 4), margins=margins)
    save_hdf5(dataset, tmp_path / "data.hdf5")
    assert load_hdf5(tmp_path / "data.hdf5").sha256() == dataset.sha256()
    pytest.importorskip("minari", reason="the extra minari is not installed")
    save_minari(dataset, tmp_path / "toy-v0")
    assert load_minari(tmp_path / "toy-v0").sha256() == dataset.sha256()
