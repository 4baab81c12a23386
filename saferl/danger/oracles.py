"""Oracles: what makes a step dangerous, as a function of the step.

    oracle = CostAbove()                                        # the environment's cost
    oracle = MarginAbove(-0.1)                                  # within 0.1 of a violation, or in one
    oracle = LeavesRegion(Value.load(folder), states_of=point_robot.states_of)
    oracle = lambda step: step.next_observation[2] > 1.5        # anything that a step tells

An oracle gives the clean bit; ``noise.py`` and ``wrapper.py`` make of it what a learner sees. Oracles with a method
``rows`` label a whole data set at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from saferl.offline_data.dataset import OfflineDataset
    from saferl.reachability.value import Value

Bits = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Transition:
    """One step as an oracle sees it, with everything that is kept from the learner.

    Attributes:
        observation, next_observation: before and after the step.
        action: as the agent gave it.
        reward: of the step.
        terminated, truncated: as from the environment.
        info: the environment's, of the state after the step; of a data set's row its cost and, where known, margin.
        env: the environment after the step; None for a row of a data set.
    """

    observation: Any
    action: Any
    reward: float
    next_observation: Any
    terminated: bool
    truncated: bool
    info: dict[str, Any]
    env: gymnasium.Env[Any, Any] | None = None


Oracle = Callable[[Transition], bool]


@runtime_checkable
class RowOracle(Protocol):
    """An oracle that labels all rows of a data set at once."""

    def rows(self, dataset: "OfflineDataset") -> Bits:
        """(N,) bits of the data set's N steps."""
        ...


@dataclass(frozen=True)
class CostAbove:
    """``info["cost"] > threshold``; as in DSRL, with threshold 0, every step that costs."""

    threshold: float = 0.0

    def __call__(self, step: Transition) -> bool:
        """The bit. Raises: ValueError if the environment tells no cost."""
        return bool(_told(step, "cost", "cost") > self.threshold)

    def rows(self, dataset: "OfflineDataset") -> Bits:
        """As ``RowOracle``."""
        return dataset.costs > self.threshold


@dataclass(frozen=True)
class MarginAbove:
    """h > level, with h = ``info["margin"]`` of the state after the step, > 0 violated: a level below 0 warns early."""

    level: float = 0.0

    def __call__(self, step: Transition) -> bool:
        """The bit. Raises: ValueError if the environment tells no margin."""
        return bool(_told(step, "margin", "margin") > self.level)

    def rows(self, dataset: "OfflineDataset") -> Bits:
        """As ``RowOracle``. Raises: ValueError for data without margins."""
        if dataset.margins is None:
            raise ValueError(f"{dataset.source}: the margin oracle needs margins, which these data don't have.")
        return dataset.margins > self.level


@dataclass(frozen=True)
class LeavesRegion:
    """The state was inside a feasible region before the step and is outside after it: V <= level, then V > level.

    So one step is flagged, that by which a violation became unavoidable, and none of those that follow from it.

    Args:
        value: V of the region, of ``saferl.reachability``.
        states_of: observations (N, obs_dim) -> states (N, d) that the value takes; a function that can be pickled, if
            the environment is to be.
        level: of V at the border.
    """

    value: "Value"
    states_of: Callable[[NDArray[Any]], ArrayLike]
    level: float = 0.0

    def __call__(self, step: Transition) -> bool:
        """The bit."""
        both = np.stack([np.asarray(step.observation), np.asarray(step.next_observation)])
        before, after = self._outside(both)
        return bool(~before & after)

    def rows(self, dataset: "OfflineDataset") -> Bits:
        """As ``RowOracle``."""
        return ~self._outside(dataset.observations) & self._outside(dataset.next_observations)

    def _outside(self, observations: NDArray[Any]) -> Bits:
        return self.value(self.states_of(observations)) > self.level


@dataclass(frozen=True)
class CleanBit:
    """A gridworld's own danger bit, which its ``info`` holds only where it was made with ``evaluation=True``.

    ``DangerSignal`` hides it, the cost and the hidden performance from the learner again.
    """

    def __call__(self, step: Transition) -> bool:
        """The bit. Raises: ValueError if the environment doesn't tell it."""
        return bool(_told(step, "danger_clean", "clean"))


def dangers(oracle: Oracle, dataset: "OfflineDataset") -> Bits:
    """Clean bits (N,) of a data set's steps: all at once where the oracle can, else one by one.

    Raises: ValueError if the oracle gives another shape, or what the oracle raises.
    """
    if isinstance(oracle, RowOracle):
        bits = np.asarray(oracle.rows(dataset), dtype=np.bool_)
    else:
        bits = np.array([bool(oracle(step)) for step in _transitions(dataset)], dtype=np.bool_)
    if bits.shape != (len(dataset),):
        raise ValueError(f"an oracle's rows must have shape ({len(dataset)},); got {bits.shape}.")
    return bits


def _transitions(dataset: "OfflineDataset") -> Iterator[Transition]:
    for row in range(len(dataset)):
        info = {"cost": float(dataset.costs[row])}
        if dataset.margins is not None:
            info["margin"] = float(dataset.margins[row])
        yield Transition(
            observation=dataset.observations[row],
            action=dataset.actions[row],
            reward=float(dataset.rewards[row]),
            next_observation=dataset.next_observations[row],
            terminated=bool(dataset.terminals[row]),
            truncated=bool(dataset.timeouts[row]),
            info=info,
        )


def _told(step: Transition, key: str, oracle: str) -> Any:
    try:
        return step.info[key]
    except KeyError:
        name = "the environment" if step.env is None else str(step.env.unwrapped)
        hint = "; make the environment with evaluation=True" if key == "danger_clean" else "; take another oracle"
        raise ValueError(f"the {oracle} oracle needs info[{key!r}], which {name} doesn't tell{hint}.") from None
