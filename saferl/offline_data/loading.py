"""load_dataset: the data of an environment, wherever it is: a path, the data folder, the web, a generator."""

import difflib
import importlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path

from saferl.offline_data.dataset import DatasetError, OfflineDataset
from saferl.offline_data.download import DownloadError, download
from saferl.offline_data.hdf5 import load_hdf5, save_hdf5
from saferl.offline_data.minari_io import is_minari, load_minari

DSRL_URL = "https://huggingface.co/datasets/YYY-45/DSRL/resolve/main"
# Environment id -> function that makes its data, imported only when it is called.
GENERATORS = {
    "saferl/PointRobot-v0": "saferl.offline_data.point_robot:generate",
    "saferl/ICUSepsis-v0": "saferl.offline_data.icu_sepsis:generate",
}


def load_dataset(env_id: str, path: str | Path | None = None) -> OfflineDataset:
    """The offline data of an environment.

    Looked for in this order: ``path``; the folder ``$DSRL_DATASET_DIR``, then ``datasets`` in the cache
    (``$SAFERL_CACHE``, else ``~/.cache/saferl``); DSRL's published location (``$DSRL_DATASET_URL`` names another one),
    from where it is kept in the first of these folders that can be written; the environment's built-in generator,
    whose file is kept in the same way.

    Args:
        env_id: DSRL id, ``saferl/PointRobot-v0`` or a short name of these; with ``path`` any id.
        path: DSRL HDF5 file, folder of a Minari dataset, or folder that holds the environment's DSRL file.

    Raises: DatasetError, one line: a file that is there but can't be used, sizes that are not the DSRL task's, or no
        data at all, with everything that was tried and two ways out.
    """
    from saferl.envs.registration import SHORT_NAMES
    from saferl.envs.tasks import find_task

    env_id = SHORT_NAMES.get(env_id, env_id)
    task = find_task(env_id)
    file_name = task.dataset_file if task else f"{env_id.replace('/', '-')}.hdf5"
    dataset = _load_path(Path(path).expanduser(), file_name) if path is not None else _find(env_id, file_name)
    if task:
        dataset.check_sizes(task.obs_dim, task.act_dim, env_id)
    return dataset


def data_folders() -> list[Path]:
    """Where data files are looked for and kept: ``$DSRL_DATASET_DIR`` if it is set, then the cache."""
    cache = Path(os.environ.get("SAFERL_CACHE") or "~/.cache/saferl").expanduser()
    shared = os.environ.get("DSRL_DATASET_DIR")
    return [*([Path(shared).expanduser()] if shared else []), cache / "datasets"]


def _load_path(path: Path, file_name: str) -> OfflineDataset:
    if not path.is_dir():
        return load_hdf5(path)
    if is_minari(path):
        return load_minari(path)
    if (path / file_name).is_file():
        return load_hdf5(path / file_name)
    found = ", ".join(sorted(file.name for file in path.glob("*.hdf5"))) or "no HDF5 file"
    raise DatasetError(f"{path}: neither a Minari dataset nor a folder with {file_name}; it has: {found}.")


def _find(env_id: str, file_name: str) -> OfflineDataset:
    from saferl.envs.tasks import TASKS

    tried: list[str] = []
    for folder in data_folders():
        if (folder / file_name).exists():
            return load_hdf5(folder / file_name)
        tried.append(f"{folder / file_name} (absent)")
    if env_id in TASKS:
        url = f"{(os.environ.get('DSRL_DATASET_URL') or DSRL_URL).rstrip('/')}/{file_name}"
        try:
            return load_hdf5(download(url, _writable_folder() / file_name))
        except DownloadError as error:
            tried.append(f"download from {str(error).rstrip('.')}")
    else:
        tried.append(f"download ({_not_at_dsrl(env_id)})")
    if env_id in GENERATORS:
        return _generated(GENERATORS[env_id], file_name)
    tried.append("built-in generator (none for this environment)")
    raise DatasetError(
        f"no data for {env_id}; tried: {'; '.join(tried)}. Two ways out: name a DSRL HDF5 file or a Minari folder by "
        f"data.path=..., or collect data by: python -m saferl.collect env={env_id}"
    )


def _not_at_dsrl(env_id: str) -> str:
    """Why there is nothing to download, with the DSRL id that may be meant."""
    from saferl.envs.tasks import TASKS

    same = [task.env_id for task in TASKS.values() if task.simulator_id == env_id]
    close = same or difflib.get_close_matches(env_id, TASKS, n=1, cutoff=0.8)
    return "not an id of DSRL" + (f"; did you mean env={close[0]}?" if close else "")


def _generated(entry_point: str, file_name: str) -> OfflineDataset:
    """What the generator makes, kept in the data folder."""
    module, function = entry_point.split(":")
    generate: Callable[[], OfflineDataset] = getattr(importlib.import_module(module), function)
    dataset = generate()
    folder = _writable_folder()
    try:
        save_hdf5(dataset, folder / file_name)
    except OSError as error:
        warnings.warn(
            f"{folder / file_name}: the generated data can't be kept ({error.strerror or error}).", stacklevel=4
        )
    return dataset


def _writable_folder() -> Path:
    """The first data folder that can be written; the last one if none can."""
    folders = data_folders()
    for folder in folders:
        existing = next((parent for parent in (folder, *folder.parents) if parent.exists()), folder)
        if os.access(existing, os.W_OK):
            return folder
    return folders[-1]
