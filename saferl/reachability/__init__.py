"""Reachability: which states can be kept safe, by Hamilton-Jacobi and Bellman equations on grids.

Sign convention (see ``value``): h(x) > 0 violated, V(x) > 0 unsafe, l(x) <= 0 in the target; the control minimises V.
"""

from saferl.reachability import discounted, finite_mdp, hamilton_jacobi
from saferl.reachability.grid import Grid
from saferl.reachability.system import Ball, Box, System
from saferl.reachability.systems import SYSTEMS
from saferl.reachability.value import Value

__all__ = ["SYSTEMS", "Ball", "Box", "Grid", "System", "Value", "discounted", "finite_mdp", "hamilton_jacobi"]
