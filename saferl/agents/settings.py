"""What the settings of several agents have in common: the cost limit, and checks that name the key."""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from saferl.agents.bellman import cost_value_threshold

# Where the cost limit enters: nowhere; the training (one run for each limit); the policy when it acts.
LimitUse = Literal["none", "training", "acting"]


@dataclass(frozen=True, kw_only=True)
class LimitedConfig:
    """Settings of every agent that may be given a cost limit."""

    cost_limit: float | None = None  # on the undiscounted cost of an episode; None: the task's smallest one
    precision: str = "float32"  # of the products; bfloat16 is faster on a CPU that has it

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the products."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def __post_init__(self) -> None:
        if self.cost_limit is not None:
            check_at_least(self, 0, "cost_limit")
        check_choice(self, "precision", ("float32", "bfloat16"))


@dataclass(frozen=True, kw_only=True)
class ConstrainedConfig(LimitedConfig):
    """Settings of every agent with critics that trains for a cost limit."""

    episode_length: int | None = None  # steps; None: the task's horizon, else the data's longest episode
    discount: float = 0.99
    batch_size: int = 512
    hidden: int = 256  # width of the two layers of actor and critics
    target_rate: float = 0.005  # share of the networks that enters their target copy at each update

    @property
    def limit_use(self) -> LimitUse:
        """Where the cost limit enters."""
        return "training"

    @property
    def threshold(self) -> float:
        """The limit as a discounted sum, see ``cost_value_threshold``."""
        if self.cost_limit is None or self.episode_length is None:
            raise ValueError(
                "agent.cost_limit and agent.episode_length have no value; saferl.train takes them from the task, "
                "elsewhere give both."
            )
        return cost_value_threshold(self.cost_limit, self.discount, self.episode_length)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.episode_length is not None:
            check_at_least(self, 1, "episode_length")
        check_at_least(self, 1, "batch_size", "hidden")
        check_share(self, "target_rate")
        if not 0 <= self.discount < 1:
            raise ValueError(f"agent.discount must be in [0, 1); got {self.discount}.")


def check_positive(config: Any, *keys: str) -> None:
    """Raise ValueError unless each is > 0."""
    for key in keys:
        if not getattr(config, key) > 0:
            raise ValueError(f"agent.{key} must be > 0; got {getattr(config, key)}.")


def check_at_least(config: Any, least: float, *keys: str) -> None:
    """Raise ValueError unless each is >= ``least``."""
    for key in keys:
        if not getattr(config, key) >= least:
            raise ValueError(f"agent.{key} must be >= {least}; got {getattr(config, key)}.")


def check_share(config: Any, *keys: str) -> None:
    """Raise ValueError unless each is in (0, 1]."""
    for key in keys:
        if not 0 < getattr(config, key) <= 1:
            raise ValueError(f"agent.{key} must be in (0, 1]; got {getattr(config, key)}.")


def check_choice(config: Any, key: str, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless the value is one of ``allowed``."""
    if getattr(config, key) not in allowed:
        raise ValueError(f"agent.{key} must be one of {', '.join(allowed)}; got {getattr(config, key)!r}.")
