"""The mean over episodes' starts, against an exponentially weighted mean written out."""

import numpy as np
import pytest
import torch

from saferl.agents.start_mean import StartMean, starts
from tests.agents.tabular import ROAD


def test_it_is_the_weighted_mean_over_starts_alone():
    generator = np.random.default_rng(0)
    mean = StartMean(rate=0.1)
    total = weight = 0.0
    for _ in range(30):
        values, starts = generator.normal(3, 1, 8), generator.random(8) < 0.2
        found = mean.update(torch.tensor(values, dtype=torch.float32), torch.tensor(starts, dtype=torch.float32))
        total, weight = 0.9 * total + 0.1 * values[starts].sum(), 0.9 * weight + 0.1 * starts.sum()
        if weight:
            assert float(found) == pytest.approx(total / weight, rel=1e-5)
    assert weight


def test_before_the_first_start_it_is_the_mean_of_the_batch():
    mean = StartMean()
    assert float(mean.update(torch.tensor([1.0, 3.0]), torch.zeros(2))) == 2
    assert float(mean.update(torch.tensor([5.0, 3.0]), torch.tensor([1.0, 0.0]))) == pytest.approx(5)
    assert float(mean.update(torch.tensor([9.0, 9.0]), torch.zeros(2))) == pytest.approx(5)


def test_without_starts_every_row_counts():
    assert float(StartMean().update(torch.tensor([1.0, 3.0]), None)) == pytest.approx(2)


def test_the_first_row_of_every_episode_is_marked():
    dataset = ROAD.dataset(50)
    assert starts(dataset).tolist() == dataset.observations[:, 0].tolist()  # episodes begin in the first state alone
    assert starts(dataset).sum() == 50
