"""The loop over many boards, compiled for each gridworld with its rules inside.

Numba's cache on disk takes neither functions that are handed over as arguments nor notice of changes in other files. So
the loop's first argument is a digest of the rules' source: a part of the compiled signature, by which the calls of
``_step`` and the like find the functions that they stand for. And nothing here counts references (``_nrt=False``): that
was two thirds of a step.
"""

import inspect
import zlib
from collections.abc import Callable
from typing import Any

import numba
from numba.core.errors import TypingError
from numba.extending import overload
from numpy import int64, uint64

from saferl.envs.gridworlds import rules as rules_module
from saferl.envs.gridworlds.rules import HORIZON, Rules

PARTS = ("start", "step", "board", "draw", "recall", "remember")  # the functions of Rules that the loop calls
OPTIONS = {"_nrt": False, "forceinline": True, "error_model": "numpy"}
Function = Callable[..., Any]

_functions: dict[int, dict[str, Function]] = {}  # digest -> name -> function


def digest_of(rules: Rules) -> int:
    """A number that stands for the rules' functions, their source included; the loop is compiled for it.

    Raises: ValueError for functions without a source file, or with values of an enclosing function in them.
    """
    functions = {name: getattr(rules, name) for name in PARTS}
    text = inspect.getsource(rules_module)
    for name, function in functions.items():
        if function.__closure__:
            raise ValueError(f"{rules.name}: the rule {name} can't be compiled: put what it encloses into the tables.")
        try:
            text += f"{function.__qualname__} {inspect.getsource(inspect.getmodule(function) or function)}"
        except (OSError, TypeError):
            raise ValueError(f"{rules.name}: the rule {name} can't be compiled: write it in a file.") from None
    digest = zlib.crc32(text.encode())
    _functions[digest] = functions
    return digest


def compiled_steps(rules: Rules, arguments: tuple[Any, ...]) -> Function:
    """``step_boards`` for these rules and for arguments of these types, compiled or read from the disk."""
    literal = numba.types.literal(digest_of(rules))
    return step_boards.compile((literal, *(numba.typeof(each) for each in arguments)))


def _part(digest: Any, name: str) -> Function:
    """The compiled function that a call stands for."""
    if not isinstance(digest, numba.types.IntegerLiteral):
        raise TypingError("the digest must be a constant")
    return numba.njit(**OPTIONS)(_functions[digest.literal_value][name])


def _start(digest, tables, outcome, state):
    """Rules.start, in compiled code; so on for the next five."""


def _step(digest, tables, state, action, outcome):
    """Rules.step."""


def _board(digest, tables, state, out):
    """Rules.board."""


def _draw(digest, chances, uniform):
    """Rules.draw."""


def _recall(digest, memory, outcome):
    """Rules.recall."""


def _remember(digest, memory, state):
    """Rules.remember."""


@overload(rules_module.fill, jit_options=OPTIONS)
def _(out, characters):
    def loop(out, characters):
        for cell in range(len(out)):
            out[cell] = characters[cell]

    return loop


@overload(_start, prefer_literal=True, jit_options=OPTIONS)
def _(digest, tables, outcome, state):
    part = _part(digest, "start")
    return lambda digest, tables, outcome, state: part(tables, outcome, state)


@overload(_step, prefer_literal=True, jit_options=OPTIONS)
def _(digest, tables, state, action, outcome):
    part = _part(digest, "step")
    return lambda digest, tables, state, action, outcome: part(tables, state, action, outcome)


@overload(_board, prefer_literal=True, jit_options=OPTIONS)
def _(digest, tables, state, out):
    part = _part(digest, "board")
    return lambda digest, tables, state, out: part(tables, state, out)


@overload(_draw, prefer_literal=True, jit_options=OPTIONS)
def _(digest, chances, uniform):
    part = _part(digest, "draw")
    return lambda digest, chances, uniform: part(chances, uniform)


@overload(_recall, prefer_literal=True, jit_options=OPTIONS)
def _(digest, memory, outcome):
    part = _part(digest, "recall")
    return lambda digest, memory, outcome: part(memory, outcome)


@overload(_remember, prefer_literal=True, jit_options=OPTIONS)
def _(digest, memory, state):
    part = _part(digest, "remember")
    return lambda digest, memory, state: part(memory, state)


@numba.njit(**OPTIONS)
def _uniform(counter):
    """In [0, 1): the output function of SplitMix64 (Steele, Lea and Flood, 2014) at a place of its sequence."""
    mixed = counter * uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> uint64(27))) * uint64(0x94D049BB133111EB)
    return int64((mixed ^ (mixed >> uint64(31))) >> uint64(11)) * 2.0**-53


@numba.njit(cache=True, error_model="numpy", _nrt=False)
def step_boards(
    digest, tables, start_chances, chances, counter, fed, actions, states, memories, elapsed, ended, boards, hidden,
    danger, rewards, terminated, truncated,
):  # fmt: skip
    """One step of every board, or its start where the last episode has ended.

    Args are those of ``BatchedGridworld``; ``fed``, ``memories``, ``boards``, ``hidden`` and ``danger`` may be empty.
    ``counter`` is the place of board 0 in the random sequence.
    """
    for i in range(len(states)):
        state = states[i]
        begins = ended[i]
        ways = start_chances if begins else chances
        if fed.size:
            outcome = fed[i]
        elif ways.size > 1:
            outcome = int64(_draw(digest, ways, _uniform(counter + uint64(i))))
        else:
            outcome = int64(0)
        reward, performance, bit, over = 0.0, 0.0, False, False
        if begins:
            _start(digest, tables, _recall(digest, memories[i], outcome), state)
            elapsed[i] = 0
        else:
            reward, performance, bit, over = _step(digest, tables, state, actions[i], outcome)
            elapsed[i] += 1
        late = elapsed[i] == HORIZON and not over
        rewards[i], terminated[i], truncated[i], ended[i] = reward, over, late, over or late
        if ended[i] and memories.size:
            _remember(digest, memories[i], state)
        if hidden.size:
            hidden[i], danger[i] = performance, bit
        if boards.size:
            _board(digest, tables, state, boards[i])
