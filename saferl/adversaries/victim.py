"""Victim: a policy as an adversary knows it, with gradients (white box) or by questions alone (black box)."""

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saferl.adversaries.threat import Normaliser
from saferl.policy import FeedbackPolicy, Policy

if TYPE_CHECKING:
    from saferl.adversaries.critics import Critics


class Response(NamedTuple):
    """What a policy would do at B observations, its action box being [-1, 1] in every dimension."""

    actions: Tensor  # (B, act_dim) in the box; gradients pass a clip to the box as if it were not there
    mean: Tensor  # (B, act_dim) of the policy's Gaussian, before a clip or tanh; without a Gaussian the actions
    deviation: Tensor | None = None  # (B, act_dim) of the same; None without a Gaussian
    squashed: bool = False  # whether the action is the tanh of the Gaussian's draw

    def mapped(self, function: Callable[[Tensor], Tensor]) -> "Response":
        """``function`` of each field."""
        deviation = None if self.deviation is None else function(self.deviation)
        return Response(function(self.actions), function(self.mean), deviation, self.squashed)


class ActionBox:
    """The environment's action box, mapped to [-1, 1] in every dimension.

    Args:
        low, high: (act_dim,) its bounds, finite.
        device: of the tensors that it maps.
    Raises: ValueError for a bound that is infinite, or not below the other.
    """

    def __init__(self, low: NDArray[Any], high: NDArray[Any], device: torch.device | str = "cpu") -> None:
        self.low, self.high = np.asarray(low, np.float32), np.asarray(high, np.float32)
        if not (np.isfinite(self.low).all() and np.isfinite(self.high).all() and (self.low < self.high).all()):
            raise ValueError(f"attacks need a bounded box of actions; got {self.low.tolist()} to {self.high.tolist()}.")
        self.centre = torch.as_tensor((self.low + self.high) / 2, device=device)
        self.half = torch.as_tensor((self.high - self.low) / 2, device=device)  # one unit of [-1, 1]
        self._is_unit = bool((self.low == -1).all() and (self.high == 1).all())

    def to_unit(self, actions: Tensor) -> Tensor:
        """Actions (..., act_dim) of the environment in units of the box."""
        return actions if self._is_unit else (actions - self.centre) / self.half

    def from_unit(self, actions: Tensor) -> Tensor:
        """The opposite of ``to_unit``."""
        return self.centre + self.half * actions


Respond = Callable[[Tensor, int], Response]  # observations (B, obs_dim), the seed of the policy's noise if it has any


class Victim:
    """The policy under attack.

    Args:
        policy: acts, and remembers where it has a memory.
        obs_dim: entries of an observation.
        low, high: (act_dim,) the environment's action box.
        name: for people.
        respond: the policy with gradients, without a trace in its memory; None: a black box, which can only be asked.
        normaliser: the policy's own statistics of observations; None if it has none.
        critics: that the victim brings; None if it brings none.
        device: where ``respond`` computes.
    Attributes:
        queries: observations that a black box was asked about, apart from those it acted on.
        recurrent: whether acting itself changes what a black box does next, which ``load_victim`` finds out. A question
            would too, so copies are asked.
    """

    def __init__(
        self,
        policy: Policy,
        obs_dim: int,
        low: NDArray[Any],
        high: NDArray[Any],
        name: str,
        respond: Respond | None = None,
        normaliser: Normaliser | None = None,
        critics: "Critics | None" = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.policy, self.obs_dim, self.name = policy, obs_dim, name
        self.normaliser, self.critics, self.device = normaliser, critics, torch.device(device)
        self.box = ActionBox(low, high, self.device)
        self.queries, self.recurrent = 0, False
        self._respond = respond
        self._noise_seed = 0

    @property
    def act_dim(self) -> int:
        """Entries of an action."""
        return len(self.box.low)

    @property
    def white_box(self) -> bool:
        """Whether gradients are known."""
        return self._respond is not None

    @property
    def remembers(self) -> bool:
        """Whether the policy has a memory of each row, so that it can be asked about those rows only."""
        return self.recurrent or isinstance(self.policy, FeedbackPolicy)

    def as_black_box(self) -> "Victim":
        """The same victim without its gradients and critics."""
        black = Victim(self.policy, self.obs_dim, self.box.low, self.box.high, self.name, None, self.normaliser)
        black.recurrent = self.recurrent
        return black

    def fix_noise(self, seed: int) -> None:
        """Let a random white-box policy draw the same noise in every ``response`` from now on.

        An adversary doesn't know what the policy will draw when it acts: this noise is another one.
        """
        self._noise_seed = seed

    def response(self, observations: Tensor) -> Response:
        """What the policy would do if it saw these (B, obs_dim): B as when it acts, if it remembers."""
        if self._respond is not None:
            return self._respond(observations, self._noise_seed)
        self.queries += len(observations)
        asked = copy.deepcopy(self.policy) if self.recurrent else self.policy
        answer = np.asarray(asked.act(observations.detach().cpu().numpy()), np.float32)
        actions = self.box.to_unit(torch.as_tensor(answer, device=self.device)).clamp(-1, 1)
        return Response(actions, actions)

    def responses(self, observations: Tensor) -> Response:
        """The same for (M, B, obs_dim), fields (M, B, act_dim): in one batch if the policy has no memory."""
        if self.remembers or self.white_box:
            answers = [self.response(rows) for rows in observations]
            deviations = [each.deviation for each in answers if each.deviation is not None]
            return Response(
                torch.stack([each.actions for each in answers]),
                torch.stack([each.mean for each in answers]),
                torch.stack(deviations) if deviations else None,
                answers[0].squashed,
            )
        shape = observations.shape[:2]
        return self.response(observations.flatten(0, 1)).mapped(lambda part: part.unflatten(0, shape))


def clipped(actions: Tensor) -> Tensor:
    """Actions (..., act_dim) clipped to [-1, 1] with the gradient of no clip.

    A clip has no gradient beyond the box, so that an adversary would be blind where the policy saturates.
    """
    return actions + (actions.clamp(-1, 1) - actions).detach()
