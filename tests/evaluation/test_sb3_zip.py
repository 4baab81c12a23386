"""SB3 files read without unpickling act as SB3's own loader says."""

import io
import json
import os
import pickle
import zipfile
from base64 import b64encode

import gymnasium
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from torch import nn

from saferl.evaluation.sb3_zip import load_sb3


class Box(gymnasium.Env):
    """Spaces only: an action box that is neither symmetric nor of one size."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (5,), np.float32)
    action_space = gymnasium.spaces.Box(np.array([-2.0, 0.5], np.float32), np.array([1.0, 4.0], np.float32))

    def reset(self, *, seed=None, options=None):
        return np.zeros(5, np.float32), {}

    def step(self, action):
        return np.zeros(5, np.float32), 0.0, False, False, {}


LOW, HIGH = Box.action_space.low, Box.action_space.high
OBSERVATIONS = np.random.default_rng(0).normal(0, 4, (50, 5)).astype(np.float32)


def saved(folder, model):
    with torch.no_grad():
        for parameter in model.policy.parameters():  # far from zero, so that clipping and squashing matter
            parameter.mul_(2.0).add_(0.1)
    model.save(folder / "model.zip")
    return folder / "model.zip"


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        ("PPO", {}),
        ("A2C", {"net_arch": [16]}),
        ("PPO", {"net_arch": {"pi": [8, 9], "vf": [7]}, "activation_fn": nn.ReLU, "ortho_init": False}),
        ("PPO", {"net_arch": []}),
        ("SAC", {"net_arch": [16, 8]}),
        ("SAC", {"net_arch": [8], "activation_fn": nn.ELU}),
        ("TD3", {"net_arch": [12, 6]}),
        ("DDPG", {"net_arch": [12]}),
    ],
)
def test_actions_are_those_of_sb3(algorithm, settings, tmp_path):
    model = getattr(sb3, algorithm)("MlpPolicy", Box(), policy_kwargs=settings, device="cpu", seed=0)
    path = saved(tmp_path, model)
    expected, _ = model.predict(OBSERVATIONS, deterministic=True)
    assert np.ptp(expected, axis=0).min() > 0.1
    np.testing.assert_allclose(load_sb3(path, LOW, HIGH, 5).act(OBSERVATIONS), expected, atol=2e-6)


def test_a_pickle_in_the_file_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "boom"),)

    model = sb3.PPO("MlpPolicy", Box(), device="cpu")
    path = saved(tmp_path, model)
    members = read(path)
    data = json.loads(members["data"])
    bomb = b64encode(pickle.dumps(Bomb())).decode()
    for value in data.values():
        if isinstance(value, dict) and ":serialized:" in value:
            value[":serialized:"] = bomb
    write(path, {**members, "data": json.dumps(data).encode()})
    load_sb3(path, LOW, HIGH, 5).act(OBSERVATIONS)
    assert not (tmp_path / "boom").exists()

    weights = io.BytesIO()
    torch.save({"action_net.weight": Bomb()}, weights)
    write(path, {**members, "policy.pth": weights.getvalue()})
    with pytest.raises(ValueError, match="not a model saved by Stable-Baselines3"):
        load_sb3(path, LOW, HIGH, 5)
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize(
    ("algorithm", "kwargs", "message"),
    [
        ("PPO", {"use_sde": True}, "use_sde"),
        ("PPO", {"policy_kwargs": {"squash_output": True}}, "policy_kwargs squash_output can't be rebuilt"),
        ("PPO", {"policy_kwargs": {"activation_fn": nn.Hardtanh}}, "activation_fn .*Hardtanh.* is not one of"),
    ],
)
def test_what_cant_be_rebuilt_is_refused(algorithm, kwargs, message, tmp_path):
    if "squash_output" in str(kwargs):
        model = sb3.PPO("MlpPolicy", Box(), device="cpu")
        model.policy_kwargs = kwargs["policy_kwargs"]
    else:
        model = getattr(sb3, algorithm)("MlpPolicy", Box(), device="cpu", **kwargs)
    with pytest.raises(ValueError, match=message) as error:
        load_sb3(saved(tmp_path, model), LOW, HIGH, 5)
    assert "\n" not in str(error.value)


def test_sizes_must_fit_the_environment(tmp_path):
    path = saved(tmp_path, sb3.PPO("MlpPolicy", Box(), device="cpu"))
    with pytest.raises(ValueError, match="takes 5 observations and gives 2 actions; the environment has 6 and 2"):
        load_sb3(path, LOW, HIGH, 6)


@pytest.mark.parametrize("content", [None, b"", b"not a zip"])
def test_other_files_are_one_line(content, tmp_path):
    path = tmp_path / "x.zip"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.zip"):
        load_sb3(path, LOW, HIGH, 5)


def read(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
