"""BC: behaviour cloning, the first comparison of every offline result: imitate all recorded actions alike."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saferl.agents.agent import Agent
from saferl.agents.settings import LimitUse
from saferl.offline_data.batch import Batch


@dataclass(frozen=True, kw_only=True)
class BCConfig:
    """Settings of BC; the values are those usual for DSRL."""

    lr: float = 1e-3
    hidden: int = 256
    batch_size: int = 512

    @property
    def limit_use(self) -> LimitUse:
        """Where the cost limit enters: nowhere."""
        return "none"

    def __post_init__(self) -> None:
        for name in ("lr", "hidden", "batch_size"):
            if not getattr(self, name) > 0:
                raise ValueError(f"agent.{name} must be > 0; got {getattr(self, name)}.")


class BC(Agent):
    """A two-layer network with a tanh head, fitted to the data's actions by mean squared error."""

    def __init__(self, config: BCConfig, obs_dim: int, act_dim: int, device: torch.device | str = "cpu") -> None:
        super().__init__(config, obs_dim, act_dim, device)
        width = config.hidden
        self.actor = nn.Sequential(
            nn.Linear(obs_dim, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, act_dim),
            nn.Tanh(),
        ).to(self.device)
        self.optimizers = {"actor": torch.optim.Adam(self.actor.parameters(), lr=config.lr)}

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One step of Adam on the mean squared error over rows and action dimensions."""
        loss = (self.actor(batch.observations) - batch.actions).square().mean()
        self.optimizers["actor"].zero_grad()
        loss.backward()
        self.optimizers["actor"].step()
        return {"actor/loss": loss.detach()}

    def act(self, observations: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Actions (B, act_dim) in [-1, 1] for observations (B, obs_dim); draws no noise."""
        return self.actor(observations)
