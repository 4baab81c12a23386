"""ICU-Sepsis, thousands of patients at a time: a gymnasium vector environment."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from saferl.envs.icu_sepsis.environment import TIME_LIMIT, ICUSepsis, action_indices
from saferl.envs.icu_sepsis.model import ACTIONS, LIVE, STATES, SURVIVAL, Array


class BatchedICUSepsis(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """Many patients in one call: what ``gymnasium.make_vec("saferl/ICUSepsis-v0", num_envs=4096)`` makes.

    Patient i is exactly the i-th of a ``SyncVectorEnv`` of ``ICUSepsis`` with the same seeds. Autoreset is gymnasium's
    NEXT_STEP: the step after an episode's last ignores the action and returns the first observation of a new patient,
    with reward 0 and cost 0.

    Args:
        num_envs: number of patients N >= 1.
        max_episode_steps: an episode is truncated after this many steps.
        discrete, cost, render_mode: as of ``ICUSepsis``.
    Attributes:
        states: (N,) numbers of the patients' states.
    Raises: as ``ICUSepsis``, and ValueError for a number of patients or steps below 1.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012  gymnasium's declaration

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int = TIME_LIMIT,
        discrete: bool = False,
        cost: str = "sofa",
        render_mode: str | None = None,
    ) -> None:
        if num_envs < 1 or max_episode_steps < 1:
            raise ValueError(
                f"num_envs and max_episode_steps must be at least 1; got {num_envs} and {max_episode_steps}."
            )
        single = ICUSepsis(discrete, cost, render_mode)
        self.model, self.discrete, self.render_mode = single.model, discrete, None
        self.num_envs, self.max_episode_steps = num_envs, max_episode_steps
        self.single_observation_space, self.single_action_space = single.observation_space, single.action_space
        self.observation_space = batch_space(single.observation_space, num_envs)
        self.action_space = batch_space(single.action_space, num_envs)
        self.states = np.full(num_envs, STATES - 1)
        self._costs, self._starts = self.model.costs(cost), self.model.start.cumsum()
        self._elapsed = np.zeros(num_envs, np.int64)  # steps of the current episodes
        self._ended = np.zeros(num_envs, np.bool_)  # patients that are new at the next step
        self._generators: list[np.random.Generator] = []

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """N new patients; patient i gets seed + i, or its own of a sequence; None goes on with the generators."""
        seeds: list[int | None]
        if seed is None or isinstance(seed, (int, np.integer)):
            seeds = [None if seed is None else int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"{self.num_envs} patients need one seed or {self.num_envs}; got {len(seeds)}.")
        if options:
            raise ValueError(f"many patients take no options; got {', '.join(options)}.")
        begun = bool(self._generators)
        self._generators = [
            self._generators[i] if begun and s is None else gymnasium.utils.seeding.np_random(s)[0]
            for i, s in enumerate(seeds)
        ]
        self.states = self._starts.searchsorted(self._uniform(), side="right")
        self._elapsed[:], self._ended[:] = 0, False
        return self._seen(), self._infos(np.zeros(self.num_envs), np.ones(self.num_envs, np.bool_))

    def step(self, actions: ArrayLike) -> tuple[Any, Array, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Four hours under actions (N, 2), or with ``discrete`` (N,); ended patients are replaced instead."""
        chosen = np.asarray(actions) if self.discrete else action_indices(actions)
        if chosen.shape != (self.num_envs,) or not ((chosen >= 0) & (chosen < ACTIONS)).all():
            raise ValueError(f"{self.num_envs} patients need as many actions, 0 to {ACTIONS - 1}; got {chosen}.")
        new, draws = self._ended, self._uniform()
        costs = np.where(new, 0.0, self._costs[self.states, chosen])
        admissible = new | self.model.admissible[self.states, chosen]
        following = self.model.draw(self.model.rows[self.states, chosen], draws)
        self.states = np.where(new, self._starts.searchsorted(draws, side="right"), following)
        self._elapsed = np.where(new, 0, self._elapsed + 1)
        terminated, truncated = self.states >= LIVE, self._elapsed >= self.max_episode_steps
        self._ended = terminated | truncated
        rewards = (self.states == SURVIVAL).astype(np.float64)
        return self._seen(), rewards, terminated, truncated, self._infos(costs, admissible)

    def _uniform(self) -> Array:
        """One number (N,) in [0, 1) of each patient's own generator."""
        return np.array([generator.random() for generator in self._generators])

    def _seen(self) -> NDArray[Any]:
        return self.states.copy() if self.discrete else self.model.observations[self.states]

    def _infos(self, costs: Array, admissible: NDArray[np.bool_]) -> dict[str, Any]:
        """The infos in gymnasium's vector form: an array per key, and a mask of who has it."""
        values = {
            "cost": costs,
            "state": self.states.copy(),
            "sofa": self.model.sofa[self.states],
            "admissible": admissible,
            "is_success": self.states == SURVIVAL,
        }
        return {**values, **{f"_{key}": np.ones(self.num_envs, np.bool_) for key in values}}
