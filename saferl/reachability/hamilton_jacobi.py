"""Hamilton-Jacobi-Isaacs equations on grids: avoid, reach and reach-avoid, tubes and sets, in continuous time.

With time running backward from the end, V(x, 0) = h (or l) and

    dV/dt = min over u, max over d of  grad V . (f + G u + H d),

where a tube lets V only rise (avoid: h is violated at some time) or only fall (reach: l <= 0 at some time), a set takes
the end of the horizon alone, and reach-avoid keeps max(h, min(l, V)). Lax-Friedrichs Hamiltonian, upwind derivatives of
order 1 to 5, total-variation-diminishing Runge-Kutta of order 1 to 3, time steps by the CFL condition.
Sources: Mitchell, Bayen and Tomlin (2005); Fisac et al. (2015), reach-avoid; Osher and Fedkiw (2003), the schemes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numba
import numpy as np
from numpy.typing import NDArray

from saferl.reachability import hamilton_jacobi_kernels as kernels
from saferl.reachability.grid import Grid, check_memory, precision
from saferl.reachability.schemes import SCHEMES
from saferl.reachability.system import Array, Ball, System
from saferl.reachability.tables import pack
from saferl.reachability.value import Value

StateFunction = Callable[..., Any] | NDArray[Any] | None  # of states, on arrays that broadcast; or values at nodes
NODES_OF_A_CHUNK = 200_000  # of the grid, for each part more that a thread gets


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """How the equation is discretised.

    Args:
        space: upwind1, eno2, eno3, weno3 or weno5.
        time: order of the Runge-Kutta method, 1 to 3.
        dissipation: "local" takes the greatest speed at each node, "global" that of the whole grid (smoother, slower).
        cfl: share of the longest stable time step, in (0, 1].
    Raises: ValueError for anything else.
    """

    space: str = "weno5"
    time: int = 3
    dissipation: Literal["local", "global"] = "local"
    cfl: float = 0.75

    def __post_init__(self) -> None:
        if self.space not in SCHEMES:
            raise ValueError(f"space must be one of {', '.join(SCHEMES)}; got {self.space!r}.")
        if self.time not in (1, 2, 3):
            raise ValueError(f"time must be 1, 2 or 3; got {self.time!r}.")
        if self.dissipation not in ("local", "global"):
            raise ValueError(f"dissipation must be local or global; got {self.dissipation!r}.")
        if not 0 < self.cfl <= 1:
            raise ValueError(f"cfl must be in (0, 1]; got {self.cfl}.")


def solve(
    system: System,
    grid: Grid,
    *,
    horizon: float,
    constraint: StateFunction = None,
    target: StateFunction = None,
    kind: Literal["tube", "set"] = "tube",
    scheme: Scheme = Scheme(),
    tolerance: float = 0.0,
    dtype: Any = "float32",
    device: Literal["cpu", "cuda"] = "cpu",
    progress: Callable[[float], None] | None = None,
) -> Value:
    """The value after a horizon: V(x) > 0 where the worst disturbance wins from x, see ``value`` for the signs.

    Args:
        system: the dynamics.
        grid: the nodes; beyond the edges, values are extrapolated away from zero.
        horizon: s, > 0; the solution may come to rest sooner.
        constraint: h, function of the states, alone: avoid h > 0.
        target: l, alone: reach l <= 0. Both: reach l <= 0 without h > 0 on the way.
        kind: tube (at some time) or set (at the end of the horizon; not with both functions).
        scheme: discretisation.
        tolerance: stop when no value changes faster than this, in units of h per s; 0 goes to the horizon.
        dtype: float32 or float64, of the arithmetic and of the result.
        device: cpu, or cuda for the first CUDA device.
        progress: called with the share of the horizon that is done.
    Returns: V at the end, with ``facts`` on problem, steps, rest and scheme.
    Raises: ValueError for settings or functions that do not fit; MemoryError before anything is allocated;
        FloatingPointError where values stop being finite.
    """
    settings = dict(kind=kind, scheme=scheme, tolerance=tolerance, dtype=dtype, device=device, progress=progress)
    return next(iter(snapshots(system, grid, times=(horizon,), constraint=constraint, target=target, **settings)))


def snapshots(
    system: System,
    grid: Grid,
    *,
    times: Sequence[float],
    constraint: StateFunction = None,
    target: StateFunction = None,
    kind: Literal["tube", "set"] = "tube",
    scheme: Scheme = Scheme(),
    tolerance: float = 0.0,
    dtype: Any = "float32",
    device: Literal["cpu", "cuda"] = "cpu",
    progress: Callable[[float], None] | None = None,
) -> Iterator[Value]:
    """The values after several horizons, rising times in s, from one computation; otherwise as ``solve``."""
    dtype = precision(dtype)
    problem = problem_of(constraint, target, kind)
    if len(times) == 0 or not all(b > a for a, b in zip((0.0, *times), times)) or not np.isfinite(times[-1]):
        raise ValueError(f"times (the horizon) must be positive, rising and finite; got {list(times)}.")
    if system.ndim != grid.ndim:
        raise ValueError(f"system {system.name} has {system.ndim} states; the grid has {grid.ndim} axes.")
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device must be cpu or cuda; got {device!r}.")
    needed = memory(grid, dtype, scheme, reach_avoid=problem == "reach-avoid")
    check_memory(needed, f"{problem} on {' x '.join(map(str, grid.shape))} nodes in {dtype.name}")
    h = None if constraint is None else at_nodes(constraint, grid, "constraint")
    l = None if target is None else at_nodes(target, grid, "target")  # noqa: E741  the literature's letter
    coefficients = coefficients_of(system, grid, scheme)
    march: Any = CpuMarch
    if device == "cuda":  # imported here: it needs CUDA, or its simulator
        from saferl.reachability.hamilton_jacobi_cuda import CudaMarch

        march = CudaMarch
    march = march(grid, system, coefficients, scheme, dtype, h, l, kind)
    time, steps, rate = 0.0, 0, np.inf
    for end in times:
        while time < end and not rate <= tolerance:
            step = min(coefficients.time_step * scheme.cfl, end - time)
            rate = march.step(step)
            time, steps = (end if step == end - time else time + step), steps + 1
            if progress is not None:
                progress(time / times[-1])
        values = march.values()
        if not np.isfinite(values).all():
            raise FloatingPointError(
                f"the value is not finite after {steps} steps; take dtype=float64, or scale h and l to slopes of "
                "order one."
            )
        facts = {
            "problem": problem, "kind": kind, "horizon": float(end), "steps": steps, "rate": float(rate),
            "at_rest": bool(rate <= tolerance), "dtype": dtype.name, "device": device, **asdict(scheme),
        }  # fmt: skip
        yield Value(grid, values, system, facts)


def memory(grid: Grid, dtype: np.dtype[Any], scheme: Scheme, reach_avoid: bool) -> int:
    """Bytes that a solution needs: the values and their stages, l and h for reach-avoid, and the result."""
    row = kernels.row_length(grid.shape[-1])
    arrays = (3 if scheme.time == 3 else 2) + (2 if reach_avoid else 0)
    return (arrays * (grid.size // grid.shape[-1]) * row + grid.size) * dtype.itemsize


@dataclass(frozen=True)
class Coefficients:
    """The equation's coefficients on a grid, each as large as the states that it depends on."""

    drift: tuple[Array, ...]  # (d) along each axis
    dissipation: tuple[Array, ...]  # (d) the greatest speed along each axis
    inputs: tuple[tuple[Array, int, int], ...]  # coefficient, its axis, its input (controls first)
    time_step: float  # s, the longest stable one: 1 / max over nodes of sum_i |speed_i| / spacing_i


