"""BenchmarkConfig: the frozen settings of one benchmark, checked before anything runs."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from saferl.benchmarking.tasks import PROTOCOLS, SUITES
from saferl.command_line import UsageError, unknown
from saferl.training.config import build

# Keys of a training that the benchmark sets itself, and what the user gives instead.
OWN_KEYS = {
    "agent": "agents=[...]",
    "env": "tasks=[...]",
    "seed": "seeds=...",
    "agent.cost_limit": "limits=[...]",
    "data.path": "data={TASK: path}",
    "out": "out=...",
    "resume": "the same command, which goes on by itself",
    "eval_every": "episodes=...",
    "eval_episodes": "episodes=...",
}


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """The settings of one benchmark; see --help."""

    agents: tuple[str, ...] | str | None = None
    suite: str = "dsrl"
    tasks: tuple[str, ...] | str | None = None
    protocol: str = "dsrl"
    limits: tuple[float, ...] | float | None = None
    seeds: tuple[int, ...] | int = 3
    steps: int | None = None
    episodes: int = 20
    data: Any = None
    filters: Any = None
    overrides: tuple[str, ...] | str = ()
    agent_overrides: Any = None
    engine: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    workers: int | None = None
    plan_only: bool = False
    out: str = "results/benchmark"

    def __post_init__(self) -> None:
        if not self.agent_names:
            raise ValueError("agents has no value; give agents=[fisor,bc], for example.")
        for key, known in (("suite", SUITES), ("protocol", PROTOCOLS)):
            if getattr(self, key) not in known:
                raise ValueError(unknown(key, getattr(self, key), known, f"{key}={{}}"))
        for key in ("steps", "episodes", "workers"):
            if getattr(self, key) is not None and getattr(self, key) < 1:
                raise ValueError(f"{key} must be >= 1; got {getattr(self, key)}.")
        if isinstance(self.seeds, int) and self.seeds < 1:
            raise ValueError(f"seeds must be a number >= 1 or a list like [0,1,2]; got {self.seeds}.")
        if any(not 0 <= seed < 2**32 for seed in self.seed_list):
            raise ValueError(f"seeds must be in 0 .. 2**32 - 1; got {list(self.seed_list)}.")
        if any(not 0 <= limit < float("inf") for limit in self.limit_list or ()):
            raise ValueError(f"limits must be finite and >= 0; got {list(self.limit_list or ())}.")
        for key in ("agent_names", "seed_list", "limit_list"):
            values = getattr(self, key) or ()
            if len(set(values)) < len(values):
                raise ValueError(f"{key.split('_')[0]}s has a value twice: {list(values)}.")
        if self.limit_list == () or self.seed_list == () or self.tasks == ():
            raise ValueError("limits, seeds and tasks must not be empty lists.")
        for key in ("data", "filters", "agent_overrides"):
            if not isinstance(getattr(self, key), (Mapping, type(None))):
                raise ValueError(f"{key} must be like {{NAME: value}}; got {getattr(self, key)!r}.")
        for name in self.agent_overrides or {}:
            if name not in self.agent_names:
                raise ValueError(unknown("agent of this benchmark", name, self.agent_names))
        for name in self.agent_names:
            for word in self.words_for(name):
                key, equals, _ = str(word).partition("=")
                if not equals:
                    raise ValueError(f"overrides are settings of a training, written key=value; got {word!r}.")
                if key.lstrip("+~") in OWN_KEYS:
                    raise ValueError(f"override {word}: a benchmark sets {key} itself; give {OWN_KEYS[key]} instead.")
        if self.ray_address is not None and self.engine != "ray":
            raise ValueError("ray_address goes with engine=ray.")
        if self.workers is not None and self.engine == "ray":
            raise ValueError("workers goes with engine=local; with engine=ray the cluster's cores are used.")

    @property
    def agent_names(self) -> tuple[str, ...]:
        """The agents' presets."""
        return _listed(self.agents)

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds of the trainings."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    @property
    def limit_list(self) -> tuple[float, ...] | None:
        """The limits that replace those of the protocol, or None."""
        return None if self.limits is None else _listed(self.limits)

    @property
    def cores(self) -> int:
        """Local processes."""
        if self.workers is not None:
            return self.workers
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def words_for(self, agent: str) -> tuple[str, ...]:
        """The overrides of one agent's trainings, those of its own last."""
        return (*_listed(self.overrides), *_listed((self.agent_overrides or {}).get(agent)))


def _listed(value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def parse_benchmark(values: Mapping[str, Any]) -> BenchmarkConfig:
    """The settings from plain values. Raises: UsageError in one line that names the key."""
    try:
        config: BenchmarkConfig = build(BenchmarkConfig, values, "")
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from error
    return config


def quoted(words: Sequence[str]) -> list[str]:
    """The user's words with quotes around each item of ``overrides`` and ``agent_overrides``.

    Hydra's grammar takes ``overrides=['agent.hidden=128']``; without the inner quotes, which a shell swallows anyway,
    it stops at the second "=".
    """
    return [
        f"{key}={_quoted_items(value)}" if key.lstrip("+") in ("overrides", "agent_overrides") and equals else word
        for word in words
        for key, equals, value in [word.partition("=")]
    ]


# A setting inside a list or a mapping: key=value, where the value may hold brackets of its own, one deep.
_ITEM = re.compile(r"(?<=[\[{,:\s])(~?\+{0,2}[\w.@/]+=(?:\[[^\]]*\]|\{[^}]*\}|[^\[\]{},'\"])+)")


def _quoted_items(value: str) -> str:
    if "'" in value or '"' in value:
        return value
    return _ITEM.sub(lambda item: f"'{item[1].rstrip()}'", value) if value.startswith(("[", "{")) else f"'{value}'"
