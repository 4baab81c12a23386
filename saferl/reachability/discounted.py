"""Discounted Bellman equations of safety on grids: discrete time, which is what a learned critic of safety solves.

With V' the value at the state a time step later, minimised over controls and maximised (or averaged) over disturbances:

    avoid        V = (1 - g) h         + g max(h, V')            Fisac et al. (2019), equation 7
    reach        V = (1 - g) l         + g min(l, V')
    reach-avoid  V = (1 - g) max(h, l) + g max(h, min(l, V'))    Hsu et al. (2021), equation 14

For g < 1 the operator contracts by g, so that a change of c in one sweep leaves at most c g / (1 - g) to the fixed
point; that bound, not the change, decides when to stop. For g = 1 there are many fixed points: sweeps start at h (or
l), and the k-th result is exactly the value of k steps. A discount always errs to the unsafe side of the undiscounted
value: ``discount_bias`` says by how much.

Values at the feet are interpolated between nodes, multilinearly (a convex combination: the operator on the grid is that
of a finite Markov game, with any time step) or by clipped cubics. Beyond the box, the nearest node of its edge counts.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from saferl.reachability import semi_lagrangian_kernels as kernels
from saferl.reachability.grid import Grid, check_memory, precision
from saferl.reachability.hamilton_jacobi import StateFunction, at_nodes, initial_values, problem_of
from saferl.reachability.semi_lagrangian_nodes import sweep_nodes
from saferl.reachability.semi_lagrangian_planes import Plane, sweep_planes
from saferl.reachability.system import Array, System
from saferl.reachability.tables import pack
from saferl.reachability.value import Value

PROBLEMS = {"avoid": kernels.AVOID, "reach": kernels.REACH, "reach-avoid": kernels.REACH_AVOID}
WHOLE = 1e-5  # a displacement this close to whole nodes is whole: it is rounding, and costs a corner
ANNEAL = (0.99, 0.999, 0.9999, 1.0)


def solve(
    system: System,
    grid: Grid,
    *,
    dt: float,
    discount: float,
    constraint: StateFunction = None,
    target: StateFunction = None,
    interpolation: Literal["linear", "cubic"] = "linear",
    controls: int = 3,
    disturbances: int = 3,
    disturbance: Literal["worst", "expected"] = "worst",
    probabilities: ArrayLike | None = None,
    sweep: Literal["jacobi", "gauss_seidel"] = "jacobi",
    tolerance: float = 1e-4,
    max_sweeps: int | None = None,
    start: Value | None = None,
    dtype: Any = "float32",
    device: Literal["cpu", "cuda"] = "cpu",
    progress: Callable[[float], None] | None = None,
) -> Value:
    """The fixed point of a discounted Bellman operator.

    Args:
        system: the dynamics; a step moves by ``System.displacement``.
        grid: the nodes.
        dt: s, the time step.
        discount: g in [0, 1], of one step; ``discount_for`` converts between time steps.
        constraint, target: h alone avoids, l alone reaches, both reach l <= 0 without h > 0 on the way.
        interpolation: linear or cubic, between nodes.
        controls, disturbances: samples along each input that stand for its set.
        disturbance: worst, or expected: drawn with ``probabilities``, one for each sample (None: all alike).
        sweep: jacobi (all nodes from the last sweep, in parallel), or gauss_seidel (row by row in place, on one thread,
            from each corner of the grid in turn: fewer sweeps).
        tolerance: stop when the value is certainly within this of the fixed point (g < 1), or when no value changes by
            more than a hundredth of it (g = 1, where nothing is certain), in the unit of h.
        max_sweeps: stop after so many; None: when g^k is below the tolerance, for g = 1 after 100,000.
        start: a value to start from, such as that of a smaller discount; None starts at h (or l).
        dtype: float32 or float64.
        device: cpu, or cuda for the first CUDA device.
        progress: called with a share of the way, on the scale of the logarithm of the bound.
    Returns: V, with ``facts``: problem, dt, discount, sweeps, change (of the last sweep), bound (on the distance to the
        fixed point; None for g = 1), converged.
    Raises: ValueError for what does not fit; MemoryError before anything is allocated.
    """
    dtype, problem = precision(dtype), problem_of(constraint, target, "tube")
    _check(system, grid, dt, discount, interpolation, disturbance, sweep, device, tolerance)
    samples = Samples.of(system, controls, disturbances, disturbance, probabilities)
    order, free = axes_order(system, grid, samples, dt)
    check_memory(
        memory(system, grid, dtype, samples, dt, problem == "reach-avoid"),
        f"{problem} on {' x '.join(map(str, grid.shape))} nodes in {dtype.name}",
    )
    h = None if constraint is None else at_nodes(constraint, grid, "constraint")
    l = None if target is None else at_nodes(target, grid, "target")  # noqa: E741
    first = initial_values(h, l) if start is None else _start(start, grid)
    moves = displacements(system, grid, samples, dt)
    sweeps: Any
    if device == "cuda":
        from saferl.reachability.semi_lagrangian_cuda import CudaSweeps  # needs CUDA, or its simulator

        sweeps = CudaSweeps
    else:
        sweeps = PlaneSweeps if free and sweep == "jacobi" else NodeSweeps
    if sweeps is NodeSweeps:
        order = tuple(range(grid.ndim))
        if interpolation == "cubic" and grid.ndim > 4:
            raise ValueError("cubic interpolation node by node takes at most 4 axes; take interpolation=linear.")
    number = dtype.type
    operator = kernels.Operator(PROBLEMS[problem], number(discount), number(1 - discount), interpolation == "cubic")
    feet = feet_of(grid, order, moves, samples, dtype)
    if sweeps is NodeSweeps:
        engine = NodeSweeps(grid, feet, operator, dtype, first, h, l, in_place=sweep == "gauss_seidel")
    else:
        engine = sweeps(grid, order, free, feet, operator, dtype, first, h, l)
    facts = _iterate(engine, discount, tolerance, max_sweeps, dtype, float(np.abs(first).max()), progress)
    values = engine.values()
    if not np.isfinite(values).all():
        raise FloatingPointError("the value is not finite; take dtype=float64, or scale h and l.")
    facts = {
        "problem": problem, "dt": dt, "discount": discount, "interpolation": interpolation, "sweep": sweep,
        "dtype": dtype.name, "device": device, **facts,
    }  # fmt: skip
    return Value(grid, values, system, facts)


def _iterate(
    engine: Any,
    discount: float,
    tolerance: float,
    max_sweeps: int | None,
    dtype: np.dtype[Any],
    scale: float,
    progress: Callable[[float], None] | None,
) -> dict[str, Any]:
    """Sweeps until the certified bound is small; returns sweeps, change, bound and whether they converged."""
    factor = discount / (1 - discount) if discount < 1 else math.inf
    if max_sweeps is None:
        worst = math.log(tolerance / max(scale, tolerance)) / math.log(discount) if 0 < discount < 1 else 1e5
        max_sweeps = max(10, 2 * math.ceil(worst))
    rounding = 4 * np.finfo(dtype).eps * scale
    first, change, done, stuck = 0.0, math.inf, 0, 0
    while done < max_sweeps:
        change, done = engine.sweep(done), done + 1
        first = max(first, change)
        small = change <= tolerance / 100 if discount == 1 else change * factor <= tolerance
        stuck = stuck + 1 if change <= rounding else 0  # rounding may keep the bound from falling further
        if progress is not None and change > 0:
            goal = tolerance / 100 if discount == 1 else tolerance / max(factor, 1e-12)
            progress(float(np.clip(math.log(first / change) / max(math.log(first / goal), 1e-12), 0, 1)))
        if small or stuck > 20 or not math.isfinite(change):
            break
    bound = None if discount == 1 else float(change * factor) if change else 0.0
    converged = change <= tolerance / 100 if bound is None else bound <= tolerance
    return {"sweeps": done, "change": float(change), "bound": bound, "converged": bool(converged)}


def discount_for(discount: float, dt_from: float, dt_to: float) -> float:
    """The discount of a step of ``dt_to`` that equals ``discount`` at ``dt_from``: g = exp(-rate dt)."""
    return float(discount ** (dt_to / dt_from))


def anneal(system: System, grid: Grid, *, discounts: Sequence[float] = ANNEAL, **settings: Any) -> list[Value]:
    """The values of rising discounts, each started from the one before; the last one is the undiscounted limit.

    Args:
        system, grid, settings: as for ``solve``, without ``discount`` and ``start``.
        discounts: rising, the last one at most 1.
    Returns: one value for each discount; for those below 1, ``facts["discount_bias"]`` compares with the last one.
    """
    if list(discounts) != sorted(set(discounts)):
        raise ValueError(f"discounts must rise; got {list(discounts)}.")
    values: list[Value] = []
    for discount in discounts:
        start = values[-1] if values else None
        values.append(solve(system, grid, discount=discount, start=start, **settings))
    for value in values[:-1]:
        value.facts["discount_bias"] = discount_bias(value, values[-1])
    return values


def discount_bias(discounted: Value, limit: Value) -> dict[str, float]:
    """What a discount hides: V of the limit minus V discounted, over the nodes.

    Returns: ``hidden``: share of the truly unsafe nodes (limit > 0) that the discounted value calls safe; ``mean`` and
        ``max`` of the difference, in the unit of h.
    """
    unsafe = limit.values > 0
    difference = limit.values - discounted.values
    hidden = np.mean(discounted.values[unsafe] <= 0) if unsafe.any() else 0.0
    return {"hidden": float(hidden), "mean": float(difference.mean()), "max": float(difference.max())}


@dataclass(frozen=True)
class Samples:
    """The inputs that stand for their sets."""

    controls: Array  # (C, m)
    disturbances: Array  # (E, m)
    shares: Array  # (E,) probabilities; (0,) for the worst one

    @classmethod
    def of(
        cls, system: System, controls: int, disturbances: int, mode: str, probabilities: ArrayLike | None
    ) -> "Samples":
        """Lattices of the sets. Raises: ValueError for probabilities that do not fit."""
        nothing = np.zeros((1, 0))
        u = nothing if system.control is None else system.control.samples(controls)
        d = nothing if system.disturbance is None else system.disturbance.samples(disturbances)
        if mode == "worst":
            if probabilities is not None:
                raise ValueError("probabilities go with disturbance=expected.")
            return cls(u, d, np.zeros(0))
        shares = np.full(len(d), 1 / len(d)) if probabilities is None else np.asarray(probabilities, float)
        if shares.shape != (len(d),) or (shares < 0).any() or not math.isclose(shares.sum(), 1, abs_tol=1e-9):
            raise ValueError(f"probabilities must be {len(d)} numbers >= 0 with sum 1; got {shares.tolist()}.")
        return cls(u, d, shares)

    def pairs(self) -> list[tuple[Array, Array]]:
        """Every control with every disturbance, in the kernels' order."""
        return [(u, d) for u in self.controls for d in self.disturbances]


