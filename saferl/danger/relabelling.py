"""Danger bits as the costs of a data set, so that offline agents train from them: the filter ``danger``.

    bits = relabelled(dataset, MarginAbove(-0.1), parse_noise("fp", p=0.1), seed=0)

The result has no margins: FISOR then takes h from the costs, ``agent.unsafe_label`` where a bit is 1 and
``agent.safe_label`` where it is 0.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saferl.danger.noise import Noise, pair_words, parse_noise
from saferl.danger.oracles import CostAbove, LeavesRegion, MarginAbove, Oracle, dangers
from saferl.offline_data.dataset import DatasetError, OfflineDataset

ORACLES = ("cost", "margin", "region")


def danger_costs(dataset: OfflineDataset, oracle: Oracle, noise: Noise, seed: int) -> NDArray[np.float32]:
    """Noisy bits (N,) of a data set's steps, as the costs 0 and 1.

    The key of a step's noise is (seed, number of the episode in the data set, number of the step in the episode).

    Raises: ValueError from the oracle, or for a negative seed.
    """
    lengths = dataset.episode_lengths
    episodes = np.repeat(np.arange(dataset.n_episodes), lengths)
    steps = np.arange(len(dataset)) - np.repeat(dataset.episode_starts, lengths)
    pairs = pair_words(dataset.observations, dataset.actions) if noise.kind == "persistent" else None
    bits = noise.bits(dangers(oracle, dataset), seed=seed, episodes=episodes, steps=steps, pairs=pairs)
    return noise.given(bits, dataset.terminals | dataset.timeouts).astype(np.float32)


def relabelled(dataset: OfflineDataset, oracle: Oracle, noise: Noise, seed: int) -> OfflineDataset:
    """The data set with ``danger_costs`` for costs and without margins; shares all else.

    Raises: as ``danger_costs``.
    """
    return replace(dataset, costs=danger_costs(dataset, oracle, noise, seed), margins=None)


@dataclass(frozen=True, kw_only=True)
class DangerLabels:
    """The settings of the filter ``danger``: an oracle and the noise on it.

    Raises: DatasetError for a value that makes no sense.
    """

    oracle: str = "cost"  # cost: cost > 0; margin: h > -margin; region: leaves the region V <= 0
    margin: float = 0.0  # of the oracle margin: how far before a violation it warns, in units of h
    value: str | None = None  # of the oracle region: folder of a saved value of the environment's system
    noise: str = "clean"  # clean, fp, fn, both, episode, persistent
    p: float | None = None  # probability of a bit 1 without danger
    q: float | None = None  # probability of a bit 0 at danger

    def __post_init__(self) -> None:
        if self.oracle not in ORACLES:
            raise DatasetError(f"filters.danger.oracle must be {', '.join(ORACLES)}; got {self.oracle!r}.")
        if self.margin and self.oracle != "margin":
            raise DatasetError(f"filters.danger.margin is used by oracle=margin alone; got oracle={self.oracle}.")
        if not isinstance(self.margin, (int, float)) or not np.isfinite(self.margin):
            raise DatasetError(f"filters.danger.margin must be a finite number; got {self.margin!r}.")
        if (self.value is not None) != (self.oracle == "region"):
            raise DatasetError(
                "filters.danger.value, the folder of a saved reachability value, goes with oracle=region and with no "
                f"other; got oracle={self.oracle}, value={self.value}."
            )
        self.noise_model()

    def noise_model(self) -> Noise:
        """The noise. Raises: DatasetError, one line."""
        try:
            return parse_noise(self.noise, self.p, self.q)
        except ValueError as error:
            raise DatasetError(f"filters.danger: {error}") from None

    def make_oracle(self, env_id: str | None) -> Oracle:
        """The oracle, for data of an environment.

        Raises: DatasetError for a region of an environment whose states observations don't tell, or a folder that
            holds no value.
        """
        if self.oracle == "cost":
            return CostAbove()
        if self.oracle == "margin":
            return MarginAbove(-self.margin)
        from saferl.reachability import Value

        try:
            return LeavesRegion(Value.load(str(self.value)), _states_of(env_id))
        except ValueError as error:
            raise DatasetError(f"filters.danger: {error}") from None

    def __str__(self) -> str:
        """As in the settings, what was left out included."""
        return ", ".join(f"{each.name}={getattr(self, each.name)}" for each in fields(self))


def _states_of(env_id: str | None) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
    """From observations to the states that the value of an environment's true feasible region takes."""
    from saferl.envs import full_id, point_robot
    from saferl.evaluation.simulators import POINT_ROBOT, point_states, safety_task

    if env_id is not None and full_id(env_id) == POINT_ROBOT:
        return point_robot.states_of
    if env_id is not None and safety_task(env_id) == "SafetyPointCircle1-v0":
        return lambda observations: point_states(observations)[:, [0, 2, 4]]  # x, vx, heading, as the audit has it
    raise ValueError(
        "oracle=region knows the states of point_robot, SafetyPointCircle1-v0 and OfflinePointCircle1Gymnasium-v0; "
        f"got {env_id}."
    )
