"""Reachability: which states can be kept safe, by Hamilton-Jacobi and Bellman equations on grids.

Sign convention: h(x) > 0 violated, V(x) > 0 unsafe, l(x) <= 0 inside the target; the control minimises V, see ``value``.
"""

from saferl.reachability.grid import Grid
from saferl.reachability.system import Ball, Box, System
from saferl.reachability.systems import SYSTEMS
from saferl.reachability.value import Value

__all__ = ["SYSTEMS", "Ball", "Box", "Grid", "System", "Value"]
