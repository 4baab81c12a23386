"""Offline data: the dataset type, files in and out, samplers and collection."""

from saferl.offline_data.batch import Batch

__all__ = ["Batch"]
