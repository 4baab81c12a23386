"""A digest of the source that a training's numbers depend on, so that changed code is trained again."""

import ast
import functools
import hashlib
import importlib.util
from pathlib import Path

# Packages whose modules are followed: what computes updates and batches. Commands, environments and files of other
# packages do not change what a training computes.
_FOLLOWED = ("saferl.agents.", "saferl.guardians.", "saferl.nn.", "saferl.offline_data.")
_ALWAYS = ("saferl.offline_data.sampler", "saferl.offline_data.filters")


@functools.cache
def code_version(module: str) -> str:
    """Digest of an agent's module and of all that it imports from saferl's agents, guardians, nn and offline_data.

    Comments, docstrings and layout do not count.

    Args:
        module: dotted name of the module that defines the agent's class.
    """
    total = hashlib.sha256()
    for name in sorted(_closure({module, *_ALWAYS})):
        total.update(f"{name}\n{_meaning(name)}\n".encode())
    return total.hexdigest()


def _closure(modules: set[str]) -> set[str]:
    """The modules and, again and again, those that they import."""
    found: set[str] = set()
    waiting = set(modules)
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= _imports(_source(name)) - found
    return found


def _imports(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.startswith(_FOLLOWED) and _path(name) is not None}


def _meaning(module: str) -> str:
    """The module's source without what does not run."""
    tree = ast.parse(_source(module))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _source(module: str) -> str:
    path = _path(module)
    assert path is not None, module
    return path.read_text(encoding="utf-8")


def _path(module: str) -> Path | None:
    """The module's file; None for a name that is no module, as a class behind ``from ... import``."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec is not None and spec.origin is not None else None
