"""Grid: the nodes of a box in state space, 1 to 6 dimensions, some axes periodic; and the memory that work needs."""

import math
import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

MOST_DIMENSIONS = 6
PRECISIONS = ("float32", "float64")


@dataclass(frozen=True)
class Grid:
    """Nodes of a box: ``linspace(low, high, n)`` along each axis; a periodic axis leaves ``high`` out, it is ``low``.

    Args:
        low, high: (d,) corners of the box, in the units of the states; along a periodic axis, high - low is the period.
        shape: (d,) nodes along each axis, at least 2; 4 along a periodic one.
        periodic: axes that wrap around, such as a heading's. A heading that is not named here is a line like any other:
            what turns beyond its ends is out of the box, where values are extrapolated (hamilton_jacobi) or those of
            the edge (discounted), so that its values are right only away from the ends.
    Raises: ValueError for sizes that differ, more than 6 axes, or a box without extent.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    shape: tuple[int, ...]
    periodic: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        # Lists and arrays are welcome; what is kept is plain and hashable.
        object.__setattr__(self, "low", tuple(float(value) for value in self.low))
        object.__setattr__(self, "high", tuple(float(value) for value in self.high))
        object.__setattr__(self, "shape", tuple(int(value) for value in self.shape))
        object.__setattr__(self, "periodic", tuple(sorted(int(axis) for axis in self.periodic)))
        sizes = (len(self.low), len(self.high), len(self.shape))
        if len(set(sizes)) != 1 or not 1 <= sizes[0] <= MOST_DIMENSIONS:
            raise ValueError(
                f"grid: low, high and shape must have one entry per state, 1 to {MOST_DIMENSIONS} of them; got {sizes}."
            )
        for axis in self.periodic:
            if not 0 <= axis < self.ndim:
                raise ValueError(f"grid: periodic axis {axis} does not exist; allowed: 0 to {self.ndim - 1}.")
        for axis, (low, high, nodes) in enumerate(zip(self.low, self.high, self.shape)):
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"grid: axis {axis} needs finite low < high; got {low} and {high}.")
            least = 4 if axis in self.periodic else 2
            if nodes < least:
                raise ValueError(f"grid: axis {axis} needs at least {least} nodes; got {nodes}.")

    @property
    def ndim(self) -> int:
        """Number of axes d."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of nodes."""
        return math.prod(self.shape)

    @cached_property
    def spacing(self) -> tuple[float, ...]:
        """(d,) distance between neighbours along each axis, in the units of the states."""
        return tuple(
            (high - low) / (nodes if axis in self.periodic else nodes - 1)
            for axis, (low, high, nodes) in enumerate(zip(self.low, self.high, self.shape))
        )

    @cached_property
    def axes(self) -> tuple[NDArray[np.float64], ...]:
        """The nodes along each axis, (n_k,) each."""
        return tuple(
            np.linspace(low, high, nodes, endpoint=axis not in self.periodic)
            for axis, (low, high, nodes) in enumerate(zip(self.low, self.high, self.shape))
        )

    @cached_property
    def wraps(self) -> NDArray[np.bool_]:
        """(d,) whether each axis is periodic."""
        return np.isin(np.arange(self.ndim), self.periodic)

    def open_mesh(self) -> tuple[NDArray[np.float64], ...]:
        """The axes as arrays that broadcast to the grid: the k-th has n_k nodes along axis k and 1 along the others."""
        return tuple(np.ix_(*self.axes))

    def states(self) -> NDArray[np.float64]:
        """All nodes (n_1, ..., n_d, d). Large: meant for small grids and for tests."""
        return np.stack(np.broadcast_arrays(*self.open_mesh()), axis=-1)

    def evaluate(self, function: Any, name: str = "the function") -> NDArray[np.float64]:
        """A function of the states, such as h, at every node.

        Args:
            function: ``function(x_1, ..., x_d)`` on arrays that broadcast together.
            name: what the function is, for messages.
        Returns: (n_1, ..., n_d).
        Raises: ValueError if it has another shape or is not finite somewhere, naming the first such state.
        """
        values = np.asarray(function(*self.open_mesh()), dtype=np.float64)
        try:
            values = np.broadcast_to(values, self.shape)
        except ValueError:
            raise ValueError(f"{name} has shape {values.shape} on a grid of shape {self.shape}.") from None
        if not np.isfinite(values).all():
            at = np.unravel_index(int(np.argmin(np.isfinite(values))), self.shape)
            state = [float(axis[index]) for axis, index in zip(self.axes, at)]
            raise ValueError(f"{name} is {values[at]} at state {state}; it must be finite at every node of the grid.")
        return values

    def nodes_of(self, states: ArrayLike) -> NDArray[np.float64]:
        """States (B, d) in units of nodes, (B, d): 0 at ``low``, 1 one spacing above it. Periodic axes are not wrapped.

        Raises: ValueError for another shape.
        """
        array = np.asarray(states, dtype=np.float64)
        if array.ndim != 2 or array.shape[1] != self.ndim:
            raise ValueError(f"states must have shape (B, {self.ndim}); got {array.shape}.")
        return (array - np.asarray(self.low)) / np.asarray(self.spacing)

    def contains(self, states: ArrayLike) -> NDArray[np.bool_]:
        """Whether states (B, d) lie in the box, (B,); along periodic axes everything does."""
        nodes = self.nodes_of(states)
        last = np.asarray(self.shape) - 1.0
        inside = (nodes >= -1e-9) & (nodes <= last + 1e-9)
        inside[:, list(self.periodic)] = np.isfinite(nodes[:, list(self.periodic)])
        return np.asarray(inside.all(axis=1))


def precision(dtype: Any) -> np.dtype[Any]:
    """The floating type that kernels compute in. Raises: ValueError for another than float32 and float64."""
    name = np.dtype(dtype).name
    if name not in PRECISIONS:
        raise ValueError(f"dtype must be one of {', '.join(PRECISIONS)}; got {name}.")
    return np.dtype(dtype)


def check_memory(needed: int, purpose: str, available: int | None = None) -> None:
    """Refuse work that does not fit, before anything is allocated.

    Args:
        needed: bytes.
        purpose: what needs them, for the message.
        available: bytes to be had; None asks the operating system (free memory and caches).
    Raises: MemoryError with both sizes.
    """
    if available is None:
        available = _available_bytes()
    if needed > available:
        raise MemoryError(
            f"{purpose} needs {needed / 2**30:,.1f} GiB, and {available / 2**30:,.1f} GiB are available; "
            "take fewer nodes, or float32."
        )


def _available_bytes() -> int:
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