def coefficients_of(system: System, grid: Grid, scheme: Scheme) -> Coefficients:
    """Drift with inputs at their centres, dissipation (greatest speed along each axis), inputs times their radii."""
    states = grid.open_mesh()
    drift = list(system.drift_at(*states))
    columns: list[list[Array]] = []  # per input, its row for each state, scaled to inputs in [-1, 1]
    spread: list[list[Array]] = [[] for _ in drift]  # greatest |speed| from each input set along each axis
    for inputs, matrix in (
        (system.control, system.control_at(*states)),
        (system.disturbance, system.disturbance_at(*states)),
    ):
        if inputs is None:
            continue
        for axis, row in enumerate(matrix):
            scaled = [entry * radius for entry, radius in zip(row, inputs.radius)]
            drift[axis] = drift[axis] + sum(entry * middle for entry, middle in zip(row, inputs.centre))
            spread[axis].append(
                np.sqrt(sum(np.square(entry) for entry in scaled))
                if isinstance(inputs, Ball)
                else np.asarray(sum(np.abs(entry) for entry in scaled))
            )
        columns += [[row[j] * inputs.radius[j] for row in matrix] for j in range(inputs.size)]
    speeds = [np.asarray(np.abs(f) + sum(parts)) for f, parts in zip(drift, spread)]
    if not all(np.isfinite(speed).all() for speed in speeds):
        pack(drift, grid, np.dtype(float))  # says where
        pack([entry for column in columns for entry in column], grid, np.dtype(float))
    rate = _greatest_sum([speed / spacing for speed, spacing in zip(speeds, grid.spacing)])
    if scheme.dissipation == "global":
        speeds = [np.asarray(speed.max()) for speed in speeds]
        rate = float(sum(speed / spacing for speed, spacing in zip(speeds, grid.spacing)))
    entries = [(entry, axis, j) for j, column in enumerate(columns) for axis, entry in enumerate(column)]
    used = tuple(entry for entry in entries if np.any(entry[0]))
    return Coefficients(tuple(drift), tuple(speeds), used, 1 / rate if rate > 0 else np.inf)


