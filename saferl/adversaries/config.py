"""AttackConfig: the frozen settings of one comparison of attacks, built and checked from plain values."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from saferl.adversaries.ascent import AscentConfig
from saferl.adversaries.behaviour import Behaviour
from saferl.adversaries.catalogue import ADVERSARIES, EvolutionConfig
from saferl.adversaries.critics import CriticConfig
from saferl.adversaries.learned import LearnedConfig
from saferl.adversaries.objectives import OBJECTIVES
from saferl.adversaries.rat.config import RATConfig
from saferl.adversaries.targets import behaviour_named, target_named
from saferl.adversaries.threat import NORMS
from saferl.command_line import UsageError, unknown
from saferl.training.config import build_nested, device_named

SECTIONS = {
    "ascent": AscentConfig,
    "queries": EvolutionConfig,
    "critics": CriticConfig,
    "learned": LearnedConfig,
    "rat": RATConfig,
}


@dataclass(frozen=True, kw_only=True)
class AttackConfig:
    """The settings of one comparison; see --help of ``python -m saferl.attack``."""

    victim: str
    env: str | None = None
    adversary: str | list[str] = "mc"
    eps: float | list[float] = 0.1
    norm: str = "linf"
    statistics: str | None = None
    black_box: bool = False
    objective: str = "deviation"
    target: str | None = None
    episodes: int | None = None
    reference_episodes: int = 20
    seed: int = 0
    cost_limit: float | list[float] | None = None
    env_kwargs: Any = None
    num_envs: int | None = None
    vectorization: str = "sync"
    device: str = "cpu"
    out: str = "runs"
    ascent: AscentConfig = field(default_factory=AscentConfig)
    queries: EvolutionConfig = field(default_factory=EvolutionConfig)
    critics: CriticConfig = field(default_factory=CriticConfig)
    learned: LearnedConfig = field(default_factory=LearnedConfig)
    rat: RATConfig = field(default_factory=RATConfig)

    def __post_init__(self) -> None:
        for name in self.adversaries:
            if name not in ADVERSARIES:
                raise UsageError(unknown("adversary", name, ["all", *ADVERSARIES], "adversary={}"))
        if not self.radii or any(not 0 < eps < float("inf") for eps in self.radii):
            raise ValueError(f"eps must be > 0, in normalised units (0 is always compared); got {self.eps}.")
        if self.norm not in NORMS:
            raise ValueError(f"norm must be one of {', '.join(NORMS)}; got {self.norm!r}.")
        if self.objective not in ("deviation", *OBJECTIVES):
            raise UsageError(unknown("objective", self.objective, ["deviation", *OBJECTIVES], "objective={}"))
        if self.vectorization not in ("sync", "async"):
            raise ValueError(f"vectorization must be sync or async; got {self.vectorization!r}.")
        for key in ("episodes", "reference_episodes", "num_envs"):
            if getattr(self, key) is not None and getattr(self, key) < 1:
                raise ValueError(f"{key} must be >= 1; got {getattr(self, key)}.")
        if not 0 <= self.seed < 2**31 - 10**8:
            raise ValueError(f"seed must be >= 0 and below 2**31 - 10**8; got {self.seed}.")
        if any(not limit >= 0 for limit in self.limits or ()):
            raise ValueError(f"cost_limit must be >= 0; got {self.cost_limit}.")
        if not isinstance(self.env_kwargs, (Mapping, type(None))):
            raise ValueError(f"env_kwargs must be like {{start:random}}; got {self.env_kwargs!r}.")
        device_named(self.device)
        if self.target is not None:
            target_named(self.target)
        for name in self.adversaries:
            if ADVERSARIES[name].goal == "target":
                behaviour_named(self.target, name)

    @property
    def adversaries(self) -> list[str]:
        """Names, in the order of the catalogue, each once; all are those that can do with this target."""
        words = [self.adversary] if isinstance(self.adversary, str) else self.adversary
        if "all" in words:
            scored = self.target is not None and isinstance(target_named(self.target), Behaviour)
            return [name for name, kind in ADVERSARIES.items() if scored or kind.goal != "target"]
        known = [name for name in ADVERSARIES if name in words]
        return known + [word for word in words if word not in ADVERSARIES]

    @property
    def radii(self) -> list[float]:
        """The radii, ascending, each once."""
        values = self.eps if isinstance(self.eps, list) else [self.eps]
        return sorted(set(values))

    @property
    def limits(self) -> tuple[float, ...] | None:
        """The cost limits, None for the task's own."""
        if self.cost_limit is None:
            return None
        return tuple(self.cost_limit) if isinstance(self.cost_limit, list) else (self.cost_limit,)


def parse_attack(values: Mapping[str, Any]) -> AttackConfig:
    """The settings from plain nested values. Raises: UsageError with one line that names the key."""
    rest = {key: value for key, value in values.items() if key != "resume"}
    config: AttackConfig = build_nested(AttackConfig, SECTIONS, rest)
    return config


def plain(config: AttackConfig) -> dict[str, Any]:
    """The opposite of ``parse_attack``: nested values for YAML."""
    return dataclasses.asdict(config)
