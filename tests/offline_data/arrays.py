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


CAR = "OfflineCarCircle-v0"  # DSRL judges it at 10, 20 and 40


def episodes(costs, returns, length: int = 10, margins: bool = False) -> OfflineDataset:
    """One episode of ``length`` steps for each cost return (at most ``length``) and each reward return.

    Observation 0 is the number of the episode, the others random with standard deviations 1, 100 and 0; each step's
    next observation is the following step's observation.
    """
    count = len(costs)
    draw = np.random.default_rng(0)
    step = np.tile(np.arange(length), count)
    unit_costs = (step < np.repeat(costs, length)).astype(np.float32)
    readings = draw.normal(size=(count, length + 1, 4)) * [0, 1, 100, 0]
    readings[..., 0] = np.arange(count)[:, None]
    return OfflineDataset(
        observations=readings[:, :-1].reshape(-1, 4),
        next_observations=readings[:, 1:].reshape(-1, 4),
        actions=draw.uniform(-1, 1, (count * length, 2)),
        rewards=np.repeat(np.asarray(returns, np.float64) / length, length),
        costs=unit_costs,
        terminals=np.zeros(count * length, bool),
        timeouts=step == length - 1,
        margins=np.where(unit_costs > 0, 1, -1) * draw.uniform(0.1, 1, count * length) if margins else None,
        metadata={"env": CAR},
    )


def cloud(count: int = 400, margins: bool = False) -> OfflineDataset:
    """Episodes that pay the more the riskier they are, with C from 0 to 10 and R from about 0 to 20."""
    draw = np.random.default_rng(7)
    costs = draw.integers(0, 11, count)
    return episodes(costs, costs + draw.uniform(0, 10, count), margins=margins)


def numbers(dataset: OfflineDataset) -> list[int]:
    """The episodes' numbers in the dataset that ``episodes`` made."""
    return dataset.observations[dataset.episode_starts, 0].round().astype(int).tolist()
