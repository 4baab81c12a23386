"""HardenConfig: the frozen settings of one robust training."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from saferl.adversaries.catalogue import ADVERSARIES, needs_fit
from saferl.adversaries.critics import OnlineCriticConfig
from saferl.adversaries.learned import LearnedConfig
from saferl.adversaries.rat.config import RATConfig
from saferl.adversaries.targets import behaviour_named
from saferl.adversaries.threat import NORMS
from saferl.command_line import UsageError, unknown
from saferl.envs import full_id
from saferl.offline_data.collection import CostLimit, PIDConfig, PPOConfig
from saferl.training.config import build_nested

METHODS = {
    "none": "PPO-Lagrangian as it is, to compare with",
    "adversarial": "PPO-Lagrangian on observations that mc= or mr attacks, eps rising (Liu et al. 2023)",
    "sa": "PPO-Lagrangian with the penalty kappa |mu(s) - mu(s~)|^2 (SA-PPO)",
    "atla": "rounds of PPO-Lagrangian against a learned adversary, and of the adversary against it",
    "rat_atla": "the same with RAT for target= as the adversary",
    "augment": "no training: a data set with attacked copies of its episodes, for offline agents",
}
SECTIONS = {
    "ppo": PPOConfig,
    "pid": PIDConfig,
    "critics": OnlineCriticConfig,
    "learned": LearnedConfig,
    "rat": RATConfig,
}


@dataclass(frozen=True, kw_only=True)
class HardenConfig:
    """The settings; see --help of ``python -m saferl.harden``."""

    env: str
    method: str = "adversarial"
    eps: float = 0.1
    norm: str = "linf"
    seed: int = 0
    cost_limit: Any = 0.0
    steps: int = 300_000
    envs: int = 8
    ramp_start: float = 0.25
    attack_steps: int = 5
    attack: str = "mc"
    kappa: float = 1.0
    stages: int = 5
    rounds: int = 4
    adversary: str = "sa_rl_cost"
    target: str | None = None
    victim: str | None = None
    data: str | None = None
    copies: int = 1
    out: str = "runs"
    ppo: PPOConfig = field(default_factory=PPOConfig)
    pid: PIDConfig = field(default_factory=lambda: PIDConfig(smooth=0.8, most=5.0))  # for short trainings, as collect
    critics: OnlineCriticConfig = field(default_factory=OnlineCriticConfig)
    learned: LearnedConfig = field(default_factory=LearnedConfig)
    rat: RATConfig = field(default_factory=RATConfig)

    def __post_init__(self) -> None:
        full_id(self.env)
        if self.method not in METHODS:
            raise UsageError(unknown("method", self.method, METHODS, "method={}"))
        if not 0 < self.eps < float("inf"):
            raise ValueError(f"eps must be > 0, in normalised units; got {self.eps}.")
        if self.norm not in NORMS:
            raise ValueError(f"norm must be one of {', '.join(NORMS)}; got {self.norm!r}.")
        for key in ("steps", "envs", "attack_steps", "stages", "rounds", "copies"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} must be >= 1; got {getattr(self, key)}.")
        if not 0 <= self.ramp_start < 1:
            raise ValueError(f"ramp_start must be in [0, 1), a share of the steps; got {self.ramp_start}.")
        if not self.kappa >= 0:
            raise ValueError(f"kappa must be >= 0; got {self.kappa}.")
        if not 0 <= self.seed < 2**31 - 10**8:
            raise ValueError(f"seed must be >= 0 and below 2**31 - 10**8; got {self.seed}.")
        CostLimit.parse(self.cost_limit)
        self._check_adversary()
        if self.in_rounds and self.rounds < 2:
            raise ValueError(f"rounds must be >= 2, as the first one meets no adversary; got {self.rounds}.")
        if self.method != "augment" and self.steps // (self.rounds if self.in_rounds else 1) < self._rollout:
            each = " for each of the rounds" if self.in_rounds else ""
            raise ValueError(f"steps must be >= ppo.rollout * envs = {self._rollout}{each}; got {self.steps}.")

    @property
    def in_rounds(self) -> bool:
        """Whether agent and adversary take turns."""
        return self.method in ("atla", "rat_atla")

    @property
    def parts(self) -> int:
        """In how many parts the agent is trained: rounds, or stages of a rollout at least."""
        return self.rounds if self.in_rounds else min(self.stages, self.steps // self._rollout)

    def steps_of(self, part: int) -> int:
        """Steps of one part: whole rollouts, which all parts together have as many of as an undivided training."""
        rollouts = -(-self.steps // self._rollout)
        ends = [rollouts * index // self.parts for index in (part, part + 1)]
        return (ends[1] - ends[0]) * self._rollout

    @property
    def _rollout(self) -> int:
        """Steps of the environments in one rollout."""
        return self.ppo.rollout * self.envs

    def _check_adversary(self) -> None:
        if self.method == "adversarial" and self.attack not in ("mc", "mr"):
            raise ValueError(f"attack must be mc or mr; got {self.attack!r}.")
        if self.adversary not in ADVERSARIES or self.adversary == "rat":
            known = [name for name in ADVERSARIES if name != "rat"]
            raise UsageError(unknown("adversary", self.adversary, known, "adversary={}"))
        goal = ADVERSARIES["rat" if self.method == "rat_atla" else self.adversary].goal
        if self.method == "atla" and goal is None:
            known = [name for name, kind in ADVERSARIES.items() if kind.goal is not None and name != "rat"]
            raise ValueError(f"method=atla needs an adversary that learns: {', '.join(known)}; got {self.adversary}.")
        if self.method == "augment" and goal is not None:
            raise ValueError(f"method=augment needs an adversary that needs no training; got {self.adversary}.")
        if self.method == "augment" and needs_fit(self.adversary):
            raise ValueError(
                f"adversary={self.adversary} asks a critic (V, robust Sarsa) that no victim brings; method=augment "
                "fits none. mad, amad, q, mr and mc need none of these."
            )
        if self.method in ("atla", "rat_atla") and goal == "target":
            behaviour_named(self.target, "rat" if self.method == "rat_atla" else self.adversary, full_id(self.env))
        if self.method == "augment" and (self.victim is None or self.data is None):
            raise ValueError("method=augment needs victim=, whose weaknesses are shown, and data=FILE.hdf5.")


def parse_hardening(values: Mapping[str, Any]) -> HardenConfig:
    """The settings from plain nested values. Raises: UsageError with one line that names the key."""
    rest = {key: value for key, value in values.items() if key != "resume"}
    config: HardenConfig = build_nested(HardenConfig, SECTIONS, rest)
    return config


def plain(config: HardenConfig) -> dict[str, Any]:
    """The opposite of ``parse_hardening``."""
    return dataclasses.asdict(config)
