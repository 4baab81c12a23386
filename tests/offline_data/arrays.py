"""Small datasets whose every value tells its row, so that a mix-up of rows or keys shows."""

from typing import Any

import numpy as np

from saferl.offline_data import OfflineDataset


def toy_arrays(lengths: tuple[int, ...] = (3, 1, 4), obs_dim: int = 3, act_dim: int = 2) -> dict[str, Any]:
    """Arrays of episodes of these lengths; every second one ends by a terminal, the others by a timeout."""
    n = sum(lengths)
    row = np.arange(n, dtype=np.float32)
    terminals, timeouts = np.zeros(n, bool), np.zeros(n, bool)
    for number, end in enumerate(np.cumsum(lengths) - 1):
        (timeouts if number % 2 else terminals)[end] = True
    return {
        "observations": row[:, None] + np.arange(obs_dim, dtype=np.float32) / 8,
        "next_observations": 1 + row[:, None] + np.arange(obs_dim, dtype=np.float32) / 8,
        "actions": np.stack([np.sin(row + column) for column in range(act_dim)], axis=1).astype(np.float32),
        "rewards": row * 10,
        "costs": (row % 3 == 0).astype(np.float32),
        "terminals": terminals,
        "timeouts": timeouts,
    }


def toy(lengths: tuple[int, ...] = (3, 1, 4), *, margins: bool = False, **sizes: int) -> OfflineDataset:
    """The dataset of ``toy_arrays``, with margins 0.5 - row if asked for."""
    arrays = toy_arrays(lengths, **sizes)
    if margins:
        arrays["margins"] = 0.5 - np.arange(sum(lengths), dtype=np.float32)
    return OfflineDataset(**arrays)


def assert_same(left: OfflineDataset, right: OfflineDataset) -> None:
    """Every array equal, bit for bit, and of the same type."""
    assert left.arrays().keys() == right.arrays().keys()
    for key, array in left.arrays().items():
        np.testing.assert_array_equal(array, right.arrays()[key], err_msg=key)
        assert array.dtype == right.arrays()[key].dtype, key