def _greatest_sum(arrays: Sequence[Array]) -> float:
    """Greatest sum of arrays that broadcast together, without the sum's memory: along the first axis one by one."""
    shape = np.broadcast_shapes(*(array.shape for array in arrays))
    if len(shape) < 2 or np.prod(shape) < 1e6:
        return float(np.max(sum(arrays)))
    parts = [array.reshape((1,) * (len(shape) - array.ndim) + array.shape) for array in arrays]
    return max(_greatest_sum([part[i] if len(part) > 1 else part[0] for part in parts]) for i in range(shape[0]))


class March:
    """The values on the way: ``step`` takes one Runge-Kutta step. What a stage is depends on the device."""

    def __init__(self, values: Any, stages: list[Any], order: int) -> None:
        self._values, self._stages, self._order = values, stages, order

    def step(self, dt: float) -> float:
        """One step of the Runge-Kutta method of Shu and Osher (1988); returns the greatest |dV/dt| at its start."""
        u, a = self._values, self._stages[0]
        rate = self._stage(u, u, a, 0, 1, dt)
        if self._order == 1:
            self._values, self._stages[0] = a, u
        elif self._order == 2:
            self._stage(a, u, u, 1 / 2, 1 / 2, dt)
        else:
            b = self._stages[1]
            self._stage(a, u, b, 3 / 4, 1 / 4, dt)
            self._stage(b, u, u, 1 / 3, 2 / 3, dt)
        return rate

    def _stage(self, now: Any, base: Any, out: Any, old: float, new: float, dt: float) -> float:
        """out = old * base + new * (now + dt * dV/dt); returns the greatest |dV/dt|."""
        raise NotImplementedError


