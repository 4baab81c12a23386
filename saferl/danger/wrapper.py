"""DangerSignal: an environment whose ``info`` tells one bit of danger a step, and nothing else that is hidden.

env = DangerSignal(saferl.envs.make("point_robot"), MarginAbove(-0.1), parse_noise("fp", p=0.1), seed=0)
envs = gymnasium.make_vec("SafetyPointGoal1-v0", 4, "async", wrappers=[partial(DangerSignal, oracle=CostAbove())])
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from saferl.danger.noise import Noise, pair_words, splitmix64
from saferl.danger.oracles import Oracle, Transition

HIDDEN = ("cost", "margin", "danger", "hidden")  # keys of info that begin so are kept from the learner


class DangerSignal(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Adds ``info["danger"]``, 0 or 1: the oracle's bit of the step under noise. A reset gives 0.

    A learner can't reach the truth through the step interface: of ``info``, the keys that begin with cost, margin,
    danger or hidden are left out, and ``info["cost"]``, which every environment has, is the noisy bit as a float, so
    that learners of constrained problems train from it. Observation, reward and ends stay bit for bit as they are.

    The noise of a step has the key (``noise_seed``, episode, step). Episodes are counted from 0 over the life of the
    wrapper, those without a step left out, and a seeded reset does not start them again: a learner that seeds each
    episode sees the noise of one that does so once. ``noise_seed`` is ``seed``, joined with the seed of the first
    reset if that had one: so the environments of a vector that is reset with a seed, each of which gets another, have
    noise of their own, and those of one that never is have all the same. Persistent noise has the key (``seed``,
    observation, action), one for all. Put the wrapper outside of ``TimeLimit``, or the noise "episode" misses the ends
    that this makes.

    Args:
        env: any environment.
        oracle: what makes a step dangerous, see ``saferl.danger.oracles``.
        noise: what the learner sees of it; clean by default.
        seed: of the noise, >= 0.
        evaluation: leave ``info`` as it is, true cost and all, and add ``info["danger_clean"]`` to the noisy bit.
        hide: further keys of ``info`` that would tell the learner the truth.
    Raises: ValueError for a negative seed.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        oracle: Oracle,
        noise: Noise | None = None,
        seed: int = 0,
        evaluation: bool = False,
        hide: tuple[str, ...] = (),
    ) -> None:
        RecordConstructorArgs.__init__(self, oracle=oracle, noise=noise, seed=seed, evaluation=evaluation, hide=hide)
        gymnasium.Wrapper.__init__(self, env)
        if seed < 0:
            raise ValueError(f"the seed of the noise must be >= 0; got {seed}.")
        self.oracle, self.noise = oracle, noise or Noise()
        self.seed = self.noise_seed = seed
        self.evaluation, self.hide = evaluation, hide
        self._episode, self._step, self._warned = 0, 0, False
        self._seeded = False  # by a first reset, with or without a seed
        self._observation: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment; danger and cost are 0."""
        observation, info = self.env.reset(seed=seed, options=options)
        if not self._seeded and seed is not None:
            self.noise_seed = splitmix64(splitmix64(self.noise_seed) ^ seed)
        self._seeded = True
        self._episode += self._step > 0
        self._step, self._warned = 0, False
        self._observation = _copied(observation)
        return observation, self._shown(info, False, False)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment; ``info`` as in the class docstring."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        transition = Transition(
            observation=self._observation,
            action=action,
            reward=float(reward),
            next_observation=observation,
            terminated=terminated,
            truncated=truncated,
            info=info,
            env=self.env,
        )
        danger = bool(self.oracle(transition))
        bit = self._noisy(danger, action, bool(terminated or truncated))
        self._step += 1
        self._observation = _copied(observation)
        return observation, reward, terminated, truncated, self._shown(info, danger, bit)

    def _noisy(self, danger: bool, action: Any, ended: bool) -> bool:
        seed, pair = self.noise_seed, None
        if self.noise.kind == "persistent":
            seen = _numbers(self.env.observation_space, self._observation)
            seed, pair = self.seed, int(pair_words(seen[None], _numbers(self.env.action_space, action)[None])[0])
        bit = self.noise.bit(danger, seed=seed, episode=self._episode, step=self._step, pair=pair)
        if self.noise.kind != "episode":
            return bit
        self._warned |= bit
        return self._warned and ended

    def _shown(self, info: dict[str, Any], danger: bool, bit: bool) -> dict[str, Any]:
        if self.evaluation:
            return {**info, "danger": int(bit), "danger_clean": int(danger)}
        told = {key: value for key, value in info.items() if not key.startswith(HIDDEN) and key not in self.hide}
        return {**told, "cost": float(bit), "danger": int(bit)}


def _copied(observation: Any) -> Any:
    """The observation as it is now: some environments write the next one into the same array."""
    return observation.copy() if isinstance(observation, np.ndarray) else observation


def _numbers(space: spaces.Space[Any], value: Any) -> np.ndarray[Any, Any]:
    """A value of a space as real numbers."""
    plain = isinstance(space, (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary))
    return np.ravel(np.asarray(value if plain else spaces.flatten(space, value)))
