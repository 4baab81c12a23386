"""AttackedObservations: an agent's vector environment in which it sees what an adversary shows it."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnvWrapper, VecNormalize

from saferl.adversaries.attacks import Attack
from saferl.adversaries.threat import Normaliser, Threat, Units

Floats = NDArray[np.float32]


def ramp(eps: float, step: float, start: float, total: float) -> float:
    """eps (1 - exp(-5 (step - start) / total)) behind ``start``, 0 before it (Liu et al. 2023)."""
    return eps * (1 - math.exp(-5 * (step - start) / total)) if step > start else 0.0


def normalised_threat(obs_dim: int, eps: float, norm: str, clip: float = 10.0) -> Threat:
    """The ball for observations that are normalised already."""
    plain = Normaliser(np.zeros(obs_dim, np.float32), np.ones(obs_dim, np.float32), "normalised", clip)
    return Threat(Units(plain), eps, norm)


class TrueSteps(NamedTuple):
    """What truly happened in T steps of B environments, observations normalised."""

    observations: Floats  # (T, B, obs_dim)
    actions: Floats  # (T, B, act_dim) in [-1, 1]
    rewards: Floats  # (T, B)
    costs: Floats  # (T, B)
    next_observations: Floats  # (T, B, obs_dim), the last of an episode included
    terminated: NDArray[np.bool_]  # (T, B)


class AttackedObservations(VecEnvWrapper):
    """Shows attacked observations, at the start, behind each step, and at the end of an episode alike.

    It stands above VecNormalize, whose statistics are thus those of true observations only.

    Args:
        venv: VecNormalize.
        threat: the ball, in normalised units; its radius may be changed between steps.
        attack: None shows the truth.
    """

    def __init__(self, venv: VecNormalize, threat: Threat, attack: Attack | None = None) -> None:
        super().__init__(venv)
        self.threat, self.attack = threat, attack
        self._true: Floats = np.zeros(0, np.float32)
        self._seed = 0
        self._rows: list[tuple[NDArray[Any], ...]] = []

    def seen(self, true: NDArray[Any]) -> Floats:
        """What is shown (B, obs_dim) in place of ``true``."""
        rows = np.asarray(true, np.float32)
        if self.attack is None or self.threat.eps == 0:
            return rows
        return self.threat.seen(rows, self.attack.perturbations(rows))

    def seed_attack(self, seed: int) -> None:
        """The seed of the attack's noise from the next reset on."""
        self._seed = seed

    def reset(self) -> Floats:
        """Begin all episodes anew."""
        self._true = np.asarray(self.venv.reset(), np.float32)
        if self.attack is not None:
            self.attack.reset(seed=self._seed)
        return self.seen(self._true)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take actions (B, act_dim) in [-1, 1]."""
        self._actions = np.clip(actions, -1, 1).astype(np.float32)
        self.venv.step_async(actions)

    def step_wait(self) -> tuple[Floats, NDArray[Any], NDArray[Any], list[dict[str, Any]]]:
        """The step's results under attack; the true ones are kept until ``take``."""
        observations, rewards, dones, infos = self.venv.step_wait()
        true = np.asarray(observations, np.float32)
        after, ended = true.copy(), np.flatnonzero(dones)
        for row in ended:
            after[row] = infos[row]["terminal_observation"]
        cut = np.array([bool(info.get("TimeLimit.truncated")) for info in infos])
        costs = np.array([info["cost"] for info in infos], np.float32)
        self._rows.append((self._true, self._actions, np.asarray(rewards), costs, after, np.asarray(dones) & ~cut))
        self._true = true
        if len(ended):
            for row, shown in zip(ended, self.seen(after[ended])):
                infos[row]["terminal_observation"] = shown
        return self.seen(true), rewards, dones, infos

    def take(self) -> TrueSteps:
        """The steps since the last call."""
        steps = TrueSteps(*(np.stack(part) for part in zip(*self._rows)))
        self._rows = []
        return steps
