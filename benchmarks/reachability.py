"""Hamilton-Jacobi and Bellman values by saferl against hj_reachability (JAX): seconds, errors, memory, ratios.

Each solver runs in a process of its own on two threads, in turn, on the same problem with the same scheme; the first
call (compilation, or reading compiled code) is timed apart. Errors are to closed forms, to Air3D's programmed max-min
and, for the car with speed, to the best of 7,776 control sequences at 300 states; near the zero level (|V| < 0.25;
Air3D: < 1). Memory is the peak above what the process held after a small problem of the same kind, in arrays of the
grid's size.

    pip install hj_reachability; python -m benchmarks.reachability [--cases dubins air3d ...] [--rounds 2]
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import reachability_peer, reachability_references
from saferl.reachability import SYSTEMS, Grid
from saferl.reachability.hamilton_jacobi import Scheme, solve

PI = float(np.pi)
SCHEMES = {"weno5": Scheme(), "upwind1": Scheme(space="upwind1", time=1)}
AIMS = {("dubins", "weno5"): 10, ("air3d", "weno5"): 10, ("air3d_fine", "weno5"): 10, ("car4d_41", "weno5"): 20}


@dataclass(frozen=True)
class Case:
    """One problem: avoid a disc."""

    system: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    shape: tuple[int, ...]
    horizon: float
    radius: float = 1.0
    band: float = 0.25
    heavy: bool = False  # minutes for the peer: only when named

    def grid(self, shape: tuple[int, ...] | None = None) -> Grid:
        """Its grid, or a coarser one."""
        return Grid(self.low, self.high, shape or self.shape, (len(self.shape) - 1,))

    def constraint(self, x: Any, y: Any, *rest: Any) -> Any:
        """Distance into the disc, h."""
        return self.radius - np.hypot(x, y)


CASES = {
    "dubins": Case("dubins_car", (-3, -3, -PI), (3, 3, PI), (101, 101, 100), 2.0),
    "air3d": Case("air3d", (-6, -10, 0), (20, 10, 2 * PI), (51, 40, 50), 2.8, 5.0, 1.0),
    "car4d_31": Case("car4d", (-3, -3, 0, -PI), (3, 3, 2, PI), (31, 31, 31, 30), 1.0),
    "car4d_41": Case("car4d", (-3, -3, 0, -PI), (3, 3, 2, PI), (41, 41, 41, 40), 1.0),
    "air3d_fine": Case("air3d", (-6, -10, 0), (20, 10, 2 * PI), (101, 101, 100), 2.8, 5.0, 1.0, heavy=True),
}


def errors(case: Case, values: np.ndarray) -> dict[str, float]:
    """Mean and 99th percentile of |V - reference| near the zero level; states on the wrong side per unsafe state."""
    grid = case.grid()
    if case.system == "car4d":
        return _errors_at_probes(case, values)
    states = grid.states().reshape(-1, grid.ndim)
    inside = np.ones(len(states), bool)
    if case.system == "air3d":  # what flows in from the edges of the box is not the solver's fault
        inside = (states[:, 0] > -5) & (states[:, 0] < 19) & (np.abs(states[:, 1]) < 9)
        exact = reachability_references.air3d(states, case.horizon)
    else:
        exact = reachability_references.dubins_car(states)
    return _summary(values.ravel()[inside], exact[inside], case.band)


def _errors_at_probes(case: Case, values: np.ndarray) -> dict[str, float]:
    """At nodes near the zero level."""
    grid = case.grid()
    near = np.argwhere(np.abs(values) < case.band)
    nodes = near[np.random.default_rng(0).choice(len(near), 300, replace=False)]
    states = np.stack([grid.axes[k][nodes[:, k]] for k in range(grid.ndim)], axis=1)
    return _summary(values[tuple(nodes.T)], reachability_references.car4d(states, case.horizon), case.band)


def _summary(found: np.ndarray, exact: np.ndarray, band: float) -> dict[str, float]:
    near = np.abs(exact) < band
    error = np.abs(found - exact)[near]
    wrong = np.mean((found > 0) != (exact > 0)) / max(np.mean(exact > 0), 1e-9)
    return {"mean": float(error.mean()), "p99": float(np.quantile(error, 0.99)), "wrong": float(wrong)}


def saferl_solver(case: Case, grid: Grid, scheme: str) -> Callable[[float], np.ndarray]:
    """A function of the horizon."""
    system = SYSTEMS[case.system]()

    def tube(horizon: float) -> np.ndarray:
        return solve(system, grid, horizon=horizon, constraint=case.constraint, scheme=SCHEMES[scheme]).values

    return tube


def peer_solver(case: Case, grid: Grid, scheme: str) -> Callable[[float], np.ndarray]:
    """The same from hj_reachability."""
    h = np.broadcast_to(case.constraint(*grid.open_mesh()), grid.shape)
    return reachability_peer.solver(case.system, grid, h, scheme)


def measured(side: str, name: str, scheme: str) -> dict[str, float]:
    """One run, in this process."""
    case, make = CASES[name], {"saferl": saferl_solver, "peer": peer_solver}[side]
    small = tuple(max(8, n // 6) for n in case.shape)
    make(case, case.grid(small), scheme)(0.1)
    gc.collect()
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    tube = make(case, case.grid(), scheme)
    first = time.perf_counter()
    tube(1e-3)
    first = time.perf_counter() - first
    wall, processor = time.perf_counter(), time.process_time()
    values = tube(case.horizon)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    arrays = (_status("VmHWM") - before) / (values.size * 4)
    return {"first": first, "wall": wall, "processor": processor, "arrays": arrays, **errors(case, values)}


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {key} in /proc/self/status")


def in_a_process(side: str, name: str, scheme: str) -> dict[str, float]:
    """The same in a process of its own with two threads."""
    environment = {
        **os.environ, "NUMBA_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE", "JAX_PLATFORMS": "cpu",
    }  # fmt: skip
    command = [sys.executable, "-m", "benchmarks.reachability", "--one", side, name, scheme]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=[name for name in CASES if not CASES[name].heavy], choices=CASES)
    parser.add_argument("--schemes", nargs="+", default=list(SCHEMES), choices=SCHEMES)
    parser.add_argument("--rounds", type=int, default=2, help="turns of each solver; the best one counts")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measured(*arguments.one)))
        return
    sides = ["saferl", "peer"] if reachability_peer.available() else ["saferl"]
    if len(sides) == 1:
        print("hj_reachability is not installed: no ratios")
    print(f"{'case':11} {'scheme':8} {'solver':7} {'first s':>8} {'wall s':>8} {'CPU s':>8} {'arrays':>7}"
          f" {'mean error':>10} {'p99':>8} {'wrong side':>10}")  # fmt: skip
    ratios = []
    for name in arguments.cases:
        for scheme in arguments.schemes:
            best: dict[str, dict[str, float]] = {}
            for _ in range(arguments.rounds):
                for side in sides:
                    run = in_a_process(side, name, scheme)
                    if side not in best or run["processor"] < best[side]["processor"]:
                        best[side] = run
            for side, run in best.items():
                cells = [f"{run[key]:8.2f}" for key in ("first", "wall", "processor")] + [f"{run['arrays']:7.1f}"]
                cells += [f"{run['mean']:10.5f}", f"{run['p99']:8.4f}", f"{run['wrong']:10.2%}"]
                print(f"{name:11} {scheme:8} {side:7}", *cells, flush=True)
            if len(best) == 2:
                processor, wall = (best["peer"][key] / best["saferl"][key] for key in ("processor", "wall"))
                aim = 40 if scheme == "upwind1" else AIMS.get((name, scheme), 10)
                ratios.append(f"{name} {scheme}: {processor:.1f} x in CPU-seconds, {wall:.1f} x in wall (aim {aim})")
    print("\n".join(ratios))


if __name__ == "__main__":
    main()
