"""Minari datasets in and out (extra ``minari``); costs and margins lie in the infos ``cost`` and ``margin``.

A Minari episode of T steps has T + 1 observations and T + 1 infos, the first of them from ``reset``: step t of the
dataset is info t + 1. On the way out the reset's cost is 0 and its margin, which a transition does not know, NaN.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saferl.offline_data.dataset import FLAG_KEYS, DatasetError, OfflineDataset

_METADATA_KEY = "saferl_metadata"
_INSTALL = 'Minari datasets need the package minari; install it by: pip install "saferl[minari]"'


def is_minari(path: str | Path) -> bool:
    """Whether a folder holds a Minari dataset (``data/metadata.json``)."""
    return (Path(path) / "data" / "metadata.json").is_file()


def load_minari(path: str | Path) -> OfflineDataset:
    """Read a Minari dataset whose observations and actions are flat boxes.

    Args:
        path: the dataset's folder, the one that has ``data/`` in it (``~/.minari/datasets/<id>``).

    An episode that Minari holds without an end gets a timeout in its last row: the recording ended there. The
    environment that the dataset names is not made, and nothing is unpickled.

    Raises: DatasetError, one line with folder, episode and key; ImportError without minari.
    """
    folder = Path(path)
    header = _header(folder)
    storage = _storage_class().read(folder / "data")
    n = int(header["total_steps"])
    columns: dict[str, NDArray[Any]] = {}
    row = 0
    try:
        for episode in storage.get_episodes(range(int(header["total_episodes"]))):
            part = _transitions(episode, f"{folder}: episode {episode['id']}")
            rows = slice(row, row + len(part["rewards"]))
            if row == 0:
                columns = {key: np.empty((n, *values.shape[1:]), _dtype(key)) for key, values in part.items()}
            if rows.stop > n or part.keys() != columns.keys():
                raise DatasetError(
                    f"{folder}: episode {episode['id']}: it does not fit the {n} steps of metadata.json, or has "
                    f"other keys ({', '.join(part)}) than the episodes before ({', '.join(columns)})."
                )
            for key, values in part.items():
                columns[key][rows] = values
            row = rows.stop
    except (KeyError, AssertionError, OSError, ValueError) as error:
        if isinstance(error, DatasetError):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DatasetError(f"{folder}: damaged Minari dataset at step {row} of {n} ({reason}).") from None
    if row != n or not columns:
        raise DatasetError(f"{folder}: metadata.json names {n} steps, the episodes have {row}; both must agree.")
    return OfflineDataset(**columns, metadata=dict(header.get(_METADATA_KEY, {})), source=str(folder))


def save_minari(dataset: OfflineDataset, path: str | Path, env: Any = None) -> None:
    """Write a Minari dataset that ``minari.MinariDataset(path / "data")`` reads.

    Args:
        dataset: what to write.
        path: folder that must not exist; its name is the dataset's id (``pointcircle-mixed-v0``: a name and a version).
            In ``~/.minari/datasets`` also ``minari.load_dataset`` finds it.
        env: the gymnasium environment of the data, whose spaces and spec Minari keeps. None: boxes without bounds.

    Where the next observation of a row is not the observation of the row behind it, Minari's T + 1 observations can't
    say it; then all of them are kept in the info ``next_observation``.

    Raises: DatasetError for an existing folder, a name that is no Minari id, or an environment of other sizes;
        ImportError without minari.
    """
    folder = Path(path).absolute()  # minari's own sum of sizes fails on a relative one
    if folder.exists():
        raise DatasetError(f"{folder}: exists already; remove it or choose another name.")
    storage_class = _storage_class()
    import minari
    from minari.dataset.minari_dataset import DATASET_ID_RE

    name = DATASET_ID_RE.fullmatch(folder.name)
    if name is None or name.group("version") is None:
        raise DatasetError(f"{folder}: a Minari dataset's folder is called NAME-vN, as in pointcircle-mixed-v0.")
    observation_space, action_space = _spaces(dataset, env)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        complete = Path(temporary) / folder.name
        complete.mkdir()
        storage = storage_class.new(
            complete / "data", observation_space, action_space, getattr(env, "spec", None), data_format="hdf5"
        )
        storage.update_episodes(_buffers(dataset))
        storage.update_metadata(
            {"dataset_id": folder.name, "minari_version": minari.__version__, _METADATA_KEY: dict(dataset.metadata)}
        )
        complete.rename(folder)


def _storage_class() -> Any:
    try:
        from minari.dataset.minari_storage import MinariStorage
    except ImportError:
        raise ImportError(_INSTALL) from None
    return MinariStorage


def _header(folder: Path) -> dict[str, Any]:
    """metadata.json, checked for what would make Minari's reader do more than read."""
    file = folder / "data" / "metadata.json"
    if not file.is_file():
        raise DatasetError(f"{folder}: not a Minari dataset; allowed: a folder with data/metadata.json in it.")
    try:
        header = json.loads(file.read_text(encoding="utf-8"))
        spaces = {key: json.loads(header[key]) for key in ("observation_space", "action_space")}
        int(header["total_steps"]), int(header["total_episodes"])
    except KeyError as error:  # without its spaces the reader would build the environment that the file names
        raise DatasetError(f"{file}: key {error} is missing; write the dataset again with a current minari.") from None
    except (ValueError, TypeError) as error:
        raise DatasetError(f"{file}: damaged ({error}); fetch or write the dataset again.") from None
    if header.get("data_format") != "hdf5":
        raise DatasetError(f"{file}: data_format {header.get('data_format')!r}; allowed: 'hdf5'.")
    for key, space in spaces.items():
        if space.get("type") != "Box" or len(space.get("shape", ())) != 1:
            raise DatasetError(
                f"{file}: {key}: {space.get('type')} of shape {space.get('shape')}; allowed: a Box of shape (n,)."
            )
    return header


