"""Agent: what the training loop, checkpoints and evaluation know of every algorithm."""

from abc import ABC, abstractmethod
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from saferl.offline_data.batch import Batch
from saferl.policy import TorchPolicy


class AgentConfig(Protocol):
    """What every agent's frozen dataclass of settings has."""

    @property
    def batch_size(self) -> int:
        """Rows that the sampler draws for one update."""
        ...


class Agent(nn.Module, ABC):
    """An offline algorithm. Weights, multipliers and counters are parameters or buffers; optimisers are listed.

    So ``state_dict`` is all tensors (safetensors), ``optimizer_state`` the rest, and both together resume a run
    bit for bit. Training noise comes from torch's global generator, which the run seeds and checkpoints.
    """

    optimizers: dict[str, torch.optim.Optimizer]

    def __init__(self, config: AgentConfig, obs_dim: int, act_dim: int, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.config: Any = config
        self.obs_dim, self.act_dim, self.device = obs_dim, act_dim, torch.device(device)
        self.optimizers = {}

    @abstractmethod
    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step on a batch; scalar tensors keyed "part/quantity", left on the device."""

    @abstractmethod
    def act(self, observations: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Map observations (B, obs_dim) to actions (B, act_dim) in [-1, 1]."""

    def policy(self, low: Any = None, high: Any = None) -> TorchPolicy:
        """The agent as a Policy; ``low`` and ``high`` (act_dim,) bound the environment's action box."""
        return TorchPolicy(self.act, self.device, low, high)

    def optimizer_state(self) -> dict[str, Any]:
        """State of each optimiser, for ``torch.save``."""
        return {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        """Restore what ``optimizer_state`` gave."""
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state[name])
