"""What a gridworld is: a map, a state of a few small integers, and three functions, start, step and board.

The functions of a ``Rules`` are written once and run twice: as plain Python on bytes (the single environment, the exact
model) and compiled by ``numba.njit`` on uint8 arrays (the batched environment). So they index and do arithmetic, no
more, and everything that can be looked up by cell is a table made beforehand. Cells are numbered row by row from the
top left, ``row * width + column``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

UP, DOWN, LEFT, RIGHT, NOOP = range(5)
ACTION_NAMES = ("up", "down", "left", "right", "noop")
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0))  # (rows, columns) of each action
HORIZON = 100  # steps, the limit of every episode
WALL, FLOOR, AGENT, GOAL = (ord(character) for character in "# AG")  # characters as a board holds them

COLOURS = {"#": (599, 599, 599), " ": (858, 858, 858), "A": (0, 706, 999), "G": (0, 823, 196)}  # 0 to 999
LEGEND = {"#": "wall", " ": "floor", "A": "you", "G": "goal"}

Value = TypeVar("Value")
Map = Sequence[str]  # the rows of a map, all of one length
Bytes = NDArray[np.uint8]
State = Any  # bytearray, or array (state_size,) uint8
Board = Any  # bytearray, or array (H * W,) uint8
Change = tuple[float, float, bool, bool]  # of one step: reward R, hidden performance R*, danger, terminated


def one_of(chances: Sequence[float], uniform: float) -> int:
    """The outcome 0..n-1 that a uniform number in [0, 1) picks where ``chances`` (n,) are the probabilities."""
    outcome = 0
    while outcome < len(chances) - 1 and uniform >= chances[outcome]:
        uniform -= chances[outcome]
        outcome += 1
    return outcome


def fill(out: Board, characters: Board) -> None:
    """``out[:] = characters``, which compiled rules can't say without counting references to arrays."""
    out[:] = characters


def as_drawn(memory: Any, outcome: int) -> int:
    """``Rules.recall`` of a gridworld whose episodes know nothing of each other: the outcome as it was drawn."""
    return outcome


def forget(memory: Any, state: State) -> None:
    """``Rules.remember`` of a gridworld whose episodes know nothing of each other: does nothing."""


def as_sent(tables: Any, state: State, action: int, outcome: int) -> int:
    """``Rules.carried_out`` where nothing interferes: the action that was sent."""
    return action


def nothing_beside(tables: Any, state: State) -> dict[str, Any]:
    """``Rules.side_information`` of a gridworld that shows its agent the board only."""
    return {}


@dataclass(frozen=True, eq=False, kw_only=True)
class Rules:
    """One gridworld, or one level of one: what its state is and how a step changes it.

    State: ``state_size`` integers from 0 to 255, without the time; ``state[0]`` is the agent's cell.
    Randomness: every start and every step takes an ``outcome``, an integer. ``draw(chances, uniform)`` gives it from a
    uniform number in [0, 1), ``draw(start_chances, uniform)`` for a start, in any state and for any action. A recorded
    draw is replayed by handing it over as the outcome.

    Args:
        name: name of the gridworld, as in ``GRIDWORLDS``.
        shape: rows H and columns W.
        symbols: value on the agent's board of each character that can be visible.
        colours: red, green, blue of each character, 0 to 999.
        legend: what each character is, in words that tell an agent nothing that is hidden from it.
        tables: NamedTuple of arrays and numbers, the first argument of every rule.
        state_size: length of the state.
        start: ``start(tables, outcome, state)`` fills the state of a new episode.
        step: ``step(tables, state, action, outcome)`` changes the state by one step and gives (reward, hidden, danger,
            terminated): the visible reward R, the step's hidden performance R*, the clean danger bit, and whether the
            episode is over by itself.
        board: ``board(tables, state, out)`` fills ``out`` (H * W,) with the characters to be seen, as numbers.
        actions: 4, or 5 where the agent may also stay where it is.
        start_chances: probability of each outcome of a start.
        chances: probability of each outcome of a step.
        draw: ``one_of``, or another function of (chances, uniform) where the outcomes are too many to list.
        memory_size: how many float64 numbers outlast an episode, per running copy of the environment; they are 0 before
            the first episode. Only friend_foe has any.
        recall: ``recall(memory, outcome)`` gives the outcome that ``start`` takes, from the one that was drawn.
        remember: ``remember(memory, state)`` changes the memory by the last state of an episode, before the next start.
        carried_out: ``carried_out(tables, state, action, outcome)`` gives the action that a step from this state will
            carry out, where something may interfere.
        side_information: ``side_information(tables, state)`` gives what the original hands to its agent beside the
            board, by name; only ever run as plain Python.
        danger_epo: ``danger_epo(reward, hidden, danger)`` gives the danger bit of the published EPO-Safe code from what
            ``step`` gave; None where that code defines none.
        alike: (first, last): entries first to last - 1 of the state mean the same in any order, as boxes do.
    """

    name: str
    shape: tuple[int, int]
    symbols: dict[str, int]
    colours: dict[str, tuple[int, int, int]]
    legend: dict[str, str]
    tables: Any
    state_size: int
    start: Callable[[Any, int, State], None]
    step: Callable[[Any, State, int, int], Change]
    board: Callable[[Any, State, Board], None]
    actions: int = 4
    start_chances: tuple[float, ...] = (1.0,)
    chances: tuple[float, ...] = (1.0,)
    draw: Callable[[Sequence[float], float], int] = one_of
    memory_size: int = 0
    recall: Callable[[Any, int], int] = as_drawn
    remember: Callable[[Any, State], None] = forget
    carried_out: Callable[[Any, State, int, int], int] = as_sent
    side_information: Callable[[Any, State], dict[str, Any]] = nothing_beside
    danger_epo: Callable[[float, float, bool], bool] | None = None
    alike: tuple[int, int] = (0, 0)

    @property
    def plain_tables(self) -> Any:
        """The tables with bytes and tuples for arrays: what plain Python is quickest with."""
        return type(self.tables)(*map(_plain, self.tables))

    @property
    def random(self) -> bool:
        """Whether a step can have more than one outcome."""
        return len(self.chances) > 1

    def starts(self) -> list[tuple[int, float]] | None:
        """(outcome, probability) of every first start, ready for ``start``; None where they are too many to list."""
        if self.draw is not one_of:
            return None
        memory = [0.0] * self.memory_size
        found: dict[int, float] = {}
        for drawn, chance in enumerate(self.start_chances):
            outcome = self.recall(memory, drawn)
            found[outcome] = found.get(outcome, 0.0) + chance
        return [(outcome, chance) for outcome, chance in found.items() if chance > 0]

    def outcomes(self) -> list[tuple[int, float]] | None:
        """(outcome, probability) of every step, in any state; None where they are too many to list."""
        if self.draw is not one_of:
            return None
        return [(outcome, chance) for outcome, chance in enumerate(self.chances) if chance > 0]


