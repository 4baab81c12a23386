"""The settings of python -m saferl.reach, and the task they ask for, checked before anything is computed."""

import dataclasses
import difflib
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from saferl.command_line import UsageError, imported, unknown
from saferl.evaluation.reach_figures import name_and_unit, panels
from saferl.evaluation.reach_report import grid_words
from saferl.reachability import SYSTEMS, Grid, System, discounted, hamilton_jacobi
from saferl.reachability.grid import check_memory
from saferl.reachability.problems import PROBLEMS, Problem, avoid_discs, reach_discs
from saferl.reachability.schemes import SCHEMES
from saferl.training.config import build

CHOICES = {
    "kind": ("tube", "set"),
    "space": tuple(SCHEMES),
    "dissipation": ("local", "global"),
    "interpolation": ("linear", "cubic"),
    "sweep": ("jacobi", "gauss_seidel"),
}
LISTS = {  # settings that are lists, and an example
    "low": "[-3,-3,-3.14]",
    "high": "[3,3,3.14]",
    "shape": "[101,101,100]",
    "times": "[0.5,1]",
    "discs": "[[0,0,1],[2,1,0.5]]",
    "target_discs": "[[2,2,0.3]]",
}
OF_METHOD = {  # settings that only one method knows
    "hamilton_jacobi": ("horizon", "kind", "space", "time", "dissipation", "cfl", "times"),
    "discounted": (
        "dt", "discount", "interpolation", "controls", "disturbances", "sweep", "max_sweeps", "anneal",
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ReachConfig:
    """The settings of one computation; see --help. None is the default of the method or of the ready problem."""

    system: str | None = None
    system_kwargs: Any = None
    method: Literal["hamilton_jacobi", "discounted"] = "hamilton_jacobi"
    low: Any = None
    high: Any = None
    shape: Any = None
    periodic: Any = None
    constraint: str | None = None
    target: str | None = None
    discs: Any = None
    target_discs: Any = None
    horizon: float | None = None
    kind: str | None = None
    space: str | None = None
    time: int | None = None
    dissipation: str | None = None
    cfl: float | None = None
    times: Any = None
    dt: float | None = None
    discount: float | None = None
    interpolation: str | None = None
    controls: int | None = None
    disturbances: int | None = None
    sweep: str | None = None
    max_sweeps: int | None = None
    anneal: bool | None = None
    tolerance: float | None = None
    dtype: Literal["float32", "float64"] = "float32"
    device: Literal["cpu", "cuda"] = "cpu"
    axes: Any = None
    at: Any = None
    out: str | None = None

    def __post_init__(self) -> None:
        if self.system is None:
            raise ValueError(f"give system=NAME; known: {', '.join(SYSTEMS)}; or system=package.module:function.")
        for method, names in OF_METHOD.items():
            for name in names:
                if method != self.method and getattr(self, name) is not None:
                    raise ValueError(f"{name}= goes with method={method}; got method={self.method}.")
        for name, known in CHOICES.items():
            if getattr(self, name) not in (None, *known):
                raise ValueError(unknown(name, getattr(self, name), known, f"{name}={{}}"))
        for name, item in LISTS.items():
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _listed(name, getattr(self, name), item))
        for name in ("controls", "disturbances"):
            if getattr(self, name) is not None and getattr(self, name) < 2:
                raise ValueError(f"{name} must be >= 2, the ends of the range; got {getattr(self, name)}.")
        for name in ("max_sweeps", "horizon"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be > 0; got {getattr(self, name)}.")
        if self.tolerance is not None and not 0 <= self.tolerance < math.inf:
            raise ValueError(f"tolerance must be >= 0; got {self.tolerance}.")
        if self.tolerance == 0 and self.method == "discounted":
            raise ValueError("tolerance must be > 0 with method=discounted, which comes near V but never there; got 0.")
        for one, other in (("constraint", "discs"), ("target", "target_discs")):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise ValueError(f"give {one}= or {other}=, not both.")
        for name, form in (("system_kwargs", "{speed:2}"), ("at", "{heading:[0,1.57]}")):
            if not isinstance(getattr(self, name), (Mapping, type(None))):
                raise ValueError(f"{name} must be like {form}; got {getattr(self, name)!r}.")

    def given(self, *names: str) -> dict[str, Any]:
        """Those of the settings that are not None."""
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the settings ask for, checked: everything but the computation."""

    config: ReachConfig
    system: System
    grid: Grid
    problem: Problem  # the ready one, with what the settings changed
    settings: dict[str, Any]  # of the solver
    needed: int  # bytes
    effort: str  # expected steps, for people

    @property
    def plan(self) -> str:
        """One line: nodes, memory, expected steps."""
        kind = hamilton_jacobi.problem_of(self.problem.constraint, self.problem.target, "tube")
        size = f"{self.needed / 2**20:,.{1 if self.needed < 10 * 2**20 else 0}f} MiB"
        return (
            f"{self.system.name}, {kind}, {self.config.method}: {grid_words(self.grid)} in {self.config.dtype}, "
            f"{size}, {self.effort}"
        )


def parse_reach(values: Mapping[str, Any]) -> Task:
    """The task of plain settings. Raises: UsageError in one line that names the key."""
    try:
        return task_of(build(ReachConfig, values, ""))
    except (ValueError, MemoryError) as error:
        raise UsageError(str(error)) from error


def task_of(config: ReachConfig) -> Task:
    """Everything that can be checked before the computation. Raises: ValueError, MemoryError if it is too big."""
    assert config.system is not None
    if config.device == "cuda":
        from numba import cuda

        if not cuda.is_available():
            raise ValueError("device=cuda: there is no CUDA device here; take device=cpu.")
    system = _system(config.system, config.system_kwargs or {})
    problem = _problem(config, system, PROBLEMS.get(config.system))
    grid = problem.grid()
    if grid.ndim != system.ndim:
        raise ValueError(f"{system.name} has {system.ndim} states ({', '.join(system.states)}); got {grid.ndim} axes.")
    if grid.ndim > 1:
        panels(grid, problem.axes, problem.at)
    make = _hamilton_jacobi_task if config.method == "hamilton_jacobi" else _discounted_task
    settings, needed, effort = make(config, system, grid, problem)
    check_memory(needed, f"{config.method} on {grid_words(grid)} in {config.dtype}")
    return Task(
        config=config, system=system, grid=grid, problem=problem, settings=settings, needed=needed, effort=effort
    )


def _listed(name: str, values: Any, example: str) -> tuple[Any, ...]:
    """A list of numbers, or of such lists where the example has them; whole numbers for ``shape``."""

    def fits(value: Any) -> bool:
        if example.startswith("[["):
            return isinstance(value, (list, tuple)) and all(map(is_number, value))
        return is_number(value)

    def is_number(value: Any) -> bool:
        kinds = (int,) if name == "shape" else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)

    if not isinstance(values, (list, tuple)) or not all(map(fits, values)):
        what = "whole numbers" if name == "shape" else "discs [x,y,radius]" if "disc" in name else "numbers"
        raise ValueError(f"{name} must be a list of {what} like {example}; got {values}.")
    return tuple(values)


def _system(word: str, kwargs: Mapping[str, Any]) -> System:
    if ":" not in word and word not in SYSTEMS:
        raise ValueError(unknown("system", word, SYSTEMS, "system={}"))
    make = SYSTEMS[word] if word in SYSTEMS else imported("system", word)
    if not callable(make):
        raise ValueError(f"system={word}: a {type(make).__name__} is not a function that returns a System.")
    known = list(inspect.signature(make).parameters)
    for key in kwargs:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise ValueError(f"system_kwargs: {word} takes no {key}.{hint} Known: {', '.join(known) or 'nothing'}.")
    try:
        system = make(**kwargs)
    except TypeError as error:  # a missing argument, or a word where a number belongs
        raise ValueError(f"system={word}: {error}") from error
    if not isinstance(system, System):
        raise ValueError(f"system={word} must return a saferl.reachability.System; got {type(system).__name__}.")
    return system


def _problem(config: ReachConfig, system: System, ready: Problem | None) -> Problem:
    """The ready problem under the settings, or one that the settings make up whole."""
    names = [name_and_unit(state)[0] for state in system.states]
    changes: dict[str, Any] = dict(config.given("low", "high", "shape", "horizon"))
    if config.periodic is not None:
        changes["periodic"] = _axes("periodic", config.periodic, names)
    changes |= _functions(config, system, ready)
    if ready is None:
        wanted = ("low", "high", "shape") + (("horizon",) if config.method == "hamilton_jacobi" else ())
        missing = [f"{name}=" for name in wanted if name not in changes]
        if changes.get("constraint") is None and changes.get("target") is None:
            missing.append("constraint= or target= (or discs=, target_discs=)")
        if missing:
            raise ValueError(
                f"{config.system} has no ready problem; give {', '.join(missing)}. Its states: "
                f"{', '.join(system.states)}."
            )
        ready = Problem(about=system.name, low=(), high=(), shape=(), horizon=1.0, unit="")
    if config.axes is not None:
        changes["axes"] = _axes("axes", config.axes, names)
    drawn = changes.get("axes", ready.axes)
    changes["at"] = {axis: values for axis, values in ready.at.items() if axis not in drawn}
    if config.at is not None:
        changes["at"] = {_axis("at", key, names): _numbers(key, each) for key, each in config.at.items()}
    problem = dataclasses.replace(ready, **changes)
    hamilton_jacobi.problem_of(problem.constraint, problem.target, config.kind or "tube")
    return problem


def _functions(config: ReachConfig, system: System, ready: Problem | None) -> dict[str, Any]:
    """h and l where the settings name them, with words and a unit that go with them."""
    changes: dict[str, Any] = {}
    words: list[str] = []
    for name, verb, discs, make in (
        ("constraint", "avoid h > 0", config.discs, avoid_discs),
        ("target", "reach l <= 0", config.target_discs, reach_discs),
    ):
        word = getattr(config, name)
        if discs is not None:
            if system.ndim < 2:
                raise ValueError(f"discs need two states; {system.name} has one.")
            changes[name] = make(discs)
            verb = f"{verb.split()[0]} {len(discs)} disc{'s' if len(discs) > 1 else ''}"
        elif word == "none":
            changes[name] = None
        elif word is not None:
            changes[name] = imported(name, word)
            if not callable(changes[name]):
                raise ValueError(f"{name}={word}: a {type(changes[name]).__name__} is not a function of the states.")
        if changes.get(name, getattr(ready, name, None)) is not None:
            words.append(verb)
    if changes:
        own = any(word not in (None, "none") for word in (config.constraint, config.target))
        changes |= {"about": ", ".join(words), "unit": "" if own else name_and_unit(system.states[0])[1]}
    return changes


def _axes(key: str, words: Any, names: Sequence[str]) -> tuple[int, ...]:
    if not isinstance(words, (list, tuple)):
        raise ValueError(f"{key} must be a list like [{names[0]}]; got {words!r}.")
    return tuple(_axis(key, word, names) for word in words)


def _axis(key: str, word: Any, names: Sequence[str]) -> int:
    """A state's number from its name or number."""
    if isinstance(word, int) and not isinstance(word, bool) and 0 <= word < len(names):
        return word
    if word not in names:
        raise ValueError(f"{key}: " + unknown("state", str(word), names))
    return names.index(word)


def _numbers(key: Any, values: Any) -> tuple[float, ...]:
    listed = values if isinstance(values, (list, tuple)) else [values]
    if not listed or any(isinstance(each, bool) or not isinstance(each, (int, float)) for each in listed):
        raise ValueError(f"at: {key} must be a number or a list of numbers; got {values!r}.")
    return tuple(float(each) for each in listed)


def _hamilton_jacobi_task(
    config: ReachConfig, system: System, grid: Grid, problem: Problem
) -> tuple[dict[str, Any], int, str]:
    """Settings of the solver, bytes and steps that it needs."""
    scheme = hamilton_jacobi.Scheme(**config.given("space", "time", "dissipation", "cfl"))
    times = [*(config.times or ()), problem.horizon]
    if not all(b > a for a, b in zip((0.0, *times), times)):
        raise ValueError(f"times must rise between 0 and the horizon, {problem.horizon:g} s; got {config.times}.")
    both = problem.constraint is not None and problem.target is not None
    dtype = np.dtype(config.dtype)
    needed = hamilton_jacobi.memory(grid, dtype, scheme, both) + (len(times) - 1) * grid.size * dtype.itemsize
    step = hamilton_jacobi.coefficients_of(system, grid, scheme).time_step * scheme.cfl
    steps = sum(math.ceil((b - a) / step - 1e-9) for a, b in zip((0.0, *times), times))
    settings = {"times": times, "scheme": scheme, **config.given("kind", "tolerance")}
    return settings, needed, f"{scheme.space}, about {steps:,} steps to {problem.horizon:g} s"


def _discounted_task(
    config: ReachConfig, system: System, grid: Grid, problem: Problem
) -> tuple[dict[str, Any], int, str]:
    """Settings of the solver, bytes and sweeps that it needs."""
    dt = _step_of_one_node(system, grid) if config.dt is None else config.dt
    discount = 0.99 if config.discount is None else config.discount
    if not 0 <= discount <= 1:
        raise ValueError(f"discount must be in [0, 1]; got {discount}.")
    discounts = [discount]
    if config.anneal is not False:
        discounts += [each for each in discounted.ANNEAL if each > discount]
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"dt must be positive and finite; got {dt}.")
    samples = discounted.Samples.of(system, config.controls or 3, config.disturbances or 3, "worst", None)
    both = problem.constraint is not None and problem.target is not None
    dtype = np.dtype(config.dtype)
    kept = min(2, len(discounts) - 1)  # the value and the one before, while the next is found
    needed = discounted.memory(system, grid, dtype, samples, dt, both) + kept * grid.size * dtype.itemsize
    keys = ("interpolation", "controls", "disturbances", "sweep", "max_sweeps", "tolerance")
    settings = {"discounts": discounts, "dt": dt, **config.given(*keys)}
    effort = f"dt {dt:.3g} s, discount {discount:g}"
    if 0 < discount < 1:
        tolerance = 1e-4 if config.tolerance is None else config.tolerance
        effort += f", at most some {math.ceil(math.log(min(tolerance, 0.5)) / math.log(discount)):,} sweeps"
    if len(discounts) > 1:
        effort += ", then undiscounted"
    return settings, needed, effort


def _step_of_one_node(system: System, grid: Grid) -> float:
    """s, the longest time step in which no state moves by more than the distance of two nodes; three digits."""
    speeds = hamilton_jacobi.coefficients_of(system, grid, hamilton_jacobi.Scheme()).dissipation
    crossing = [spacing / float(np.max(speed)) for speed, spacing in zip(speeds, grid.spacing) if np.max(speed) > 0]
    if not crossing:
        raise ValueError("no state moves on this grid; give dt=.")
    return float(f"{min(crossing):.3g}")
