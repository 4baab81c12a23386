"""DSRL's HDF5 files in and out; margins lie under the extra key ``h``, metadata in the file's attributes."""

import difflib
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from saferl.offline_data.dataset import (
    FLAG_KEYS,
    MATRIX_KEYS,
    DatasetError,
    OfflineDataset,
    check_dtype,
    check_shapes,
)

REQUIRED_KEYS = ("observations", "next_observations", "actions", "rewards", "costs", "terminals", "timeouts")
MARGIN_KEY = "h"
_CHUNK_BYTES = 1 << 20  # whole rows in a chunk: reading in order unpacks each chunk once, in any reader's cache


def load_hdf5(path: str | Path) -> OfflineDataset:
    """Read a DSRL file.

    Args:
        path: HDF5 file with DSRL's keys: ``observations, next_observations`` (N, obs_dim), ``actions`` (N, act_dim),
            ``rewards, costs, terminals, timeouts`` (N,), real numbers of any width (flags also bool), optionally ``h``
            (N,), the margin of the state after the step. Vectors may also be (N, 1), as DSRL's own reader allows.

    Each array is read straight into its float32 memory: the peak is the dataset's own size.

    Raises: DatasetError, one line with file, key and row, if the file is absent, broken, or holds anything else.
    """
    path = Path(path)
    check_is_hdf5(path)
    try:
        # Each array is read in one go, so that chunk caches (8 MB an array in HDF5 2) would only take memory.
        with h5py.File(path, "r", rdcc_nbytes=0) as file:
            nodes = {key: _node(file, key, path) for key in REQUIRED_KEYS}
            if MARGIN_KEY in file:
                nodes["margins"] = _node(file, MARGIN_KEY, path)
            shapes = {key: _shape(node, key) for key, node in nodes.items()}
            try:
                check_shapes(shapes, str(path))
                arrays = {key: _read(node, key, shapes[key], path) for key, node in nodes.items()}
            except DatasetError as error:
                raise _with_file_key(error) from None
            metadata = _metadata(file)
    except OSError as error:
        raise DatasetError(f"{path}: damaged HDF5 file ({_first_line(error)}); fetch or write it again.") from None
    try:
        return OfflineDataset(**arrays, metadata=metadata, source=str(path))
    except DatasetError as error:
        raise _with_file_key(error) from None


def save_hdf5(dataset: OfflineDataset, path: str | Path) -> None:
    """Write a file that DSRL, OSRL and ``load_hdf5`` read: gzip, float32 throughout, flags as 0/1.

    The file appears under its name only when it is complete.

    Raises: OSError if it can't be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with h5py.File(temporary, "w") as file:
            for key, array in dataset.arrays().items():
                rows = max(1, min(len(array), _CHUNK_BYTES // (4 * max(1, array[:1].size))))
                file.create_dataset(
                    MARGIN_KEY if key == "margins" else key,
                    data=array if array.dtype == np.float32 else array.astype(np.float32),
                    chunks=(rows, *array.shape[1:]),
                    compression="gzip",
                    shuffle=True,
                )
            for name, value in dataset.metadata.items():
                file.attrs[name] = value
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_is_hdf5(path: Path) -> None:
    """Check that a file is there and opens as HDF5; raises DatasetError saying what it is instead."""
    if path.is_dir():
        raise DatasetError(f"{path}: is a folder; allowed: an HDF5 file.")
    if not path.is_file():
        folder = path.parent
        known = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        close = difflib.get_close_matches(path.name, known, n=1)
        raise DatasetError(f"{path}: no such file.{f' Did you mean {folder / close[0]}?' if close else ''}")
    try:
        with path.open("rb") as file:
            head = file.read(512)
        if not head:
            raise DatasetError(f"{path}: empty file (0 bytes); allowed: an HDF5 file with DSRL's keys.")
        if not h5py.is_hdf5(path):
            raise DatasetError(f"{path}: {_kind(head)}, not HDF5; allowed: an HDF5 file with DSRL's keys.")
        with h5py.File(path, "r"):
            pass
    except OSError as error:
        reason = _first_line(error)
        if "truncated" in reason:
            raise DatasetError(
                f"{path}: truncated HDF5 file ({path.stat().st_size} bytes are there); fetch or write it again."
            ) from None
        raise DatasetError(f"{path}: can't be read ({reason}).") from None


def _node(file: h5py.File, key: str, path: Path) -> h5py.Dataset:
    node = file.get(key)
    if node is None:
        others = [name for name in file if name not in REQUIRED_KEYS]
        close = difflib.get_close_matches(key, others, n=1)
        hint = f" did you mean {close[0]!r}?" if close else ""
        raise DatasetError(
            f"{path}: key {key!r} is missing;{hint} found: {', '.join(sorted(file)) or 'nothing'}; "
            f"required: {', '.join(REQUIRED_KEYS)}."
        )
    if not isinstance(node, h5py.Dataset):
        raise DatasetError(f"{path}: {key}: a group; allowed: an array of real numbers.")
    return node


def _shape(node: h5py.Dataset, key: str) -> tuple[int, ...]:
    shape: tuple[int, ...] = node.shape or ()  # None where the file holds an empty scalar
    return shape[:1] if key not in MATRIX_KEYS and len(shape) == 2 and shape[1] == 1 else shape


def _read(node: h5py.Dataset, key: str, shape: tuple[int, ...], path: Path) -> NDArray[Any]:
    check_dtype(node.dtype, key, str(path))
    try:
        array = np.empty(node.shape, node.dtype if key in FLAG_KEYS else np.float32)
        node.read_direct(array)
    except MemoryError:
        raise DatasetError(f"{path}: {key}: {node.shape} does not fit into memory; select fewer rows.") from None
    except OSError as error:
        raise DatasetError(f"{path}: {key}: damaged ({_first_line(error)}); fetch or write the file again.") from None
    return array.reshape(shape)


def _metadata(file: h5py.File) -> dict[str, str | int | float]:
    """The file's scalar attributes as plain Python values."""
    metadata: dict[str, str | int | float] = {}
    for name, value in file.attrs.items():
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        if isinstance(value, str | int | float):
            metadata[name] = value
    return metadata


def _with_file_key(error: DatasetError) -> DatasetError:
    """The same message with the key as it is called in the file."""
    return DatasetError(str(error).replace(": margins", f": {MARGIN_KEY}", 1))


def _kind(head: bytes) -> str:
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html")):
        return "an HTML page"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer"
    return f"a file that begins with {head[:8]!r}"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
