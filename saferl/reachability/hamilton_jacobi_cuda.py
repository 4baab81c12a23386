"""The Hamilton-Jacobi march on a CUDA device: the same tables and schemes as on the CPU, one thread for each node.

Runs on a card, or with NUMBA_ENABLE_CUDASIM=1 in Numba's simulator.
"""

import math
from functools import cache
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from saferl.reachability import schemes
from saferl.reachability.grid import MOST_DIMENSIONS, Grid
from saferl.reachability.hamilton_jacobi import Coefficients, March, Scheme, initial_values, tube_direction
from saferl.reachability.system import Array, Ball, System
from saferl.reachability.tables import pack

THREADS = 256  # in a block
MOST_INPUTS = 8
LOOK_EVERY = 16  # steps between two looks at the greatest |dV/dt|, which costs atomic operations


@cache
def _stage_for(scheme: str, dtype: np.dtype[Any]) -> Any:
    """The kernel for a scheme and a precision; compiled at its first launch."""
    point = cuda.jit(device=True)(getattr(schemes, scheme).py_func)
    number = dtype.type
    zero = number(0)

    @cuda.jit(device=True)
    def at(values, node, index, count, stride, step, periodic):
        """The value ``step`` nodes along an axis; beyond an edge, extrapolated away from zero."""
        target = index + step
        if periodic:
            return values[node + (target % count - index) * stride]
        if target < 0:
            edge, inward, beyond = node - index * stride, node + (1 - index) * stride, -target
        elif target >= count:
            edge = node + (count - 1 - index) * stride
            inward, beyond = edge - stride, target - count + 1
        else:
            return values[node + step * stride]
        v = values[edge]
        slope = abs(v - values[inward]) * number(beyond)
        return v + slope if v > zero else (v - slope if v < zero else v)

    @cuda.jit
    def stage(
        values, base, out, target, constraint, weights, tube, shape, strides, inverse_spacing, periodic,
        entries, offsets, table_strides, axes, inputs, n_control, n_input, control_is_ball, disturbance_is_ball,
        look, greatest,
    ):  # fmt: skip
        node: int = cuda.grid(1)  # type: ignore[call-arg]
        if node >= values.size:
            return
        ndim = shape.size
        index = cuda.local.array(MOST_DIMENSIONS, np.int64)
        sums = cuda.local.array(MOST_INPUTS, dtype)
        for k in range(ndim):
            index[k] = node // strides[k] % shape[k]
        for j in range(n_input):
            sums[j] = zero
        rate = zero
        for k in range(ndim):
            i, n, s, p = index[k], shape[k], strides[k], periodic[k]
            mean, jump = point(
                at(values, node, i, n, s, -3, p), at(values, node, i, n, s, -2, p), at(values, node, i, n, s, -1, p),
                values[node],
                at(values, node, i, n, s, 1, p), at(values, node, i, n, s, 2, p), at(values, node, i, n, s, 3, p),
                inverse_spacing[k],
            )  # fmt: skip
            for t in range(offsets.size):
                if t != k and t != ndim + k and (t < 2 * ndim or axes[t - 2 * ndim] != k):
                    continue
                entry = offsets[t]
                for m in range(ndim):
                    entry += table_strides[t, m] * index[m]
                if t == k:
                    rate += entries[entry] * mean
                elif t == ndim + k:
                    rate += entries[entry] * jump
                else:
                    sums[inputs[t - 2 * ndim]] += entries[entry] * mean
        control, disturbance = zero, zero
        for j in range(n_input):
            ball = control_is_ball if j < n_control else disturbance_is_ball
            part = sums[j] * sums[j] if ball else abs(sums[j])
            if j < n_control:
                control += part
            else:
                disturbance += part
        rate += (math.sqrt(disturbance) if disturbance_is_ball else disturbance) - (
            math.sqrt(control) if control_is_ball else control
        )
        if tube > 0:
            rate = max(rate, zero)
        elif tube < 0:
            rate = min(rate, zero)
        new = weights[0] * base[node] + weights[1] * (values[node] + weights[2] * rate)
        if target.size > 1:
            new = min(new, target[node])
        if constraint.size > 1:
            new = max(new, constraint[node])
        out[node] = new
        if look:
            cuda.atomic.max(greatest, 0, abs(rate))

    return stage


class CudaMarch(March):
    """With every array on the device."""

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
        if not cuda.is_available():
            raise ValueError("device=cuda needs a CUDA card and driver; take device=cpu.")
        self._grid, self._dtype = grid, dtype
        both = constraint is not None and target is not None
        none = np.zeros(1, dtype)

        def on_device(array: Any, kind: Any = dtype) -> Any:
            return cuda.to_device(np.ascontiguousarray(array, dtype=kind))

        stages = [cuda.device_array(grid.size, dtype) for _ in range(2 if scheme.time == 3 else 1)]
        super().__init__(on_device(initial_values(constraint, target).ravel()), stages, scheme.time)
        bounds = [on_device(each.ravel() if both and each is not None else none) for each in (target, constraint)]
        entries, axes, inputs = zip(*coefficients.inputs) if coefficients.inputs else ((), (), ())
        tables = pack([*coefficients.drift, *coefficients.dissipation, *entries], grid, dtype)
        n_control = 0 if system.control is None else system.control.size
        n_input = n_control + (0 if system.disturbance is None else system.disturbance.size)
        if n_input > MOST_INPUTS:
            raise ValueError(f"device=cuda takes at most {MOST_INPUTS} inputs; system {system.name} has {n_input}.")
        strides = [math.prod(grid.shape[k + 1 :]) for k in range(grid.ndim)]
        self._greatest = on_device(none)
        self._before = (bounds[0], bounds[1])
        self._after = (
            tube_direction(constraint, target, kind),
            on_device(grid.shape, np.int64), on_device(strides, np.int64), on_device(1 / np.array(grid.spacing)),
            on_device(grid.wraps, np.bool_), on_device(tables.entries), on_device(tables.offsets, np.int64),
            on_device(tables.strides, np.int64), on_device(axes or [0], np.int64), on_device(inputs or [0], np.int64),
            n_control, n_input, isinstance(system.control, Ball), isinstance(system.disturbance, Ball),
        )  # fmt: skip
        self._kernel = _stage_for(scheme.space, dtype)[-(-grid.size // THREADS), THREADS]
        self._rate, self._steps, self._look = np.inf, 0, False

    def step(self, dt: float) -> float:
        """One Runge-Kutta step; the greatest |dV/dt| is that of the last look, one in 16 steps."""
        self._look = self._steps % LOOK_EVERY == 0
        self._steps += 1
        return super().step(dt)

    def _stage(self, now: Any, base: Any, out: Any, old: float, new: float, dt: float) -> float:
        look, self._look = self._look, False  # in the first stage of a step
        if look:
            self._greatest.copy_to_device(np.zeros(1, self._dtype))
        numbers = tuple(self._dtype.type(each) for each in (old, new, dt))
        self._kernel(now, base, out, *self._before, numbers, *self._after, look, self._greatest)
        if look:
            self._rate = float(self._greatest.copy_to_host()[0])
        return self._rate

    def values(self) -> NDArray[Any]:
        """A copy of the values, (n_1, ..., n_d), on the host."""
        return self._values.copy_to_host().reshape(self._grid.shape)
