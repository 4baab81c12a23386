"""The audit of a learned value: on maps, on random states and on the data's, and what rollouts say of the truth."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saferl.evaluation.audit import Mask, audit, border_regions, infeasible_mask, speed_regions
from saferl.evaluation.audit_robots import Array, Auditable, Slice
from saferl.evaluation.monte_carlo import avoid_policies, monte_carlo
from saferl.reachability import Value

ValueFunction = Callable[[NDArray[np.float32]], NDArray[Any]]  # observations (N, obs_dim) -> V_h (N,)

MAP_NODES = 201  # of a map along each axis
SAMPLES = 40_000  # states of the uniform sample, and at most so many of the data's
SPEED_EDGES = (0.0, 0.5, 1.0, 1.5, 2.0)  # m/s, of the bins


@dataclass(frozen=True)
class AuditMap:
    """One slice on a lattice of positions, (MAP_NODES, MAP_NODES) each, rows along y."""

    where: Slice
    half: float  # m, the map spans [-half, half] along x and y
    learned: Mask  # infeasible
    value: Array  # the true V
    manoeuvre: Mask | None  # infeasible by the paper's manoeuvre (PointRobot)

    @property
    def true(self) -> Mask:
        """Truly infeasible."""
        return self.value > 0


def run_audit(
    robot: Auditable,
    learned: ValueFunction,
    *,
    discount: float | None = None,
    observations: NDArray[Any] | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
) -> tuple[dict[str, Any], list[AuditMap]]:
    """Audit a learned value, and check the truth that it is compared with.

    Args:
        robot: as ``auditable`` gives it.
        learned: V_h of observations (N, obs_dim), (N,); > 0 infeasible.
        discount: the agent's own, to tell what share of the truly infeasible a perfect value with it calls safe.
        observations: (M, obs_dim) of a data set, whose states are audited too.
        samples: states of each sample.
        seed: of the samples.
    Returns: facts for eval.json ("truth", "samples", "slices", "checks"), and the maps of the picture.
    Raises: ValueError for a learned value that is not finite or has another shape.
    """
    generator = np.random.default_rng(seed)
    begin = time.perf_counter()
    value = robot.truth(1.0)
    nodes = " x ".join(map(str, value.grid.shape))
    truth = {"nodes": nodes, "seconds": round(time.perf_counter() - begin, 1), **value.facts}
    uniform = robot.sample(samples, generator)
    said = infeasible_mask(learned(robot.simulator.observations(uniform, generator)), "the learned value")
    found = [_sample_audit(robot, "uniform over the box", uniform, said, value)]
    if observations is not None:
        chosen = generator.choice(len(observations), min(samples, len(observations)), replace=False)
        rows = np.asarray(observations[chosen], np.float32)
        called = infeasible_mask(learned(rows), "the learned value")
        found.append(_sample_audit(robot, "states of the data", robot.states_of(rows), called, value))
    maps = [_map(robot, where, learned, value) for where in robot.slices]
    facts = {
        "truth": truth,
        "seed": seed,
        "samples": found,
        "slices": [_slice_facts(each) for each in maps],
        "checks": _checks(robot, uniform, said, value, discount),
    }
    return facts, maps


def _sample_audit(robot: Auditable, name: str, states: Array, said: Mask, value: Value) -> dict[str, Any]:
    true = value(robot.columns(states))
    regions = {
        **border_regions(true, robot.simulator.margins(states)),
        **speed_regions(robot.speeds(states), SPEED_EDGES),
        **robot.regions(states),
    }
    return audit(said, true, {each: mask for each, mask in regions.items() if mask.any()}, name=name).as_dict()


def _checks(robot: Auditable, states: Array, said: Mask, value: Value, discount: float | None) -> dict[str, Any]:
    """How far the truth can be trusted, and what a discount alone hides."""
    true = value(robot.columns(states))
    checks: dict[str, Any] = {"monte_carlo": _rollouts(robot, states, said, true)}
    if discount is not None and discount < 1:
        perfect = audit(robot.truth(discount)(robot.columns(states)), true, name="a perfect value with the discount")
        checks["discount"] = {"discount": discount, **perfect.overall.as_facts()}
    paper = robot.manoeuvre_infeasible(states)
    if paper is not None:
        checks["manoeuvre"] = {
            "grid": audit(true, paper, name="the grid against the manoeuvre").overall.as_facts(),
            "learned": audit(said, paper, name="learned against the manoeuvre").overall.as_facts(),
        }
    return checks


def _rollouts(robot: Auditable, states: Array, said: Mask, true: Array) -> dict[str, Any]:
    """Monte Carlo on the first states: one-sided, but what it shows is certain."""
    few, said, unsafe = states[: robot.rollouts], said[: robot.rollouts], true[: robot.rollouts] > 0
    result = monte_carlo(robot.simulator, few, avoid_policies(robot.simulator))
    refuted = unsafe & result.shown  # here it is the grid that is wrong
    return {
        "states": len(few),
        "shown_feasible": int(result.shown.sum()),
        "grid_infeasible": int(unsafe.sum()),
        "grid_infeasible_but_shown_feasible": int(refuted.sum()),
        "largest_value_of_those": float(true[: len(few)][refuted].max()) if refuted.any() else None,
        "grid_feasible_but_not_shown": int((~unsafe & ~result.shown).sum()),
        "learned_infeasible_but_shown_feasible": int((said & result.shown).sum()),  # false alarms, for certain
        "learned_safe_but_not_shown_feasible": int((~said & ~result.shown).sum()),  # false-safe states, at most
    }


def _map(robot: Auditable, where: Slice, learned: ValueFunction, value: Value) -> AuditMap:
    axis = np.linspace(-robot.half, robot.half, MAP_NODES)
    x, y = np.meshgrid(axis, axis)
    states = robot.at(where, x.ravel(), y.ravel())
    said = infeasible_mask(learned(robot.simulator.observations(states)), "the learned value")
    paper = robot.manoeuvre_infeasible(states)
    return AuditMap(
        where,
        robot.half,
        said.reshape(x.shape),
        value(robot.columns(states)).reshape(x.shape),
        None if paper is None else paper.reshape(x.shape),
    )


def _slice_facts(each: AuditMap) -> dict[str, Any]:
    """A lattice is no sample: shares without intervals."""
    found = audit(each.learned.ravel(), each.true.ravel(), name=each.where.name, sampled=False).overall
    facts: dict[str, Any] = {
        "name": each.where.name, "speed": each.where.speed, "heading": each.where.heading, "iou": found.iou.rate,
        "infeasible": found.infeasible.rate, "false_safe": found.false_safe.rate,
        "false_unsafe": found.false_unsafe.rate,
    }  # fmt: skip
    if each.manoeuvre is not None:
        paper = audit(each.learned.ravel(), each.manoeuvre.ravel(), sampled=False).overall
        facts["manoeuvre"] = {"iou": paper.iou.rate, "infeasible": paper.infeasible.rate}
    return facts
