"""EpisodeRecorder: a vector environment that keeps what every finished episode really saw, did and paid."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Episode:
    """One whole episode of T steps, in the environment's units."""

    observations: Array  # (T + 1, obs_dim), the last one included
    actions: Array  # (T, act_dim), as executed
    rewards: Array  # (T,)
    costs: Array  # (T,), >= 0
    margins: Array | None  # (T,), h of the state after each step
    terminal: bool  # whether the task ended it; otherwise only the time ran out

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def totals(self) -> tuple[float, float]:
        """(cost return, reward return), undiscounted."""
        return float(self.costs.sum(dtype=np.float64)), float(self.rewards.sum(dtype=np.float64))


class EpisodeRecorder(VecEnvWrapper):
    """Takes actions in [-1, 1], steps ``venv`` in its own units, and appends finished episodes to ``episodes``.

    Args:
        venv: SB3 vector environment with flat observations and a bounded box of actions, whose info has "cost".
    Raises: ValueError if the spaces are of another kind.
    """

    def __init__(self, venv: VecEnv) -> None:
        box = venv.action_space
        if not (isinstance(box, spaces.Box) and len(box.shape) == 1 and box.is_bounded()):
            raise ValueError(f"env: collection needs a bounded one-dimensional Box of actions; got {box}.")
        seen = venv.observation_space
        if not (isinstance(seen, spaces.Box) and len(seen.shape) == 1):
            raise ValueError(f"env: collection needs flat observations, a one-dimensional Box; got {seen}.")
        self._low, self._high = box.low.astype(np.float64), box.high.astype(np.float64)  # (act_dim,)
        super().__init__(
            venv,
            observation_space=spaces.Box(-np.inf, np.inf, seen.shape, np.float32),
            action_space=spaces.Box(-1.0, 1.0, box.shape, np.float32),
        )
        self.episodes: list[Episode] = []
        self._rows: list[list[tuple[Any, ...]]] = [[] for _ in range(self.num_envs)]
        self._first: list[Array] = []  # first observation of each running episode

    def take(self) -> list[Episode]:
        """The episodes finished since the last call, oldest first."""
        episodes, self.episodes = self.episodes, []
        return episodes

    def reset(self) -> NDArray[Any]:
        """Start all episodes anew; unfinished ones are dropped."""
        observations = np.asarray(self.venv.reset(), dtype=np.float32)
        self._rows = [[] for _ in range(self.num_envs)]
        self._first = list(observations.copy())
        return observations

    def step_async(self, actions: NDArray[Any]) -> None:
        """Send actions (B, act_dim) in [-1, 1]; what lies outside is clipped."""
        share = (np.clip(actions, -1.0, 1.0).astype(np.float64) + 1) / 2
        self._executed = (self._low + share * (self._high - self._low)).astype(np.float32)
        self.venv.step_async(self._executed)

    def step_wait(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], list[dict[str, Any]]]:
        """The step's results, unchanged; finished episodes are kept on the way."""
        observations, rewards, dones, infos = self.venv.step_wait()
        observations = np.asarray(observations, dtype=np.float32)  # the policy sees what the dataset will hold
        for i, info in enumerate(infos):
            if dones[i]:
                info["terminal_observation"] = np.asarray(info["terminal_observation"], dtype=np.float32)
            after = info["terminal_observation"] if dones[i] else observations[i]
            self._rows[i].append((after, self._executed[i], rewards[i], info["cost"], info.get("margin")))
            if dones[i]:
                self.episodes.append(self._episode(i, terminal=not info["TimeLimit.truncated"]))
                self._rows[i], self._first[i] = [], observations[i].copy()
        return observations, rewards, dones, infos

    def _episode(self, index: int, terminal: bool) -> Episode:
        after, actions, rewards, costs, margins = zip(*self._rows[index])
        known = all(margin is not None for margin in margins)
        return Episode(
            observations=np.stack([self._first[index], *after]),
            actions=np.stack(actions),
            rewards=np.asarray(rewards, dtype=np.float32),
            costs=np.asarray(costs, dtype=np.float32),
            margins=np.asarray(margins, dtype=np.float32) if known else None,
            terminal=terminal,
        )
