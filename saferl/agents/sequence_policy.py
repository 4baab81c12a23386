"""SequencePolicy: a network that reads the last K steps as a Policy; it keeps what is left to earn and to spend."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saferl.policy import TorchPolicy


class History(NamedTuple):
    """The last K steps of B episodes, oldest first; behind the current one the values have no meaning."""

    observations: Tensor  # (B, K, obs_dim)
    actions: Tensor  # (B, K, act_dim) in [-1, 1]; that of the current step is still to come
    returns_to_go: Tensor  # (B, K), in the environment's units
    costs_to_go: Tensor  # (B, K), below 0 where more was spent than asked for
    steps: Tensor  # (B, K) int64, steps since the episode began


class SequencePolicy(TorchPolicy):
    """Asks for a return and a cost where an episode begins, and takes off what each step brought.

    A call of ``act`` without ``observe`` before it replaces the current step's observation. Another number of rows than
    before begins new episodes in all of them.

    Args:
        network: actions (B, K, act_dim) for a History, each from its own step's observation and what stands before it.
        act_dim: entries of an action.
        context: K.
        target_return, cost_limit: what each episode is asked for, in the environment's units.
        device, low, high: as of ``TorchPolicy``.
    """

    def __init__(
        self,
        network: Callable[[History], Tensor],
        act_dim: int,
        context: int,
        target_return: float,
        cost_limit: float,
        device: torch.device | str = "cpu",
        low: NDArray[Any] | None = None,
        high: NDArray[Any] | None = None,
    ) -> None:
        super().__init__(self._next_actions, device, low, high)
        self._network, self._act_dim, self._context = network, act_dim, context
        self._target_return, self._cost_limit = target_return, cost_limit
        self._history: History | None = None
        self._places = torch.zeros(0, dtype=torch.int64)  # (B,) of the current step in the History

    def _next_actions(self, observations: Tensor, generator: torch.Generator) -> Tensor:
        if self._history is None or len(self._places) != len(observations):
            self._begin(observations)
        history = self._history
        assert history is not None
        here = (torch.arange(len(observations), device=self._device), self._places)
        history.observations[here] = observations
        history.actions[here] = self._network(history)[here].clamp(-1, 1)
        return history.actions[here]

    def history_with(self, observations: Tensor) -> tuple[History, tuple[Tensor, Tensor]]:
        """A copy of what the network would read at ``observations`` (B, obs_dim), and its current steps (rows, places).

        Gradients reach the observations; the memory stays as it is.
        """
        if self._history is None or len(self._places) != len(observations):
            self._begin(observations)
        assert self._history is not None
        here = (torch.arange(len(observations), device=self._device), self._places)
        seen = self._history.observations.index_put(here, observations)
        return self._history._replace(observations=seen), here

    def observe(self, rewards: NDArray[np.float64], costs: NDArray[np.float64]) -> None:
        """Reward and cost, each (B,), of the step that was just made, in the environment's units."""
        history = self._history
        assert history is not None, "observe comes behind act"
        rows = torch.arange(len(self._places), device=self._device)
        left = [
            to_go[rows, self._places] - torch.as_tensor(values, dtype=torch.float32, device=self._device)
            for to_go, values in ((history.returns_to_go, rewards), (history.costs_to_go, costs))
        ]
        step = history.steps[rows, self._places] + 1
        full = self._places == self._context - 1  # (B,): the oldest step goes
        for values in history:
            values[full] = values[full].roll(-1, dims=1)
        self._places = (self._places + 1).clamp(max=self._context - 1)
        here = (rows, self._places)
        history.returns_to_go[here], history.costs_to_go[here], history.steps[here] = *left, step

    def reset(self, mask: NDArray[np.bool_] | None = None, seed: int | None = None) -> None:
        """Begin new episodes where ``mask`` (B,) is true (in all rows if None)."""
        super().reset(mask, seed)
        if mask is None:
            self._history = None
        elif self._history is not None:
            self._ask(torch.as_tensor(mask, device=self._device))

    def _begin(self, observations: Tensor) -> None:
        shape = (len(observations), self._context)
        self._history = History(
            observations=torch.zeros(*shape, observations.shape[1], device=self._device),
            actions=torch.zeros(*shape, self._act_dim, device=self._device),
            returns_to_go=torch.zeros(shape, device=self._device),
            costs_to_go=torch.zeros(shape, device=self._device),
            steps=torch.zeros(shape, dtype=torch.int64, device=self._device),
        )
        self._places = torch.zeros(len(observations), dtype=torch.int64, device=self._device)
        self._ask(torch.ones(len(observations), dtype=torch.bool, device=self._device))

    def _ask(self, mask: Tensor) -> None:
        """Begin an episode where ``mask`` (B,)."""
        assert self._history is not None
        self._places[mask] = 0
        self._history.returns_to_go[mask, 0] = self._target_return
        self._history.costs_to_go[mask, 0] = self._cost_limit
        self._history.steps[mask, 0] = 0
