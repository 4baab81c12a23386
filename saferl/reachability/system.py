"""System: dx/dt = f(x) + G(x) u + H(x) d, with bounded control u and disturbance d, as functions that broadcast."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Protocol

import numpy as np
from numba.core.dispatcher import Dispatcher
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Matrix = Callable[..., Any] | Sequence[Sequence[Any]] | None
Components = tuple[Array, ...]  # one array per state, each as large as the states that it depends on


class InputSet(Protocol):
    """A set of inputs: a box or a ball."""

    @property
    def size(self) -> int:
        """Number of inputs m."""
        ...

    @property
    def centre(self) -> Array:
        """(m,) the middle of the set."""
        ...

    @property
    def radius(self) -> Array:
        """(m,) half the extent along each input."""
        ...

    def samples(self, per_axis: int) -> Array:
        """(K, m) inputs that stand for the set where it must be finite."""
        ...

    def extreme(self, direction: Array) -> Array:
        """(B, m) the inputs of the set that lie farthest along directions (B, m)."""
        ...


@dataclass(frozen=True)
class Box:
    """Inputs between ``low`` and ``high``, (m,) each or numbers for one input; equal bounds fix an input.

    Raises: ValueError for bounds of different length, not finite, or low > high.
    """

    low: ArrayLike
    high: ArrayLike

    def __post_init__(self) -> None:
        low, high = np.atleast_1d(np.asarray(self.low, float)), np.atleast_1d(np.asarray(self.high, float))
        if low.shape != high.shape or low.ndim != 1 or not np.isfinite(low + high).all() or (low > high).any():
            raise ValueError(
                f"an input box needs finite low <= high of one length; got {self.low!r} and {self.high!r}."
            )
        object.__setattr__(self, "low", tuple(low.tolist()))
        object.__setattr__(self, "high", tuple(high.tolist()))

    @property
    def size(self) -> int:
        """Number of inputs m."""
        return len(np.asarray(self.low))

    @property
    def centre(self) -> Array:
        """(m,) middle of the box."""
        return (np.asarray(self.high) + np.asarray(self.low)) / 2

    @property
    def radius(self) -> Array:
        """(m,) half the widths."""
        return (np.asarray(self.high) - np.asarray(self.low)) / 2

    def samples(self, per_axis: int) -> Array:
        """(K, m) a lattice with ``per_axis`` inputs along each axis, corners included; one where the width is zero."""
        axes = [
            np.linspace(low, high, per_axis) if low < high else np.array([low])
            for low, high in zip(np.asarray(self.low), np.asarray(self.high))
        ]
        return np.array(list(product(*axes)))

    def extreme(self, direction: Array) -> Array:
        """(B, m) the corners farthest along directions (B, m); the centre along a direction of zero."""
        return self.centre + np.sign(direction) * self.radius


@dataclass(frozen=True)
class Ball:
    """Inputs within ``length`` of ``middle`` (m,), in the Euclidean norm.

    Raises: ValueError for a negative length or a middle that is not finite.
    """

    middle: ArrayLike
    length: float

    def __post_init__(self) -> None:
        middle = np.atleast_1d(np.asarray(self.middle, float))
        if middle.ndim != 1 or not np.isfinite(middle).all() or not self.length >= 0:
            raise ValueError(
                f"an input ball needs a finite middle and a length >= 0; got {self.middle!r}, {self.length}."
            )
        object.__setattr__(self, "middle", tuple(middle.tolist()))

    @property
    def size(self) -> int:
        """Number of inputs m."""
        return len(np.asarray(self.middle))

    @property
    def centre(self) -> Array:
        """(m,) the middle."""
        return np.asarray(self.middle, float)

    @property
    def radius(self) -> Array:
        """(m,) the length, for each input."""
        return np.full(self.size, float(self.length))

    def samples(self, per_axis: int) -> Array:
        """(K, m) the middle and points on the sphere: a lattice of the cube, drawn in to the sphere."""
        if self.length == 0:
            return self.centre[None]
        lattice = np.array(list(product(np.linspace(-1, 1, max(per_axis, 3)), repeat=self.size)))
        norms = np.linalg.norm(lattice, axis=1, keepdims=True)
        on_sphere = np.unique(np.round(lattice[norms[:, 0] > 0] / norms[norms[:, 0] > 0], 12), axis=0)
        return self.centre + self.length * np.concatenate([np.zeros((1, self.size)), on_sphere])

    def extreme(self, direction: Array) -> Array:
        """(B, m) the points of the sphere along directions (B, m); the middle along a direction of zero."""
        norms = np.linalg.norm(direction, axis=1, keepdims=True)
        return self.centre + self.length * direction / np.where(norms > 0, norms, 1)


@dataclass(frozen=True, kw_only=True)
class System:
    """A control system with disturbance: dx/dt = drift(x) + control_matrix(x) u + disturbance_matrix(x) d.

    The functions take one argument per state and are written with NumPy (``np.cos``, ``np.where``), so that they
    broadcast: what they return is as large as the states that it depends on, and kernels store it once per those and
    not once per node. A Numba function of numbers (``numba.njit``) is taken as well and evaluated node by node.

    Args:
        name: for messages and files.
        states: (d,) names with units, such as "heading [rad]".
        drift: ``drift(x_1, ..., x_d)``, d components of dx/dt without inputs.
        control_matrix: d rows of m entries, or a function of the states that returns them; None for no control.
        control: the set of u, m inputs; they minimise the value.
        disturbance_matrix, disturbance: the same for d; it maximises the value.
        flow: ``flow(states, control, disturbance, dt)``, d arrays: the exact change of the states over dt under
            constant inputs; None integrates with fourth-order Runge-Kutta.
        control_names: (m,) names with units.
    Raises: ValueError where the parts do not fit together.
    """

    name: str
    states: tuple[str, ...]
    drift: Callable[..., Sequence[Any]]
    control_matrix: Matrix = None
    control: Box | Ball | None = None
    disturbance_matrix: Matrix = None
    disturbance: Box | Ball | None = None
    flow: Callable[..., Sequence[Any]] | None = None
    control_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for matrix, inputs, what in (
            (self.control_matrix, self.control, "control"),
            (self.disturbance_matrix, self.disturbance, "disturbance"),
        ):
            if (matrix is None) != (inputs is None):
                raise ValueError(f"system {self.name}: give {what} and {what}_matrix together, or neither.")
        middle = [np.zeros(1)] * self.ndim
        self.drift_at(*middle)
        self.control_at(*middle)
        self.disturbance_at(*middle)

    @property
    def ndim(self) -> int:
        """Number of states d."""
        return len(self.states)

    def drift_at(self, *states: Array) -> Components:
        """f(x): d arrays, each broadcastable to the states'."""
        return self._row("drift", self.drift, states, self.ndim)

    def control_at(self, *states: Array) -> tuple[Components, ...]:
        """G(x): d rows of m arrays; rows without entries where there is no control."""
        return self._matrix("control_matrix", self.control_matrix, self.control, states)

    def disturbance_at(self, *states: Array) -> tuple[Components, ...]:
        """H(x): d rows of m arrays; rows without entries where there is no disturbance."""
        return self._matrix("disturbance_matrix", self.disturbance_matrix, self.disturbance, states)

    def velocity(self, states: Sequence[Array], control: ArrayLike = (), disturbance: ArrayLike = ()) -> Components:
        """dx/dt, d arrays, at states (d arrays that broadcast), with inputs whose first axis counts them."""
        result = list(self.drift_at(*states))
        for rows, inputs in (
            (self.control_at(*states), np.asarray(control, float)),
            (self.disturbance_at(*states), np.asarray(disturbance, float)),
        ):
            for axis, row in enumerate(rows):
                for entry, value in zip(row, inputs):
                    if np.ndim(entry) or entry != 0:
                        result[axis] = result[axis] + entry * value
        return tuple(np.asarray(each) for each in result)

    def displacement(
        self, states: Sequence[Array], control: ArrayLike, disturbance: ArrayLike, dt: float
    ) -> Components:
        """x(dt) - x(0), d arrays, under constant inputs: the exact flow where the system has one, else one RK4 step."""
        if self.flow is not None:
            change = self.flow(tuple(states), np.asarray(control, float), np.asarray(disturbance, float), dt)
            if len(change) != self.ndim:
                raise ValueError(f"system {self.name}: flow returned {len(change)} components for {self.ndim} states.")
            return tuple(np.asarray(each, float) for each in change)
        k1 = self.velocity(states, control, disturbance)
        k2 = self.velocity([x + dt / 2 * k for x, k in zip(states, k1)], control, disturbance)
        k3 = self.velocity([x + dt / 2 * k for x, k in zip(states, k2)], control, disturbance)
        k4 = self.velocity([x + dt * k for x, k in zip(states, k3)], control, disturbance)
        return tuple(dt / 6 * (a + 2 * b + 2 * c + d) for a, b, c, d in zip(k1, k2, k3, k4))

    def _row(self, name: str, function: Any, states: Sequence[Array], length: int) -> Components:
        values = _call(self.name, name, function, states)
        if len(values) != length:
            raise ValueError(f"system {self.name}: {name} must return {length} components; got {len(values)}.")
        return tuple(np.asarray(value, dtype=np.float64) for value in values)

    def _matrix(
        self, name: str, matrix: Any, inputs: InputSet | None, states: Sequence[Array]
    ) -> tuple[Components, ...]:
        if inputs is None:
            return ((),) * self.ndim
        rows = _call(self.name, name, matrix, states) if callable(matrix) else matrix
        if len(rows) != self.ndim or any(len(row) != inputs.size for row in rows):
            lengths = [len(row) for row in rows]
            raise ValueError(
                f"system {self.name}: {name} must have {self.ndim} rows of {inputs.size} entries; got {lengths}."
            )
        return tuple(tuple(np.asarray(entry, dtype=np.float64) for entry in row) for row in rows)


