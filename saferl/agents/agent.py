"""Agent: what the training loop, checkpoints and evaluation know of every algorithm."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from saferl.agents.settings import LimitUse
from saferl.offline_data.batch import Batch
from saferl.offline_data.dataset import OfflineDataset
from saferl.offline_data.sampler import Sampler
from saferl.policy import Policy, TorchPolicy


class AgentConfig(Protocol):
    """What every agent's frozen dataclass of settings has."""

    @property
    def batch_size(self) -> int:
        """Rows that the sampler draws for one update."""
        ...

    @property
    def limit_use(self) -> LimitUse:
        """Where the cost limit enters: "none", "training" or "acting"."""
        ...


class BatchSource(Protocol):
    """Where batches come from; continues after ``load_state_dict``."""

    def sample(self) -> Any:
        """The next batch, as the agent's ``update`` takes it."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """What continues the stream."""
        ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue the stream."""
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

    def policy(self, low: Any = None, high: Any = None, cost_limit: float | None = None) -> Policy:
        """The agent as a Policy.

        Args:
            low, high: (act_dim,) bounds of the environment's action box; None keeps [-1, 1].
            cost_limit: for agents whose ``config.limit_use`` is "acting"; None takes the settings' own.
        """
        return TorchPolicy(self.act, self.device, low, high)

    def sampler(
        self,
        dataset: OfflineDataset,
        seed: int = 0,
        action_low: ArrayLike | None = None,
        action_high: ArrayLike | None = None,
        reward_scale: float = 1.0,
    ) -> BatchSource:
        """What draws this agent's batches; arguments as of ``Sampler``.

        Raises: DatasetError if the data can't train this agent.
        """
        rows, columns = self.training_rows(dataset)
        size = self.config.batch_size
        return Sampler(rows, size, self.device, seed, action_low, action_high, reward_scale, columns)

    def training_rows(self, dataset: OfflineDataset) -> tuple[OfflineDataset, Mapping[str, ArrayLike]]:
        """The transitions to draw from, and further values (N,) of each by the names of Batch's optional fields.

        Here all of them as they are; agents that choose episodes or need more of a row override it.
        """
        return dataset, {}

    def step(self, name: str, loss: Tensor) -> None:
        """One step of the named optimiser down the gradient of ``loss`` ()."""
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def optimizer_state(self) -> dict[str, Any]:
        """State of each optimiser, for ``torch.save``."""
        return {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        """Restore what ``optimizer_state`` gave."""
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state[name])
