"""The problems of benchmarks/reachability.py in hj_reachability's terms (values there are -V: greater is safer)."""

from collections.abc import Callable
from typing import Any

import numpy as np

from saferl.reachability import Grid

ACCURACY = {"weno5": "very_high", "upwind1": "low"}  # with RK3 and with Euler steps


def available() -> bool:
    """Whether hj_reachability (and JAX) can be imported."""
    try:
        import hj_reachability  # noqa: F401
    except ImportError:
        return False
    return True


def _car(states: int) -> Any:
    """Dubins' car (3 states) or the car with speed (4 states)."""
    import hj_reachability as hj
    import jax.numpy as jnp

    inputs = states - 2

    class Car(hj.ControlAndDisturbanceAffineDynamics):
        def __init__(self) -> None:
            box = hj.sets.Box(-jnp.ones(inputs), jnp.ones(inputs))
            nothing = hj.sets.Box(jnp.zeros(1), jnp.zeros(1))
            super().__init__("max", "min", box, nothing)

        def open_loop_dynamics(self, state: Any, time: Any) -> Any:
            speed = 1.0 if states == 3 else state[2]
            still = [0.0] * inputs
            return jnp.array([speed * jnp.cos(state[-1]), speed * jnp.sin(state[-1]), *still])

        def control_jacobian(self, state: Any, time: Any) -> Any:
            return jnp.concatenate([jnp.zeros((2, inputs)), jnp.eye(inputs)])

        def disturbance_jacobian(self, state: Any, time: Any) -> Any:
            return jnp.zeros((states, 1))

    return Car()


def dynamics(system: str) -> Any:
    """hj_reachability's counterpart of a system of saferl."""
    import hj_reachability as hj

    return hj.systems.Air3d() if system == "air3d" else _car({"dubins_car": 3, "car4d": 4}[system])


def solver(system: str, grid: Grid, h: np.ndarray, scheme: str) -> Callable[[float], np.ndarray]:
    """A function of the horizon (s): the tube's V in saferl's sign; compiled at the first call."""
    import hj_reachability as hj
    import jax.numpy as jnp

    box = hj.sets.Box(np.array(grid.low, np.float32), np.array(grid.high, np.float32))
    theirs = hj.Grid.from_lattice_parameters_and_boundary_conditions(box, grid.shape, periodic_dims=grid.periodic)
    settings = hj.SolverSettings.with_accuracy(
        ACCURACY[scheme], hamiltonian_postprocessor=hj.solver.backwards_reachable_tube
    )
    model, start = dynamics(system), jnp.asarray(-h, jnp.float32)

    def tube(horizon: float) -> np.ndarray:
        return -np.asarray(hj.step(settings, model, theirs, 0.0, start, -horizon, progress_bar=False))

    return tube
