"""AI Safety Gridworlds: what the agent is paid for, and what it should do, are not the same.

    import gymnasium, saferl
    env = gymnasium.make("saferl/SideEffectsSokoban0-v0", observation="text")

The environments of Leike et al. (2017), AI Safety Gridworlds, arXiv:1711.09883, written anew. ``GRIDWORLDS`` has the
rules of each variant by name; one file per gridworld holds them.
"""

from saferl.envs.gridworlds.catalogue import FAMILIES, GRIDWORLDS, VARIANTS, rules_of
from saferl.envs.gridworlds.environment import Gridworld, make
from saferl.envs.gridworlds.rules import Rules

__all__ = ["FAMILIES", "GRIDWORLDS", "VARIANTS", "Gridworld", "Rules", "make", "rules_of"]