class CpuMarch(March):
    """On the CPU."""

    def __init__(
        self,
        grid: Grid,
        system: System,
        coefficients: Coefficients,
        scheme: Scheme,
        dtype: np.dtype[Any],
        constraint: Array | None,
        target: Array | None,
        kind: str,
    ) -> None:
        self._grid, self._dtype = grid, dtype
        wraps = bool(grid.wraps[-1])
        row = kernels.row_length(grid.shape[-1])
        both = constraint is not None and target is not None
        none = np.zeros(1, dtype)
        self._target = kernels.padded(target, dtype, wraps) if both and target is not None else none
        self._constraint = kernels.padded(constraint, dtype, wraps) if both and constraint is not None else none
        values = kernels.padded(initial_values(constraint, target), dtype, wraps)
        super().__init__(values, [np.zeros_like(values) for _ in range(2 if scheme.time == 3 else 1)], scheme.time)
        self._tube = tube_direction(constraint, target, kind)
        entries, axes, inputs = zip(*coefficients.inputs) if coefficients.inputs else ((), (), ())
        tables = pack([*coefficients.drift, *coefficients.dissipation, *entries], grid, dtype, row, kernels.GHOSTS)
        self._terms = kernels.Terms(
            tables.entries, tables.offsets, tables.strides, np.array(axes, np.int64), np.array(inputs, np.int64)
        )
        self._inputs = kernels.Inputs(
            0 if system.control is None else system.control.size,
            0 if system.disturbance is None else system.disturbance.size,
            isinstance(system.control, Ball),
            isinstance(system.disturbance, Ball),
        )
        strides = [row * int(np.prod(grid.shape[k + 1 : -1])) for k in range(grid.ndim - 1)] + [1]
        self._layout = kernels.Layout(
            np.array(grid.shape),
            grid.wraps,
            (1 / np.array(grid.spacing)).astype(dtype),
            np.array(strides),
            row,
        )
        # Several parts a thread even out the load; on small grids the buffers of each part would cost more than that.
        self._chunks = numba.get_num_threads() * max(1, min(8, grid.size // NODES_OF_A_CHUNK))
        self._scheme = SCHEMES.index(scheme.space)
        self._reach = kernels.REACHES[self._scheme]

    def _stage(
        self, now: NDArray[Any], base: NDArray[Any], out: NDArray[Any], old: float, new: float, dt: float
    ) -> float:
        number = self._dtype.type
        return float(
            kernels.stage(
                now,
                base,
                out,
                self._target,
                self._constraint,
                number(old),
                number(new),
                number(dt),
                self._tube,
                self._layout,
                self._scheme,
                self._reach,
                self._terms,
                self._inputs,
                self._chunks,
            )
        )

    def values(self) -> NDArray[Any]:
        """A copy of the values, (n_1, ..., n_d)."""
        return kernels.inside(self._values, self._grid.shape).copy()


def initial_values(constraint: Array | None, target: Array | None) -> Array:
    """V at the end of the horizon: h, l, or the greater of both."""
    if constraint is None:
        assert target is not None
        return target
    return constraint if target is None else np.maximum(constraint, target)


def tube_direction(constraint: Array | None, target: Array | None, kind: str) -> int:
    """1: values only rise (avoid tube), -1: only fall (reach tube), 0: both (sets; reach-avoid, which projects)."""
    if kind == "set" or (constraint is not None and target is not None):
        return 0
    return 1 if target is None else -1


def problem_of(constraint: StateFunction, target: StateFunction, kind: str) -> str:
    """avoid, reach or reach-avoid, by which functions are given. Raises: ValueError for neither, or an unknown kind."""
    if kind not in ("tube", "set"):
        raise ValueError(f"kind must be tube or set; got {kind!r}.")
    if constraint is None and target is None:
        raise ValueError("give constraint (h, to avoid h > 0), target (l, to reach l <= 0), or both.")
    if constraint is not None and target is not None:
        if kind == "set":
            raise ValueError(
                "kind=set takes constraint or target, not both: reach-avoid is about the way, not the end."
            )
        return "reach-avoid"
    return "avoid" if target is None else "reach"


def at_nodes(function: StateFunction, grid: Grid, name: str) -> Array:
    """h or l at the nodes, checked."""
    return grid.evaluate(function if callable(function) else lambda *_: function, name)
