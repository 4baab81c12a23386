"""Environments: everything that has reset and step.

    import saferl.envs
    env = saferl.envs.make("point_robot")           # short name
    env = saferl.envs.make("SafetyPointGoal1-v0")   # any id that gymnasium knows after `import saferl`

``make(id)`` and ``gymnasium.make(id)`` give the same environment.
"""

import difflib
import importlib
from typing import Any

import gymnasium

from saferl.envs.registration import SHORT_NAMES, register_all

__all__ = ["full_id", "make"]

register_all()


def full_id(name: str) -> str:
    """The registered id of a short name ("point_robot") or of an id, which is returned as it is.

    "module:id" imports the module, which registers the id, and gives the id.

    Raises: ValueError in one line, with close matches, if there is no such module or id.
    """
    module, colon, rest = name.partition(":")
    if colon:
        _import_module(module, name)
        name = rest
    env_id = SHORT_NAMES.get(name, name)
    if env_id in gymnasium.registry:
        return env_id
    known = [*SHORT_NAMES, *gymnasium.registry]
    lower = {candidate.lower(): candidate for candidate in known}
    close = [lower[match] for match in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.6)]
    hint = f"Did you mean {' or '.join(close)}?" if close else "gymnasium.pprint_registry() lists all."
    raise ValueError(f"no environment named {name!r}. {hint}")


def _import_module(module: str, name: str) -> None:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, something that it needs is not
        raise ValueError(
            f"no module named {module!r} for the environment {name!r}; it must be importable from here (PYTHONPATH)."
        ) from None


def make(id: str, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """The environment that ``gymnasium.make(id, **kwargs)`` gives; short names are taken too.

    Args:
        id: a short name ("point_robot"), an id of Safety-Gymnasium or DSRL, or any other registered id.
        kwargs: passed on: ``render_mode``, ``max_episode_steps`` and the environment's own arguments.
    Raises: ValueError in one line, with close matches, for an unknown id.
    """
    return gymnasium.make(full_id(id), **kwargs)