def displacements(system: System, grid: Grid, samples: Samples, dt: float) -> list[list[Array]]:
    """Displacements in nodes for each pair of inputs along each axis, each as large as what it depends on."""
    moves = []
    for u, d in samples.pairs():
        change = system.displacement(grid.open_mesh(), u, d, dt)
        moves.append([_in_nodes(c, grid, axis) for axis, c in enumerate(change)])
    return moves


def _in_nodes(change: Array, grid: Grid, axis: int) -> Array:
    nodes, count = np.asarray(change / grid.spacing[axis]), grid.shape[axis]
    if axis in grid.periodic:
        nodes = nodes - count * np.round(nodes / count)
    else:
        nodes = np.clip(nodes, -(count + 1.0), count + 1.0)
    whole = np.round(nodes)
    return np.where(np.abs(nodes - whole) < WHOLE, whole, nodes)


def axes_order(system: System, grid: Grid, samples: Samples, dt: float) -> tuple[tuple[int, ...], int]:
    """Axes with the free ones, at most two and the longest last, at the end; and how many are free.

    An axis is free if no displacement depends on it, which a grid of two nodes an axis shows.
    """
    shapes = _dependence(system, grid, samples, dt)
    free = [k for k in range(grid.ndim) if all(shape[k] == 1 for shape in shapes)]
    plane = sorted(free, key=lambda k: grid.shape[k])[-2:]
    if len(plane) == grid.ndim:  # nothing would be left to share out among threads
        plane = plane[1:]
    return tuple(k for k in range(grid.ndim) if k not in plane) + tuple(plane), len(plane)


