"""Offline data: the dataset type, files in and out, samplers and collection."""

from typing import TYPE_CHECKING, Any

from saferl.offline_data.dataset import DatasetError, OfflineDataset, concatenate
from saferl.offline_data.filters import filtered
from saferl.offline_data.hdf5 import load_hdf5, save_hdf5
from saferl.offline_data.loading import load_dataset
from saferl.offline_data.minari_io import load_minari, save_minari

if TYPE_CHECKING:
    from saferl.offline_data.batch import Batch
    from saferl.offline_data.sampler import Sampler

__all__ = [
    "Batch",
    "DatasetError",
    "OfflineDataset",
    "Sampler",
    "concatenate",
    "filtered",
    "load_dataset",
    "load_hdf5",
    "load_minari",
    "save_hdf5",
    "save_minari",
]


def __getattr__(name: str) -> Any:
    """Batch and Sampler on first use: they bring torch, whose 200 MB reading a file does not need."""
    if name == "Batch":
        from saferl.offline_data.batch import Batch

        return Batch
    if name == "Sampler":
        from saferl.offline_data.sampler import Sampler

        return Sampler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
