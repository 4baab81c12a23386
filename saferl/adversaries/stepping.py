"""SeededEnvs: environments side by side that begin the next seeded episode as soon as one ends."""

from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from saferl.envs import full_id

Floats = NDArray[np.float32]


class Steps(NamedTuple):
    """N steps as they truly were, in the environment's units."""

    observations: Floats  # (N, obs_dim) before
    actions: Floats  # (N, act_dim) as carried out
    rewards: NDArray[np.float64]  # (N,)
    costs: NDArray[np.float64]  # (N,)
    next_observations: Floats  # (N, obs_dim) behind the step, the last one of an episode included
    terminated: NDArray[np.bool_]  # (N,)
    truncated: NDArray[np.bool_]  # (N,)

    @property
    def ended(self) -> NDArray[np.bool_]:
        """(N,) whether the episode is over."""
        return self.terminated | self.truncated


class SeededEnvs:
    """Environments whose episodes are reset with ``seed``, ``seed`` + 1, ...

    Args:
        env_id, env_kwargs: of the environments.
        count: how many.
        seed: of the first episode.
    Attributes:
        observations: (B, obs_dim) that wait for an action.
        low, high: (act_dim,) the action box.
    """

    def __init__(self, env_id: str, env_kwargs: dict[str, Any], count: int, seed: int) -> None:
        mode = {"autoreset_mode": AutoresetMode.DISABLED}
        # Any: VectorEnv declares one seed, while its subclasses take one for each environment.
        self._envs: Any = gymnasium.make_vec(
            full_id(env_id), count, vectorization_mode="sync", vector_kwargs=mode, **env_kwargs
        )
        self.count, self._first, self._episodes = count, seed, 0
        box: Any = self._envs.single_action_space
        self.low, self.high = box.low, box.high
        self.observations: Floats = np.zeros((count, 0), np.float32)

    def reset(self) -> Floats:
        """Begin all episodes anew; observations (B, obs_dim)."""
        observations, _ = self._envs.reset(seed=self._next_seeds())
        self.observations = np.array(observations, np.float32)
        return self.observations

    def step(self, actions: NDArray[Any]) -> Steps:
        """Carry out actions (B, act_dim), clipped to the box; ``observations`` are then those of the next step."""
        before, taken = self.observations, np.clip(actions, self.low, self.high)
        after, rewards, terminated, truncated, info = self._envs.step(taken)
        steps = Steps(
            before,
            np.asarray(taken, np.float32),
            np.asarray(rewards, np.float64),
            np.asarray(info["cost"], np.float64),
            np.array(after, np.float32),
            np.asarray(terminated),
            np.asarray(truncated),
        )
        self.observations = steps.next_observations
        if steps.ended.any():
            fresh, _ = self._envs.reset(seed=self._next_seeds(), options={"reset_mask": steps.ended})
            self.observations = np.where(steps.ended[:, None], np.asarray(fresh, np.float32), self.observations)
        return steps

    def _next_seeds(self) -> list[int]:
        first = self._first + self._episodes
        self._episodes += self.count
        return list(range(first, first + self.count))

    def close(self) -> None:
        """Close the environments."""
        self._envs.close()
