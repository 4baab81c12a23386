"""Loops that are compiled once for each gridworld, with its rules inside.

Numba's cache on disk takes neither functions that are handed over as arguments nor notice of changes in other files. So
the first argument of such a loop is a digest of the rules' source: a part of the compiled signature, by which calls of
``step`` and the like in the loop find the functions that they stand for.

Nothing here counts references to arrays (``_nrt=False``): that took two thirds of the time of a step.
"""

import inspect
import sys
import zlib
from collections.abc import Callable
from typing import Any

import numba
from numba.core.errors import TypingError
from numba.extending import overload

from saferl.envs.gridworlds import rules as rules_module
from saferl.envs.gridworlds.rules import Rules

PARTS = ("start", "step", "board", "draw", "recall", "remember")  # the functions of Rules that a loop may call
OPTIONS: Any = {"_nrt": False, "forceinline": True, "error_model": "numpy"}
Function = Callable[..., Any]

inlined = numba.njit(**OPTIONS)  # for what a loop calls
_NOT_INLINED = {key: value for key, value in OPTIONS.items() if key != "forceinline"}
loop = numba.njit(cache=True, **_NOT_INLINED)  # for the loop itself

_functions: dict[int, dict[str, Function]] = {}  # digest -> name -> function


def compiled(loop: Any, rules: Rules, arguments: tuple[Any, ...]) -> Function:
    """A loop for these rules and for arguments of these types, compiled, or read from the disk if they are saferl's.

    Args:
        loop: made with ``loop``; its first argument, not among ``arguments``, is the digest.
        rules: whose functions it calls.
        arguments: examples.
    Returns: the loop as a function of the digest, which may be any integer, and of arguments of exactly those types:
        nothing checks them.
    Raises: ValueError for functions without a source file, or with values of an enclosing function in them.
    """
    digest = _digest(rules)
    _functions[digest] = {name: getattr(rules, name) for name in PARTS}
    if not all(each.__module__.startswith("saferl.") for each in (type(rules.tables), *_functions[digest].values())):
        loop = numba.njit(**_NOT_INLINED)(loop.py_func)  # read from the disk, it would want the module of these rules
    return loop.compile((numba.types.literal(digest), *(numba.typeof(each) for each in arguments)))


def _digest(rules: Rules) -> int:
    """A number that stands for the rules' functions and the source of their files."""
    text = inspect.getsource(rules_module) + inspect.getsource(sys.modules[__name__])
    for name in PARTS:
        function = getattr(rules, name)
        if function.__closure__:
            raise ValueError(f"{rules.name}: the rule {name} can't be compiled: put what it encloses into the tables.")
        try:
            text += f"{function.__qualname__} {inspect.getsource(sys.modules[function.__module__])}"
        except (OSError, TypeError, KeyError):
            raise ValueError(f"{rules.name}: the rule {name} can't be compiled: write it in a file.") from None
    return zlib.crc32(text.encode())


def start(digest: int, tables: Any, outcome: int, state: Any) -> None:
    """Stands for ``Rules.start`` in a loop; so do the others for theirs."""


def step(digest: int, tables: Any, state: Any, action: int, outcome: int) -> Any:
    """Stands for ``Rules.step``."""


def board(digest: int, tables: Any, state: Any, out: Any) -> None:
    """Stands for ``Rules.board``."""


def draw(digest: int, chances: Any, uniform: float) -> Any:
    """Stands for ``Rules.draw``."""


def recall(digest: int, memory: Any, outcome: int) -> Any:
    """Stands for ``Rules.recall``."""


def remember(digest: int, memory: Any, state: Any) -> None:
    """Stands for ``Rules.remember``."""


def _part(digest: Any, name: str) -> Function:
    """The compiled function that a call stands for."""
    if not isinstance(digest, numba.types.IntegerLiteral):
        raise TypingError("the digest must be a constant")
    return inlined(_functions[digest.literal_value][name])


# Without annotations: Numba wants those of both functions to be equal.
@overload(rules_module.fill, jit_options=OPTIONS)
def _fill(out, characters):
    def copy(out, characters):
        for cell in range(len(out)):
            out[cell] = characters[cell]

    return copy


@overload(start, prefer_literal=True, jit_options=OPTIONS)
def _start(digest, tables, outcome, state):
    part = _part(digest, "start")
    return lambda digest, tables, outcome, state: part(tables, outcome, state)


@overload(step, prefer_literal=True, jit_options=OPTIONS)
def _step(digest, tables, state, action, outcome):
    part = _part(digest, "step")
    return lambda digest, tables, state, action, outcome: part(tables, state, action, outcome)


@overload(board, prefer_literal=True, jit_options=OPTIONS)
def _board(digest, tables, state, out):
    part = _part(digest, "board")
    return lambda digest, tables, state, out: part(tables, state, out)


@overload(draw, prefer_literal=True, jit_options=OPTIONS)
def _draw(digest, chances, uniform):
    part = _part(digest, "draw")
    return lambda digest, chances, uniform: part(chances, uniform)


@overload(recall, prefer_literal=True, jit_options=OPTIONS)
def _recall(digest, memory, outcome):
    part = _part(digest, "recall")
    return lambda digest, memory, outcome: part(memory, outcome)


@overload(remember, prefer_literal=True, jit_options=OPTIONS)
def _remember(digest, memory, state):
    part = _part(digest, "remember")
    return lambda digest, memory, state: part(memory, state)
