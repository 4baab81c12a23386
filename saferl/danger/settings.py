"""The settings of python -m saferl.danger, checked before anything is computed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from saferl.command_line import UsageError, imported
from saferl.danger.discovery import DiscoverySettings
from saferl.danger.experiment import Experiment
from saferl.danger.language_model import LanguageModelError, language_model_from_environment
from saferl.danger.noise import Noise, parse_noise
from saferl.danger.tasks import horizon_of, rules_named
from saferl.training.config import build

SEEDS = {"builtin": 20, "llm": 1}


@dataclass(frozen=True, kw_only=True)
class DangerConfig:
    """The settings of one experiment; see --help."""

    env: str | None = None
    bit: Literal["pen", "epo"] = "pen"
    noise: str = "clean"
    p: float | None = None
    q: float | None = None
    declared: bool = False
    told: Literal["bits", "nothing", "random"] = "bits"
    backend: Literal["builtin", "llm"] = "builtin"
    seeds: int | None = None
    seed: int = 0
    rounds: int = 20
    episodes: int = 5
    horizon: int | None = None
    literals: str | None = None
    without: Any = None
    out: str | None = None

    def __post_init__(self) -> None:
        if self.env is None:
            raise ValueError("give env=NAME, for example env=saferl/BoatRace-v0; --help lists them.")
        if self.seeds is not None and self.seeds < 1:
            raise ValueError(f"seeds must be >= 1; got {self.seeds}.")
        if self.seed < 0:
            raise ValueError(f"seed must be >= 0; got {self.seed}.")
        names = self.without
        if names is not None and not (isinstance(names, list) and all(isinstance(each, str) for each in names)):
            raise ValueError(f"without must be a list of literals like ['enters(B)','stays']; got {names!r}.")
        parse_noise(self.noise, self.p, self.q)

    @property
    def noise_model(self) -> Noise:
        """The noise."""
        return parse_noise(self.noise, self.p, self.q)

    @property
    def all_seeds(self) -> range:
        """The seeds, by default 20 of the built-in learner and one of a language model."""
        return range(self.seed, self.seed + (SEEDS[self.backend] if self.seeds is None else self.seeds))


def parse_danger(values: Mapping[str, Any]) -> DangerConfig:
    """The settings from plain values. Raises: UsageError in one line that names the key."""
    try:
        return build(DangerConfig, values, "")
    except ValueError as error:
        raise UsageError(str(error)) from error


def experiment_of(config: DangerConfig, log: Path | None) -> Experiment:
    """The experiment that the settings ask for, with its tables built.

    Args:
        config: see --help.
        log: folder for the exchanges with a language model.
    Raises: UsageError for what the user can mend.
    """
    assert config.env is not None
    literals = None if config.literals is None else imported("literals", config.literals)
    if literals is not None and not callable(literals):
        raise UsageError(f"literals={config.literals}: a {type(literals).__name__} is not a function of a scene.")
    try:
        horizon = horizon_of(rules_named(config.env)) if config.horizon is None else config.horizon
        experiment = Experiment(
            env=config.env,
            noise=config.noise_model,
            settings=DiscoverySettings(
                horizon=horizon, rounds=config.rounds, episodes=config.episodes, told=config.told
            ),
            bit=config.bit,
            backend=config.backend,
            declared=config.declared,
            literals=literals,
            without=tuple(config.without or ()),
            log=log,
        )
        assert len(experiment.vocabulary)
        if config.backend == "llm":
            language_model_from_environment()  # only to see that it is named
    except (ValueError, LanguageModelError) as error:
        raise UsageError(str(error)) from error
    return experiment
