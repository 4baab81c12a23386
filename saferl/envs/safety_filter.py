"""A safety filter around an environment, and around a policy.

    value = Value.load("runs/reach/point_robot", SYSTEMS["point_robot"]())
    safe = SafetyFilter(value, dt=0.05)
    env = SafetyFilterWrapper(saferl.envs.make("point_robot"), safe, state=lambda env: env.unwrapped.state)
    policy = FilteredPolicy(policy, safe, state_of=point_robot.states_of)

The wrapper reads the true state, the policy has only observations; the first is for training and simulation, the second
for evaluation, attacks and deployment.
"""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from saferl.policy import FeedbackPolicy, Policy
from saferl.reachability.safety_filter import SafetyFilter

Array = NDArray[np.float64]
ROUNDING = 1e-6  # of bounds kept in float32


class SafetyFilterWrapper(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """Filters every action; actions must be in the units of the system's control (put rescaling outside).

    ``info`` says what was done: ``nominal_action``, the action that was asked for; ``intervened``, whether another was
    taken instead; ``interventions``, how many so far in the episode. A reset gives False and 0.

    Args:
        env: with a Box of actions that holds the set of the system's controls.
        safety_filter: its ``dt`` must be the environment's time step.
        state: ``state(env) -> (d,)``, the state of the filter's system in this environment.
    Raises: ValueError for an action space that the filter's controls do not fit.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        safety_filter: SafetyFilter,
        state: Callable[[gymnasium.Env[Any, Any]], ArrayLike],
    ) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, safety_filter=safety_filter, state=state)
        gymnasium.Wrapper.__init__(self, env)
        _check_space(env.action_space, safety_filter)
        self.safety_filter, self.interventions = safety_filter, 0
        self._state = state

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment and the count of interventions."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.interventions = 0
        return observation, {**info, "intervened": False, "interventions": 0}

    def step(self, action: ArrayLike) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step with the filtered action."""
        nominal = np.asarray(action)
        state = np.asarray(self._state(self.env), dtype=np.float64)
        safe, changed = self.safety_filter.filter(state[None], nominal[None])
        intervened = bool(changed[0])
        self.interventions += intervened
        # An action that may pass goes on bit by bit.
        taken = safe[0].astype(self.action_space.dtype) if intervened else action
        observation, reward, terminated, truncated, info = self.env.step(taken)
        report = {"nominal_action": nominal, "intervened": intervened, "interventions": self.interventions}
        return observation, reward, terminated, truncated, {**info, **report}


class FilteredPolicy:
    """A policy whose actions pass through a safety filter.

    What the inner policy remembers of itself (CDT its past actions, for one) is what it asked for.

    Args:
        policy: acts in the units of the system's control.
        safety_filter: its ``counts`` go on over all episodes.
        state_of: ``state_of(observations (B, obs_dim)) -> (B, d)``, the states of the filter's system.
    Attributes:
        intervened: (B,) bool, whether the last call of ``act`` replaced each row's action.
        interventions: (B,) int, how many actions of each row were replaced since it was reset.
    """

    def __init__(
        self,
        policy: Policy,
        safety_filter: SafetyFilter,
        state_of: Callable[[NDArray[np.float32]], ArrayLike],
    ) -> None:
        self.policy, self.safety_filter = policy, safety_filter
        self.intervened, self.interventions = np.zeros(0, np.bool_), np.zeros(0, np.int64)
        self._state_of = state_of

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Safe actions (B, act_dim) for observations (B, obs_dim)."""
        nominal = np.asarray(self.policy.act(observations), dtype=np.float32)
        safe, self.intervened = self.safety_filter.filter(self._state_of(observations), nominal)
        if len(self.interventions) != len(nominal):
            self.interventions = np.zeros(len(nominal), np.int64)
        self.interventions = self.interventions + self.intervened
        return np.where(self.intervened[:, None], safe, nominal).astype(np.float32)

    def reset(self, mask: NDArray[np.bool_] | None = None, seed: int | None = None) -> None:
        """Reset the policy, and the counts of the rows where ``mask`` (B,) is true (all if None)."""
        if mask is None or len(mask) != len(self.interventions):
            self.interventions = np.zeros(0, np.int64)
        else:
            self.interventions = np.where(mask, 0, self.interventions)
        self.policy.reset(mask, seed)

    def observe(self, rewards: NDArray[np.float64], costs: NDArray[np.float64]) -> None:
        """Rewards and costs, (B,) each, of the last step, for a policy that wants to see them."""
        if isinstance(self.policy, FeedbackPolicy):
            self.policy.observe(rewards, costs)


def _check_space(space: spaces.Space[Any], safety_filter: SafetyFilter) -> None:
    control = safety_filter.control
    if not isinstance(space, spaces.Box) or space.shape != (control.size,):
        raise ValueError(
            f"the filter's system {safety_filter.system.name} has {control.size} controls; "
            f"the environment's actions are {space}."
        )
    low, high = control.centre - control.radius, control.centre + control.radius
    if (low < space.low - ROUNDING).any() or (high > space.high + ROUNDING).any():
        raise ValueError(
            f"the filter's controls reach from {low.tolist()} to {high.tolist()}, beyond the environment's actions, "
            f"{space.low.tolist()} to {space.high.tolist()}; compute the value with controls that the environment has."
        )
