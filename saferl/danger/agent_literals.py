"""Literals about the agent: the tiles it enters, its route, its action, what is on the board and around it.

Each function yields (name, phrase, property) of the literals of one group, from the symbols on the boards.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from saferl.danger.moments import AGENT, DIRECTIONS, MOVES, Flags, Moments, Rows, counts
from saferl.envs.gridworlds.rules import ACTION_NAMES

ARROWS = {ord("^"): 0, ord("v"): 1, ord("<"): 2, ord(">"): 3}
NEAR = 1  # cells, to the nearest one along rows and columns


def _walkable(known: Moments) -> list[int]:
    """Symbols of cells that the agent can be on."""
    entered = set(np.unique(known.entered)) | set(np.unique(known.beneath_after))
    return [each for each in known.scene.symbols if each in entered and each not in known.scene.objects]


def tiles(known: Moments) -> Rows:
    """Entering, leaving and being on tiles."""
    for tile in _walkable(known):
        k = chr(tile)
        yield f"enters({k})", f"the agent enters {k}", partial(_enters, tile=tile)
        yield f"on({k})", f"the agent ends on {k}", partial(_on, tile=tile)
        yield f"first({k})", f"the agent enters {k} for the first time", partial(_enters_first, tile=tile)
        yield f"leaves({k})", f"the agent leaves {k}", partial(_leaves, tile=tile)
    if len([tile for tile in _walkable(known) if tile in ARROWS]) > 1:
        yield "along", "the agent enters an arrow along its direction", partial(_arrow, turned=0)
        yield "against", "the agent enters an arrow against its direction", partial(_arrow, turned=1)


def _on(m: Moments, tile: int) -> Flags:
    return m.beneath_after == tile


def _leaves(m: Moments, tile: int) -> Flags:
    return m.moved & (m.beneath == tile)


def _enters_first(m: Moments, tile: int) -> Flags:
    return _enters(m, tile) & ~m.visited[:, tile]


def _enters(m: Moments, tile: int) -> Flags:
    return m.moved & (m.entered == tile) & (m.beneath_after == tile)


def _direction(m: Moments) -> NDArray[np.int64]:
    """(N,) direction in which the agent's cell changed, -1 for none."""
    shift = np.sign(m.there - m.here)
    found = np.full(len(m), -1)
    for number, move in enumerate(MOVES):
        found[(shift == move).all(axis=1)] = number
    return found


def _arrow(m: Moments, turned: int) -> Flags:
    """Entering an arrow along (0) or against (1) its direction; ``^ v`` and ``< >`` are each other's opposites."""
    direction, holds = _direction(m), np.zeros(len(m), np.bool_)
    for arrow, along in ARROWS.items():
        holds |= (m.entered == arrow) & (direction == (along ^ turned))
    return holds


def routes(known: Moments) -> Rows:
    """Turning about the centre, and going back."""
    yield "clockwise", "the agent moves clockwise about the centre", lambda m: _turning(m) > 0
    yield "not_clockwise", "the agent does not move clockwise about the centre", lambda m: _turning(m) <= 0
    yield "counterclockwise", "the agent moves counter-clockwise about the centre", lambda m: _turning(m) < 0
    yield (
        "not_counterclockwise",
        "the agent does not move counter-clockwise about the centre",
        lambda m: _turning(m) >= 0,
    )
    yield "reverses", "the agent reverses its last move", _reverses


def _reverses(m: Moments) -> Flags:
    return m.moved & (m.move >= 0) & (_direction(m) == (m.move ^ 1))


def _turning(m: Moments) -> NDArray[np.float64]:
    """(N,) > 0 where the agent moves clockwise about the centre of the board, as seen with row 0 on top."""
    centre = (np.array(m.before.shape[1:]) - 1) / 2
    arm, shift = m.here - centre, m.there - m.here
    return arm[:, 1] * shift[:, 0] - arm[:, 0] * shift[:, 1]


def actions(known: Moments) -> Rows:
    """What was done, and which way it led."""
    yield "stays", "the agent does not move", lambda m: ~m.moved
    for number, direction in enumerate(DIRECTIONS):
        yield f"moves({direction})", f"the agent moves {direction}", partial(_moves_to, direction=number)
    for action in np.unique(known.actions):
        word = ACTION_NAMES[action] if action < len(ACTION_NAMES) else str(action)
        yield f"action({word})", f"the action is {word}", partial(_acts, action=int(action))


def _moves_to(m: Moments, direction: int) -> Flags:
    return np.asarray(_direction(m) == direction)


def _acts(m: Moments, action: int) -> Flags:
    return np.asarray(m.actions == action)


def contexts(known: Moments) -> Rows:
    """What is on the board, no more, or more or less of."""
    for symbol in known.scene.varying:
        k = chr(symbol)
        yield f"present({k})", f"{k} is on the board", partial(_shown, symbol=symbol)
        yield f"absent({k})", f"no {k} is on the board", partial(_absent, symbol=symbol)
        yield f"gone({k})", f"{k} was on the board at the start but is not now", partial(_gone, symbol=symbol)
    for symbol in known.scene.symbols:
        k = chr(symbol)
        yield f"rises({k})", f"more {k} are on the board than before", partial(_rises, symbol=symbol)
        yield f"falls({k})", f"fewer {k} are on the board than before", partial(_falls, symbol=symbol)


def _shown(m: Moments, symbol: int) -> Flags:
    """On the board before the step, or under the agent."""
    return (counts(m.before, symbol) > 0) | (m.beneath == symbol)


def _absent(m: Moments, symbol: int) -> Flags:
    return ~_shown(m, symbol)


def _gone(m: Moments, symbol: int) -> Flags:
    return (counts(m.first, symbol) > 0) & ~_shown(m, symbol)


def _rises(m: Moments, symbol: int) -> Flags:
    return _change(m, symbol) > 0


def _falls(m: Moments, symbol: int) -> Flags:
    return _change(m, symbol) < 0


def _change(m: Moments, symbol: int) -> NDArray[np.int64]:
    """How many more there are after the step, those under the agent counted."""
    hidden = [
        (tile == symbol) & (boards == AGENT).any(axis=(1, 2))
        for tile, boards in ((m.beneath, m.before), (m.beneath_after, m.after))
    ]
    return counts(m.after, symbol) + hidden[1] - counts(m.before, symbol) - hidden[0]


def surroundings(known: Moments) -> Rows:
    """Distances."""
    for symbol in known.scene.symbols:
        k = chr(symbol)
        yield f"near({k})", f"the agent ends next to {k}", partial(_near, symbol=symbol)
        if symbol not in known.scene.objects:
            yield f"farther({k})", f"the agent gets farther from {k}", partial(_farther, symbol=symbol)


def _near(m: Moments, symbol: int) -> Flags:
    return _distance(m, symbol, m.there) == NEAR


def _farther(m: Moments, symbol: int) -> Flags:
    return _distance(m, symbol, m.there) > _distance(m, symbol, m.here)


def _distance(m: Moments, symbol: int, cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) steps along rows and columns from ``cells`` (N, 2) to the nearest symbol before the step; large if none."""
    height, width = m.before.shape[1:]
    there = m.before == symbol
    there[np.arange(len(m)), m.here[:, 0], m.here[:, 1]] |= m.beneath == symbol
    rows, columns = np.indices((height, width))
    apart = np.abs(rows - cells[:, 0, None, None]) + np.abs(columns - cells[:, 1, None, None])
    return np.where(there, apart, height + width).min(axis=(1, 2))
