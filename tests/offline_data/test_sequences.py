import numpy as np
import pytest
import torch

from saferl.offline_data import DatasetError, OfflineDataset
from saferl.offline_data.frontier import Labels
from saferl.offline_data.sequences import SequenceSampler, sums_to_go

LENGTHS = (3, 1, 7)


def recorded(lengths=LENGTHS, seed=0):
    """Random episodes; the observation of row i is (i, episode)."""
    rng = np.random.default_rng(seed)
    count = sum(lengths)
    ends = np.cumsum(lengths) - 1
    observations = np.stack([np.arange(count), np.repeat(np.arange(len(lengths)), lengths)], axis=1)
    return OfflineDataset(
        observations=observations,
        next_observations=observations,
        actions=rng.uniform(-1, 1, (count, 2)),
        rewards=rng.normal(size=count),
        costs=rng.integers(0, 2, count) * rng.uniform(size=count),
        terminals=np.isin(np.arange(count), ends[:1]),
        timeouts=np.isin(np.arange(count), ends[1:]),
    )


def make(dataset=None, batch_size=64, steps=4, **settings):
    return SequenceSampler(recorded() if dataset is None else dataset, batch_size, steps=steps, **settings)


def test_a_stretch_is_the_plain_slice_of_its_episode():
    data = recorded()
    sampler = make(data, action_low=-2.0, action_high=2.0, reward_scale=3.0)
    for episode, rows in enumerate(data.episode_slices):
        length = rows.stop - rows.start
        for first in range(length):
            batch = sampler.batch(torch.tensor([episode]), torch.tensor([first]))
            inside = min(4, length - first)
            assert batch.mask[0].tolist() == [1.0] * inside + [0.0] * (4 - inside)
            assert batch.steps[0].tolist() == [first + step for step in range(4)]
            for step in range(inside):
                row = rows.start + first + step
                assert batch.observations[0, step].tolist() == [row, episode]
                assert batch.actions[0, step].tolist() == pytest.approx((data.actions[row] / 2).tolist())
                assert float(batch.costs[0, step]) == pytest.approx(data.costs[row])
                to_go = slice(row, rows.stop)
                assert float(batch.returns_to_go[0, step]) == pytest.approx(3 * data.rewards[to_go].sum(), abs=1e-5)
                assert float(batch.costs_to_go[0, step]) == pytest.approx(data.costs[to_go].sum(), abs=1e-5)


def test_sums_to_go_stay_exact_in_long_data():
    data = recorded((1_000,) * 200)
    sums = sums_to_go(data, data.rewards)
    for rows in data.episode_slices[::50]:
        slow = np.add.accumulate(data.rewards[rows][::-1].astype(np.float64))[::-1]
        np.testing.assert_allclose(sums[rows], slow, atol=1e-8)


def test_episodes_are_drawn_by_weight_and_steps_evenly():
    sampler = make(batch_size=20_000, steps=1, weights=[1, 0, 3])
    batch = sampler.sample()
    episode = batch.observations[:, 0, 1].long()
    shares = torch.bincount(episode, minlength=3) / len(episode)
    assert shares.tolist() == pytest.approx([0.25, 0, 0.75], abs=0.02)
    steps = torch.bincount(batch.steps[episode == 2, 0]) / (episode == 2).sum()
    assert steps.tolist() == pytest.approx([1 / 7] * 7, abs=0.02)


def test_without_weights_each_episode_is_drawn_alike_whatever_its_length():
    episode = make(batch_size=20_000).sample().observations[:, 0, 1].long()
    assert (torch.bincount(episode) / len(episode)).tolist() == pytest.approx([1 / 3] * 3, abs=0.02)


def test_a_label_shifts_the_sums_to_go_of_its_episode_and_nothing_else():
    data = recorded()
    returns, costs = data.episode_returns()
    labels = Labels(np.array([2]), np.array([50.0]), np.array([9.0]))
    sampler = make(data, labels=labels, reward_scale=2.0)
    own, copy = (sampler.batch(torch.tensor([index]), torch.tensor([0])) for index in (2, 3))
    assert float(copy.returns_to_go[0, 0]) == pytest.approx(2 * 50)
    assert float(copy.costs_to_go[0, 0]) == pytest.approx(9)
    assert (copy.returns_to_go - own.returns_to_go)[0].tolist() == pytest.approx([2 * (50 - returns[2])] * 4, abs=1e-4)
    assert (copy.costs_to_go - own.costs_to_go)[0].tolist() == pytest.approx([9 - costs[2]] * 4, abs=1e-5)
    for key in ("observations", "actions", "costs", "steps", "mask"):
        assert torch.equal(getattr(own, key), getattr(copy, key))


def test_a_stream_goes_on_in_a_sampler_of_another_seed_and_other_labels():
    labels = [Labels(np.array([index]), np.array([5.0]), np.array([9.0])) for index in (0, 2)]
    sampler, other = make(labels=labels[0], seed=0), make(labels=labels[1], seed=1, weights=[0, 0, 0, 1])
    sampler.sample()
    other.load_state_dict(sampler.state_dict())
    first, second = sampler.sample(), other.sample()
    assert all(torch.equal(value, getattr(second, key)) for key, value in vars(first).items())


def test_a_stream_of_other_data_is_refused():
    with pytest.raises(DatasetError, match="drew from 11 rows, this one has 3; use the same data"):
        make(recorded((3,))).load_state_dict(make().state_dict())


def test_parts_put_together_are_the_batch():
    batch = make(batch_size=10).sample()
    parts = list(batch.split(4))
    assert [len(part.mask) for part in parts] == [4, 4, 2]
    for key, value in vars(batch).items():
        assert torch.equal(torch.cat([getattr(part, key) for part in parts]), value)


@pytest.mark.parametrize("weights", [[1, 1], [1, -1, 1], [0, 0, 0]])
def test_weights_that_make_no_sense_are_refused(weights):
    with pytest.raises(DatasetError, match="weights must be 3 numbers >= 0 with one above 0"):
        make(weights=weights)


def test_no_rows_are_refused():
    with pytest.raises(DatasetError, match="batch_size must be >= 1; got 0"):
        make(batch_size=0)
