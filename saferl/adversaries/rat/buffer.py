"""PreferenceBuffer: SB3's replay buffer whose rewards may change, and whose segments can be shown to a teacher."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer
from torch import Tensor


class PreferenceBuffer(ReplayBuffer):
    """Every step of a whole training, (T, B) in time and environments.

    Args:
        steps: T.
        observation_space, action_space: of the learner.
        carried_dim: entries of the action that the environment got.
        envs: B.
    Attributes:
        carried: (T, B, carried_dim) what the environment got, in [-1, 1] units; the learner's action may be another.
        scores: (T, B) true scores, which only a teacher may look at.
    """

    def __init__(
        self, steps: int, observation_space: spaces.Box, action_space: spaces.Box, carried_dim: int, envs: int
    ) -> None:
        super().__init__(steps * envs, observation_space, action_space, device="cpu", n_envs=envs)
        self.carried = np.zeros((steps, envs, carried_dim), np.float32)
        self.scores = np.zeros((steps, envs))

    def append(
        self,
        before: NDArray[np.float32],
        after: NDArray[np.float32],
        actions: NDArray[np.float32],
        carried: NDArray[np.float32],
        scores: NDArray[np.float64],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        rewards: NDArray[np.float32],
    ) -> None:
        """One step of B environments: features (B, obs_dim) of true observations before and behind it, and so on."""
        self.carried[self.pos], self.scores[self.pos] = carried, scores
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": bool(cut)} for cut in truncated & ~terminated]
        self.add(before, after, actions, rewards, terminated | truncated, infos)

    @property
    def filled(self) -> int:
        """Steps in time so far."""
        return self.buffer_size if self.full else self.pos

    def inputs(self) -> Tensor:
        """(filled, B, obs_dim + carried_dim) what rewards depend on."""
        count = self.filled
        return torch.as_tensor(np.concatenate([self.observations[:count], self.carried[:count]], axis=-1))

    def relabel(self, reward: Callable[[Tensor], Tensor]) -> None:
        """Set all rewards anew: ``reward`` of inputs (N, obs_dim + carried_dim) is (N,)."""
        rows = self.inputs()
        self.rewards[: self.filled] = reward(rows.flatten(0, 1)).numpy().reshape(rows.shape[:2])

    def segment_starts(self, length: int) -> NDArray[np.int64]:
        """(S, 2) time and environment from which ``length`` steps lie in one episode."""
        count = self.filled
        if count < length:
            return np.zeros((0, 2), np.int64)
        ends = np.concatenate([np.zeros((1, self.n_envs)), self.dones[:count].cumsum(axis=0)])  # (count + 1, B)
        within = ends[length - 1 : count] - ends[: count - length + 1] == 0  # no end before the last step
        return np.argwhere(within)

    def segments(self, starts: NDArray[np.int64], length: int) -> tuple[Tensor, NDArray[np.float64]]:
        """Inputs (M, length, obs_dim + carried_dim) and scores (M, length) of the segments from ``starts`` (M, 2)."""
        times = starts[:, :1] + np.arange(length)
        rows = np.concatenate([self.observations[times, starts[:, 1:]], self.carried[times, starts[:, 1:]]], axis=-1)
        return torch.as_tensor(rows), self.scores[times, starts[:, 1:]]
