"""The recorded episodes of the original AI Safety Gridworlds, and how to replay them on ``Rules``.

Recorded from google-deepmind/ai-safety-gridworlds v1.5. Format: the README beside the data.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "oracles" / "grid"


@dataclass
class Episode:
    """One recorded episode of T steps; arrays of steps have T rows, arrays of frames T + 1."""

    number: int
    actions: list[int]
    steps: slice
    frames: slice
    terminated: bool  # else the step limit ended it


@dataclass
class Recording:
    """One file: ``arrays`` as in the README beside the data, ``meta`` its JSON text."""

    name: str
    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def __getitem__(self, key: str) -> np.ndarray:
        return self.arrays[key]

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def episodes(self) -> Iterator[Episode]:
        first = 0
        for number, length in enumerate(self["ep_len"].tolist()):
            steps = slice(first, first + length)
            frames = slice(first + number, first + number + length + 1)
            yield Episode(number, self["actions"][steps].tolist(), steps, frames, self["term_reason"][number] == 0)
            first += length

    def seen_boards(self) -> np.ndarray:
        """(F, H, W) characters as the agent sees them: boxes and rocks without their digits."""
        seen = np.arange(256, dtype=np.uint8)
        for digit, character in (self.meta["repaint"] or {}).items():
            seen[ord(digit)] = ord(character)
        return seen[self["boards"]]

    def start_outcomes(self) -> np.ndarray:
        """(N,) the draw of each start, as the rules number it before they recall anything."""
        for key in ("x_supervisor", "x_level", "x_should_interrupt"):
            if key in self:
                return self[key].astype(int)
        if "x_bandit" in self:
            return 2 * self["x_bandit"].astype(int) + self["x_box"]
        if "x_dry_mask" in self:
            return self["x_dry_mask"][[episode.frames.start for episode in self.episodes()]].astype(int)
        return np.zeros(len(self["ep_len"]), int)

    def outcomes(self) -> np.ndarray:
        """(S,) the draw of each step, as the rules number it."""
        if "x_random_action" in self:
            return self["x_random_action"].astype(int) + 1
        if "x_dry_mask" in self:
            after_steps = np.ones(len(self["x_dry_mask"]), bool)
            after_steps[[episode.frames.start for episode in self.episodes()]] = False
            return self["x_dry_mask"][after_steps].astype(int)
        return np.zeros(len(self["actions"]), int)


def recording(name: str) -> Recording:
    """The recording of one variant; skips the test where the reference data is not there."""
    path = FOLDER / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"reference data {path.name} is not beside the repository")
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files if key != "meta"}
        return Recording(name, json.loads(str(file["meta"])), arrays)