def _dependence(system: System, grid: Grid, samples: Samples, dt: float) -> list[tuple[int, ...]]:
    """For each displacement its shape on a grid of few nodes: 1 along the axes on which it does not depend."""
    few = Grid(grid.low, grid.high, tuple(min(n, 4) for n in grid.shape), grid.periodic)
    shapes = []
    for u, d in samples.pairs():
        for change in system.displacement(few.open_mesh(), u, d, dt):
            shapes.append((1,) * (grid.ndim - change.ndim) + change.shape)
    return shapes


def memory(system: System, grid: Grid, dtype: np.dtype[Any], samples: Samples, dt: float, reach_avoid: bool) -> int:
    """Bytes that a solution needs: two value arrays, h and l, the result, and the tables of displacements."""
    tables = sum(
        math.prod(n for k, n in enumerate(grid.shape) if shape[k] > 1)
        for shape in _dependence(system, grid, samples, dt)
    )
    return grid.size * dtype.itemsize * (5 if reach_avoid else 4) + tables * (dtype.itemsize + 8)


class NodeSweeps:
    """Sweeps node by node, for any system."""

    def __init__(
        self,
        grid: Grid,
        feet: kernels.Feet,
        operator: kernels.Operator,
        dtype: np.dtype[Any],
        start: Array,
        constraint: Array | None,
        target: Array | None,
        in_place: bool,
    ) -> None:
        self._grid, self._feet, self._operator, self._in_place = grid, feet, operator, in_place
        none = np.zeros(1, dtype)
        self._h, self._l = (none if each is None else each.ravel().astype(dtype) for each in (constraint, target))
        self._now = start.ravel().astype(dtype)
        self._next = self._now if self._in_place else np.empty_like(self._now)
        self._shape = np.array(grid.shape)
        self._wraps = np.array([axis in grid.periodic for axis in range(grid.ndim)])
        self._strides = np.array([math.prod(grid.shape[k + 1 :]) for k in range(grid.ndim)])

    def sweep(self, count: int) -> float:
        """One sweep; returns the greatest change. In place, the ``count``-th sweep starts from another corner."""
        backwards = count % 2 ** (self._grid.ndim - 1) if self._in_place else 0  # a row has no direction
        chunks = 1 if self._in_place else 16 * numba.get_num_threads()
        change = sweep_nodes(
            self._now, self._next, self._h, self._l, self._operator, self._feet,
            self._shape, self._wraps, self._strides, backwards, chunks,
        )  # fmt: skip
        self._now, self._next = self._next, self._now
        return float(change)

    def values(self) -> NDArray[Any]:
        """The values, (n_1, ..., n_d)."""
        return self._now.reshape(self._grid.shape)


