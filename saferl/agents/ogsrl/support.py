"""Support: a fitted guardian inside an agent, so that a checkpoint holds it."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saferl.agents.ogsrl.models import Fitted
from saferl.guardians import Guardian, GuardianConfig, fit_guardian, load_guardian
from saferl.offline_data.batch import Batch


class Support(Fitted):
    """The OOD cost g(s, a) of a guardian; its files lie in buffers as bytes.

    Args:
        config: of the guardian.
    """

    def __init__(self, config: GuardianConfig) -> None:
        super().__init__()
        self.config = config
        self._guardian: Guardian | None = None
        self.names = ("guardian.safetensors", "calibration.json")
        for name in self.names:
            self.register_buffer(_key(name), torch.zeros(0, dtype=torch.uint8))

    def fit(self, data: Batch, seed: int, episodes: NDArray[np.int64] | None = None) -> None:
        """Fit the guardian to recorded pairs, of ``episodes`` (N,)."""
        seen, done, following = (
            each.cpu().numpy() for each in (data.observations, data.actions, data.next_observations)
        )
        self._guardian = fit_guardian(seen, done, self.config, seed, following, episodes)
        with tempfile.TemporaryDirectory() as folder:
            self._guardian.save(folder)
            for name in self.names:
                content = np.frombuffer((Path(folder) / name).read_bytes(), np.uint8).copy()
                self._buffers[_key(name)] = torch.from_numpy(content)

    def cost(self, observations: Tensor, actions: Tensor) -> Tensor:
        """1 outside the support, 0 inside, (B,), for observations (B, obs_dim) and actions (B, act_dim)."""
        if self._guardian is None:
            self._guardian = self._loaded()
        outside: NDArray[np.float32] = self._guardian.cost(observations.cpu().numpy(), actions.cpu().numpy())
        return torch.from_numpy(outside).to(observations.device)

    def _loaded(self) -> Guardian:
        with tempfile.TemporaryDirectory() as folder:
            for name in self.names:
                content = self.get_buffer(_key(name)).cpu().numpy().tobytes()
                (Path(folder) / name).write_bytes(content)
            return load_guardian(folder)

    def _load_from_state_dict(self, *args: object, **kwargs: object) -> None:
        self._guardian = None  # that of the loaded bytes, when it is asked
        super()._load_from_state_dict(*args, **kwargs)  # type: ignore[arg-type]


def _key(name: str) -> str:
    return name.replace(".", "_")
