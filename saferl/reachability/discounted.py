"""Discounted Bellman equations of safety on grids: discrete time, which is what a learned critic of safety solves.

With V' the value at the state a time step later, minimised over controls and maximised (or averaged) over disturbances:

    avoid        V = (1 - g) h         + g max(h, V')            Fisac et al. (2019), equation 7
    reach        V = (1 - g) l         + g min(l, V')
    reach-avoid  V = (1 - g) max(h, l) + g max(h, min(l, V'))    Hsu et al. (2021), equation 14

For g < 1 the operator contracts by g, so that a change of c in one sweep leaves at most c g / (1 - g) to the fixed
point; that bound, not the change, decides when to stop. For g = 1 there are many fixed points: sweeps start at h (or
l), and the k-th result is exactly the value of k steps. A discounted value errs: to the unsafe side where something is
to be avoided (V_g <= V_1), to the safe side where something is to be reached (V_g >= V_1, also for reach-avoid);
``discount_bias`` says by how much.

Values at the feet are interpolated between nodes. Multilinear weights are a convex combination: the operator on the
grid is that of a finite Markov game, with any time step. Clipped cubics are more accurate and prove less: their weights
add up to 1.25 in absolute value along an axis, so that the operator certainly contracts only where g 1.25^d < 1. Beyond
the box, the nearest node of its edge counts.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saferl.reachability import semi_lagrangian_kernels as kernels
from saferl.reachability.grid import Grid, check_memory, precision
from saferl.reachability.hamilton_jacobi import StateFunction, at_nodes, initial_values, problem_of
from saferl.reachability.semi_lagrangian_nodes import NodeSweeps
from saferl.reachability.semi_lagrangian_planes import PlaneSweeps
from saferl.reachability.system import Array, System
from saferl.reachability.tables import pack
from saferl.reachability.value import Value

PROBLEMS = {"avoid": kernels.AVOID, "reach": kernels.REACH, "reach-avoid": kernels.REACH_AVOID}
WHOLE = 1e-10  # a displacement this close to whole nodes is whole: it is rounding of float64, and costs a corner
CUBIC = 1.25  # sum of the absolute weights of four nodes, at worst: in the middle of the cell
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
        controls, disturbances: samples along each input that stand for its set, at least 2.
        disturbance: worst, or expected: drawn with ``probabilities``, one for each sample (None: all alike).
        sweep: jacobi (all nodes from the last sweep, in parallel), or gauss_seidel (row by row in place, on one thread,
            from each corner of the grid in turn: fewer sweeps).
        tolerance: stop when the value is certainly within this of the fixed point (g < 1; for cubics this is a rule of
            thumb), or when no value changes by more than a hundredth of it (g = 1), in the unit of h.
        max_sweeps: stop after so many; None: as many as the discount needs at worst, for g = 1 after 100,000.
        start: a value to start from, such as that of a smaller discount; None starts at h (or l).
        dtype: float32 or float64.
        device: cpu, or cuda for the first CUDA device.
        progress: called with a share of the way, on the scale of the logarithm of the bound.
    Returns: V, with ``facts``: problem, dt, discount, sweeps, change (of the last sweep), converged, bound (on the
        distance to the fixed point in exact arithmetic) and rounding (what the precision may add to it at the very
        worst; the usual is a small share of that). Both are None where the operator need not contract: for g = 1,
        and for cubics of all but small g.
    Raises: ValueError for what does not fit; MemoryError before anything is allocated; FloatingPointError where h or l
        is too large for the precision.
    """
    dtype, problem = precision(dtype), problem_of(constraint, target, "tube")
    _check(system, grid, dt, discount, interpolation, disturbance, sweep, device, tolerance)
    samples = Samples.of(system, controls, disturbances, disturbance, probabilities)
    check_memory(
        memory(system, grid, dtype, samples, dt, problem == "reach-avoid"),
        f"{problem} on {' x '.join(map(str, grid.shape))} nodes in {dtype.name}",
    )
    h = None if constraint is None else _compact(at_nodes(constraint, grid, "constraint"), dtype)
    l = None if target is None else _compact(at_nodes(target, grid, "target"), dtype)  # noqa: E741
    first = initial_values(h, l) if start is None else _compact(_start(start, grid), dtype)
    scale = max(_magnitude(each) for each in (h, l, first) if each is not None)
    number = dtype.type
    operator = kernels.Operator(PROBLEMS[problem], number(discount), number(1 - discount), interpolation == "cubic")
    engine, furthest = _engine(
        system, grid, samples, dt, operator, device, sweep == "gauss_seidel", first, h, l
    )  # fmt: skip
    del h, l, first  # the engine has its own
    stop = Stop.of(discount, tolerance, max_sweeps, scale, grid.ndim, operator.cubic)
    facts = _iterate(engine, stop, 4 * float(np.finfo(dtype).eps) * scale, progress)
    facts["rounding"] = None if stop.modulus >= 1 else _rounding(dtype, scale, grid.ndim, furthest) / (1 - stop.modulus)
    values = engine.values()
    if not np.isfinite(values).all():
        raise FloatingPointError("the value is not finite; take dtype=float64, or scale h and l.")
    facts = {
        "problem": problem, "dt": dt, "discount": discount, "interpolation": interpolation, "sweep": sweep,
        "dtype": dtype.name, "device": device, **facts,
    }  # fmt: skip
    return Value(grid, values, system, facts)


