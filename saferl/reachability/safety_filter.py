"""SafetyFilter: let a nominal control pass while the state stays safe, otherwise take the least restrictive safe one.

With V the value of a system (V <= 0 safe), W = V + threshold and x' the state a time step later under the worst
sampled disturbance, a control is safe at x if

    switch   W(x') <= 0
    blend    W(x') <= (1 - rate dt) W(x)                         Agrawal and Sreenath (2017), equation 21
    cbf      grad V . (f + G u + H d) <= -rate W(x), d worst     Ames et al. (2017), equation 34; and W(x') <= 0

and the filter takes, of the safe controls,

    switch   of the samples and the control along which V falls fastest, the one nearest to the nominal control
    blend    of the mixtures of the nominal control and the safest sample, the one nearest to the nominal control
    cbf      the nearest one of all, by a quadratic program (ProxQP); where no control meets the inequality, the safest
             sample, and where the program's answer fails the exact step W(x') <= 0, what switch takes

Where no control is safe, as where W(x) > 0, each takes the sample with the least V(x'): it still avoids a violation if
V(x) <= 0, and otherwise makes it least bad. ``switch`` alters nothing until the last moment, the other two let the
state approach the boundary W = 0 no faster than exponentially.
"""

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saferl.reachability.system import Array, Ball, Box
from saferl.reachability.value import Value

MODES = ("switch", "blend", "cbf")
MIXTURES = 16  # of nominal and safe control that blend looks at first
BISECTIONS = 6  # between two of them: shares are found to 1/1024
BLOCK = 4096  # states whose candidates are looked at together: 50 MB for 25 controls of a 4D system
TIE = 1e-9  # values this close are the same one


@dataclass
class Counts:
    """What a filter has done since it was made, or since ``clear``."""

    states: int = 0  # filtered
    interventions: int = 0  # states whose control was replaced
    outside: int = 0  # states beyond the box of the value, where the nearest point of the box counts
    unsafe: int = 0  # states from which no control was safe, so that the one with the least next value was taken

    def clear(self) -> None:
        """Back to zero."""
        for field in fields(self):
            setattr(self, field.name, 0)


