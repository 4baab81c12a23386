"""fit_guardian and load_guardian: guardians from data and from disk."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from saferl.guardians.counts import CountGuardian
from saferl.guardians.density import KernelGuardian, NearestGuardian
from saferl.guardians.guardian import CALIBRATION, FORMAT, WEIGHTS, Guardian, GuardianConfig, Scale, columns_of, pairs
from saferl.guardians.networks import NETWORKS, NetworkGuardian, fit_network

STORES: dict[str, Any] = {"kde": KernelGuardian, "knn": NearestGuardian}


def fit_guardian(
    observations: ArrayLike,
    actions: ArrayLike,
    config: GuardianConfig,
    seed: int = 0,
    next_observations: ArrayLike | None = None,
    episodes: ArrayLike | None = None,
) -> Guardian:
    """A guardian of recorded pairs.

    Args:
        observations: (N, obs_dim), or (N,) state numbers.
        actions: (N, act_dim), or (N,) action numbers.
        config: its settings.
        seed: of the choice of rows and of networks.
        next_observations: (N, obs_dim), only for the ensemble.
        episodes: (N,) number of each row's episode: the threshold is then taken from rows scored as if their whole
            episode were not there. None: each row stands for itself.
    Raises: ValueError for arrays that do not fit each other, values that are not finite, or fewer than 2 rows.
    """
    rows = pairs(observations, actions)
    sizes = columns_of(observations), columns_of(actions)
    if len(rows) < 2:
        raise ValueError(f"a guardian needs 2 rows or more; got {len(rows)}.")
    parts = None if episodes is None else _episodes(episodes, len(rows))
    if config.kind == "counts":
        return CountGuardian.of(config, *sizes, rows, parts)
    scale = Scale.of(rows)
    following = None if next_observations is None else np.asarray(next_observations)
    if config.rows is not None and config.rows < len(rows):
        kept = np.sort(np.random.default_rng(seed).choice(len(rows), config.rows, replace=False))
        rows, following = rows[kept], None if following is None else following[kept]
        parts = None if parts is None else parts[kept]
    if config.kind in NETWORKS:
        return fit_network(config, sizes[0], rows, scale, following, seed, parts)
    given: dict[str, Any] = {"episodes": parts} | ({"seed": seed} if config.kind == "kde" else {})
    return STORES[config.kind](config, *sizes, scale, scale(rows), **given)


def episode_numbers(lengths: ArrayLike) -> NDArray[np.int64] | None:
    """The number of each row's episode (N,) from the episodes' lengths (E,); None of one, which can't be left out."""
    rows = np.asarray(lengths)
    return np.repeat(np.arange(len(rows)), rows) if len(rows) > 1 else None


def _episodes(episodes: ArrayLike, rows: int) -> NDArray[np.int64]:
    """The numbers (N,) of the rows' episodes, checked."""
    numbers = np.asarray(episodes)
    if numbers.shape != (rows,) or not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(f"episodes must be {rows} whole numbers, one a row; got {numbers.dtype} {numbers.shape}.")
    if (numbers == numbers[0]).all():
        raise ValueError(
            "episodes: all rows are of one episode; leaving it out leaves none. Give two, or episodes=None."
        )
    return numbers.astype(np.int64)


def load_guardian(path: str | Path) -> Guardian:
    """What ``Guardian.save`` wrote.

    Raises: ValueError in one line if there is no guardian at ``path``, it is damaged, or of another format.
    """
    folder = Path(path)
    try:
        facts = json.loads((folder / CALIBRATION).read_text())
        if facts["format"] != FORMAT:
            raise ValueError(f"format {facts['format']}, this saferl reads format {FORMAT}")
        tensors = load_file(folder / WEIGHTS)
        config = GuardianConfig(**facts["settings"])
        sizes, threshold = (facts["obs_dim"], facts["act_dim"]), float(facts["threshold"])
        if config.kind == "counts":
            return CountGuardian(
                config, *sizes, tensors["table"], tensors["counts"], threshold, tensors.get("left_out")
            )
        if config.kind in NETWORKS:
            return NetworkGuardian.from_tensors(config, *sizes, tensors)
        scale = Scale(tensors["low"], tensors["high"])
        given = {"threshold": threshold, "centres": tensors.get("centres"), "episodes": tensors.get("episodes")}
        given |= facts["fitted"]
        return STORES[config.kind](config, *sizes, scale, tensors["rows"], **given)
    except FileNotFoundError as error:
        raise ValueError(f"{folder} holds no guardian ({Path(str(error.filename)).name} is missing).") from error
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(f"{folder} holds a guardian that can't be used: {error}.") from error
