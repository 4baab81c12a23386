"""The store of episodes: one file per stage, thinning over (cost return, reward return), and the final dataset."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from saferl.offline_data.collection.files import write_atomically
from saferl.offline_data.collection.recorder import Episode


@dataclass(frozen=True)
class Kept:
    """An episode and the name of the policy that made it, as in "training", "mean action" or "random"."""

    episode: Episode
    source: str


def thinned(
    costs: NDArray[Any], returns: NDArray[Any], target: int, generator: np.random.Generator
) -> NDArray[np.intp]:
    """Rows that stay when the densest cells are thinned until ``target`` episodes are left.

    The rectangle of all (cost return, reward return) is cut into ceil(sqrt(target)) cells a side, so that there are
    about as many cells as episodes wanted. One episode at a time is taken at random from the cell that holds most, of
    several such cells from one at random: no sparse cell loses any before the dense ones are down to its size.

    Args:
        costs, returns: (n,) of each episode.
        target: number of episodes wanted; all stay if there are no more than that.
        generator: for the episodes taken.
    Returns: (min(n, target),) ascending row numbers.
    """
    count = len(costs)
    if count <= target:
        return np.arange(count)
    side = int(np.ceil(np.sqrt(target)))
    cells = _bins(np.asarray(costs, dtype=np.float64), side) * side + _bins(np.asarray(returns, dtype=np.float64), side)
    members = [list(generator.permutation(np.flatnonzero(cells == cell))) for cell in np.unique(cells)]
    sizes = np.array([len(rows) for rows in members])
    for _ in range(count - target):
        densest = int(generator.choice(np.flatnonzero(sizes == sizes.max())))
        members[densest].pop()
        sizes[densest] -= 1
    return np.sort(np.array([row for rows in members for row in rows], dtype=np.intp))


def _bins(values: NDArray[np.float64], side: int) -> NDArray[np.intp]:
    width = values.max() - values.min()
    if width == 0:
        return np.zeros(len(values), dtype=np.intp)
    return np.minimum((values - values.min()) / width * side, side - 1).astype(np.intp)


def save_episodes(path: Path, kept: Sequence[Kept], notes: dict[str, Any]) -> None:
    """Write the episodes of one stage to ``path`` (safetensors), with ``notes`` in its header."""
    sources = sorted({item.source for item in kept})
    episodes = [item.episode for item in kept]
    arrays: dict[str, NDArray[Any]] = {
        "lengths": np.array([len(episode) for episode in episodes], dtype=np.int64),
        "terminals": np.array([episode.terminal for episode in episodes], dtype=np.uint8),
        "sources": np.array([sources.index(item.source) for item in kept], dtype=np.int64),
        "totals": np.array([episode.totals for episode in episodes], dtype=np.float64).reshape(-1, 2),
    }
    for key in ("observations", "actions", "rewards", "costs", "margins"):
        parts = [getattr(episode, key) for episode in episodes]
        if parts and all(part is not None for part in parts):
            arrays[key] = np.concatenate(parts)
    header = {"sources": json.dumps(sources), "notes": json.dumps(notes)}
    write_atomically(path, lambda temporary: save_file(arrays, temporary, header))


class StageFile:
    """Reads what ``save_episodes`` wrote; single episodes are read from the disk when asked for.

    Raises: ValueError naming the file if it is not such a file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with safe_open(path, "numpy") as file:
                header = file.metadata()
                self.lengths, self._terminals = file.get_tensor("lengths"), file.get_tensor("terminals")
                self.totals: NDArray[np.float64] = file.get_tensor("totals")  # (E, 2) cost return, reward return
                self._keys = set(file.keys())
                numbers = file.get_tensor("sources")
            names = json.loads(header["sources"])
            self.sources: list[str] = [names[number] for number in numbers]
            self.notes: dict[str, Any] = json.loads(header["notes"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not a stage of a collection ({error}); delete it and resume.") from error
        self._starts = np.concatenate([[0], np.cumsum(self.lengths)])

    def episodes(self, rows: NDArray[np.intp]) -> list[Episode]:
        """The episodes at ``rows``, in that order."""
        with safe_open(self.path, "numpy") as file:
            slices = {key: file.get_slice(key) for key in self._keys - {"lengths", "terminals", "sources", "totals"}}
            return [self._episode(slices, int(row)) for row in rows]

    def _episode(self, slices: dict[str, Any], row: int) -> Episode:
        start, stop = int(self._starts[row]), int(self._starts[row + 1])
        return Episode(
            observations=slices["observations"][start + row : stop + row + 1],  # one more than steps in each episode
            actions=slices["actions"][start:stop],
            rewards=slices["rewards"][start:stop],
            costs=slices["costs"][start:stop],
            margins=slices["margins"][start:stop] if "margins" in slices else None,
            terminal=bool(self._terminals[row]),
        )


def transitions(episodes: Sequence[Episode]) -> dict[str, NDArray[Any]]:
    """The arrays of an OfflineDataset: the episodes one after another, N steps in all.

    Returns: observations, next_observations (N, obs_dim), actions (N, act_dim), rewards, costs (N,) float32;
    terminals, timeouts (N,) bool; margins (N,) float32 where every episode has them.
    """
    ends = np.cumsum([len(episode) for episode in episodes]) - 1
    terminal = np.array([episode.terminal for episode in episodes])
    flags = np.zeros((2, int(ends[-1]) + 1), dtype=bool)
    flags[0, ends], flags[1, ends] = terminal, ~terminal
    arrays: dict[str, NDArray[Any]] = {
        "observations": np.concatenate([episode.observations[:-1] for episode in episodes]),
        "next_observations": np.concatenate([episode.observations[1:] for episode in episodes]),
        "actions": np.concatenate([episode.actions for episode in episodes]),
        "rewards": np.concatenate([episode.rewards for episode in episodes]),
        "costs": np.concatenate([episode.costs for episode in episodes]),
        "terminals": flags[0],
        "timeouts": flags[1],
    }
    margins = [episode.margins for episode in episodes if episode.margins is not None]
    if len(margins) == len(episodes):
        arrays["margins"] = np.concatenate(margins)
    return arrays
