"""CertifyConfig: the settings of one certificate, and the constraints that they mean."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium

import saferl.envs
from saferl.certification.bounds import BOUNDS, bound_named
from saferl.certification.gate import Constraint, shared_delta
from saferl.command_line import UsageError
from saferl.training.config import build, device_named

AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class CertifyConfig:
    """The settings of one certificate; see --help."""

    policy: str | None = None
    env: str | None = None
    env_kwargs: Any = None
    cost_limit: float | None = None
    cost_max: float | None = None
    event_rate: float | None = None
    event_limit: float = 0.0
    delta: float = 0.05
    bound: str = AUTO
    episodes: int | None = None
    margin: float = 0.5
    power: float = 0.8
    plan: bool = False
    tune: str | None = None
    values: list[int | float] | None = None
    data: str | None = None
    behaviour: str | None = None
    policy_noise: float | None = None
    step_cost_max: float = 1.0
    seed: int | None = None
    num_envs: int | None = None
    vectorization: str = "sync"
    device: str = "auto"
    evidence: list[str] | None = None
    out: str | None = None

    def __post_init__(self) -> None:
        if self.env is None:
            raise ValueError("give env=ID, the environment that the policy is released for.")
        if self.policy is None and self.data is None:
            raise ValueError("give policy=RUN, policy=FILE.zip or policy=package.module:function; --help shows all.")
        if self.policy is not None:
            self._check_limits()
        self._check_numbers()
        if self.bound != AUTO:
            bound_named(self.bound)
        if self.vectorization not in ("sync", "async"):
            raise ValueError(f"vectorization must be sync or async; got {self.vectorization!r}.")
        if not isinstance(self.env_kwargs, (Mapping, type(None))):
            raise ValueError(f"env_kwargs must be like {{start:random}}; got {self.env_kwargs!r}.")
        self._check_groups()

    def _check_limits(self) -> None:
        if self.cost_limit is None and self.event_rate is None:
            raise ValueError("give cost_limit=, on the mean cost of an episode, or event_rate=, or both.")
        if self.cost_limit is not None and not self.cost_limit > 0:
            raise ValueError(
                f"cost_limit must be > 0; got {self.cost_limit:g}. No number of episodes shows that a mean cost is 0; "
                "for a hard constraint give event_rate=, the share of episodes that may cost anything."
            )
        if self.event_rate is not None and not 0 < self.event_rate < 1:
            raise ValueError(f"event_rate must be in (0, 1); got {self.event_rate:g}.")
        if self.bound != AUTO and bound_named(self.bound).events_only and self.event_rate is None:
            allowed = ", ".join(name for name, each in BOUNDS.items() if not each.events_only)
            raise ValueError(f"bound={self.bound} is for events (event_rate=); for cost_limit=: {allowed}.")

    def _check_numbers(self) -> None:
        for name in ("delta", "power"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must be in (0, 1); got {getattr(self, name)}.")
        if not 0 < self.margin <= 1:
            raise ValueError(f"margin must be in (0, 1]; got {self.margin}.")
        if not self.event_limit >= 0:
            raise ValueError(f"event_limit must be >= 0; got {self.event_limit}.")
        for name in ("cost_max", "step_cost_max", "policy_noise"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be > 0; got {getattr(self, name)}.")
        if self.num_envs is not None and self.num_envs < 1:
            raise ValueError(f"num_envs must be >= 1; got {self.num_envs}.")
        if self.episodes is not None and (self.episodes < 4 or self.episodes % 2):
            raise ValueError(f"episodes are those of two equal halves: an even number >= 4; got {self.episodes}.")
        if self.seed is not None and self.seed < 0:
            raise ValueError(f"seed must be >= 0; got {self.seed}.")

    def _check_groups(self) -> None:
        if (self.tune is None) != (self.values is None):
            raise ValueError("tune= and values= go together, e.g. tune=candidates values=[1,4,16].")
        if self.values is not None and not self.values:
            raise ValueError("values must be a list of at least one value; got [].")
        if self.data is None:
            for name in ("behaviour", "policy_noise"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}= goes with data=, recorded episodes.")
        else:
            rollouts = ["tune", "plan", "episodes", "cost_max", "num_envs"] + ["out"] * (self.policy is not None)
            given = [name for name in rollouts if getattr(self, name) not in (None, False)]
            if given:
                raise ValueError(
                    f"{', '.join(f'{name}=' for name in given)} go with rollouts; data= are recorded episodes (their "
                    "greatest cost follows from step_cost_max=, and results lie in their folder)."
                )

    @property
    def environment(self) -> str:
        """The environment's id as it was typed."""
        assert self.env is not None
        return self.env

    @property
    def decisive(self) -> dict[str, Any]:
        """The settings on which episodes and verdict depend."""
        others = ("device", "evidence", "out", "plan", "margin", "power")
        return {key: value for key, value in asdict(self).items() if key not in others}

    def constraints(self, greatest: float) -> tuple[list[Constraint], list[bool]]:
        """What must hold, each with its part of delta, and whether the candidate half may choose its bound.

        Args:
            greatest: cost that an episode can have.
        """
        kinds = [name for name, given in (("mean", self.cost_limit), ("event", self.event_rate)) if given is not None]
        part = shared_delta(self.delta, len(kinds))
        found, free = [], []
        for kind in kinds:
            unfit = self.bound == AUTO or (kind == "mean" and bound_named(self.bound).events_only)
            name = ("hoeffding_bentkus" if kind == "mean" else "clopper_pearson") if unfit else self.bound
            if kind == "mean":
                assert self.cost_limit is not None
                found.append(Constraint(kind="mean", limit=self.cost_limit, delta=part, bound=name, greatest=greatest))
            else:
                assert self.event_rate is not None
                found.append(
                    Constraint(
                        kind="event", limit=self.event_rate, delta=part, bound=name, event_limit=self.event_limit
                    )
                )
            free.append(unfit and kind == "mean")
        return found, free


def parse_certificate(values: Mapping[str, Any]) -> CertifyConfig:
    """The settings from plain values. Raises: UsageError in one line that names the key."""
    try:
        config: CertifyConfig = build(CertifyConfig, values, "")
        device_named(config.device)
        saferl.envs.full_id(config.environment)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return config


def horizon_of(env_id: str, env_kwargs: Mapping[str, Any]) -> int | None:
    """Steps after which an episode is cut, None where the environment has no limit."""
    given = env_kwargs.get("max_episode_steps")
    return given if given is not None else gymnasium.spec(saferl.envs.full_id(env_id)).max_episode_steps


def greatest_cost(config: CertifyConfig, env_kwargs: Mapping[str, Any]) -> float:
    """Greatest cost that an episode can have: ``cost_max``, else that of a step at every step.

    Raises: UsageError if neither tells it.
    """
    if config.cost_max is not None:
        return config.cost_max
    horizon = horizon_of(config.environment, env_kwargs)
    if horizon is None:
        if config.cost_limit is None:
            return 1.0  # no bound uses it
        raise UsageError(f"{config.env} has no limit on the steps of an episode; give cost_max=, its greatest cost.")
    return config.step_cost_max * horizon