def _engine(
    system: System,
    grid: Grid,
    samples: "Samples",
    dt: float,
    operator: kernels.Operator,
    device: str,
    in_place: bool,
    first: NDArray[Any],
    h: NDArray[Any] | None,
    l: NDArray[Any] | None,  # noqa: E741
) -> tuple[Any, float]:
    """What sweeps, and the sum over the axes of the furthest displacements, in nodes."""
    order, free = axes_order(system, grid, samples, dt)
    by_nodes = device == "cpu" and (in_place or not free)
    if by_nodes and operator.cubic and grid.ndim > 4:
        raise ValueError("cubic interpolation node by node takes at most 4 axes; take interpolation=linear.")
    order = tuple(range(grid.ndim)) if by_nodes else order
    moves = displacements(system, grid, samples, dt)
    furthest = sum(max(float(np.abs(pair[k]).max()) for pair in moves) for k in range(grid.ndim))
    feet = feet_of(grid, order, moves, samples, first.dtype)
    if device == "cuda":
        from saferl.reachability.semi_lagrangian_cuda import CudaSweeps  # needs CUDA, or its simulator

        return CudaSweeps(grid, order, feet, operator, first.dtype, first, h, l), furthest
    if by_nodes:
        return NodeSweeps(grid, feet, operator, first, h, l, in_place), furthest
    return PlaneSweeps(grid, order, free, feet, operator, first, h, l), furthest


@dataclass(frozen=True)
class Stop:
    """When sweeps are enough."""

    modulus: float  # by which the operator certainly contracts; >= 1 where it need not
    factor: float  # times the change of a sweep: the bound, or for cubics the rule of thumb; inf for g = 1
    tolerance: float
    max_sweeps: int

    @classmethod
    def of(
        cls, discount: float, tolerance: float, max_sweeps: int | None, scale: float, ndim: int, cubic: bool
    ) -> "Stop":
        """``scale``: of the values at the start and of h and l; two of them differ by twice that at most."""
        modulus = discount * CUBIC**ndim if cubic else discount
        rate = modulus if modulus < 1 else discount
        factor = rate / (1 - rate) if rate < 1 else math.inf
        if max_sweeps is None:
            max_sweeps = 100_000
            if rate < 1:
                share = tolerance / max(2 * scale * factor, tolerance)  # to which the change of a sweep must fall
                max_sweeps = 2 + math.ceil(math.log(share) / math.log(rate)) if share < 1 else 2
        return cls(modulus, factor, tolerance, max_sweeps)

    def reached(self, change: float) -> bool:
        """Whether the last sweep's change is small enough."""
        return change <= self.tolerance / 100 if math.isinf(self.factor) else change * self.factor <= self.tolerance

    def progress(self, first: float, change: float) -> float:
        """Share of the way from the greatest change to the last one, in logarithms."""
        goal = self.tolerance / 100 if math.isinf(self.factor) else self.tolerance / max(self.factor, 1e-12)
        return float(np.clip(math.log(first / change) / max(math.log(first / goal), 1e-12), 0, 1))


