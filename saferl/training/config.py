"""TrainConfig: the frozen settings of one training, built and checked from a composed configuration."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from saferl.agents import AGENTS
from saferl.command_line import UsageError, unknown
from saferl.offline_data.filter_settings import parse_filters


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the transitions come from and how rewards are scaled."""

    path: str | None = None  # a DSRL HDF5 file; None looks in the cache, then downloads or generates
    reward_scale: float | str = "dsrl"  # "dsrl" or the factor itself
    filters: Any = None  # mapping of names to values, see parse_filters
    filter_seed: int = 1234

    def __post_init__(self) -> None:
        if isinstance(self.reward_scale, str) and self.reward_scale != "dsrl":
            raise ValueError(f"data.reward_scale must be dsrl or a number > 0; got {self.reward_scale!r}.")
        if not isinstance(self.reward_scale, str) and not 0 < self.reward_scale < float("inf"):
            raise ValueError(f"data.reward_scale must be dsrl or a number > 0; got {self.reward_scale}.")
        if self.filter_seed < 0:
            raise ValueError(f"data.filter_seed must be >= 0; got {self.filter_seed}.")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of one training; ``agent`` holds the agent's own frozen settings."""

    env: str
    agent_name: str
    preset: str  # name of the YAML file that the agent's settings started from
    agent: Any
    data: DataConfig = field(default_factory=DataConfig)
    steps: int
    seed: int = 0
    device: str = "auto"
    out: str = "runs"
    log_every: int = 100
    checkpoint_every: int = 1_000
    eval_every: int  # 0: only at the end
    eval_episodes: int | None = None  # of the last evaluation; None: 100 on PointRobot, else 20; 0: no environment

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1; got {getattr(self, name)}.")
        if self.eval_every < 0:
            raise ValueError(f"eval_every must be >= 0 (0: only at the end); got {self.eval_every}.")
        if self.eval_episodes is not None and self.eval_episodes < 0:
            raise ValueError(f"eval_episodes must be >= 0 (0: no evaluation); got {self.eval_episodes}.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be in 0 .. 2**32 - 1; got {self.seed}.")
        parse_filters(self.data.filters, self.env)  # raises DatasetError, a ValueError


def device_named(name: str) -> torch.device:
    """Where to compute; "auto" is CUDA where there is one, else the CPU.

    Raises: ValueError if the device is unknown or not on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N; got {name!r}.") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N; got {name!r}.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ValueError(f"device={name} is not on this machine, which has {count} CUDA devices; use device=cpu.")
    return device


def parse_training(values: Mapping[str, Any]) -> TrainConfig:
    """The settings of a training from plain nested values, as ``OmegaConf.to_container`` or a run's YAML gives them.

    Raises: UsageError with one line that names the key.
    """
    rest = dict(values)
    agent_values = dict(rest.pop("agent", None) or {})
    name, default_steps = agent_values.pop("name", None), agent_values.pop("default_steps", None)
    if name not in AGENTS:
        raise UsageError(unknown("agent", str(name), AGENTS, "agent={}"))
    rest.pop("resume", None)
    rest["preset"] = agent_values.pop("preset", name)
    if rest.get("steps") is None:
        rest["steps"] = default_steps
    if rest.get("eval_every") is None and isinstance(rest["steps"], int):
        rest["eval_every"] = max(rest["steps"] // 4, 1)
    try:
        rest["data"] = build(DataConfig, rest.get("data") or {}, "data.")
        rest["agent"], rest["agent_name"] = build(AGENTS[name][0], agent_values, "agent."), name
        config = build(TrainConfig, rest, "")
        device_named(config.device)
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from error
    return config


def plain(config: TrainConfig) -> dict[str, Any]:
    """The opposite of ``parse_training``: nested values for YAML."""
    values = dataclasses.asdict(config)
    name = values.pop("agent_name")
    values["agent"] = {"name": name, "preset": values.pop("preset"), **values["agent"]}
    return typing.cast("dict[str, Any]", _lists(values))


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(child) for key, child in value.items()}
    return [_lists(child) for child in value] if isinstance(value, (list, tuple)) else value


def build(cls: type, values: Mapping[str, Any], prefix: str) -> Any:
    """A dataclass from ``values``; each must have the type of its field (an int may be written 1e5).

    Args:
        cls: the dataclass.
        values: field name to value.
        prefix: what stands before a field's name on the command line, as "agent.".
    Raises: UsageError naming the key if it is unknown, missing or of another type; ValueError of the dataclass's own
        checks.
    """
    fields = {each.name: each for each in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in fields:
            known = [prefix + name for name in fields]
            raise UsageError(unknown("key", f"{prefix}{key}", known, "{}="))
    for name, each in fields.items():
        if name not in values and each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING:
            raise UsageError(f"{prefix}{name} has no value; give {prefix}{name}=...")
    return cls(**{key: _typed(value, hints[key], prefix + key) for key, value in values.items()})


def build_nested(cls: type, sections: Mapping[str, type], values: Mapping[str, Any]) -> Any:
    """A dataclass some of whose fields are dataclasses, from nested values; "???" counts as not given.

    Args:
        cls: the outer dataclass.
        sections: field name to the inner one's dataclass.
        values: field name to value.
    Raises: UsageError with one line that names the key.
    """
    rest = {key: value for key, value in values.items() if value != "???"}
    try:
        inner = {name: build(kind, rest.get(name) or {}, f"{name}.") for name, kind in sections.items()}
        return build(cls, rest | inner, "")
    except ValueError as error:
        raise UsageError(str(error)) from error


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", type(None): "null"}


def _typed(value: Any, hint: Any, key: str) -> Any:
    """``value`` as the type ``hint``. Raises: UsageError."""
    origin = typing.get_origin(hint)
    if hint is Any:
        return value
    if origin is typing.Literal:
        allowed = typing.get_args(hint)
        if value not in allowed:
            raise UsageError(unknown(f"{key}", str(value), [str(each) for each in allowed], f"{key}={{}}"))
        return value
    if origin in (typing.Union, types.UnionType):
        return _typed_union(value, typing.get_args(hint), key)
    if origin in (tuple, list):
        if not isinstance(value, (tuple, list)):
            raise UsageError(f"{key} must be a list like [1,2]; got {value!r}.")
        item = typing.get_args(hint)[0]
        return origin(_typed(each, item, key) for each in value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise UsageError(f"{key} must be {_WORDS.get(hint, hint)}; got {value!r}.")


def _typed_union(value: Any, hints: tuple[Any, ...], key: str) -> Any:
    for hint in hints:
        try:
            return _typed(value, hint, key)
        except UsageError:
            continue
    names = {each: "a list" for each in hints if typing.get_origin(each) in (tuple, list)} | _WORDS
    allowed = " or ".join(names.get(hint, str(hint)) for hint in hints)
    raise UsageError(f"{key} must be {allowed}; got {value!r}.")
