"""Behaviour policies: kept actors with their observation statistics, their noisy versions, and random actions."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

Array = NDArray[np.float32]


class KeptActor:
    """A saved actor as a Policy on raw observations; its actions are in [-1, 1].

    Args:
        path: safetensors file of a checkpoint, see ``checkpoint.py``.
        noise: standard deviation of Gaussian noise added to the mean action; 0 gives the mean action itself.
    Raises: ValueError naming the file if it holds no actor.
    """

    def __init__(self, path: Path, noise: float = 0.0) -> None:
        try:
            arrays = load_file(path)
            self._centre, self._variance = arrays["observations.mean"], arrays["observations.var"]  # (obs_dim,)
            prefix = "policy.mlp_extractor.policy_net."
            layers = sorted({int(key.removeprefix(prefix).split(".")[0]) for key in arrays if key.startswith(prefix)})
            names = [f"{prefix}{layer}" for layer in layers] + ["policy.action_net"]
            self._layers = [(arrays[f"{name}.weight"].T, arrays[f"{name}.bias"]) for name in names]
        except (KeyError, OSError, SafetensorError) as error:
            raise ValueError(f"{path}: not a policy that saferl.collect kept ({error}).") from error
        self._noise = noise
        self._generator = np.random.default_rng(0)

    def act(self, observations: Array) -> Array:
        """Actions (B, act_dim) in [-1, 1] for raw observations (B, obs_dim)."""
        hidden = np.clip((observations - self._centre) / np.sqrt(self._variance + 1e-8), -10, 10).astype(np.float32)
        for weight, bias in self._layers[:-1]:
            hidden = np.tanh(hidden @ weight + bias)
        weight, bias = self._layers[-1]
        actions = hidden @ weight + bias
        if self._noise > 0:
            actions = actions + self._noise * self._generator.standard_normal(actions.shape)
        return np.clip(actions, -1, 1).astype(np.float32)

    def reset(self, mask: NDArray[np.bool_] | None = None, seed: int | None = None) -> None:
        """Restart the noise from ``seed``."""
        if seed is not None:
            self._generator = np.random.default_rng(seed)


class RandomPolicy:
    """Uniform actions in [-1, 1]^act_dim."""

    def __init__(self, act_dim: int) -> None:
        self._act_dim = act_dim
        self._generator = np.random.default_rng(0)

    def act(self, observations: Array) -> Array:
        """Actions (B, act_dim), whatever the observations (B, obs_dim)."""
        return self._generator.uniform(-1, 1, (len(observations), self._act_dim)).astype(np.float32)

    def reset(self, mask: NDArray[np.bool_] | None = None, seed: int | None = None) -> None:
        """Restart the noise from ``seed``."""
        if seed is not None:
            self._generator = np.random.default_rng(seed)
