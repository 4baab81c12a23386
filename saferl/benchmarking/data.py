"""The data of a benchmark's tasks: found, fetched and read once, and known by their content from then on."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import saferl.envs
from saferl.envs.tasks import TASKS, find_task
from saferl.offline_data import OfflineDataset
from saferl.offline_data.loading import data_folders, load_dataset
from saferl.training.run_folder import read_json, write_json

_BLOCK = 1 << 20  # bytes that are hashed at a time


@dataclass(frozen=True)
class DataFacts:
    """What a plan needs to know of a data set."""

    digest: str  # SHA-256 of the file's bytes; of the arrays where the data lie in no file
    transitions: int
    obs_dim: int
    act_dim: int
    longest: int  # steps of the longest episode
    min_return: float  # of the episodes: 0 of the normalised return where DSRL has no table
    max_return: float  # and 1


class DataCatalogue:
    """Facts about data, kept in a JSON file by path, size and time of change, so that a file is read once.

    Args:
        path: the JSON file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Any] = read_json(path) if path.exists() else {}

    def facts(self, env: str, path: str | None, fetch: bool = True) -> DataFacts | None:
        """Facts about the data of an environment.

        Args:
            env: the environment's id.
            path: where the user says that they are; None looks where every training looks.
            fetch: False does not download; None is returned for a DSRL task whose data are not on this machine.
        Raises: DatasetError in one line if there are no data, or they can't be used.
        """
        file = data_file(env, path)
        if file is None and not fetch and path is None and env in TASKS:
            return None
        if file is not None and (known := self._known.get(self._key(file))) is not None:
            return DataFacts(**known)
        dataset = load_dataset(saferl.envs.full_id(env), path)  # also where there is no file: it says what was tried
        file = data_file(env, path)
        facts = _facts(dataset, dataset.sha256() if file is None else _file_digest(file))
        if file is not None:
            self._known[self._key(file)] = asdict(facts)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, self._known)
        return facts

    def _key(self, file: Path) -> str:
        stamps = [(each.stat().st_size, each.stat().st_mtime_ns) for each in _files(file)]
        return f"{file.resolve()} {stamps}"


def data_file(env: str, path: str | None) -> Path | None:
    """The HDF5 file or Minari folder that a training would read; None if it would have to be fetched or made."""
    full_id = saferl.envs.full_id(env)
    task = find_task(full_id)
    name = task.dataset_file if task is not None else f"{full_id.replace('/', '-')}.hdf5"
    places = [Path(path).expanduser()] if path is not None else [folder / name for folder in data_folders()]
    found = next((place for place in places if place.exists()), None)
    if found is not None and found.is_dir() and (found / name).is_file():
        return found / name
    return found


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())


def _file_digest(path: Path) -> str:
    total = hashlib.sha256()
    for each in _files(path):
        with each.open("rb") as file:
            while block := file.read(_BLOCK):
                total.update(block)
    return total.hexdigest()


def _facts(dataset: OfflineDataset, digest: str) -> DataFacts:
    returns, _ = dataset.episode_returns()
    return DataFacts(
        digest=digest,
        transitions=len(dataset),
        obs_dim=dataset.obs_dim,
        act_dim=dataset.act_dim,
        longest=int(dataset.episode_lengths.max()),
        min_return=float(returns.min()),
        max_return=float(returns.max()),
    )