def _call(system: str, name: str, function: Any, states: Sequence[Array]) -> Sequence[Any]:
    """A user's function on arrays; a Numba function of numbers node by node."""
    try:
        if isinstance(function, Dispatcher):
            return _node_by_node(function, states)
        return function(*states)
    except TypeError as error:
        raise ValueError(
            f"system {system}: {name} does not take {len(states)} arrays ({str(error).splitlines()[0]}); write it with "
            "NumPy (np.cos, np.where) so that it broadcasts, or as a numba.njit function of numbers."
        ) from error


def _node_by_node(function: Any, states: Sequence[Array]) -> Any:
    """What a Numba function of numbers returns at each node, with the axes on which it does not depend taken out."""
    columns = [np.ravel(each) for each in np.broadcast_arrays(*states)]
    shape = np.broadcast_shapes(*(np.shape(each) for each in states))
    rows = [function(*row) for row in zip(*(column.tolist() for column in columns))]
    table = np.asarray(rows, dtype=np.float64)  # (N, d) or (N, d, m)
    table = table.reshape(*shape, *table.shape[1:])
    if table.ndim == len(shape) + 1:
        return [_collapsed(table[..., i], len(shape)) for i in range(table.shape[-1])]
    return [[_collapsed(table[..., i, j], len(shape)) for j in range(table.shape[-1])] for i in range(table.shape[-2])]


def _collapsed(values: Array, ndim: int) -> Array:
    for axis in range(ndim):
        first = values.take([0], axis=axis)
        if (values == first).all():
            values = first
    return values