def _iterate(engine: Any, stop: Stop, rounding: float, progress: Callable[[float], None] | None) -> dict[str, Any]:
    """Sweeps until it is enough; returns sweeps, change, bound and whether they converged."""
    first, change, done, stuck = 0.0, math.inf, 0, 0
    while done < stop.max_sweeps:
        change, done = engine.sweep(done), done + 1
        first = max(first, change)
        stuck = stuck + 1 if change <= rounding else 0  # rounding may keep the bound from falling further
        if progress is not None and change > 0:
            progress(stop.progress(first, change))
        if stop.reached(change) or stuck > 20 or not math.isfinite(change):
            break
    bound = None if stop.modulus >= 1 else float(change * stop.factor)
    return {"sweeps": done, "change": float(change), "bound": bound, "converged": bool(stop.reached(change))}


def _rounding(dtype: np.dtype[Any], scale: float, ndim: int, furthest: float) -> float:
    """What rounding may add to one sweep: of the feet, of a weighted mean along each axis, of the operator."""
    return float(np.finfo(dtype).eps / 2 * scale * (2 * furthest + 3 * ndim + 6))


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
    """What a discount does: V of the limit minus V discounted, over the nodes.

    Returns: ``hidden``: share of the truly unsafe nodes (limit > 0) that the discounted value calls safe, which happens
        where something is to be avoided; ``refused``: share of the truly safe ones that it calls unsafe, which happens
        where something is to be reached; ``mean`` and ``max`` of the difference, in the unit of h (below 0 for reach).
    """
    unsafe, called = limit.values > 0, discounted.values > 0
    difference = limit.values - discounted.values
    return {
        "hidden": float(np.mean(~called[unsafe])) if unsafe.any() else 0.0,
        "refused": float(np.mean(called[~unsafe])) if not unsafe.all() else 0.0,
        "mean": float(difference.mean()),
        "max": float(difference.max()),
    }


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
        """Lattices of the sets. Raises: ValueError for too few samples and for probabilities that do not fit."""
        for name, count in (("controls", controls), ("disturbances", disturbances)):
            if count < 2:
                raise ValueError(f"{name} must be at least 2 samples along each input, its ends; got {count}.")
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
    """Bytes that a solution needs: two value arrays, h and l, one more while they are laid out, and the tables."""
    tables = sum(
        math.prod(n for k, n in enumerate(grid.shape) if shape[k] > 1)
        for shape in _dependence(system, grid, samples, dt)
    )
    return grid.size * dtype.itemsize * (6 if reach_avoid else 4) + tables * (dtype.itemsize + 8)


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


def _compact(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Values in a precision; what repeats along an axis is stored once."""
    once = values[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in values.strides)]
    with np.errstate(over="ignore"):  # reported with the result
        return np.broadcast_to(once.astype(dtype, copy=False), values.shape)


def _magnitude(values: NDArray[Any]) -> float:
    """The greatest absolute value, without an array of them."""
    return max(float(values.max()), -float(values.min()))


def _start(start: Value, grid: Grid) -> NDArray[Any]:
    if start.grid != grid:
        raise ValueError("start must be a value on the same grid.")
    return start.values


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
