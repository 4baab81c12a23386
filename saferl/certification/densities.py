"""Densities of recorded actions under the policy that is certified, and under the one that recorded them."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from saferl.certification.fitted_q import Features, ridge_factor
from saferl.command_line import UsageError, imported
from saferl.evaluation.sb3_zip import SB3Actor
from saferl.policy import CallablePolicy, Policy, TorchPolicy

Array = NDArray[np.float64]
Rows = NDArray[np.float32]
LogDensity = Callable[[Rows, Rows], Array]  # observations (N, obs_dim), actions (N, act_dim) -> (N,)
FITTED = "fitted"
_MEMORYLESS = (TorchPolicy, CallablePolicy, SB3Actor)
_BLOCK = 8_192  # rows of one call of a policy


@runtime_checkable
class StochasticPolicy(Policy, Protocol):
    """A policy that knows the density (of discrete actions: the probability) with which it acts."""

    def log_density(self, observations: Rows, actions: Rows) -> Array:
        """Log of it (N,) at actions (N, act_dim) for observations (N, obs_dim); -inf where it never acts so."""
        ...


class NoisyPolicy:
    """A policy with Gaussian noise on its actions: what has a density where a deterministic policy has none.

    Where the policy itself is random, its density at one draw: the product over an episode still has the right mean.

    Args:
        policy: without memory.
        box: bounds of the action box, each (act_dim,).
        noise: standard deviation where the box is scaled to [-1, 1].
        seed: of the noise.
    Raises: UsageError for a policy with memory, which acts on more than the observation.
    """

    def __init__(self, policy: Policy, box: tuple[NDArray[Any], NDArray[Any]], noise: float, seed: int = 0) -> None:
        check_memoryless(policy)
        self.policy = policy
        self.scale = noise * (np.asarray(box[1], np.float64) - np.asarray(box[0], np.float64)) / 2  # (act_dim,)
        self.generator = np.random.default_rng(seed)
        policy.reset(seed=seed)

    def act(self, observations: Rows) -> Rows:
        """Actions (N, act_dim) for observations (N, obs_dim), not clipped to the box."""
        means = self._means(observations)
        return (means + self.scale * self.generator.standard_normal(means.shape)).astype(np.float32)

    def reset(self, mask: NDArray[np.bool_] | None = None, seed: int | None = None) -> None:
        """Restart the noise."""
        self.policy.reset(mask, seed)
        if seed is not None:
            self.generator = np.random.default_rng(seed)

    def log_density(self, observations: Rows, actions: Rows) -> Array:
        """(N,) of actions (N, act_dim) for observations (N, obs_dim)."""
        return _normal(np.asarray(actions, np.float64) - self._means(observations), self.scale)

    def _means(self, observations: Rows) -> Array:
        return actions_of(self.policy, observations).astype(np.float64)


def check_memoryless(policy: Policy) -> None:
    """Raises: UsageError for a policy that may act on more than the last observation."""
    if not isinstance(policy, (*_MEMORYLESS, StochasticPolicy)):
        raise UsageError(
            f"{type(policy).__name__} may act on more than the last observation; recorded data can certify runs "
            "without memory, SB3 models, functions of observations, and objects with log_density."
        )


def actions_of(policy: Policy, observations: Rows) -> Rows:
    """Actions (N, act_dim) for any number of rows (N, obs_dim) of a policy without memory, a block at a time."""
    starts = range(0, len(observations), _BLOCK)
    return np.concatenate([policy.act(observations[start : start + _BLOCK]) for start in starts])


def stochastic(policy: Policy, box: tuple[NDArray[Any], NDArray[Any]] | None, noise: float | None) -> StochasticPolicy:
    """The policy whose density is known: itself, or with noise on its actions.

    Args:
        policy: that is certified.
        box: bounds of the action box; None for other action spaces.
        noise: standard deviation where the box is [-1, 1]; None adds none.
    Raises: UsageError if it has no density of its own and none is made by noise.
    """
    if noise is None and isinstance(policy, StochasticPolicy):
        return policy
    if noise is None or box is None:
        raise UsageError(
            "importance sampling needs the density of the policy's actions: give policy_noise=, the standard deviation "
            "of Gaussian noise on actions scaled to [-1, 1] (what is certified is then the policy with that noise), or "
            "a policy with log_density(observations, actions)."
        )
    return NoisyPolicy(policy, box, noise)


def stated_behaviour(word: str) -> LogDensity:
    """The density that ``behaviour=package.module:function`` states.

    The function maps observations (N, obs_dim) and actions (N, act_dim) to log densities (N,).

    Raises: UsageError.
    """
    function = imported("behaviour", word, f"package.module:function, or {FITTED}")
    if not callable(function):
        raise UsageError(f"behaviour={word}: a {type(function).__name__} is not a function.")

    def log_density(observations: Rows, actions: Rows) -> Array:
        values = np.asarray(function(observations, actions), np.float64)
        if values.shape != (len(observations),):
            raise UsageError(
                f"behaviour={word} gave values of shape {values.shape}; expected log densities ({len(observations)},)."
            )
        return values

    return log_density


def fitted_behaviour(observations: Rows, actions: Rows, seed: int = 0) -> LogDensity:
    """A Gaussian around a fitted mean, with one standard deviation for each action dimension.

    Args:
        observations, actions: (N, obs_dim) and (N, act_dim) to fit.
        seed: of the features.
    """
    features = Features.fitted(observations, seed)
    matrix = features(observations)
    weights = linalg.cho_solve(ridge_factor(matrix), matrix.T @ np.asarray(actions, np.float64))  # (K, act_dim)
    scale = np.maximum((actions - matrix @ weights).std(axis=0), 1e-3)  # (act_dim,)
    return lambda states, taken: _normal(np.asarray(taken, np.float64) - features(states) @ weights, scale)


def _normal(errors: Array, scale: Array) -> Array:
    """Log density (N,) of independent normal errors (N, act_dim)."""
    return -(0.5 * (errors / scale) ** 2 + np.log(scale) + 0.5 * np.log(2 * np.pi)).sum(axis=1)
