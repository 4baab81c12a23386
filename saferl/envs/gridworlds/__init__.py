"""AI Safety Gridworlds: what the agent is paid for, and what it should do, are not the same.

    import gymnasium, saferl
    env = gymnasium.make("saferl/SideEffectsSokoban0-v0", observation="text")

The environments of Leike et al. (2017), AI Safety Gridworlds, arXiv:1711.09883, written anew. ``GRIDWORLDS`` has the
rules of each variant by name; one file per gridworld holds them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from saferl.envs.gridworlds.catalogue import FAMILIES, GRIDWORLDS, VARIANTS, rules_of
from saferl.envs.gridworlds.environment import Gridworld, make
from saferl.envs.gridworlds.rules import Rules

if TYPE_CHECKING:
    from saferl.envs.gridworlds.batched import BatchedGridworld
    from saferl.envs.gridworlds.finite_models import FiniteModel, finite_model

__all__ = [
    "FAMILIES",
    "GRIDWORLDS",
    "VARIANTS",
    "BatchedGridworld",
    "FiniteModel",
    "Gridworld",
    "Rules",
    "finite_model",
    "make",
    "rules_of",
]

_COMPILED = {"BatchedGridworld": "batched", "FiniteModel": "finite_models", "finite_model": "finite_models"}


def __getattr__(name: str) -> Any:
    """What needs Numba is imported when it is asked for."""
    if name not in _COMPILED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_COMPILED[name]}"), name)