def _plain(item: Any) -> Any:
    if not isinstance(item, np.ndarray):
        return item
    if item.ndim > 1:
        return tuple(_plain(part) for part in item)
    return item.tobytes() if item.dtype == np.uint8 else tuple(item.tolist())


def choice(options: Mapping[Any, Value], wanted: Any, what: str) -> Value:
    """``options[wanted]``.

    Raises: ValueError in one line, with what is allowed, if it is none of them.
    """
    if wanted not in options:
        raise ValueError(f"no {what} {wanted!r}; allowed: {', '.join(repr(option) for option in options)}.")
    return options[wanted]


def same_bit(reward: float, hidden: float, danger: bool) -> bool:
    """``Rules.danger_epo`` where EPO-Safe's code defines the bit as saferl does."""
    return danger


def shape_of(rows: Map) -> tuple[int, int]:
    """Rows and columns of a map.

    Raises: ValueError if the rows differ in length or there are more than 255 cells.
    """
    widths = {len(row) for row in rows}
    if len(widths) != 1:
        raise ValueError(f"a map's rows must all have one length; got lengths {sorted(widths)}.")
    height, width = len(rows), widths.pop()
    if height * width > 255:
        raise ValueError(f"a map may have at most 255 cells, as a cell is one byte; got {height} x {width}.")
    return height, width


def cells_of(rows: Map, characters: str) -> list[int]:
    """The cells of a map that show one of these characters, row by row."""
    return [cell for cell, character in enumerate("".join(rows)) if character in characters]


def marks_of(rows: Map, characters: str) -> Bytes:
    """(H * W,) 1 where a map shows one of these characters, else 0."""
    return np.array([character in characters for character in "".join(rows)], np.uint8)


def ground_of(rows: Map, movable: str = "A") -> Bytes:
    """(H * W,) characters of a map as numbers, with floor in place of those that are movable."""
    characters = "".join(" " if character in movable else character for character in "".join(rows))
    return np.frombuffer(characters.encode("ascii"), np.uint8).copy()


def moves_of(rows: Map, walls: str = "#") -> Bytes:
    """(H * W * 5,) where each action leads from each cell, at index ``5 * cell + action``.

    A move onto a wall or off the map leads back to where it began.
    """
    height, width = shape_of(rows)
    moves = np.empty((height, width, 5), np.uint8)
    for row in range(height):
        for column in range(width):
            for action, (down, right) in enumerate(MOVES):
                r, c = row + down, column + right
                free = 0 <= r < height and 0 <= c < width and rows[r][c] not in walls
                moves[row, column, action] = r * width + c if free else row * width + column
    return moves.ravel()
