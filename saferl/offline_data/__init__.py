"""Offline data: the dataset type, files in and out, samplers and collection."""

from saferl.offline_data.batch import Batch
from saferl.offline_data.dataset import DatasetError, OfflineDataset, concatenate
from saferl.offline_data.hdf5 import load_hdf5, save_hdf5
from saferl.offline_data.sampler import Sampler

__all__ = ["Batch", "DatasetError", "OfflineDataset", "Sampler", "concatenate", "load_hdf5", "save_hdf5"]
