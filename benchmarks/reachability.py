"""Hamilton-Jacobi and Bellman values by saferl against hj_reachability (JAX): seconds, errors, memory, ratios.

Each solver runs in a process of its own on two threads, in turn, on the same problem with the same scheme; the first
call (compilation, or reading compiled code) is timed apart. Errors are to closed forms, to Air3D's programmed max-min
and, for the car with speed, to the best of 7,776 control sequences at 300 states; near the zero level (|V| < 0.25;
Air3D: < 1). Memory is the peak above what the process held after a small problem of the same kind, in arrays of the
grid's size. Cases in "_to" are semi-Lagrangian steps with clipped cubics, compared with the peer's WENO5 solution of at
most the same accuracy. Then sweeps of a grid of 61^4 nodes, and growth with the number of nodes.

    pip install hj_reachability; python -m benchmarks.reachability [--cases dubins air3d ...] [--rounds 2]
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import reachability_peer, reachability_references
from saferl.reachability import SYSTEMS, Grid, discounted, hamilton_jacobi
from saferl.reachability.hamilton_jacobi import Scheme

PI = float(np.pi)
SCHEMES = {"weno5": Scheme(), "upwind1": Scheme(space="upwind1", time=1)}
AIMS = {"car4d_41 weno5": 20, "dubins_to cubic": 100, "car4d_to cubic": 20}  # the others: 10, first order 40


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
    peer: str | None = None  # time to accuracy: the case whose WENO5 solution by the peer this competes with
    dt: float = 0.0  # s, of semi-Lagrangian steps

    def grid(self, shape: tuple[int, ...] | None = None) -> Grid:
        """Its grid, or a coarser one."""
        return Grid(self.low, self.high, shape or self.shape, (len(self.shape) - 1,))

    def constraint(self, x: Any, y: Any, *rest: Any) -> Any:
        """Distance into the disc, h."""
        return self.radius - np.hypot(x, y)


CAR = partial(Case, system="car4d", low=(-3, -3, 0, -PI), high=(3, 3, 2, PI), horizon=1.0)
DUBINS = partial(Case, system="dubins_car", low=(-3, -3, -PI), high=(3, 3, PI), horizon=2.0)
GAME = partial(Case, system="air3d", low=(-6, -10, 0), high=(20, 10, 2 * PI), horizon=2.8, radius=5.0, band=1.0)
CASES = {
    "dubins": DUBINS(shape=(101, 101, 100)),
    "air3d": GAME(shape=(51, 40, 50)),
    "car4d_31": CAR(shape=(31, 31, 31, 30)),
    "car4d_41": CAR(shape=(41, 41, 41, 40)),
    "air3d_fine": GAME(shape=(101, 101, 100), heavy=True),
    "dubins_to": DUBINS(shape=(81, 81, 80), dt=2 * PI / 80, peer="dubins"),
    "air3d_to": GAME(shape=(51, 40, 50), dt=4 * PI / 100, peer="air3d"),
    "car4d_to": CAR(shape=(41, 41, 41, 40), dt=0.1, peer="car4d_41"),
}
SWEEPS = {"planes": 15, "nodes": 600}  # ms a sweep of 61^4 nodes with 9 controls on two cores, aimed at


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
        return hamilton_jacobi.solve(
            system, grid, horizon=horizon, constraint=case.constraint, scheme=SCHEMES[scheme]
        ).values

    def steps(horizon: float) -> np.ndarray:
        count = max(1, round(horizon / case.dt))
        return discounted.solve(
            system, grid, dt=horizon / count, discount=1.0, constraint=case.constraint, interpolation="cubic",
            max_sweeps=count, tolerance=1e-9,
        ).values  # fmt: skip

    return steps if scheme == "cubic" else tube


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


def in_a_process(*work: str, **variables: str) -> dict[str, float]:
    """A piece of work in a process of its own with two threads."""
    environment = {
        **os.environ, "NUMBA_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE", "JAX_PLATFORMS": "cpu", **variables,
    }  # fmt: skip
    command = [sys.executable, "-m", "benchmarks.reachability", "--one", *work]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def sweep_times(kernel: str) -> dict[str, float]:
    """Discounted sweeps of car4d with 61^4 nodes and 9 controls: seconds each, in this process."""
    grid = CASES["car4d_41"].grid((61, 61, 61, 61))
    if kernel == "nodes":  # any system's way, although this one has free axes
        discounted.axes_order = lambda system, grid, *rest: (tuple(range(grid.ndim)), 0)
    counts, times = (1, 4 if kernel == "nodes" else 13), []
    for count in (1, *counts):  # the first one compiles
        wall, processor = time.perf_counter(), time.process_time()
        discounted.solve(
            SYSTEMS["car4d"](), grid, dt=0.1, discount=0.99, constraint=CASES["car4d_41"].constraint, max_sweeps=count,
            tolerance=1e-30,
        )  # fmt: skip
        times.append((time.perf_counter() - wall, time.process_time() - processor))
    wall, processor = ((b - a) / (counts[1] - counts[0]) for a, b in zip(times[1], times[2]))
    return {"wall": wall, "processor": processor}


def growth() -> dict[str, float]:
    """CPU-seconds per node and stage of WENO5 on Dubins grids whose sizes differ by a factor of 64."""
    rates = {}
    for n in (31, 62, 124):
        case = DUBINS(shape=(n, n, 4 * (n // 4)))
        grid = case.grid()
        tube = saferl_solver(case, grid, "weno5")
        tube(1e-3)
        start = time.process_time()
        value = hamilton_jacobi.solve(SYSTEMS["dubins_car"](), grid, horizon=0.5, constraint=case.constraint)
        rates[str(grid.size)] = (time.process_time() - start) / grid.size / (3 * value.facts["steps"]) * 1e9
    return rates


def first_compilations() -> dict[str, float]:
    """Seconds of each kernel's compilation where there is no compiled code on disk yet."""
    line, seconds = Grid((-2, -2.5), (2, 2.5), (31, 31)), {}
    systems = {"hamilton_jacobi": "double_integrator", "planes": "double_integrator", "nodes": "inverted_pendulum"}
    for kernel, system in systems.items():
        start = time.perf_counter()
        if kernel == "hamilton_jacobi":
            hamilton_jacobi.solve(SYSTEMS[system](), line, horizon=0.1, constraint=lambda x, v: np.abs(x) - 1)
        else:
            discounted.solve(SYSTEMS[system](), line, dt=0.05, discount=0.9, constraint=lambda x, v: np.abs(x) - 1)
        seconds[kernel] = time.perf_counter() - start
    return seconds


