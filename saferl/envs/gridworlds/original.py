"""google-deepmind/ai-safety-gridworlds itself behind the same ids, observations and infos, where it is installed."""

import importlib
import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np

from saferl.envs.errors import MissingPackageError
from saferl.envs.gridworlds.catalogue import FAMILIES, VARIANTS
from saferl.envs.gridworlds.environment import Gridworld, Node

PATH_VARIABLE = "GRIDWORLDS_PATH"
HOW_TO_GET_IT = (
    "pip install pycolab six absl-py, and clone google-deepmind/ai-safety-gridworlds into a folder that "
    f"{PATH_VARIABLE} names"
)
WITHOUT_HIDDEN_REWARD = ("distributional_shift", "friend_foe", "whisky_gold")  # R* is R


class OriginalGridworld(Gridworld):
    """A gridworld of ``saferl.envs.gridworlds`` that the original package plays; see ``Gridworld``.

    R* is the original's own. The danger bit is not: saferl's rules follow the actions that were carried out. The
    package draws from numpy's global generator; here it is given one of its own, which ``reset(seed=...)`` seeds, but
    the draws of a seed are not those of the native gridworld.

    Args:
        name: a variant or a family.
        observation: as in ``Gridworld``.
        render_mode: as in ``Gridworld``.
        evaluation: as in ``Gridworld``.
        kwargs: arguments of the family.
    Raises: MissingPackageError in one line if the package or something that it needs is not installed; ValueError as
        ``Gridworld`` does, and for tomato_crmdp, which is not part of the package.
    """

    def __init__(
        self,
        name: str,
        observation: str = "board",
        render_mode: str | None = None,
        evaluation: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, observation, render_mode, evaluation, **kwargs)
        self._family, fixed = VARIANTS.get(name, (name, {}))
        self._arguments = {**fixed, **kwargs}
        if self._family not in FAMILIES or self._family == "tomato_crmdp":
            raise ValueError(f"{self.rules.name} is not part of the original package; use backend='native'.")
        self._make_original = factory()
        self._bits: Any = np.random.MT19937()
        self._original: Any = None
        self._followed = bytearray(self.rules.state_size)  # the state of saferl's rules, for the danger bit
        self._performance = 0.0
        self._ended = True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Observation and info of a new episode."""
        gymnasium.Env.reset(self, seed=seed)
        if seed is not None or self._original is None:
            self._bits = np.random.MT19937(int(self.np_random.integers(1 << 32)))
            with self._own_draws():
                self._original = self._make_original(self._family, **self._arguments)
            self._seen = _Characters(self._original)
        with self._own_draws():
            timestep = self._original.reset()
        self._performance, self._ended = 0.0, False
        node = self._node = Node(b"", self._view.of(self._seen.board))
        self._follow(self._seen.board)
        return self._fresh(node.observation), self._told(timestep, None, 0.0, False)

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Observation, reward R, terminated, truncated and info of one step."""
        if self._ended:
            raise gymnasium.error.ResetNeeded(
                f"{self.rules.name} needs reset() before the first step and after the end."
            )
        action = self._checked(action)
        with self._own_draws():
            timestep = self._original.step(action)
        extra = timestep.observation["extra_observations"]
        carried_out = int(extra.get("actual_actions", action))
        _, _, danger, _ = self.rules.step(self._tables, self._followed, carried_out, 0)
        performance = (
            self._original.episode_return
            if self._family in WITHOUT_HIDDEN_REWARD
            else self._original._get_hidden_reward()
        )
        hidden, self._performance = performance - self._performance, performance
        self._ended = timestep.last()
        terminated = self._ended and timestep.discount == 0
        node = self._node = Node(b"", self._view.of(self._seen.board))
        info = self._told(timestep, carried_out, hidden, danger)
        return self._fresh(node.observation), float(timestep.reward), terminated, self._ended and not terminated, info

    def _board(self, state: bytes) -> bytearray:
        return bytearray(self._seen.board)

    def _told(self, timestep: Any, carried_out: int | None, hidden: float, danger: bool) -> dict[str, Any]:
        """The info of a step, with what the package tells beside the board."""
        extra = timestep.observation["extra_observations"]
        known = {**self._original.environment_data, **extra}
        names = self.rules.side_information(self._tables, self._followed)
        beside = {name: type(value)(known.get(name) or 0) for name, value in names.items()}
        return {**self._common_info(carried_out, hidden, danger), **beside}

    def _follow(self, board: bytes) -> None:
        """Start saferl's rules on the board that the package has started on."""
        shown = bytearray(len(board))
        for outcome, _ in self.rules.starts() or [(0, 1.0)]:
            self.rules.start(self._tables, outcome, self._followed)
            self.rules.board(self._tables, self._followed, shown)
            if shown == board:
                return

    @contextmanager
    def _own_draws(self) -> Iterator[None]:
        """Numpy's global generator draws from this environment's own bits meanwhile."""
        others = np.random.mtrand.get_bit_generator()
        np.random.mtrand.set_bit_generator(self._bits)
        try:
            yield
        finally:
            np.random.mtrand.set_bit_generator(others)


class _Characters:
    """Stands in for what turns the package's boards into numbers, and keeps their characters as the agent sees them."""

    def __init__(self, original: Any) -> None:
        self.board = b""
        self._distiller = original._observation_distiller
        original._observation_distiller = self

    def __call__(self, observation: Any) -> Any:
        repaint = self._distiller._repainter
        self.board = (repaint(observation) if repaint else observation).board.tobytes()
        return self._distiller(observation)


def factory() -> Any:
    """The package's function that makes an environment by name, fit for current versions of Python and numpy.

    Raises: MissingPackageError in one line if the package or something that it needs is missing.
    """
    for folder in os.environ.get(PATH_VARIABLE, "").split(os.pathsep):
        if folder and folder not in sys.path:
            sys.path.append(folder)
    try:
        ascii_art = importlib.import_module("pycolab.ascii_art")
        package = importlib.import_module("ai_safety_gridworlds.helpers.factory")
        sokoban = importlib.import_module("ai_safety_gridworlds.environments.side_effects_sokoban")
    except ModuleNotFoundError as error:
        raise MissingPackageError(f"backend='original' needs {error.name}, not installed: {HOW_TO_GET_IT}.") from None
    # pycolab 1.2 stacks a generator and makes numbers of arrays; sokoban uses a name that numpy 2 has dropped
    vars(ascii_art)["ascii_art_to_uint8_nparray"] = _stacked
    vars(ascii_art)["int"] = lambda value: np.asarray(value).item()
    vars(sokoban)["np"] = types.SimpleNamespace(**vars(np), Inf=np.inf)
    return package.get_environment_obj


def _stacked(art: list[str]) -> np.ndarray:
    """(H, W) uint8 characters of the rows of a map."""
    return np.array([list(row.encode("ascii")) for row in art], np.uint8)
