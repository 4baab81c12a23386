import os

import numpy as np
import pytest
import torch

from saferl.agents import BC, BCConfig
from saferl.command_line import UsageError
from saferl.offline_data import Sampler
from saferl.offline_data.point_robot import generate
from saferl.training import checkpoint
from saferl.training.checkpoint import NotFiniteError, checkpoints, load_checkpoint, save_checkpoint


@pytest.fixture
def agent():
    torch.manual_seed(0)
    return BC(BCConfig(hidden=8, batch_size=16), obs_dim=11, act_dim=2)


@pytest.fixture
def sampler():
    return Sampler(generate(n=500, seed=0), 16, seed=3)


def test_the_last_two_are_kept(agent, sampler, tmp_path):
    for step in (10, 20, 30):
        save_checkpoint(tmp_path, step, agent, sampler)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-0000000020", "step-0000000030"]
    assert sorted(os.listdir(tmp_path)) == ["step-0000000020", "step-0000000030"]


@pytest.mark.parametrize("survived", range(6))
def test_a_crash_while_writing_leaves_the_old_checkpoint_whole(survived, agent, sampler, tmp_path, monkeypatch):
    save_checkpoint(tmp_path, 10, agent, sampler)
    before = {name: tensor.clone() for name, tensor in agent.state_dict().items()}
    for parameter in agent.parameters():
        parameter.data.add_(1)
    calls = iter(range(100))
    fsync = os.fsync

    def crash(handle):
        if next(calls) == survived:
            raise OSError("power cut")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", crash)
    try:
        save_checkpoint(tmp_path, 20, agent, sampler)
    except OSError:
        finished = False
    else:
        finished = True
    monkeypatch.setattr(os, "fsync", fsync)
    last = checkpoints(tmp_path)[-1]
    step = load_checkpoint(last, agent, sampler)
    if step == 20:  # renamed before the crash: then it must be whole, and that is the new weights
        assert all(torch.equal(tensor, before[name] + 1) for name, tensor in agent.state_dict().items())
    else:
        assert not finished
        assert all(torch.equal(tensor, before[name]) for name, tensor in agent.state_dict().items())
    save_checkpoint(tmp_path, 30, agent, sampler)  # what the crash left does not stand in the way


def test_the_random_streams_continue(agent, sampler, tmp_path):
    torch.manual_seed(5)
    torch.rand(7)
    sampler.sample()
    path = save_checkpoint(tmp_path, 1, agent, sampler)
    expected = torch.rand(3), sampler.sample().rewards
    torch.manual_seed(99)
    other = Sampler(generate(n=500, seed=0), 16, seed=77)
    load_checkpoint(path, agent, other)
    assert torch.equal(torch.rand(3), expected[0])
    assert torch.equal(other.sample().rewards, expected[1])


def test_weights_that_are_not_finite_are_not_saved(agent, sampler, tmp_path):
    good = save_checkpoint(tmp_path, 10, agent, sampler)
    next(iter(agent.parameters())).data[0, 0] = float("nan")
    with pytest.raises(NotFiniteError, match=r"step 20: actor.layers.0.weight is NaN") as error:
        save_checkpoint(tmp_path, 20, agent, sampler)
    assert str(good) in str(error.value)
    assert checkpoints(tmp_path) == [good]


def test_a_pickle_in_the_state_is_not_run(agent, sampler, tmp_path):
    path = save_checkpoint(tmp_path, 10, agent, sampler)

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "boom"),)

    torch.save({"step": 10, "optimizers": Bomb()}, path / "state.pt")
    with pytest.raises(UsageError, match=r"state.pt: can't be loaded"):
        load_checkpoint(path, agent, sampler)
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("name", ["weights.safetensors", "state.pt"])
def test_a_damaged_file_is_one_line(name, agent, sampler, tmp_path):
    path = save_checkpoint(tmp_path, 10, agent, sampler)
    whole = (path / name).read_bytes()
    (path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=name) as error:
        load_checkpoint(path, agent, sampler)
    assert "\n" not in str(error.value)


def test_shared_and_strided_tensors_are_saved(sampler, tmp_path):
    # safetensors refuses tensors that share memory; an agent with stacked networks has such views.
    agent = BC(BCConfig(hidden=8), 11, 2)
    base = torch.arange(12.0).reshape(3, 4)
    agent.register_buffer("whole", base)
    agent.register_buffer("part", base.T[1])
    path = save_checkpoint(tmp_path, 1, agent, sampler)
    agent.part.zero_()
    checkpoint.load_weights(path, agent)
    np.testing.assert_array_equal(agent.part.numpy(), [1, 5, 9])