class PlaneSweeps:
    """Sweeps plane by plane, for systems with free axes."""

    def __init__(
        self,
        grid: Grid,
        order: tuple[int, ...],
        free: int,
        feet: kernels.Feet,
        operator: kernels.Operator,
        dtype: np.dtype[Any],
        start: Array,
        constraint: Array | None,
        target: Array | None,
    ) -> None:
        self._grid, self._order, self._feet, self._operator = grid, order, feet, operator
        shape = [grid.shape[k] for k in order]
        margin = self._furthest() + (2 if operator.cubic else 1)
        rows = shape[-2] if free == 2 else 1
        rows_wrap = free == 2 and order[-2] in grid.periodic
        self._plane = Plane(
            rows, shape[-1], shape[-1] + 2 * margin, margin, rows_wrap, order[-1] in grid.periodic, grid.ndim - free
        )
        self._dtype = dtype
        none = np.zeros(1, dtype)
        self._h, self._l = (none if each is None else self._laid_out(each) for each in (constraint, target))
        self._now = self._laid_out(start)
        self._next = np.zeros_like(self._now)
        self._shape = np.array(shape)
        self._wraps = np.array([k in grid.periodic for k in order])
        size = rows * self._plane.stride
        fixed = grid.ndim - free
        self._strides = np.array([size * math.prod(shape[k + 1 : fixed]) for k in range(fixed)] + [0] * free)

    def _furthest(self) -> int:
        """Nodes that the furthest foot lies off along the last axis."""
        ends = np.append(self._feet.offsets[1:], len(self._feet.entries))
        ndim = self._grid.ndim
        last = [self._feet.entries[a:b] for a, b in zip(self._feet.offsets[ndim - 1 :: ndim], ends[ndim - 1 :: ndim])]
        return max(int(np.abs(np.floor(each)).max()) for each in last)

    def _laid_out(self, values: Array) -> NDArray[Any]:
        turned = np.transpose(values, self._order)
        flat = np.zeros((turned.size // turned.shape[-1], self._plane.stride), self._dtype)
        flat[:, : turned.shape[-1]] = turned.reshape(-1, turned.shape[-1])
        return flat.ravel()

    def sweep(self, count: int) -> float:
        """One sweep; returns the greatest change."""
        change = sweep_planes(
            self._now, self._next, self._h, self._l, self._operator, self._feet,
            self._shape, self._wraps, self._strides, self._plane, 16 * numba.get_num_threads(),
        )  # fmt: skip
        self._now, self._next = self._next, self._now
        return float(change)

    def values(self) -> NDArray[Any]:
        """The values, (n_1, ..., n_d)."""
        shape = [self._grid.shape[k] for k in self._order]
        turned = self._now.reshape(-1, self._plane.stride)[:, : shape[-1]].reshape(shape)
        return np.ascontiguousarray(np.transpose(turned, np.argsort(self._order)))


def feet_of(
    grid: Grid, order: tuple[int, ...], moves: list[list[Array]], samples: Samples, dtype: np.dtype[Any]
) -> kernels.Feet:
    """The tables of displacements, axes in the kernel's order."""
    turned = Grid(
        tuple(grid.low[k] for k in order), tuple(grid.high[k] for k in order), tuple(grid.shape[k] for k in order)
    )
    arrays = [
        np.transpose(pair[k].reshape((1,) * (grid.ndim - pair[k].ndim) + pair[k].shape), order)
        for pair in moves
        for k in order
    ]
    tables = pack(arrays, turned, dtype)
    shares = samples.shares.astype(dtype)
    return kernels.Feet(
        tables.entries, tables.offsets, tables.strides, len(samples.controls), len(samples.disturbances), shares
    )


def _start(start: Value, grid: Grid) -> Array:
    if start.grid != grid:
        raise ValueError("start must be a value on the same grid.")
    return np.asarray(start.values, dtype=np.float64)


def _check(
    system: System, grid: Grid, dt: float, discount: float, interpolation: str, disturbance: str, sweep: str,
    device: str, tolerance: float,
) -> None:  # fmt: skip
    if system.ndim != grid.ndim:
        raise ValueError(f"system {system.name} has {system.ndim} states; the grid has {grid.ndim} axes.")
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"dt must be positive and finite; got {dt}.")
    if not 0 <= discount <= 1:
        raise ValueError(f"discount must be in [0, 1]; got {discount}.")
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive; got {tolerance}.")
    for name, value, allowed in (
        ("interpolation", interpolation, ("linear", "cubic")),
        ("disturbance", disturbance, ("worst", "expected")),
        ("sweep", sweep, ("jacobi", "gauss_seidel")),
        ("device", device, ("cpu", "cuda")),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be {' or '.join(allowed)}; got {value!r}.")
    if device == "cuda" and sweep == "gauss_seidel":
        raise ValueError("sweep=gauss_seidel runs on the CPU, in order; take sweep=jacobi or device=cpu.")
