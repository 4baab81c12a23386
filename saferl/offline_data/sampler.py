"""Sampler: the dataset on the training device as one packed tensor, index batches drawn there."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from saferl.offline_data.batch import Batch
from saferl.offline_data.dataset import DatasetError, OfflineDataset

ACTION_LIMIT = 1 - 1e-5  # keeps the inverse of a tanh finite; FISOR clips its data so
_BLOCK = 1 << 16  # rows that are copied at a time


class RowStream:
    """Rows of a dataset on a device, and the random numbers that draw from them; a base of samplers.

    Args:
        seed: of the sampler's own random numbers, which nothing else shares.
        device: where they are drawn.
    """

    _rows: Tensor  # (N, width)

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        self._generator = torch.Generator(device).manual_seed(seed)

    def __len__(self) -> int:
        """Number of rows that are drawn from."""
        return len(self._rows)

    def state_dict(self) -> dict[str, Tensor]:
        """What continues the stream of batches: the generator's state (uint8) and the number of rows (1,)."""
        return {"generator": self._generator.get_state(), "rows": torch.tensor([len(self._rows)])}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue where ``state_dict`` was taken.

        Raises: DatasetError if the state belongs to a dataset of another size: the batches would differ.
        """
        rows = int(state["rows"])
        if rows != len(self._rows):
            raise DatasetError(
                f"the saved sampler drew from {rows} rows, this one has {len(self._rows)}; use the same data."
            )
        self._generator.set_state(state["generator"].cpu())


class Sampler(RowStream):
    """Draws batches of transitions, uniformly and with replacement.

    A row of the packed tensor is a whole transition, so that a batch costs one gather; a Batch's fields are views
    into the gathered rows.

    Args:
        dataset: the transitions; not needed any more once the sampler is made.
        batch_size: rows of a batch.
        device: where the data lies and the batches appear.
        seed: of the sampler's own random numbers, which nothing else shares.
        action_low, action_high: (act_dim,) or one number; the environment's action box, mapped to [-1, 1] and then
            clipped to +-(1 - 1e-5). None: the actions are taken to be in [-1, 1] already.
        reward_scale: factor on every reward.
        columns: further values (N,) of each transition, by the names of Batch's optional fields.

    Raises: DatasetError for a batch size or bounds that make no sense.
    """

    def __init__(
        self,
        dataset: OfflineDataset,
        batch_size: int,
        device: torch.device | str = "cpu",
        seed: int = 0,
        action_low: ArrayLike | None = None,
        action_high: ArrayLike | None = None,
        reward_scale: float = 1.0,
        columns: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        if batch_size < 1:
            raise DatasetError(f"batch_size must be >= 1; got {batch_size}.")
        if not np.isfinite(reward_scale):
            raise DatasetError(f"reward_scale must be finite; got {reward_scale}.")
        super().__init__(seed, torch.device(device))
        self.batch_size = batch_size
        self._columns: dict[str, slice | int] = {}
        arrays = {**dataset.arrays(), **{key: np.asarray(values) for key, values in (columns or {}).items()}}
        self._rows = self._pack(arrays, ActionScale(action_low, action_high, dataset.act_dim), reward_scale)

    def sample(self) -> Batch:
        """The next ``batch_size`` transitions."""
        index = torch.randint(len(self._rows), (self.batch_size,), generator=self._generator, device=self.device)
        return self.batch(index)

    def batch(self, index: Tensor) -> Batch:
        """The transitions at ``index`` (B,) int64 on the sampler's device."""
        rows = self._rows.index_select(0, index)  # (B, width)
        return Batch(**{key: rows[:, column] for key, column in self._columns.items()})

    def _pack(self, arrays: Mapping[str, np.ndarray], scale_actions: "ActionScale", reward_scale: float) -> Tensor:
        """All transitions as rows (N, width) float32 on the device."""
        count = len(arrays["rewards"])
        width = 0
        for key, array in arrays.items():
            if array.ndim == 1:
                self._columns[key] = width
                width += 1
            else:
                self._columns[key] = slice(width, width + array.shape[1])
                width += array.shape[1]
        packed = torch.empty(count, width, device=self.device)
        for start in range(0, count, _BLOCK):
            rows = slice(start, start + _BLOCK)
            block = np.empty((len(arrays["rewards"][rows]), width), np.float32)
            for key, array in arrays.items():
                block[:, self._columns[key]] = array[rows]
            block[:, self._columns["actions"]] = scale_actions(arrays["actions"][rows])
            block[:, self._columns["rewards"]] *= reward_scale
            packed[rows] = torch.from_numpy(block)
        return packed


class ActionScale:
    """The map of an action box to [-1, 1], clipped just inside.

    Raises: DatasetError for bounds that make no sense.
    """

    def __init__(self, low: ArrayLike | None, high: ArrayLike | None, act_dim: int) -> None:
        if (low is None) != (high is None):
            raise DatasetError("action_low and action_high must be given together.")
        self._low = np.asarray(-1.0 if low is None else low, np.float64)
        self._high = np.asarray(1.0 if high is None else high, np.float64)
        for bound in (self._low, self._high):
            if bound.shape not in ((), (act_dim,)):
                raise DatasetError(f"an action bound has {act_dim} values, or is one number; got shape {bound.shape}.")
        if not (np.isfinite(self._low).all() and np.isfinite(self._high).all() and (self._low < self._high).all()):
            raise DatasetError(f"action bounds must be finite with low < high; got low {low!r}, high {high!r}.")

    def __call__(self, actions: np.ndarray) -> np.ndarray:
        """Scaled actions of the same shape, float64."""
        unit = (actions - self._low) / (self._high - self._low) * 2 - 1
        return np.clip(unit, -ACTION_LIMIT, ACTION_LIMIT)
