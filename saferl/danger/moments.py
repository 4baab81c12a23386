"""Steps of episodes as arrays, and what is remembered of an episode: all that literals may look at.

Only boards, actions and the order of steps come in. The agent is ``A``; where a tile is drawn over it (water, a
switch), its place is the one that its last action leads to.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saferl.danger.specification import Board, Episode, Step

AGENT, WALL, SPACE = ord("A"), ord("#"), ord(" ")
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # rows and columns of up, down, left, right
DIRECTIONS = ("north", "south", "west", "east")
Flags = NDArray[np.bool_]


class Memory(NamedTuple):
    """What an agent remembers of its episode beside the board in front of it.

    Attributes:
        row, column: its cell.
        beneath: code of the tile it stands on, a space where that isn't known.
        visited: codes of the tiles that it entered before.
        move: direction of its last move, -1 if there was none.
    """

    row: int
    column: int
    beneath: int
    visited: frozenset[int]
    move: int


@dataclass(frozen=True, eq=False)
class Scene:
    """What boards of one environment have in common.

    Attributes:
        symbols: codes shown anywhere, without agent, wall and space.
        objects: those of them that move from cell to cell.
        walls: (H, W) bool, cells that are always wall.
        ground: (H, W) codes, what a cell shows most often of what neither moves nor is the agent; space if nothing.
        varying: symbols that some boards show and others do not.
    """

    symbols: tuple[int, ...]
    objects: tuple[int, ...]
    walls: Flags
    ground: NDArray[np.uint8]
    varying: tuple[int, ...]


def scene_of(before: NDArray[np.uint8], after: NDArray[np.uint8], first: NDArray[np.uint8]) -> Scene:
    """What boards have in common.

    An object is a symbol that in some step leaves one cell and appears in one where no episode began with it. Where two
    symbols change places (a box and the tile it is pushed onto), the rarer one is the object.

    Args:
        before, after: (N, H, W) boards of steps.
        first: (E, H, W) boards that episodes began with.
    """
    boards = np.concatenate([first, before, after])
    symbols = tuple(int(each) for each in np.unique(boards) if each not in (AGENT, WALL, SPACE))
    present = {symbol: (boards == symbol).any(axis=(1, 2)) for symbol in symbols}
    objects = [symbol for symbol in symbols if _travels(symbol, before, after, first)]
    ground = np.full(boards.shape[1:], SPACE, np.uint8)
    most = np.zeros(ground.shape, np.int64)
    for symbol in symbols:
        if symbol not in objects:
            count = (boards == symbol).sum(axis=0)
            ground[count > most] = symbol
            most = np.maximum(most, count)
    return Scene(
        symbols,
        tuple(objects),
        (boards == WALL).all(axis=0),
        ground,
        tuple(symbol for symbol in symbols if not present[symbol].all()),
    )


def _travels(symbol: int, before: NDArray[np.uint8], after: NDArray[np.uint8], first: NDArray[np.uint8]) -> bool:
    home = (first == symbol).any(axis=0)
    was, is_ = before == symbol, after == symbol
    uncovered = is_ & (before == AGENT)
    gained, lost = is_ & ~was & ~uncovered, was & ~is_
    moved = (gained.sum(axis=(1, 2)) == 1) & (lost.sum(axis=(1, 2)) == 1) & (gained & ~home).any(axis=(1, 2))
    for step in np.flatnonzero(moved):
        there, here = before[step][gained[step]][0], after[step][lost[step]][0]
        if there != here or there in (SPACE, AGENT) or was[step].sum() < (before[step] == there).sum():
            return True
    return False


def first_memory(first: Board) -> Memory:
    """What is remembered at the start of an episode. Raises: ValueError if the board shows no agent."""
    at = first.tobytes().find(AGENT)
    if at < 0:
        raise ValueError("the first board of an episode must show the agent, A.")
    return Memory(at // first.shape[1], at % first.shape[1], SPACE, frozenset(), -1)


def next_memory(scene: Scene, memory: Memory, before: Board, action: int, after: Board) -> Memory:
    """What is remembered after one more step."""
    row, column = _place(scene, memory, action, after)
    moved = (row, column) != (memory.row, memory.column)
    beneath, visited, move = memory.beneath, memory.visited, memory.move
    if moved:
        entered = int(before[row, column])
        beneath = SPACE if entered in scene.objects else entered
        visited = visited if beneath == SPACE else visited | {beneath}
        move = _direction(row - memory.row, column - memory.column)
    if after[row, column] != AGENT:  # a tile drawn over the agent
        beneath = int(after[row, column])
    return Memory(row, column, beneath, visited, move)


def _place(scene: Scene, memory: Memory, action: int, after: Board) -> tuple[int, int]:
    """Where the agent is; if it is hidden, where it wanted to go, unless that cell can't hide it."""
    at = after.tobytes().find(AGENT)
    if at >= 0:
        return at // after.shape[1], at % after.shape[1]
    if 0 <= action < len(MOVES):
        row, column = memory.row + MOVES[action][0], memory.column + MOVES[action][1]
        if 0 <= row < after.shape[0] and 0 <= column < after.shape[1]:
            shown = int(after[row, column])
            if shown not in (WALL, SPACE) and shown not in scene.objects:
                return row, column
    return memory.row, memory.column


