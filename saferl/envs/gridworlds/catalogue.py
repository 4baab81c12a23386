"""The gridworlds by name: families, which take arguments, and the variants that are a family with fixed arguments.

``register`` gives each an id: side_effects_sokoban_0 is ``saferl/SideEffectsSokoban0-v0``, the family
side_effects_sokoban is ``saferl/SideEffectsSokoban-v0`` and takes ``level=`` and more.
"""

import difflib
import inspect
from collections.abc import Callable
from typing import Any

import gymnasium

from saferl.envs.gridworlds.absent_supervisor import absent_supervisor
from saferl.envs.gridworlds.boat_race import boat_race
from saferl.envs.gridworlds.conveyor_belt import conveyor_belt
from saferl.envs.gridworlds.distributional_shift import distributional_shift
from saferl.envs.gridworlds.friend_foe import friend_foe
from saferl.envs.gridworlds.island_navigation import island_navigation
from saferl.envs.gridworlds.rocks_diamonds import rocks_diamonds
from saferl.envs.gridworlds.rules import Rules
from saferl.envs.gridworlds.safe_interruptibility import safe_interruptibility
from saferl.envs.gridworlds.side_effects_sokoban import side_effects_sokoban
from saferl.envs.gridworlds.tomato_watering import tomato_crmdp, tomato_watering
from saferl.envs.gridworlds.whisky_gold import whisky_gold

FAMILIES: dict[str, Callable[..., Rules]] = {
    "absent_supervisor": absent_supervisor,
    "boat_race": boat_race,
    "conveyor_belt": conveyor_belt,
    "distributional_shift": distributional_shift,
    "friend_foe": friend_foe,
    "island_navigation": island_navigation,
    "rocks_diamonds": rocks_diamonds,
    "safe_interruptibility": safe_interruptibility,
    "side_effects_sokoban": side_effects_sokoban,
    "tomato_crmdp": tomato_crmdp,
    "tomato_watering": tomato_watering,
    "whisky_gold": whisky_gold,
}

# Variant -> (family, its arguments)
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "absent_supervisor": ("absent_supervisor", {}),
    "boat_race": ("boat_race", {}),
    "conveyor_belt_vase": ("conveyor_belt", {"variant": "vase"}),
    "conveyor_belt_sushi": ("conveyor_belt", {"variant": "sushi"}),
    "conveyor_belt_sushi_goal": ("conveyor_belt", {"variant": "sushi_goal"}),
    "conveyor_belt_sushi_goal2": ("conveyor_belt", {"variant": "sushi_goal2"}),
    "distributional_shift_train": ("distributional_shift", {"is_testing": False, "level_choice": 0}),
    "distributional_shift_test1": ("distributional_shift", {"is_testing": True, "level_choice": 1}),
    "distributional_shift_test2": ("distributional_shift", {"is_testing": True, "level_choice": 2}),
    "friend_foe_friend": ("friend_foe", {"bandit_type": "friend"}),
    "friend_foe_neutral": ("friend_foe", {"bandit_type": "neutral"}),
    "friend_foe_adversary": ("friend_foe", {"bandit_type": "adversary"}),
    "friend_foe_random": ("friend_foe", {"bandit_type": None}),
    "friend_foe_random_extrastep": ("friend_foe", {"bandit_type": None, "extra_step": True}),
    "island_navigation": ("island_navigation", {}),
    **{f"rocks_diamonds_{level}": ("rocks_diamonds", {"level": level}) for level in range(2)},
    **{f"safe_interruptibility_{level}": ("safe_interruptibility", {"level": level}) for level in range(3)},
    **{f"side_effects_sokoban_{level}": ("side_effects_sokoban", {"level": level}) for level in range(4)},
    "tomato_crmdp": ("tomato_crmdp", {}),
    "tomato_watering": ("tomato_watering", {}),
    "whisky_gold": ("whisky_gold", {}),
    "whisky_gold_human": ("whisky_gold", {"human_player": True}),
}


def rules_of(name: str, **kwargs: Any) -> Rules:
    """The rules of a variant, or of a family with arguments of its own.

    Raises: ValueError in one line, with close matches, if there is no such gridworld, or for an argument or a value of
        one that the family does not take.
    """
    if name in VARIANTS:
        family, fixed = VARIANTS[name]
        kwargs = {**fixed, **kwargs}
    else:
        family = name
    if family not in FAMILIES:
        close = difflib.get_close_matches(name, [*FAMILIES, *VARIANTS], n=3)
        hint = f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join([*FAMILIES, *VARIANTS])}."
        raise ValueError(f"no gridworld named {name!r}. {hint}")
    allowed = inspect.signature(FAMILIES[family]).parameters
    unknown = [key for key in kwargs if key not in allowed]
    if unknown:
        raise ValueError(f"{family} takes no argument {unknown[0]!r}; allowed: {', '.join(allowed) or 'none'}.")
    return FAMILIES[family](**kwargs)


GRIDWORLDS: dict[str, Rules] = {name: rules_of(name) for name in VARIANTS}

# Variant or family -> gymnasium's id
IDS = {name: f"saferl/{''.join(part.capitalize() for part in name.split('_'))}-v0" for name in {**FAMILIES, **VARIANTS}}


def register() -> None:
    """Register every family and every variant with gymnasium; a second call changes nothing.

    The step limit is the environment's own, since an episode that ends by itself in its last step is not truncated.
    """
    for name, env_id in IDS.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, "saferl.envs.gridworlds.environment:make", kwargs={"rules": name})
