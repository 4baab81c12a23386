"""Multilinear interpolation of values on a grid at any states, and its gradient."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from saferl.reachability.grid import Grid


def interpolated(values: NDArray[Any], grid: Grid, nodes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values at points, multilinear between the nodes.

    Args:
        values: (n_1, ..., n_d).
        grid: their grid.
        nodes: (B, d) points in units of nodes, see ``Grid.nodes_of``; beyond the box the nearest point of it counts.
    Returns: (B,); NaN where a point is not finite.
    """
    out = np.empty(len(nodes))
    _interpolate(np.ravel(values), np.array(grid.shape), grid.wraps, np.ascontiguousarray(nodes, np.float64), out)
    return out


def interpolated_gradient(values: NDArray[Any], grid: Grid, nodes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gradient (B, d) at points: central differences over one spacing to either side, interpolated like the values.

    At the edge of the box the difference is one-sided.
    """
    shape, spacing = np.array(grid.shape), np.array(grid.spacing)
    out = np.empty(nodes.shape)
    for axis in range(grid.ndim):
        ends = []
        for step in (-1.0, 1.0):
            moved = np.array(nodes, dtype=np.float64)
            moved[:, axis] += step
            if axis not in grid.periodic:
                moved[:, axis] = np.clip(moved[:, axis], 0, shape[axis] - 1)
            ends.append(moved)
        distance = (ends[1][:, axis] - ends[0][:, axis]) * spacing[axis]
        difference = interpolated(values, grid, ends[1]) - interpolated(values, grid, ends[0])
        out[:, axis] = difference / np.where(distance > 0, distance, np.inf)  # far outside the box nothing changes
    return out


@numba.njit(cache=True, nogil=True)
def _interpolate(values, shape, periodic, nodes, out):
    ndim = shape.size
    low, high, weight = np.empty(ndim, np.int64), np.empty(ndim, np.int64), np.empty(ndim)
    strides = np.ones(ndim, np.int64)
    for k in range(ndim - 2, -1, -1):
        strides[k] = strides[k + 1] * shape[k + 1]
    for point in range(nodes.shape[0]):
        known = True
        for k in range(ndim):
            at = nodes[point, k]
            if not np.isfinite(at):
                known = False
                break
            last = shape[k] - 1
            if not periodic[k]:
                at = min(max(at, 0.0), float(last))
            floor = int(np.floor(at))
            if not periodic[k]:
                floor = min(floor, last - 1)
            weight[k] = at - floor
            low[k] = floor % shape[k] * strides[k]
            high[k] = (floor + 1) % shape[k] * strides[k]
        if not known:
            out[point] = np.nan
            continue
        total = 0.0
        for corner in range(1 << ndim):
            share, index = 1.0, 0
            for k in range(ndim):
                if corner >> k & 1:
                    share *= weight[k]
                    index += high[k]
                else:
                    share *= 1 - weight[k]
                    index += low[k]
            if share != 0:  # also keeps a node that does not matter from spoiling the sum
                total += share * values[index]
        out[point] = total
