"""AI Safety Gridworlds: what the agent is paid for, and what it should do, are not the same.

    import gymnasium, saferl
    env = gymnasium.make("saferl/SideEffectsSokoban0-v0", observation="text")

The environments of Leike et al. (2017), AI Safety Gridworlds, arXiv:1711.09883, written anew. ``GRIDWORLDS`` has the
rules of each variant by name; one file per gridworld holds them.
"""

from collections.abc import Callable
from typing import Any

from saferl.envs.gridworlds.boat_race import boat_race
from saferl.envs.gridworlds.rules import Rules
from saferl.envs.gridworlds.side_effects_sokoban import side_effects_sokoban

__all__ = ["FAMILIES", "GRIDWORLDS", "VARIANTS", "Rules"]

FAMILIES: dict[str, Callable[..., Rules]] = {
    "boat_race": boat_race,
    "side_effects_sokoban": side_effects_sokoban,
}

# Variant -> (family, its arguments)
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "boat_race": ("boat_race", {}),
    **{f"side_effects_sokoban_{level}": ("side_effects_sokoban", {"level": level}) for level in range(4)},
}

GRIDWORLDS: dict[str, Rules] = {name: FAMILIES[family](**kwargs) for name, (family, kwargs) in VARIANTS.items()}