def table(cases: list[str], schemes: list[str], rounds: int) -> list[str]:
    """Runs and prints them; returns the lines of ratios."""
    sides = ["saferl", "peer"] if reachability_peer.available() else ["saferl"]
    print(f"{'case':11} {'scheme':8} {'solver':7} {'first s':>8} {'wall s':>8} {'CPU s':>8} {'arrays':>7}"
          f" {'mean error':>10} {'p99':>8} {'wrong side':>10}")  # fmt: skip
    ratios: list[str] = []
    peers: dict[str, dict[str, float] | None] = {}
    for name in cases:
        for scheme in ["cubic"] if CASES[name].peer else schemes:
            best: dict[str, dict[str, float]] = {}
            for side in sides * rounds:
                if side == "peer" and CASES[name].peer:
                    continue
                run = in_a_process(side, name, scheme)
                if side not in best or run["processor"] < best[side]["processor"]:
                    best[side] = run
            for side, run in best.items():
                cells = [f"{run[key]:8.2f}" for key in ("first", "wall", "processor")] + [f"{run['arrays']:7.1f}"]
                cells += [f"{run['mean']:10.5f}", f"{run['p99']:8.4f}", f"{run['wrong']:10.2%}"]
                print(f"{name:11} {scheme:8} {side:7}", *cells, flush=True)
            peers[f"{name} {scheme}"] = best.get("peer")
            other = peers.get(f"{CASES[name].peer} weno5") if CASES[name].peer else best.get("peer")
            if other is not None:
                processor, wall = (other[key] / best["saferl"][key] for key in ("processor", "wall"))
                aim = AIMS.get(f"{name} {scheme}", 40 if scheme == "upwind1" else 10)
                ratios.append(f"{name} {scheme}: {processor:.1f} x in CPU-seconds, {wall:.1f} x in wall (aim {aim})")
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=[name for name in CASES if not CASES[name].heavy], choices=CASES)
    parser.add_argument("--schemes", nargs="+", default=list(SCHEMES), choices=SCHEMES)
    parser.add_argument("--rounds", type=int, default=2, help="turns of each solver; the best one counts")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        works: dict[str, Callable[..., dict[str, float]]] = {
            "sweeps": sweep_times, "growth": growth, "compile": first_compilations,
        }  # fmt: skip
        work = works.get(arguments.one[0])
        print(json.dumps(work(*arguments.one[1:]) if work else measured(*arguments.one)))
        return
    if not reachability_peer.available():
        print("hj_reachability is not installed: no ratios")
    ratios = table(arguments.cases, arguments.schemes, arguments.rounds)
    for kernel, aim in SWEEPS.items():
        run = in_a_process("sweeps", kernel)
        print(f"61^4 nodes, 9 controls, {kernel}: {run['wall'] * 1e3:.0f} ms a sweep on two threads,"
              f" {run['processor'] * 1e3:.0f} CPU-ms (aim {aim})")  # fmt: skip
    with tempfile.TemporaryDirectory() as empty:
        seconds = in_a_process("compile", NUMBA_CACHE_DIR=empty)
    print("first compilation, s:", ", ".join(f"{kernel} {each:.0f}" for kernel, each in seconds.items()))
    print(
        "WENO5, CPU-ns per node and stage:", ", ".join(f"{n} nodes {t:.1f}" for n, t in in_a_process("growth").items())
    )
    print("\n".join(ratios))


if __name__ == "__main__":
    main()
