"""Whole episodes as arrays, recorded while they are rolled out: for targets, critics and figures."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saferl.evaluation.rollout import Step


@dataclass(frozen=True)
class Trajectory:
    """One episode of T steps as it truly was, whatever the policy was made to see."""

    observations: NDArray[np.float32]  # (T + 1, obs_dim), the last one behind the last step
    actions: NDArray[np.float32]  # (T, act_dim) as carried out, in the environment's units
    own_actions: NDArray[np.float32]  # (T, act_dim) as the policy chose them, before noise that a rollout adds
    rewards: NDArray[np.float64]  # (T,)
    costs: NDArray[np.float64]  # (T,)
    terminated: bool  # false: time ran out

    def __len__(self) -> int:
        """Steps."""
        return len(self.rewards)


class Recorder:
    """A watcher of rollouts that keeps everything.

    Args:
        own_actions: gives what the policy chose at its last call, (B, act_dim); None: what was carried out.
    """

    def __init__(self, own_actions: Callable[[], NDArray[Any]] | None = None) -> None:
        self._steps: list[Step] = []
        self._own: list[NDArray[Any]] = []
        self._own_actions = own_actions

    def __call__(self, step: Step) -> None:
        """Keep a step."""
        self._steps.append(step)
        self._own.append(step.actions if self._own_actions is None else self._own_actions()[step.rows])

    def trajectories(self) -> list[Trajectory]:
        """The episodes, in the order of their seeds."""
        episodes = np.concatenate([step.episodes for step in self._steps])
        order = np.argsort(episodes, kind="stable")  # of one episode's steps, time's order stays
        cuts = np.flatnonzero(np.diff(episodes[order])) + 1

        def parts(key: str) -> list[NDArray[Any]]:
            return np.split(np.concatenate([getattr(step, key) for step in self._steps])[order], cuts)

        own = np.split(np.concatenate(self._own)[order], cuts)
        columns = [
            parts(key) for key in ("observations", "next_observations", "actions", "rewards", "costs", "terminated")
        ]
        return [
            Trajectory(
                np.concatenate([before, after[-1:]]),
                np.asarray(actions, np.float32),
                np.asarray(chosen, np.float32),
                rewards,
                costs,
                bool(terminated[-1]),
            )
            for chosen, before, after, actions, rewards, costs, terminated in zip(own, *columns, strict=True)
        ]


def returns_to_go(values: NDArray[np.float64], discount: float) -> NDArray[np.float64]:
    """Discounted sums (T,) of ``values`` (T,) from each step to the last."""
    sums = np.zeros(len(values) + 1)
    for t in range(len(values) - 1, -1, -1):
        sums[t] = values[t] + discount * sums[t + 1]
    return sums[:-1]
