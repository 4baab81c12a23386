"""The CUDA sweeps against the CPU's, in Numba's simulator where there is no card."""

import pytest

from tests.reachability.on_cuda import printed_by

PROBLEMS = """
import json, numpy as np
from saferl.reachability import SYSTEMS, Grid
from saferl.reachability.discounted import solve

disc = lambda x, y, *rest: 0.7 - np.hypot(x, y)
far = lambda x, y, *rest: np.hypot(x - 1, y) - 0.4
car = Grid((-2, -2, -np.pi), (2, 2, np.pi), (7, 6, 8), (2,))
four = Grid((-2, -2, 0, -np.pi), (2, 2, 2, np.pi), (4, 5, 3, 4), (3,))
line = Grid((-2, -2.5), (2, 2.5), (9, 8))
cases = {
    "planes": (SYSTEMS["dubins_car"](), car, dict(constraint=disc)),
    "four": (SYSTEMS["car4d"](), four, dict(constraint=disc, max_sweeps=2)),
    "game": (SYSTEMS["air3d"](), car, dict(constraint=disc, dt=0.05, max_sweeps=2)),
    "expected": (SYSTEMS["air3d"](), car, dict(constraint=disc, dt=0.05, max_sweeps=1, disturbance="expected")),
    "reach": (SYSTEMS["double_integrator"](), line, dict(target=lambda x, v: np.abs(x) - 0.5)),
    "reach-avoid": (SYSTEMS["dubins_car"](), car, dict(constraint=disc, target=far, max_sweeps=3)),
    "cubic": (SYSTEMS["dubins_car"](), car, dict(constraint=disc, interpolation="cubic", max_sweeps=2)),
}
found = {}
for name, (system, grid, settings) in cases.items():
    settings = dict(dt=0.3, discount=0.9, max_sweeps=4, dtype="float64") | settings
    on_cpu = solve(system, grid, **settings)
    on_device = solve(system, grid, device="cuda", **settings)
    start = solve(system, grid, **{**settings, "max_sweeps": 1, "discount": 0.0})
    moved = float(np.abs(on_cpu.values - start.values).max())
    found[name] = (float(np.abs(on_cpu.values - on_device.values).max()), moved, on_device.facts["device"])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def differences():
    return printed_by(PROBLEMS)


@pytest.mark.parametrize("name", ["planes", "four", "game", "expected", "reach", "reach-avoid", "cubic"])
def test_device_agrees_with_cpu_to_rounding(differences, name):
    difference, moved, device = differences[name]
    assert device == "cuda"
    assert moved > 1e-3
    assert difference < 1e-12
