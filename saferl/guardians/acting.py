"""Guardians at run time: a policy and an environment that fall back to a behaviour policy, or end, outside the data."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from saferl.guardians.guardian import Guardian, Scale
from saferl.policy import FeedbackPolicy, Policy


class RecordedBehaviour:
    """The behaviour policy without a model: at s, the action that was recorded at the nearest observation.

    Args:
        observations: (N, obs_dim), compared after scaling each column to [-1, 1].
        actions: (N, act_dim), in the environment's units.
    """

    def __init__(self, observations: NDArray[Any], actions: NDArray[Any]) -> None:
        self._scale, self._actions = Scale.of(observations), np.asarray(actions, np.float32)
        self._tree = cKDTree(self._scale(observations))

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Recorded actions (B, act_dim) for observations (B, obs_dim)."""
        return self._actions[self._tree.query(self._scale(observations))[1]]

    def reset(self, mask: NDArray[np.bool_] | None = None, seed: int | None = None) -> None:
        """Nothing to forget."""


class GuardedPolicy:
    """A policy that takes the action of ``fallback`` where its own is not supported by the data.

    Both policies see every observation, so that one with a memory can take over at any step.

    Args:
        policy: acts in the units of the data that the guardian was fitted to.
        guardian: decides.
        fallback: a behaviour policy, in the same units; its own actions are not judged.
    Attributes:
        fell_back: (B,) bool, whether the last call of ``act`` took the fallback's action.
        fallbacks: (B,) int, how often each row did since it was reset.
        total: the same, summed over all rows and episodes; of ``asked`` actions.
    """

    def __init__(self, policy: Policy, guardian: Guardian, fallback: Policy) -> None:
        self.policy, self.guardian, self.fallback = policy, guardian, fallback
        self.fell_back, self.fallbacks = np.zeros(0, np.bool_), np.zeros(0, np.int64)
        self.total, self.asked = 0, 0
        # A FeedbackPolicy, which has no exact value, for example, only where one of the two is.
        if any(isinstance(each, FeedbackPolicy) for each in (policy, fallback)):
            self.observe = self._observe

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Actions (B, act_dim) for observations (B, obs_dim)."""
        nominal = np.asarray(self.policy.act(observations), dtype=np.float32)
        other = np.asarray(self.fallback.act(observations), dtype=np.float32)
        self.fell_back = ~self.guardian.supported(observations, nominal)
        if len(self.fallbacks) != len(nominal):
            self.fallbacks = np.zeros(len(nominal), np.int64)
        self.fallbacks = self.fallbacks + self.fell_back
        self.total += int(self.fell_back.sum())
        self.asked += len(nominal)
        return np.where(self.fell_back[:, None], other, nominal)

    def reset(self, mask: NDArray[np.bool_] | None = None, seed: int | None = None) -> None:
        """Reset both policies, and the counts of the rows where ``mask`` (B,) is true (all if None)."""
        if mask is None or len(mask) != len(self.fallbacks):
            self.fallbacks = np.zeros(0, np.int64)
        else:
            self.fallbacks = np.where(mask, 0, self.fallbacks)
        self.policy.reset(mask, seed)
        self.fallback.reset(mask, seed)

    def _observe(self, rewards: NDArray[np.float64], costs: NDArray[np.float64]) -> None:
        """Rewards and costs, (B,) each, of the last step, for policies that want to see them."""
        for each in (self.policy, self.fallback):
            if isinstance(each, FeedbackPolicy):
                each.observe(rewards, costs)


class GuardedAction(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """An environment that knows where the data are.

    With ``fallback``, an action outside is replaced. With ``terminate``, a step whose action, or its replacement, is
    outside is the episode's last: ``terminated`` is true. ``info`` says what was done: ``nominal_action``, the action
    that was asked for; ``fell_back``, whether another was taken instead; ``fallbacks``, how many so far in the episode;
    ``outside``, whether what was carried out is not supported. A reset gives False and 0.

    Args:
        env: with observations and actions as in the guardian's data: flat boxes, or single numbers for ``counts``.
        guardian: decides.
        fallback: a behaviour policy; None replaces nothing.
        terminate: whether the episode ends outside.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        guardian: Guardian,
        fallback: Policy | None = None,
        terminate: bool = False,
    ) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, guardian=guardian, fallback=fallback, terminate=terminate)
        gymnasium.Wrapper.__init__(self, env)
        self.guardian, self.fallback, self.terminate, self.fallbacks = guardian, fallback, terminate, 0
        self._observation: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment, the fallback and the count."""
        self._observation, info = self.env.reset(seed=seed, options=options)
        self.fallbacks = 0
        if self.fallback is not None:
            self.fallback.reset(seed=seed)
        return self._observation, {**info, "fell_back": False, "fallbacks": 0, "outside": False}

    def step(self, action: ArrayLike) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step with the action, or with the fallback's."""
        taken: Any = action
        other = None if self.fallback is None else self.fallback.act(np.asarray(self._observation)[None])[0]
        outside = not self._supported(action)
        fell_back = outside and other is not None
        if fell_back:
            space = self.action_space
            discrete = isinstance(space, spaces.Discrete)
            taken = int(np.asarray(other).item()) if discrete else np.asarray(other, space.dtype)
            outside = not self._supported(taken)
        self.fallbacks += fell_back
        self._observation, reward, terminated, truncated, info = self.env.step(taken)
        if isinstance(self.fallback, FeedbackPolicy):
            self.fallback.observe(np.array([float(reward)]), np.array([float(info.get("cost", 0))]))
        report = {
            "nominal_action": np.asarray(action),
            "fell_back": fell_back,
            "fallbacks": self.fallbacks,
            "outside": outside,
        }
        ended = bool(terminated) or (self.terminate and outside)
        return self._observation, reward, ended, truncated, {**info, **report}

    def _supported(self, action: ArrayLike) -> bool:
        pair = (np.asarray(each, np.float64).reshape(1, -1) for each in (self._observation, action))
        return bool(self.guardian.supported(*pair)[0])