class SafetyFilter:
    """Filters batches of nominal controls by a value.

    States beyond the box of the value are filtered as the nearest state of the box, which promises nothing: choose the
    box so that the system stays inside, or watch ``counts.outside``. A value that was computed with a discount below 1
    hides unsafe states (``discounted.discount_bias``) and needs a threshold.

    Args:
        value: with its system, which must have a control.
        dt: s, for how long a control is held: the time step of the environment or of the robot.
        mode: switch, blend or cbf.
        threshold: >= 0, in the unit of V: what V + threshold <= 0 leaves for errors of the grid.
        rate: 1/s, of blend and cbf: how much of W the state may use up in a second; 1/dt at most, where blend's
            condition is switch's.
        controls, disturbances: samples along each input that stand for its set.
    Attributes:
        counts: what was done so far.
    Raises: ValueError for arguments outside these; ModuleNotFoundError if cbf has no solver.
    """

    def __init__(
        self,
        value: Value,
        *,
        dt: float,
        mode: str = "switch",
        threshold: float = 0.0,
        rate: float = 5.0,
        controls: int = 5,
        disturbances: int = 3,
    ) -> None:
        _check(value, dt, mode, threshold, rate, controls, disturbances)
        assert value.system is not None
        assert value.system.control is not None
        self.value, self.dt, self.mode, self.threshold, self.rate = value, float(dt), mode, float(threshold), rate
        self.system, self.control = value.system, value.system.control
        self.counts = Counts()
        self._samples = self.control.samples(controls)  # (K, m)
        disturbance = self.system.disturbance
        self._disturbances = np.zeros((1, 0)) if disturbance is None else disturbance.samples(disturbances)  # (E, .)
        self._solver = _proxqp() if mode == "cbf" else None

    def filter(self, states: ArrayLike, nominal: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
        """Safe controls near nominal ones.

        Args:
            states: (B, d).
            nominal: (B, m), in the units of the system's control; what lies outside its set is first drawn in to it,
                which is no intervention.
        Returns: controls (B, m) in the set, and whether they differ from the nominal ones, (B,).
        Raises: ValueError for other shapes or numbers that are not finite.
        """
        x, u = self._batch("states", states, self.system.ndim), self._batch("nominal", nominal, self.control.size)
        if len(x) != len(u):
            raise ValueError(f"states and nominal must have one length; got {len(x)} and {len(u)}.")
        u = _drawn_in(u, self.control)
        actions = u.copy()
        slack = np.minimum(self.value(x) + self.threshold, 0)  # (B,) W, 0 where it is lost
        share = 1 - self.rate * self.dt if self.mode == "blend" else 0.0
        bound = share * slack - self.threshold  # (B,) that V(x') must not pass
        if self._solver is not None:
            actions = self._by_program(x, u, slack)
        unsafe = np.flatnonzero(self._next_values(x, actions[:, None])[:, 0] > bound)
        for rows in np.split(unsafe, range(BLOCK, len(unsafe), BLOCK)):
            if len(rows):
                choose = self._mixture if self.mode == "blend" else self._nearest
                actions[rows] = choose(x[rows], u[rows], bound[rows])
        intervened = (actions != u).any(axis=1)
        self.counts.states += len(x)
        self.counts.interventions += int(intervened.sum())
        self.counts.outside += int((~self.value.grid.contains(x)).sum())
        return actions, intervened

    def safest(self, states: ArrayLike, near: ArrayLike) -> Array:
        """The sampled controls (B, m) with the least next value at states (B, d); of equals, the nearest to ``near``.

        Raises: ValueError for other shapes than (B, d) and (B, m), or numbers that are not finite.
        """
        x, u = self._batch("states", states, self.system.ndim), self._batch("near", near, self.control.size)
        candidates = self._candidates(x)
        after = self._next_values(x, candidates)
        return _nearest_of(candidates, u, after <= after.min(axis=1, keepdims=True) + TIE)

    def _batch(self, name: str, array: ArrayLike, width: int) -> Array:
        batch = np.asarray(array, dtype=np.float64)
        if batch.ndim != 2 or batch.shape[1] != width:
            raise ValueError(f"{name} must have shape (B, {width}) for {self.system.name}; got {batch.shape}.")
        if not np.isfinite(batch).all():
            raise ValueError(f"{name} row {int(np.argmin(np.isfinite(batch).all(axis=1)))} is not finite.")
        return batch

    def _next_values(self, x: Array, controls: Array) -> Array:
        """V (B, K) a time step after states (B, d) under each of controls (B, K, m) and its worst disturbance."""
        shape = (*controls.shape[:2], len(self._disturbances))
        states = [column[:, None, None] for column in x.T]
        u = np.moveaxis(controls, -1, 0)[..., None]  # (m, B, K, 1)
        d = self._disturbances.T[:, None, None, :]  # (., 1, 1, E)
        change = self.system.displacement(states, u, d, self.dt)
        after = np.empty((*shape, len(states)))
        for axis, (state, moved) in enumerate(zip(states, change)):
            after[..., axis] = state + moved
        return self.value(after.reshape(-1, len(states))).reshape(shape).max(axis=2)

    def _candidates(self, x: Array) -> Array:
        """(B, K + 1, m) the samples, and the control along which V falls fastest."""
        samples = np.broadcast_to(self._samples, (len(x), *self._samples.shape))
        return np.concatenate([samples, self.value.safe_control(x)[:, None]], axis=1)

    def _nearest(self, x: Array, u: Array, bound: Array) -> Array:
        candidates = self._candidates(x)
        after = self._next_values(x, candidates)
        # Where nothing is safe, what is within a tie of the least.
        allowed = np.maximum(bound, after.min(axis=1) + TIE)
        self.counts.unsafe += int((after.min(axis=1) > bound).sum())
        return _nearest_of(candidates, u, after <= allowed[:, None])

    def _mixture(self, x: Array, u: Array, bound: Array) -> Array:
        """The safe mixture with the least share of the safest control."""
        step = (self.safest(x, u) - u)[:, None]  # (B, 1, m)
        shares = np.arange(1, MIXTURES + 1) / MIXTURES  # a share of 0 is the nominal control, which was not safe
        safe = self._next_values(x, u[:, None] + shares[:, None] * step) <= bound[:, None]
        self.counts.unsafe += int((~safe.any(axis=1)).sum())
        safe[:, -1] = True  # if nothing is, the safest
        high = shares[np.argmax(safe, axis=1)]
        low = high - 1 / MIXTURES
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            meets = self._next_values(x, u[:, None] + middle[:, None, None] * step)[:, 0] <= bound
            low, high = np.where(meets, low, middle), np.where(meets, middle, high)
        return _drawn_in(u + high[:, None] * step[:, 0], self.control)

    def _by_program(self, x: Array, u: Array, slack: Array) -> Array:
        """The nearest controls that meet cbf's inequality; where there are none, the safest samples."""
        gradient, columns = self.value.gradient(x), x.T
        disturbance = np.zeros((len(x), 0)) if self.system.disturbance is None else self.value.worst_disturbance(x)
        without = self.system.velocity(list(columns), np.zeros((self.control.size, 1)), disturbance.T)
        matrix = self.system.control_at(*columns)
        normal = np.stack([sum(gradient[:, i] * row[j] for i, row in enumerate(matrix)) for j in range(u.shape[1])], 1)
        limit = -self.rate * slack - sum(gradient[:, i] * part for i, part in enumerate(without))  # normal . u <= limit
        reach = (normal * self.control.extreme(-normal)).sum(axis=1)  # the least of normal . u
        actions, broken = u.copy(), (normal * u).sum(axis=1) > limit
        hopeless = broken & (reach > limit)
        if hopeless.any():
            actions[hopeless] = self.safest(x[hopeless], u[hopeless])
        for row in np.flatnonzero(broken & ~hopeless):
            actions[row] = nearest_in_halfspace(self._solver, u[row], normal[row], float(limit[row]), self.control)
        return actions


def nearest_in_halfspace(solver: Any, nominal: Array, normal: Array, limit: float, box: Box | Ball) -> Array:
    """The point u (m,) of a box nearest to ``nominal`` (m,) with normal . u <= limit, where there is one.

    Args:
        solver: ``proxsuite.proxqp``.
        normal: (m,) not zero.
        limit: in the unit of normal . u.
        box: bounds of u.
    Source: Bambade et al., PROX-QP (2022).
    """
    low, high = box.centre - box.radius, box.centre + box.radius
    length = float(np.linalg.norm(normal))
    result = solver.dense.solve(
        np.eye(len(nominal)), -nominal, None, None, normal[None] / length, None, np.array([limit / length]),
        l_box=low, u_box=high, eps_abs=1e-9, eps_rel=0.0, compute_preconditioner=False,
    )  # fmt: skip
    return np.clip(result.x, low, high)


def _nearest_of(candidates: Array, u: Array, allowed: NDArray[np.bool_]) -> Array:
    """Of candidates (B, K, m), the allowed one nearest to u (B, m)."""
    distance = ((candidates - u[:, None]) ** 2).sum(axis=2)
    return candidates[np.arange(len(u)), np.argmin(np.where(allowed, distance, np.inf), axis=1)]


def _drawn_in(u: Array, inputs: Box | Ball) -> Array:
    """The nearest points of the set; points of it stay as they are."""
    if isinstance(inputs, Box):
        return np.clip(u, np.asarray(inputs.low), np.asarray(inputs.high))
    away = u - inputs.centre
    norms = np.linalg.norm(away, axis=1, keepdims=True)
    return np.where(norms > inputs.length, inputs.centre + inputs.length * away / np.where(norms > 0, norms, 1), u)


def _check(value: Value, dt: float, mode: str, threshold: float, rate: float, controls: int, disturbances: int) -> None:
    if value.system is None or value.system.control is None:
        raise ValueError("a safety filter needs a value whose system has a control; see Value(..., system=...).")
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}; got {mode!r}.")
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"dt must be positive and finite; got {dt}.")
    if not (math.isfinite(threshold) and threshold >= 0):
        raise ValueError(f"threshold must be >= 0 and finite; got {threshold}.")
    if mode != "switch" and not 0 < rate <= 1 / dt:
        raise ValueError(f"rate must be above 0 and at most 1/dt = {1 / dt:g}; got {rate}.")
    if controls < 2 or disturbances < 2:
        raise ValueError(f"controls and disturbances must be at least 2; got {controls} and {disturbances}.")
    if mode == "cbf" and not isinstance(value.system.control, Box):
        raise ValueError("mode=cbf needs a control in a box; take mode=switch or mode=blend for a ball.")


def _proxqp() -> Any:
    try:
        import proxsuite
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            'mode=cbf needs ProxQP: pip install "saferl[filter]" brings it; mode=switch and mode=blend do without.'
        ) from None
    return proxsuite.proxqp