def _dtype(key: str) -> type:
    return bool if key in FLAG_KEYS else np.float32


def _transitions(episode: dict[str, Any], source: str) -> dict[str, NDArray[Any]]:
    """The arrays of one Minari episode by the names of OfflineDataset's fields, T rows each."""
    steps = len(episode["rewards"])
    observations, infos = episode["observations"], episode["infos"] or {}
    if steps == 0:
        raise DatasetError(f"{source}: rewards: 0 steps; at least one is needed.")
    if len(observations) != steps + 1:
        raise DatasetError(
            f"{source}: observations: {len(observations)} rows; allowed: {steps + 1}, one more than steps."
        )
    if "cost" not in infos:
        raise DatasetError(
            f"{source}: infos/cost is missing; found in infos: {', '.join(sorted(infos)) or 'nothing'}. "
            "Safe learning needs the cost of each step."
        )
    timeouts = np.array(episode["truncations"], dtype=bool)
    if len(timeouts):
        timeouts[-1] |= not episode["terminations"][-1]  # the recording ended here, whoever stopped it
    part = {
        "observations": observations[:-1],
        "next_observations": observations[1:],
        "actions": episode["actions"],
        "rewards": episode["rewards"],
        "costs": _info(infos, "cost", steps, source),
        "terminals": np.array(episode["terminations"], dtype=bool),
        "timeouts": timeouts,
    }
    if "margin" in infos:
        part["margins"] = _info(infos, "margin", steps, source)
    if "next_observation" in infos:
        part["next_observations"] = _info(infos, "next_observation", steps, source)
    for key, values in part.items():
        if len(values) != steps:
            raise DatasetError(f"{source}: {key}: {len(values)} rows; allowed: {steps}, as many as rewards.")
    return part


def _info(infos: dict[str, Any], key: str, steps: int, source: str) -> NDArray[Any]:
    """The T values that belong to steps; a first one from reset is cut off."""
    values = infos[key]
    if not isinstance(values, np.ndarray) or len(values) not in (steps, steps + 1):
        size = len(values) if isinstance(values, np.ndarray) else type(values).__name__
        raise DatasetError(f"{source}: infos/{key}: {size} values; allowed: {steps + 1} (with reset) or {steps}.")
    return values[len(values) - steps :]


def _spaces(dataset: OfflineDataset, env: Any) -> tuple[Any, Any]:
    """Observation and action space of the environment, or boxes without bounds."""
    if env is not None:
        dataset.check_matches(env)
        return env.observation_space, env.action_space
    from gymnasium.spaces import Box

    return Box(-np.inf, np.inf, (dataset.obs_dim,), np.float32), Box(-np.inf, np.inf, (dataset.act_dim,), np.float32)


def _buffers(dataset: OfflineDataset) -> Iterator[Any]:
    """Each episode as Minari's buffer."""
    from minari.data_collector import EpisodeBuffer

    inside = np.ones(len(dataset), dtype=bool)  # rows that another row of their episode follows
    inside[dataset.episode_ends - 1] = False
    follows = np.flatnonzero(inside)
    chained = np.array_equal(dataset.next_observations[follows], dataset.observations[follows + 1])
    for rows in dataset.episode_slices:
        infos = {"cost": np.concatenate([np.zeros(1, np.float32), dataset.costs[rows]])}
        if dataset.margins is not None:
            infos["margin"] = np.concatenate([np.full(1, np.nan, np.float32), dataset.margins[rows]])
        if not chained:
            first = dataset.observations[rows][:1]
            infos["next_observation"] = np.concatenate([first, dataset.next_observations[rows]])
        yield EpisodeBuffer(
            observations=np.concatenate([dataset.observations[rows], dataset.next_observations[rows][-1:]]),
            actions=dataset.actions[rows],
            rewards=dataset.rewards[rows],
            terminations=dataset.terminals[rows],
            truncations=dataset.timeouts[rows],
            infos=infos,
        )
