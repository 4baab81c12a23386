"""StartMean: what a value is worth where episodes begin, which is where a cost limit holds."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from saferl.offline_data.dataset import OfflineDataset


class StartMean(nn.Module):
    """Running mean of a value over the rows with which episodes begin.

    N <- N + rate (mean(b x) - N), D <- D + rate (mean(b) - D), mean = N / D, where b is 1 in a start and 0 elsewhere.
    A batch holds few starts or none; the ratio weighs every start alike and needs none in any one batch.

    The mean over all rows, which the reference code of the field (OSRL) holds against the limit, is something else: a
    row halfway through an episode has about half the cost ahead, so that the whole episode may cost about twice the
    limit. Where episodes are much longer than 1 / (1 - gamma) and cost alike throughout, the two agree.

    Args:
        rate: share of a batch in the mean; 1 / rate updates are remembered.
    """

    weighted: Tensor
    weight: Tensor

    def __init__(self, rate: float = 0.01) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("weighted", torch.zeros(()))  # N
        self.register_buffer("weight", torch.zeros(()))  # D

    @torch.no_grad()
    def update(self, values: Tensor, starts: Tensor | None) -> Tensor:
        """The mean () after seeing ``values`` (B,); ``starts`` (B,) is 1 in a start, None counts every row as one.

        Until the first start has been seen it is the mean of ``values``.
        """
        chosen = torch.ones_like(values) if starts is None else starts
        self.weighted.lerp_((chosen * values).mean(), self.rate)
        self.weight.lerp_(chosen.mean(), self.rate)
        return torch.where(self.weight > 0, self.weighted / self.weight, values.mean())


def starts(dataset: OfflineDataset) -> NDArray[np.float64]:
    """(N,) 1 in the rows that begin an episode, 0 elsewhere."""
    marks = np.zeros(len(dataset))
    marks[dataset.episode_starts] = 1
    return marks
