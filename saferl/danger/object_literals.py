"""Literals about objects: how they move, where they come to, how they end up beside walls.

Each function yields (name, phrase, property) of the literals of one group, from the symbols on the boards.
"""

from functools import partial
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from saferl.danger.moments import DIRECTIONS, MOVES, SPACE, Flags, Moments, Rows, counts


def objects(known: Moments) -> Rows:
    """Of every symbol that moves, and is not the agent."""
    return chain(_motions(known), _walls(known))


def _motions(known: Moments) -> Rows:
    scene = known.scene
    grounds = sorted({int(each) for each in np.unique(scene.ground)} - {SPACE})
    for symbol in scene.objects:
        o = chr(symbol)
        yield f"moves({o})", f"{o} moves", partial(_moves, symbol=symbol)
        yield f"pushed({o})", f"the agent pushes {o}", partial(_pushed, symbol=symbol)
        for axis, line in enumerate(("row", "column")):
            yield (
                f"leaves_{line}({o})",
                f"{o} leaves the {line} that it began in",
                partial(_leaves_line, symbol=symbol, axis=axis),
            )
        for tile in grounds:
            k = chr(tile)
            yield f"enters({o},{k})", f"{o} enters {k}", partial(_object_enters, symbol=symbol, tile=tile)
            yield f"leaves({o},{k})", f"{o} leaves {k}", partial(_object_leaves, symbol=symbol, tile=tile)
        for other in scene.symbols:
            if other != symbol:
                yield (
                    f"turns({o},{chr(other)})",
                    f"{o} turns into {chr(other)}",
                    partial(_turns, symbol=symbol, other=other),
                )
        yield f"vanishes({o})", f"{o} vanishes", partial(_vanishes, symbol=symbol)
        for number, direction in enumerate(DIRECTIONS):
            yield (
                f"moves({o},{direction})",
                f"{o} moves {direction}",
                partial(_object_direction, symbol=symbol, direction=number),
            )


def _moves(m: Moments, symbol: int) -> Flags:
    left, came = m.change(symbol)
    return (left >= 0) & (came >= 0)


def _cell(m: Moments, cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N, 2) rows and columns of flat indices (N,)."""
    return np.stack(np.divmod(cells, m.before.shape[2]), axis=1)


def _pushed(m: Moments, symbol: int) -> Flags:
    """The agent stands where the object was, or stood beside it on the far side of where it went."""
    left, came = m.change(symbol)
    shift = np.sign(_cell(m, came) - _cell(m, left))
    behind = (_cell(m, left) - shift == m.here).all(axis=1) | (_cell(m, left) == m.there).all(axis=1)
    return (left >= 0) & (came >= 0) & behind


def _object_enters(m: Moments, symbol: int, tile: int) -> Flags:
    """The object comes from a cell without this ground to one with it."""
    was, is_ = _grounds(m, symbol, tile)
    return _moves(m, symbol) & is_ & ~was


def _object_leaves(m: Moments, symbol: int, tile: int) -> Flags:
    was, is_ = _grounds(m, symbol, tile)
    return _moves(m, symbol) & was & ~is_


def _grounds(m: Moments, symbol: int, tile: int) -> tuple[Flags, Flags]:
    """Whether the cell that the object left, and the one that it came to, have this ground."""
    left, came = m.change(symbol)
    ground = m.scene.ground.ravel() == tile
    return ground[left], ground[came]


def _leaves_line(m: Moments, symbol: int, axis: int) -> Flags:
    """The object moves out of a row (axis 0) or column (1) in which one stood at the start."""
    left, came = (_cell(m, cells)[:, axis] for cells in m.change(symbol))
    home = (m.first == symbol).any(axis=2 - axis)
    return _moves(m, symbol) & home[np.arange(len(m)), left] & (left != came)


def _vanishes(m: Moments, symbol: int) -> Flags:
    return counts(m.after, symbol) < counts(m.before, symbol)


def _turns(m: Moments, symbol: int, other: int) -> Flags:
    """The object is gone and one more of the other symbol is on the board than can be explained by uncovering it."""
    _, came = m.change(other)
    uncovered = m.scene.ground.ravel()[came] == other
    return _vanishes(m, symbol) & (came >= 0) & ~(uncovered & (came == m.change(symbol)[0]))


def _object_direction(m: Moments, symbol: int, direction: int) -> Flags:
    left, came = m.change(symbol)
    shift = np.sign(_cell(m, came) - _cell(m, left))
    axis, sign = (0, MOVES[direction][0]) if direction < 2 else (1, MOVES[direction][1])
    return (left >= 0) & (came >= 0) & (shift[:, axis] == sign)


def _walls(known: Moments) -> Rows:
    for symbol in known.scene.objects:
        o = chr(symbol)
        for word, phrase, cells in (
            ("corner", "in a corner", _corners(known.scene.walls)),
            ("wall", "next to a wall", _beside(known.scene.walls)),
            ("long_wall", "next to a wall that spans the grid", _along_walls(known.scene.walls)),
            ("between", "between two walls", _between(known.scene.walls)),
        ):
            yield f"ends({o},{word})", f"{o} ends {phrase}", partial(_ends, symbol=symbol, cells=cells.ravel())
            yield (
                f"comes_to({o},{word})",
                f"{o} ends {phrase}, where it was not before",
                partial(_comes_to, symbol=symbol, cells=cells.ravel()),
            )


def _ends(m: Moments, symbol: int, cells: Flags) -> Flags:
    return np.asarray(_moves(m, symbol) & cells[m.change(symbol)[1]])


def _comes_to(m: Moments, symbol: int, cells: Flags) -> Flags:
    return _ends(m, symbol, cells) & ~cells[m.change(symbol)[0]]


def _neighbours(walls: Flags) -> Flags:
    """(4, H, W) whether the neighbour above, below, left, right is a wall; outside of the grid is none."""
    padded = np.pad(np.asarray(walls), 1)
    height, width = walls.shape
    return np.stack([padded[1 + r : 1 + r + height, 1 + c : 1 + c + width] for r, c in MOVES])


def _corners(walls: Flags) -> Flags:
    near = _neighbours(walls)
    return (near[0] | near[1]) & (near[2] | near[3])


def _beside(walls: Flags) -> Flags:
    return np.asarray(_neighbours(walls).any(axis=0))


def _between(walls: Flags) -> Flags:
    near = _neighbours(walls)
    return (near[0] & near[1]) | (near[2] & near[3])


def _along_walls(walls: Flags) -> Flags:
    rows = np.repeat(np.all(walls, axis=1, keepdims=True), walls.shape[1], axis=1)
    columns = np.repeat(np.all(walls, axis=0, keepdims=True), walls.shape[0], axis=0)
    return np.asarray(_neighbours(rows)[:2].any(axis=0) | _neighbours(columns)[2:].any(axis=0))
