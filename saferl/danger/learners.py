"""Plain learners on gridworlds, who maximise R and know of nothing else: what they do to R* is the thing to look at.

    policy = q_learning("saferl/BoatRace-v0", episodes=2000)
    returns(policy, "saferl/BoatRace-v0")  # R 50, R* well below 100

They learn through gymnasium's interface from what an agent sees; only ``returns`` asks for what is hidden.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm

import saferl.envs  # noqa: F401  registers the ids
from saferl.envs.gridworlds.finite_models import FiniteModel
from saferl.envs.gridworlds.finite_play import Play, best_play
from saferl.envs.gridworlds.rules import HORIZON

WIDTH = 64  # units of each of the two layers of a network


@dataclass(frozen=True)
class Policy:
    """What a learner has learnt.

    Args:
        act: gives the action for an observation.
        observation: the kind that it reads, "board" or "one_hot".
    """

    act: Callable[[Any], int]
    observation: str = "board"


@dataclass(frozen=True)
class Returns:
    """Means over episodes.

    Attributes:
        rewards: sum of R.
        hidden: sum of R*.
        danger: dangerous steps.
    """

    rewards: float
    hidden: float
    danger: float


def returns(policy: Policy, env_id: str, episodes: int = 100, seed: int = 0) -> Returns:
    """What a policy earns, what it should have earned, and how often it did what is dangerous.

    Args:
        policy: from one of the learners.
        env_id: of a gridworld.
        episodes: to play, at least 1.
        seed: of the first reset.
    Raises: ValueError for episodes < 1.
    """
    _check(episodes)
    env = gymnasium.make(env_id, observation=policy.observation, evaluation=True)
    totals = np.zeros(3)
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed if episode == 0 else None)
        over = False
        while not over:
            observation, reward, terminated, truncated, info = env.step(policy.act(observation))
            totals += float(reward), info["hidden"], info["danger_clean"]
            over = terminated or truncated
    return Returns(*(totals / episodes).tolist())


def value_iteration(model: FiniteModel, horizon: int = HORIZON) -> Play:
    """A learner who knows all there is to know of R: no policy earns more; of equal ones the one with the least R*."""
    return best_play(model, horizon)


def q_learning(
    env_id: str,
    episodes: int = 3000,
    seed: int = 0,
    *,
    step_size: float = 0.2,
    discount: float = 0.99,
    exploration: float = 1.0,
) -> Policy:
    """Tabular Q-learning (Watkins and Dayan, 1992) whose state is the board as seen, without the time.

    A new board begins with values 0. The limit of 100 steps does not count as an end.

    Args:
        env_id: of a gridworld; one with few boards.
        episodes: to play, at least 1.
        seed: of environment and learner.
        step_size: share of a new estimate in the value.
        discount: of the next value.
        exploration: share of random actions in the first episode, which falls linearly to 0 in the last.
    Returns: the greedy policy; at random on a board that was never seen.
    Raises: ValueError for episodes < 1.
    """
    _check(episodes)
    env = gymnasium.make(env_id, observation="board")
    assert isinstance(env.action_space, spaces.Discrete)
    actions = int(env.action_space.n)
    generator = np.random.default_rng(seed)
    values: dict[bytes, list[float]] = {}
    for episode in range(episodes):
        board, _ = env.reset(seed=seed if episode == 0 else None)
        here = values.setdefault(board.tobytes(), [0.0] * actions)
        share = exploration * (1 - episode / episodes)
        over = False
        while not over:
            action = int(generator.integers(actions)) if generator.random() < share else _greedy(here, generator)
            board, reward, terminated, truncated, _ = env.step(action)
            following = values.setdefault(board.tobytes(), [0.0] * actions)
            target = float(reward) + (0.0 if terminated else discount * max(following))
            here[action] += step_size * (target - here[action])
            here, over = following, terminated or truncated
    return Policy(lambda board: _greedy(values.get(board.tobytes(), [0.0] * actions), generator))


def _check(episodes: int) -> None:
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1; got {episodes}.")


def _greedy(values: list[float], generator: np.random.Generator) -> int:
    """The action of the greatest value, one of them at random where they are equal."""
    greatest = max(values)
    best = [action for action, value in enumerate(values) if value == greatest]
    return best[0] if len(best) == 1 else int(generator.choice(best))


def sb3_learner(name: Literal["dqn", "ppo"], env_id: str, steps: int = 100_000, seed: int = 0) -> Policy:
    """DQN or PPO of Stable-Baselines3 on the board in layers, with two layers of 64 units.

    Args:
        name: "dqn" or "ppo".
        env_id: of a gridworld.
        steps: of the environment.
        seed: of environment, networks and exploration.
    Returns: its deterministic policy.
    Raises: ValueError for another name.
    """
    env = FlattenObservation(gymnasium.make(env_id, observation="one_hot"))
    layers: dict[str, Any] = {"policy_kwargs": {"net_arch": [WIDTH, WIDTH]}, "seed": seed, "device": "cpu"}
    model: BaseAlgorithm
    if name == "dqn":
        model = DQN(
            "MlpPolicy", env, learning_rate=1e-3, buffer_size=steps, learning_starts=1000, target_update_interval=500,
            exploration_fraction=0.5, **layers,
        )  # fmt: skip
    elif name == "ppo":
        model = PPO("MlpPolicy", env, n_steps=1024, batch_size=256, ent_coef=0.01, **layers)
    else:
        raise ValueError(f"no learner {name!r}; allowed: dqn, ppo.")
    model.learn(steps)
    return Policy(lambda layers: int(model.predict(layers.ravel(), deterministic=True)[0]), "one_hot")
