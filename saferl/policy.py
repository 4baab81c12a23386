"""Policy: what evaluation, attacks, filters and deployment see of an agent, an SB3 model or a function."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@runtime_checkable
class Policy(Protocol):
    """Maps a batch of observations to a batch of actions in the units of the environment."""

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Actions (B, act_dim), inside the action box, for observations (B, obs_dim)."""
        ...

    def reset(self, mask: NDArray[np.bool_] | None = None, seed: int | None = None) -> None:
        """Forget the past of the episodes where ``mask`` (B,) is true (all if None); ``seed`` restarts the noise."""
        ...


@runtime_checkable
class FeedbackPolicy(Policy, Protocol):
    """A policy that must see what its actions brought, as one that spends a cost budget does.

    A rollout calls ``observe`` once after each step, behind ``act`` and before ``reset(mask)``.
    """

    def observe(self, rewards: NDArray[np.float64], costs: NDArray[np.float64]) -> None:
        """Reward and cost, each (B,), of the step that was just made, in the environment's units."""
        ...


class TorchPolicy:
    """A trained agent as a Policy: numpy in and out, its own noise, actions in the environment's units.

    Args:
        act: ``act(observations (B, obs_dim), generator) -> actions (B, act_dim) in [-1, 1]``, on ``device``.
        device: where ``act`` computes.
        low, high: (act_dim,) bounds of the environment's action box; None keeps [-1, 1].
    """

    def __init__(
        self,
        act: Callable[[Tensor, torch.Generator], Tensor],
        device: torch.device | str = "cpu",
        low: NDArray[Any] | None = None,
        high: NDArray[Any] | None = None,
    ) -> None:
        self._act, self._device = act, torch.device(device)
        self._generator = torch.Generator(self._device)
        self._low, self._high = low, high

    @torch.no_grad()
    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Actions (B, act_dim) for observations (B, obs_dim)."""
        batch = torch.as_tensor(observations, dtype=torch.float32, device=self._device)
        actions = self._act(batch, self._generator).float().cpu().numpy()
        if self._low is None or self._high is None:
            return actions
        return (self._low + (actions + 1) / 2 * (self._high - self._low)).astype(np.float32)

    def reset(self, mask: NDArray[np.bool_] | None = None, seed: int | None = None) -> None:
        """Restart the noise from ``seed``; the policy has no other memory."""
        if seed is not None:
            self._generator.manual_seed(seed)


class CallablePolicy:
    """A function of one batch of observations as a Policy."""

    def __init__(self, function: Callable[[NDArray[np.float32]], NDArray[Any]]) -> None:
        self._function = function

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Actions (B, act_dim) for observations (B, obs_dim)."""
        return np.asarray(self._function(observations), dtype=np.float32)

    def reset(self, mask: NDArray[np.bool_] | None = None, seed: int | None = None) -> None:
        """Nothing to forget."""


def as_policy(thing: Any) -> Policy:
    """``thing`` as a Policy: a Policy itself, an SB3 model (``predict``) or a callable on batches.

    Raises: TypeError if it is none of these.
    """
    if isinstance(thing, Policy):
        return thing
    if hasattr(thing, "predict"):  # stable-baselines3; told apart without importing it
        return CallablePolicy(lambda observations: thing.predict(observations, deterministic=True)[0])
    if callable(thing):
        return CallablePolicy(thing)
    raise TypeError(
        f"{type(thing).__name__} is not a policy; allowed: an object with act and reset, "
        "an SB3 model, or a function of observations (B, obs_dim)."
    )
