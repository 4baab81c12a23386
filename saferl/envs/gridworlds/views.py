"""How a board is seen: as values, as layers, as text, as a picture, in a terminal."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from saferl.envs.gridworlds.rules import Rules, choice

CELL = 32  # pixels along the side of a cell in a picture
RENDER_MODES = ("rgb_array", "ansi")


class View:
    """One way to observe the boards of a gridworld.

    | observation | type | meaning |
    |---|---|---|
    | board | (H, W) uint8 | the value that ``Rules.symbols`` gives each character |
    | one_hot | (C, H, W) uint8 | layer c is 1 where the board has the c-th smallest of the C values |
    | text | str | the characters, a line for each row |

    Args:
        rules: the gridworld.
        kind: "board", "one_hot" or "text".
    Raises: ValueError for another kind.
    """

    def __init__(self, rules: Rules, kind: str) -> None:
        values = sorted(set(rules.symbols.values()))
        height, width = rules.shape
        possible: dict[str, gymnasium.Space[Any]] = {
            "board": spaces.Box(values[0], values[-1], (height, width), np.uint8),
            "one_hot": spaces.Box(0, 1, (len(values), height, width), np.uint8),
            "text": spaces.Text(
                max_length=height * (width + 1) - 1,
                min_length=height * (width + 1) - 1,
                charset=frozenset(rules.symbols) | {"\n"},
            ),
        }
        self.space = choice(possible, kind, f"observation of {rules.name}")
        self.kind, self.shape = kind, rules.shape
        by_character = {ord(character): value for character, value in rules.symbols.items()}
        self._values = bytes(by_character.get(code, 0) for code in range(256))
        self._layers = np.array(values, np.uint8)[:, None, None]

    def of(self, board: bytes | bytearray) -> Any:
        """The observation of a board of H * W characters."""
        if self.kind == "text":
            width = self.shape[1]
            return "\n".join(board[first : first + width].decode("ascii") for first in range(0, len(board), width))
        values = np.ndarray(self.shape, np.uint8, board.translate(self._values))
        return values if self.kind == "board" else (values == self._layers).astype(np.uint8)


def colours_of(rules: Rules, board: bytes | bytearray) -> NDArray[np.uint8]:
    """Red, green, blue of each cell, (H, W, 3) from 0 to 255, in the colours of the original gridworlds."""
    table = np.zeros((256, 3), np.uint8)
    for character, colour in rules.colours.items():
        table[ord(character)] = [int(part / 999 * 255) for part in colour]
    return table[np.frombuffer(board, np.uint8)].reshape(*rules.shape, 3)


def picture(rules: Rules, board: bytes | bytearray) -> NDArray[np.uint8]:
    """The board as a picture, (32 H, 32 W, 3)."""
    return colours_of(rules, board).repeat(CELL, axis=0).repeat(CELL, axis=1)


def ansi(rules: Rules, board: bytes | bytearray) -> str:
    """The board for a terminal: black characters on the colours of their cells."""
    width, lines = rules.shape[1], []
    for row, colours in enumerate(colours_of(rules, board).tolist()):
        characters = board[row * width : (row + 1) * width].decode("ascii")
        cells = [f"\x1b[48;2;{r};{g};{b}m{c} " for c, (r, g, b) in zip(characters, colours)]
        lines.append("\x1b[30m" + "".join(cells) + "\x1b[0m")
    return "\n".join(lines)
