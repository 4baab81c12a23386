"""Sampler: whole rows, uniform draws, scaled actions, a stream that can be continued."""

import numpy as np
import pytest
import torch
from scipy import stats

from saferl.offline_data import DatasetError, OfflineDataset, Sampler
from tests.offline_data.arrays import toy, toy_arrays

ROWS = 200


def sampler(dataset: OfflineDataset | None = None, **settings) -> Sampler:
    return Sampler(dataset or toy((ROWS,), margins=True), **({"batch_size": 64, "seed": 3} | settings))


def test_every_field_of_a_batch_comes_from_the_same_row():
    dataset = toy((ROWS,), margins=True)
    stream = sampler(dataset)
    for _ in range(20):
        batch = stream.sample()
        rows = batch.observations[:, 0].long().numpy()  # the toy's first column is the row
        for key, array in dataset.arrays().items():
            expected = np.clip(array[rows], -1 + 1e-5, 1 - 1e-5) if key == "actions" else array[rows]
            np.testing.assert_allclose(getattr(batch, key).numpy(), expected, rtol=1e-6, err_msg=key)


def test_shapes_and_types():
    batch = sampler().sample()
    assert (batch.observations.shape, batch.actions.shape, batch.rewards.shape) == ((64, 3), (64, 2), (64,))
    assert {value.dtype for value in vars(batch).values() if value is not None} == {torch.float32}
    assert sampler(toy((ROWS,))).sample().margins is None


def test_further_columns_come_with_their_rows():
    data = toy()
    count = len(data)
    stream = Sampler(data, 64, columns={"starts": np.arange(count) % 7 == 0, "episode_costs": np.arange(count) * 2.0})
    batch = stream.sample()
    rows = batch.observations[:, 0]
    torch.testing.assert_close(batch.starts, (rows % 7 == 0).float())
    torch.testing.assert_close(batch.episode_costs, rows * 2)
    torch.testing.assert_close(batch.head(5).starts, batch.starts[:5])


def test_rows_are_drawn_uniformly_and_with_replacement():
    stream = sampler()
    rows = torch.cat([stream.sample().observations[:, 0] for _ in range(500)]).long()
    counts = torch.bincount(rows, minlength=ROWS).numpy()
    assert stats.chisquare(counts).pvalue > 1e-4
    assert sampler(toy((3,)), batch_size=64).sample().rewards.shape == (64,)


def test_the_action_box_is_mapped_to_minus_one_to_one():
    arrays = toy_arrays((3,)) | {"actions": np.array([[0.0, -4.0], [2.0, 6.0], [1.0, 0.0]], np.float32)}
    stream = sampler(OfflineDataset(**arrays), action_low=[0, -4], action_high=[2, 6])
    actions = stream.batch(torch.arange(3)).actions.numpy()
    limit = 1 - 1e-5
    np.testing.assert_allclose(actions, [[-limit, -limit], [limit, limit], [0, -0.2]], atol=1e-7)
    assert np.abs(actions).max() < 1


def test_rewards_are_scaled_and_costs_are_not():
    plain, scaled = (sampler(reward_scale=scale).batch(torch.arange(ROWS)) for scale in (1.0, 0.25))
    torch.testing.assert_close(scaled.rewards, plain.rewards / 4)
    torch.testing.assert_close(scaled.costs, plain.costs)


def test_the_dataset_is_not_changed():
    dataset = toy((ROWS,))
    sampler(dataset, action_low=-3, action_high=3, reward_scale=7.0)
    np.testing.assert_array_equal(dataset.rewards, toy_arrays((ROWS,))["rewards"])
    np.testing.assert_array_equal(dataset.actions, toy_arrays((ROWS,))["actions"])


def test_more_rows_than_one_copied_block_arrive():
    n = 70_000
    rewards = sampler(toy((n,))).batch(torch.arange(n)).rewards
    np.testing.assert_array_equal(rewards.numpy(), np.arange(n, dtype=np.float32) * 10)


def test_one_seed_is_one_stream_that_nothing_else_disturbs():
    first, second, other = sampler(), sampler(), sampler(seed=4)
    left = first.sample().rewards
    torch.rand(5)  # the global generator
    assert torch.equal(left, second.sample().rewards)
    assert not torch.equal(left, other.sample().rewards)


def test_a_saved_stream_continues_in_a_new_sampler():
    first = sampler()
    first.sample()
    state = {key: value.clone() for key, value in first.state_dict().items()}
    expected = [first.sample().rewards for _ in range(3)]
    second = sampler(seed=99)
    second.load_state_dict(state)
    for batch in expected:
        assert torch.equal(batch, second.sample().rewards)
    assert state["generator"].dtype == torch.uint8


def test_a_stream_over_other_data_is_refused():
    with pytest.raises(DatasetError, match="drew from 200 rows, this one has 3"):
        sampler(toy((3,))).load_state_dict(sampler().state_dict())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size must be >= 1; got 0"),
        ({"reward_scale": float("nan")}, "reward_scale must be finite"),
        ({"action_low": -1}, "must be given together"),
        ({"action_low": 1, "action_high": 1}, "low < high"),
        ({"action_low": -np.inf, "action_high": np.inf}, "must be finite"),
        ({"action_low": [-1, -1, -1], "action_high": 1}, "2 values"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(DatasetError, match=message):
        sampler(**settings)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_data_and_batches_stay_there():
    stream = sampler(device="cuda")
    batch = stream.sample()
    assert batch.observations.device.type == "cuda"
    state = stream.state_dict()
    expected = stream.sample().rewards
    stream.load_state_dict(state)
    assert torch.equal(expected, stream.sample().rewards)
