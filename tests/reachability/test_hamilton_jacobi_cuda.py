"""The CUDA march against the CPU's, in Numba's simulator where there is no card."""

import pytest

from tests.reachability.on_cuda import printed_by

PROBLEMS = """
import json, numpy as np
from saferl.reachability import SYSTEMS, Ball, Box, Grid, System
from saferl.reachability.hamilton_jacobi import Scheme, solve

walker = System(name="walker", states=("x", "y"), drift=lambda x, y: (0.2, 0.1 * x),
                control_matrix=((1, 0), (0, 1)), control=Ball((0, 0), 1.0),
                disturbance_matrix=((1,), (0,)), disturbance=Box(-0.3, 0.4))
car = Grid((-2, -2, -np.pi), (2, 2, np.pi), (7, 6, 8), (2,))
plane = Grid((-1, -1), (1, 1), (9, 8))
disc = lambda x, y, *rest: 0.7 - np.hypot(x, y)
cases = {
    "upwind1": (SYSTEMS["dubins_car"](), car, dict(constraint=disc, scheme=Scheme(space="upwind1", time=1))),
    "eno2": (SYSTEMS["air3d"](), car, dict(constraint=disc, scheme=Scheme(space="eno2", time=2), horizon=0.02)),
    "eno3": (SYSTEMS["dubins_car"](), car, dict(constraint=disc, scheme=Scheme(space="eno3", time=2))),
    "weno3": (walker, plane, dict(target=lambda x, y: np.hypot(x, y) - 0.3, scheme=Scheme(space="weno3"))),
    "weno5": (walker, plane, dict(target=lambda x, y: np.hypot(x + 0.6, y) - 0.3, constraint=disc)),
    "set": (walker, plane, dict(target=disc, kind="set", scheme=Scheme(dissipation="global"))),
}
found = {}
for name, (system, grid, settings) in cases.items():
    settings = dict(horizon=0.2, dtype="float64") | settings
    on_cpu = solve(system, grid, **settings)
    on_device = solve(system, grid, device="cuda", **settings)
    start = solve(system, grid, **{**settings, "horizon": 1e-9})
    moved = float(np.abs(on_cpu.values - start.values).max())
    found[name] = (float(np.abs(on_cpu.values - on_device.values).max()), moved, on_device.facts["device"])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def differences():
    return printed_by(PROBLEMS)


@pytest.mark.parametrize("name", ["upwind1", "eno2", "eno3", "weno3", "weno5", "set"])
def test_device_agrees_with_cpu_to_rounding(differences, name):
    difference, moved, device = differences[name]
    assert device == "cuda"
    assert moved > 1e-3
    assert difference < 1e-10


def test_absent_card_is_named():
    from numba import cuda

    from saferl.reachability import SYSTEMS, Grid
    from saferl.reachability.hamilton_jacobi import solve

    if cuda.is_available():
        pytest.skip("there is a card")
    with pytest.raises(ValueError, match="needs a CUDA card and driver; take device=cpu"):
        solve(
            SYSTEMS["double_integrator"](), Grid((-1, -1), (1, 1), (5, 5)), horizon=1, constraint=lambda x, v: x,
            device="cuda",
        )  # fmt: skip
