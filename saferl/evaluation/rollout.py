"""Rollouts: whole episodes of a policy in vectorised environments, each with its own seed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from saferl.envs import full_id
from saferl.policy import FeedbackPolicy, Policy

MAX_ENVS = 32


@dataclass(frozen=True)
class Episodes:
    """What E whole episodes measured."""

    seeds: NDArray[np.int64]  # (E,) of each episode's reset
    returns: NDArray[np.float64]  # (E,) sum of rewards
    costs: NDArray[np.float64]  # (E,) sum of costs
    violations: NDArray[np.int64]  # (E,) steps with cost > 0
    lengths: NDArray[np.int64]  # (E,) steps
    successes: NDArray[np.bool_] | None = None  # (E,) whether the task's goal was reached, where the task says so

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.returns)


@dataclass(frozen=True)
class Step:
    """One step of the A environments whose episodes count, for who wants to see it as it happens."""

    rows: NDArray[np.int64]  # (A,) of the policy's batch
    episodes: NDArray[np.int64]  # (A,) index of each one's episode
    observations: NDArray[np.float32]  # (A, obs_dim) before the step
    actions: NDArray[Any]  # (A, act_dim) as carried out
    rewards: NDArray[np.float64]  # (A,)
    costs: NDArray[np.float64]  # (A,)
    next_observations: NDArray[np.float32]  # (A, obs_dim)
    terminated: NDArray[np.bool_]  # (A,)
    truncated: NDArray[np.bool_]  # (A,)


Watch = Callable[[Step], None]


def episode_seeds(seed: int, episodes: int) -> NDArray[np.int64]:
    """Seeds (episodes,) of the resets: seed, seed + 1, ...; the same for every policy, so starts can be paired."""
    return seed + np.arange(episodes, dtype=np.int64)


def rollout(
    policy: Policy,
    env_id: str,
    seeds: Sequence[int] | NDArray[np.int64],
    *,
    num_envs: int | None = None,
    vectorization: str = "sync",
    env_kwargs: dict[str, Any] | None = None,
    watch: Watch | None = None,
) -> Episodes:
    """One whole episode for each seed.

    An environment takes the next seed as soon as its episode ends, and every episode is run to its end, so that short
    ones are not counted more often than long ones.

    Args:
        policy: acts on batches of observations; its noise is restarted from the first seed.
        env_id: id or short name.
        seeds: of the episodes' resets, at least one.
        num_envs: environments that run side by side; None takes one for each episode, at most 32.
        vectorization: "sync" or "async" (one process for each environment).
        env_kwargs: arguments of the environment.
        watch: called after each step.
    Raises: ValueError if the policy's actions have the wrong shape or are not finite.
    """
    order = np.asarray(seeds, dtype=np.int64)
    if order.ndim != 1 or not len(order):
        raise ValueError(f"seeds must be a list of at least one seed; got shape {order.shape}.")
    count = min(num_envs or MAX_ENVS, len(order))
    mode = {"autoreset_mode": AutoresetMode.DISABLED}
    envs = gymnasium.make_vec(
        full_id(env_id), count, vectorization_mode=vectorization, vector_kwargs=mode, **(env_kwargs or {})
    )
    try:
        return _run(policy, envs, order, watch)
    finally:
        envs.close()


# Any: VectorEnv declares one seed, while both of its subclasses take one for each environment.
def _run(policy: Policy, envs: Any, seeds: NDArray[np.int64], watch: Watch | None) -> Episodes:
    width, total = envs.num_envs, len(seeds)
    episode = np.arange(width)  # (width,) index of the episode that each environment is in; >= total: idle
    following = width
    returns, costs = np.zeros(total), np.zeros(total)
    violations, lengths = np.zeros(total, np.int64), np.zeros(total, np.int64)
    successes: NDArray[np.bool_] | None = None
    observations, _ = envs.reset(seed=[int(each) for each in seeds[:width]])
    policy.reset(seed=int(seeds[0]))
    while (active := episode < total).any():
        before = np.array(observations, np.float32)  # a copy, which the environments won't write to
        actions = _checked_actions(policy.act(before), envs)
        observations, rewards, terminated, truncated, info = envs.step(actions)
        if isinstance(policy, FeedbackPolicy):
            policy.observe(np.asarray(rewards, np.float64), np.asarray(info["cost"], np.float64))
        now = episode[active]
        step_costs = np.asarray(info["cost"], np.float64)[active]
        returns[now] += rewards[active]
        costs[now] += step_costs
        violations[now] += step_costs > 0
        lengths[now] += 1
        if "is_success" in info:
            successes = np.zeros(total, np.bool_) if successes is None else successes
            successes[now] |= np.asarray(info["is_success"], np.bool_)[active]
        if watch is not None:
            watch(
                Step(
                    rows=np.flatnonzero(active),
                    episodes=now,
                    observations=before[active],
                    actions=actions[active],
                    rewards=np.asarray(rewards, np.float64)[active],
                    costs=step_costs,
                    next_observations=np.array(observations, np.float32)[active],
                    terminated=terminated[active],
                    truncated=truncated[active],
                )
            )
        ended = terminated | truncated
        if ended.any():
            episode[ended] = following + np.arange(ended.sum())
            following += int(ended.sum())
            if (episode < total).any():
                # Idle environments are reset too (gymnasium steps all of them); nothing of theirs is counted.
                again = [int(seeds[each % total]) for each in episode]
                observations, _ = envs.reset(seed=again, options={"reset_mask": ended})
                policy.reset(mask=ended)
    return Episodes(seeds, returns, costs, violations, lengths, successes)


def _checked_actions(actions: NDArray[Any], envs: gymnasium.vector.VectorEnv[Any, Any, Any]) -> NDArray[Any]:
    """The actions (B, act_dim) inside the box. Raises: ValueError for a wrong shape or a value that is not finite."""
    space = envs.action_space
    array = np.asarray(actions)
    if array.shape != space.shape:
        raise ValueError(f"the policy gave actions of shape {array.shape}; the environment needs {space.shape}.")
    if not np.isfinite(array).all():
        raise ValueError("the policy gave an action that is NaN or infinite.")
    if isinstance(space, gymnasium.spaces.Box):
        return np.clip(array, space.low, space.high).astype(space.dtype)
    return array
