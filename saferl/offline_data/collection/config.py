"""CollectConfig: the frozen settings of one collection."""

import math
from dataclasses import dataclass, field
from typing import Any

from saferl.offline_data.collection.pid import CostLimit, PIDConfig
from saferl.offline_data.filter_settings import parse_filters


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """PPO's settings, see Stable-Baselines3; networks are two tanh layers each for action, value and cost."""

    rollout: int = 500  # steps of each environment between two updates
    batch: int = 250
    epochs: int = 10
    lr: float = 1e-3
    gamma: float = 0.99  # of reward and cost
    gae: float = 0.95  # lambda of the advantage estimates, of reward and cost
    clip: float = 0.2
    target_kl: float = 0.04  # the passes over a rollout end early beyond 1.5 times this
    grad_norm: float = 0.5
    entropy: float = 0.0
    log_std: float = -0.5  # of the actions at the start, in [-1, 1] units
    width: int = 64  # units in a hidden layer

    def __post_init__(self) -> None:
        for key in ("rollout", "batch", "epochs", "width"):
            _at_least(f"ppo.{key}", getattr(self, key), 1)
        for key in ("lr", "clip", "target_kl", "grad_norm"):
            value = getattr(self, key)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"ppo.{key} must be a finite number > 0; got {value}.")
        if not 0 < self.gamma < 1:
            raise ValueError(f"ppo.gamma must lie between 0 and 1, both excluded; got {self.gamma}.")
        if not 0 <= self.gae <= 1:
            raise ValueError(f"ppo.gae must lie in 0 .. 1; got {self.gae}.")
        if not self.entropy >= 0:
            raise ValueError(f"ppo.entropy must be >= 0; got {self.entropy}.")
        if not math.isfinite(self.log_std):
            raise ValueError(f"ppo.log_std must be finite; got {self.log_std}.")


@dataclass(frozen=True, kw_only=True)
class CollectConfig:
    """What to train, what to keep and how much; the command's page says what each setting is good for."""

    env: str
    seed: int = 0
    trajectories: int = 500  # wanted in the end
    limits: list[Any] = field(default_factory=lambda: [None, [250, 25], [250, 0]])  # one training each, see CostLimit
    steps: int = 300_000  # environment steps of each training
    stages: int = 4  # of each training, a policy is kept after each
    episodes: int = 5  # of each kept policy at each noise
    noise: list[float] = field(default_factory=lambda: [0.0, 0.5])  # added to the mean action, in [-1, 1] units
    random_episodes: int = 20
    max_cost: float | None = None  # costlier episodes are dropped; None takes DSRL's greatest where the task has one
    envs: int = 8  # stepped together
    filters: Any = None  # of the final dataset, mapping of names to values, see parse_filters
    ppo: PPOConfig = field(default_factory=PPOConfig)
    pid: PIDConfig = field(default_factory=PIDConfig)

    def __post_init__(self) -> None:
        for key in ("trajectories", "steps", "stages", "envs"):
            _at_least(key, getattr(self, key), 1)
        for key in ("episodes", "random_episodes"):
            _at_least(key, getattr(self, key), 0)
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be in 0 .. 2**32 - 1; got {self.seed}.")
        if not self.limits:
            raise ValueError("limits is empty; give one cost limit or more, as limits=[null,25].")
        for limit in self.limits:
            CostLimit.parse(limit)
        for noise in self.noise:
            if not (noise >= 0 and math.isfinite(noise)):
                raise ValueError(f"noise: every value must be a finite number >= 0; got {noise}.")
        if self.max_cost is not None and not self.max_cost >= 0:
            raise ValueError(f"max_cost must be >= 0, or null; got {self.max_cost}.")
        parse_filters(self.filters, self.env)  # raises DatasetError, a ValueError, now and not after the trainings
        least = self.ppo.rollout * self.envs * self.stages
        if self.steps < least:
            raise ValueError(
                f"steps must be at least ppo.rollout * envs * stages = {least}, one update a stage; got {self.steps}."
            )
        if self.ppo.batch > self.ppo.rollout * self.envs:
            raise ValueError(
                f"ppo.batch must be at most ppo.rollout * envs = {self.ppo.rollout * self.envs}; got {self.ppo.batch}."
            )

    @property
    def rollouts_per_stage(self) -> int:
        """Updates in each stage: ``steps`` rounded down to whole rollouts."""
        return self.steps // (self.ppo.rollout * self.envs * self.stages)

    @property
    def steps_per_stage(self) -> int:
        """Environment steps in each stage."""
        return self.rollouts_per_stage * self.ppo.rollout * self.envs


def _at_least(key: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{key} must be a whole number >= {least}; got {value}.")
