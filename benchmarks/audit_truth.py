"""How true PointRobot's true infeasible set is: grids against the FISOR paper's manoeuvre, and both against rollouts.

python -m benchmarks.audit_truth [--states 20000]
"""

import argparse
import math
import time

import numpy as np

from saferl.envs import point_robot
from saferl.evaluation.audit_robots import PointRobotAudit
from saferl.evaluation.monte_carlo import avoid_policies, monte_carlo
from saferl.reachability import SYSTEMS, Grid, Value, discounted
from saferl.reachability.problems import avoid_discs

GRIDS = (
    ((61, 61, 22, 40), "linear"),
    ((81, 81, 36, 64), "linear"),
    (PointRobotAudit.nodes, "linear"),
    ((61, 61, 29, 64), "cubic"),
)
DISCS = [(x, y, point_robot.HAZARD_RADIUS) for x, y in point_robot.HAZARDS]


def truth(nodes: tuple[int, ...], interpolation: str) -> Value:
    """The undiscounted value of avoiding the hazards."""
    grid = Grid((-3, -3, -0.5, -math.pi), (3, 3, 2, math.pi), nodes, periodic=(3,))
    settings = dict(constraint=avoid_discs(DISCS), dt=point_robot.DT, discount=1.0, tolerance=1e-2)
    return discounted.solve(SYSTEMS["point_robot"](), grid, interpolation=interpolation, **settings)  # type: ignore[arg-type]


def maps() -> list[np.ndarray]:
    """The states of the paper's three maps, (201 * 201, 4) each."""
    axis = np.linspace(-point_robot.ARENA, point_robot.ARENA, 201)
    x, y = (each.ravel() for each in np.meshgrid(axis, axis))
    return [np.stack([x, y, np.full_like(x, v), np.full_like(x, th)], axis=1) for v, th in point_robot.SLICES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, default=20_000, help="random states that are rolled out")
    arguments = parser.parse_args()
    lattices = maps()
    papers = [point_robot.analytic_infeasible(states) for states in lattices]
    print("manoeuvre:", " / ".join(f"{100 * paper.mean():.2f}" for paper in papers), "% infeasible")
    robot = PointRobotAudit()
    states = robot.sample(arguments.states, np.random.default_rng(0))
    shown = monte_carlo(robot.simulator, states, avoid_policies(robot.simulator)).shown
    for nodes, interpolation in GRIDS:
        start = time.process_time()
        value = truth(nodes, interpolation)
        seconds = time.process_time() - start
        found = [value(lattice) > 0 for lattice in lattices]
        ious = [(a & b).sum() / (a | b).sum() for a, b in zip(found, papers)]
        unsafe = value(states) > 0
        print(
            f"{' x '.join(map(str, nodes))}, {interpolation}, {seconds:.0f} CPU-s:",
            " / ".join(f"{100 * each.mean():.2f}" for each in found), "% infeasible, IoU",
            " / ".join(f"{iou:.3f}" for iou in ious),
            f"; infeasible but shown feasible {(unsafe & shown).sum()},",
            f"feasible but not shown {(~unsafe & ~shown).sum()}",
            flush=True,
        )  # fmt: skip
    wrong = point_robot.analytic_infeasible(states) & shown
    print(
        f"rollouts show {shown.sum()} of {len(states)} feasible; the manoeuvre calls {wrong.sum()} of those infeasible"
    )


if __name__ == "__main__":
    main()
