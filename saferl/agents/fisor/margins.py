"""h of the state itself, where the data tell h of the state behind each action."""

import numpy as np
from numpy.typing import NDArray

from saferl.offline_data.dataset import OfflineDataset


def current_margins(dataset: OfflineDataset) -> NDArray[np.float32] | None:
    """h (N,) of each row's state: what the row before it in its episode says of its next state.

    No row says it of an episode's first state, which takes h of the second. None for data without margins: a cost
    belongs to a step, and may come from the action as well as from the state that it led to.
    """
    if dataset.margins is None:
        return None
    current = np.roll(dataset.margins, 1)
    current[dataset.episode_starts] = dataset.margins[dataset.episode_starts]
    return current