def _direction(rows: int, columns: int) -> int:
    if abs(rows) >= abs(columns):
        return 0 if rows < 0 else 1
    return 2 if columns < 0 else 3


@dataclass(frozen=True, eq=False)
class Moments:
    """N steps, each with what was remembered before it.

    Attributes:
        scene: of the environment.
        before, after, first: (N, H, W) boards.
        actions: (N,).
        index: (N,) number of the step in its episode.
        here, there: (N, 2) cell of the agent before and after the step.
        beneath, beneath_after: (N,) code of the tile that it stands on, before and after.
        visited: (N, 128) bool, codes of tiles that it had entered before the step.
        move: (N,) direction of the last move before the step, -1 for none.
    """

    scene: Scene
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    first: NDArray[np.uint8]
    actions: NDArray[np.int64]
    index: NDArray[np.int64]
    here: NDArray[np.int64]
    there: NDArray[np.int64]
    beneath: NDArray[np.uint8]
    beneath_after: NDArray[np.uint8]
    visited: Flags
    move: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def moved(self) -> Flags:
        """(N,) whether the agent's cell changed."""
        return (self.here != self.there).any(axis=1)

    @property
    def entered(self) -> NDArray[np.uint8]:
        """(N,) code that the cell moved to showed before, 0 where the agent didn't move."""
        shown = self.before[np.arange(len(self)), self.there[:, 0], self.there[:, 1]]
        return np.where(self.moved, shown, 0).astype(np.uint8)

    def change(self, symbol: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Cells that a symbol left and came to: two arrays (N,) of flat indices, -1 unless it was exactly one."""
        was, is_ = ((each == symbol).reshape(len(self), -1) for each in (self.before, self.after))
        cells = []
        for changed in (was & ~is_, is_ & ~was):
            cells.append(np.where(changed.sum(axis=1) == 1, changed.argmax(axis=1), -1))
        return cells[0], cells[1]


Property = Callable[[Moments], Flags]  # (N,) of N moments
Rows = Iterator[tuple[str, str, Property]]  # name, phrase and property of literals


def moments(
    scene: Scene,
    boards: Sequence[tuple[Board, Board, Board]],
    actions: Iterable[int],
    index: Iterable[int],
    memories: Sequence[tuple[Memory, Memory]],
) -> Moments:
    """Arrays of single steps.

    Args:
        scene: of the environment.
        boards: before, after and first of each step.
        actions: of each.
        index: of each.
        memories: before and after each.
    """
    visited = np.zeros((len(memories), 128), np.bool_)
    for row, (memory, _) in enumerate(memories):
        visited[row, list(memory.visited)] = True
    before, after, first = (np.stack([each[part] for each in boards]) for part in range(3))
    return Moments(
        scene=scene,
        before=before,
        after=after,
        first=first,
        actions=np.fromiter(actions, np.int64),
        index=np.fromiter(index, np.int64),
        here=np.array([(one.row, one.column) for one, _ in memories], np.int64),
        there=np.array([(two.row, two.column) for _, two in memories], np.int64),
        beneath=np.array([one.beneath for one, _ in memories], np.uint8),
        beneath_after=np.array([two.beneath for _, two in memories], np.uint8),
        visited=visited,
        move=np.array([one.move for one, _ in memories], np.int64),
    )


def moments_of_episodes(scene: Scene, episodes: Sequence[Episode]) -> Moments:
    """Arrays of all steps of whole episodes, one after the other."""
    steps = [step for episode in episodes for step in episode.steps]
    memories = []
    for episode in episodes:
        memories += _memories(scene, episode.steps)
    return _of_steps(scene, steps, memories)


@lru_cache(maxsize=512)  # the literals of one step are asked for one after the other
def moment_of_step(scene: Scene, step: Step) -> Moments:
    """Arrays of length 1; the steps before it are looked up through ``Step.previous``."""
    chain = [step]
    while chain[-1].previous is not None:
        chain.append(chain[-1].previous)
    return _of_steps(scene, [step], _memories(scene, chain[::-1])[-1:])


def _of_steps(scene: Scene, steps: Sequence[Step], memories: list[tuple[Memory, Memory]]) -> Moments:
    boards = [(step.before, step.after, step.first) for step in steps]
    return moments(scene, boards, (step.action for step in steps), (step.index for step in steps), memories)


def _memories(scene: Scene, steps: Sequence[Step]) -> list[tuple[Memory, Memory]]:
    memory = first_memory(steps[0].first)
    pairs = []
    for step in steps:
        before, memory = memory, next_memory(scene, memory, step.before, step.action, step.after)
        pairs.append((before, memory))
    return pairs


def counts(boards: NDArray[np.uint8], symbol: int) -> NDArray[np.int64]:
    """(N,) how many cells of each board (N, H, W) show the symbol."""
    return (boards == symbol).sum(axis=(1, 2))
