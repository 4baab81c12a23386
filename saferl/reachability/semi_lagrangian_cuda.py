"""Sweeps of discounted Bellman operators on a CUDA device: the tables of the CPU's kernels, one thread for each node.

Nodes are laid out with the free axes last, so that threads side by side read values side by side. Runs on a card, or
with NUMBA_ENABLE_CUDASIM=1 in Numba's simulator.
"""

import math
from functools import cache
from types import FunctionType
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from saferl.reachability import multilinear
from saferl.reachability import semi_lagrangian_kernels as kernels
from saferl.reachability.grid import MOST_DIMENSIONS, Grid
from saferl.reachability.system import Array

THREADS = 256  # in a block
LOOK_EVERY = 8  # sweeps between two looks at the greatest change, which costs atomic operations


@cache
def _interpolation(ndim: int) -> Any:
    """``multilinear.over_<ndim>`` for the device."""
    function = getattr(multilinear, f"over_{ndim}").py_func
    names = dict(function.__globals__)
    if ndim > 1:
        names[f"over_{ndim - 1}"] = _interpolation(ndim - 1)
    return cuda.jit(device=True)(FunctionType(function.__code__, names, function.__name__))


@cache
def _sweep_for(ndim: int, cubic: bool, problem: int, dtype: np.dtype[Any]) -> Any:
    """The kernel for a number of axes, an interpolation, a problem and a precision; compiled at its first launch."""
    linear, cubic_weights = _interpolation(ndim), cuda.jit(device=True)(kernels.cubic_weights.py_func)
    number = dtype.type
    infinite, zero, one = number(np.inf), number(0), number(1)
    taps = 4**ndim

    @cuda.jit(device=True)
    def inside(index, count, wraps):
        return index % count if wraps else min(max(index, 0), count - 1)

    @cuda.jit(device=True)
    def clipped_cubic(values, index, floors, parts, shape, wraps, strides):
        low, high, total = infinite, -infinite, zero
        for tap in range(taps):
            share, place, rest, corner = one, 0, tap, True
            for k in range(ndim):
                step = rest % 4
                rest //= 4
                share *= cubic_weights(parts[k, 0])[step]
                place += inside(index[k] + floors[k] - 1 + step, shape[k], wraps[k]) * strides[k]
                corner = corner and (step == 1 or (step == 2 and parts[k, 0] != zero))
            v = values[place]
            total += share * v
            if corner:
                low, high = min(low, v), max(high, v)
        return min(max(total, low), high)

    @cuda.jit
    def sweep(
        values, out, h, target, discount, rest_of_one, entries, offsets, table_strides, controls, disturbances, shares,
        shape, wraps, strides, look, greatest,
    ):  # fmt: skip
        node: int = cuda.grid(1)  # type: ignore[call-arg]
        if node >= values.size:
            return
        index = cuda.local.array(MOST_DIMENSIONS, np.int64)
        floors = cuda.local.array(MOST_DIMENSIONS, np.int64)
        lows = cuda.local.array((MOST_DIMENSIONS, 1), np.int64)
        highs = cuda.local.array((MOST_DIMENSIONS, 1), np.int64)
        parts = cuda.local.array((MOST_DIMENSIONS, 1), dtype)
        for k in range(ndim):
            index[k] = node // strides[k] % shape[k]
        best = infinite
        for c in range(controls):
            total = -infinite if shares.size == 0 else zero
            for e in range(disturbances):
                for k in range(ndim):
                    table = (c * disturbances + e) * ndim + k
                    at = offsets[table]
                    for m in range(ndim):
                        at += table_strides[table, m] * index[m]
                    floor = math.floor(entries[at])
                    parts[k, 0] = entries[at] - floor
                    floors[k] = int(floor)
                    lows[k, 0] = inside(index[k] + floors[k], shape[k], wraps[k]) * strides[k]
                    highs[k, 0] = inside(index[k] + floors[k] + 1, shape[k], wraps[k]) * strides[k]
                if cubic:
                    foot = clipped_cubic(values, index, floors, parts, shape, wraps, strides)
                else:
                    foot = linear(values, 0, lows, highs, parts, 0, 0)
                total = max(total, foot) if shares.size == 0 else total + shares[e] * foot
            best = min(best, total)
        if problem == kernels.AVOID:
            new = rest_of_one * h[node] + discount * max(h[node], best)
        elif problem == kernels.REACH:
            new = rest_of_one * target[node] + discount * min(target[node], best)
        else:
            new = rest_of_one * max(h[node], target[node]) + discount * max(h[node], min(target[node], best))
        out[node] = new
        if look:
            cuda.atomic.max(greatest, 0, abs(new - values[node]))

    return sweep


class CudaSweeps:
    """As the sweeps of ``discounted`` on the CPU, with every array on the device."""

    def __init__(
        self,
        grid: Grid,
        order: tuple[int, ...],
        feet: kernels.Feet,
        operator: kernels.Operator,
        dtype: np.dtype[Any],
        start: Array,
        constraint: Array | None,
        target: Array | None,
    ) -> None:
        if not cuda.is_available():
            raise ValueError("device=cuda needs a CUDA card and driver; take device=cpu.")
        self._grid, self._order, self._dtype = grid, order, dtype
        shape = [grid.shape[k] for k in order]

        def on_device(array: Any, kind: Any = dtype) -> Any:
            return cuda.to_device(np.ascontiguousarray(array, dtype=kind))

        def laid_out(array: Array | None) -> Any:
            return on_device(np.zeros(1) if array is None else np.transpose(array, order).ravel())

        self._now, self._next = laid_out(start), cuda.device_array(grid.size, dtype)
        self._greatest = on_device(np.zeros(1))
        strides = [math.prod(shape[k + 1 :]) for k in range(grid.ndim)]
        self._fixed = (
            laid_out(constraint), laid_out(target), operator.discount, operator.rest, on_device(feet.entries),
            on_device(feet.offsets, np.int64), on_device(feet.strides, np.int64), feet.controls, feet.disturbances,
            on_device(feet.shares), on_device(shape, np.int64),
            on_device(grid.wraps[list(order)], np.bool_), on_device(strides, np.int64),
        )  # fmt: skip
        kernel = _sweep_for(grid.ndim, operator.cubic, operator.problem, dtype)
        self._kernel = kernel[-(-grid.size // THREADS), THREADS]
        self._change = np.inf

    def sweep(self, count: int) -> float:
        """One sweep; the greatest change is that of the last look, one in 8 sweeps."""
        look = count % LOOK_EVERY == 0
        if look:
            self._greatest.copy_to_device(np.zeros(1, self._dtype))
        self._kernel(self._now, self._next, *self._fixed, look, self._greatest)
        self._now, self._next = self._next, self._now
        if look:
            self._change = float(self._greatest.copy_to_host()[0])
        return self._change

    def values(self) -> NDArray[Any]:
        """The values, (n_1, ..., n_d), on the host."""
        turned = self._now.copy_to_host().reshape([self._grid.shape[k] for k in self._order])
        return np.ascontiguousarray(np.transpose(turned, np.argsort(self._order)))
