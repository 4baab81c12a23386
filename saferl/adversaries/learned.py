"""Learned adversaries: SA-RL, which chooses the perturbation, and PA-AD, which chooses where the action should go.

Both are policies of Stable-Baselines3's PPO in a process whose state is the true one and whose reward is what the
victim loses; the victim is part of the process and does not learn.

Sources: Zhang et al., Robust Reinforcement Learning on State Observations with Learned Optimal Adversary, ICLR 2021
(SA-RL); Sun et al., Who Is the Strongest Enemy?, ICLR 2022 (PA-AD).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from torch import Tensor

from saferl.adversaries.ascent import TINY, Slopes
from saferl.adversaries.attacks import Floats, situation_of
from saferl.adversaries.objectives import Objective, Situation
from saferl.adversaries.stepping import SeededEnvs, Steps
from saferl.adversaries.threat import Threat
from saferl.adversaries.victim import Response, Victim
from saferl.evaluation.sb3_zip import SB3Actor, load_sb3
from saferl.policy import FeedbackPolicy

Gain = Callable[[Steps], NDArray[Any]]  # what N steps are worth to the adversary, (N,)
GAINS: dict[str, Gain] = {"reward": lambda steps: -steps.rewards, "cost": lambda steps: steps.costs}


@dataclass(frozen=True, kw_only=True)
class LearnedConfig:
    """PPO's settings for learned adversaries, see Stable-Baselines3."""

    steps: int = 100_000  # of the environment
    envs: int = 16  # stepped together
    rollout: int = 128  # steps of each between two updates
    batch: int = 256
    epochs: int = 10
    lr: float = 1e-3
    clip: float = 0.2
    entropy: float = 0.0
    discount: float = 0.99
    width: int = 64

    def __post_init__(self) -> None:
        for key in ("steps", "envs", "rollout", "batch", "epochs", "width"):
            if getattr(self, key) < 1:
                raise ValueError(f"learned.{key} must be >= 1; got {getattr(self, key)}.")
        for key in ("lr", "clip"):
            if not 0 < getattr(self, key) < float("inf"):
                raise ValueError(f"learned.{key} must be > 0; got {getattr(self, key)}.")
        if not self.entropy >= 0:
            raise ValueError(f"learned.entropy must be >= 0; got {self.entropy}.")
        if not 0 <= self.discount < 1:
            raise ValueError(f"learned.discount must be in [0, 1); got {self.discount}.")


class Shift:
    """SA-RL's action: the perturbation itself, as a share of eps in each dimension."""

    def __init__(self, threat: Threat) -> None:
        self._eps = threat.eps
        self.size = threat.units.obs_dim

    def perturbations(self, observations: Floats, actions: Floats) -> Floats:
        """Perturbations (B, obs_dim) for actions (B, obs_dim), clipped to [-1, 1]."""
        return (self._eps * np.clip(actions, -1, 1)).astype(np.float32)

    def reset(self, seed: int | None) -> None:
        """Nothing is random."""


class Direction:
    """PA-AD's action: the direction d (act_dim,) in which the victim's action should move; one step realises it.

    s~ = s + eps * the steepest move up cos(pi(s + delta) - pi(s), d) + |pi(s + delta) - pi(s)|, from a tiny random
    delta. Up: the published MuJoCo code moves down the objective, so that its norm is made small. Of delta and -delta
    the one that moves the action along d is taken: with one action dimension the cosine has no slope, and only the
    start decides.
    """

    def __init__(self, victim: Victim, threat: Threat, slopes: Slopes) -> None:
        self._victim, self._threat, self._slopes = victim, threat, slopes
        self._generator = torch.Generator()
        self.size = victim.act_dim

    def perturbations(self, observations: Floats, actions: Floats) -> Floats:
        """Perturbations (B, obs_dim) for directions (B, act_dim)."""
        situation = situation_of(self._victim, self._threat, observations, self._generator)
        noise = torch.randn(observations.shape, generator=self._generator).to(self._threat.device)
        start = TINY * self._threat.eps * self._threat.steepest(noise)
        directions = torch.as_tensor(actions, dtype=torch.float32, device=self._threat.device)
        objective = towards(directions)
        along = self._slopes.values(along_with(directions), situation, start)
        start = torch.where(along[:, None] < 0, -start, start)
        _, gradients = self._slopes.slopes(objective, situation, start, self._generator)
        return (self._threat.eps * self._threat.steepest(gradients)).cpu().numpy()

    def reset(self, seed: int | None) -> None:
        """Restart the noise."""
        if seed is not None:
            self._generator.manual_seed(seed)


Turn = Shift | Direction


def along_with(directions: Tensor) -> Objective:
    """(mu(s~) - mu(s)) . d for directions d (B, act_dim)."""
    return lambda situation, seen, response: ((response.mean - situation.clean.mean) * directions).sum(-1)


def towards(directions: Tensor) -> Objective:
    """cos(mu(s~) - mu(s), d) + |mu(s~) - mu(s)| for directions d (B, act_dim)."""

    def objective(situation: Situation, seen: Tensor, response: Response) -> Tensor:
        moved = response.mean - situation.clean.mean
        length = moved.square().sum(-1).clamp(min=1e-20).sqrt()
        target = directions.norm(dim=-1).clamp(min=1e-8)
        return (moved * directions).sum(-1) / (length * target) + length

    return objective


class LearnedAttack:
    """A trained adversary: its deterministic mean, clipped to [-1, 1], through its ``turn``."""

    def __init__(self, actor: SB3Actor, threat: Threat, turn: Turn) -> None:
        self._actor, self._threat, self._turn = actor, threat, turn

    def perturbations(self, observations: Floats) -> Floats:
        """As ``Attack``."""
        return self._turn.perturbations(observations, self._actor.act(features(self._threat, observations)))

    def reset(self, mask: NDArray[np.bool_] | None = None, seed: int | None = None) -> None:
        """As ``Attack``."""
        self._turn.reset(seed)


class AdversaryEnvs(VecEnv):
    """The process that an adversary learns in, many side by side: SB3's vector environment around the victim's.

    Observation: the true one, normalised and clipped. Action: in [-1, 1]^size of ``turn``. Reward: that of ``goal``.
    Every episode is reset with a seed of its own, ``seed``, ``seed`` + 1, ...

    Args:
        env_id, env_kwargs: where the victim acts.
        victim: under attack; its memory belongs to these environments as long as they are stepped.
        threat: the ball.
        turn: makes perturbations of the adversary's actions.
        goal: "reward" (to be lowered), "cost" (to be raised), or what a step is worth, as a behaviour's score.
        count: environments.
        seed: of the first episode.
    """

    def __init__(
        self,
        env_id: str,
        env_kwargs: dict[str, Any],
        victim: Victim,
        threat: Threat,
        turn: Turn,
        goal: str | Gain,
        count: int,
        seed: int,
    ) -> None:
        if goal not in GAINS and not callable(goal):
            raise ValueError(f"goal must be one of {', '.join(GAINS)}, or a function of steps; got {goal!r}.")
        self._envs = SeededEnvs(env_id, env_kwargs, count, seed)
        self._victim, self._threat, self._turn, self._seed = victim, threat, turn, seed
        self._gain: Gain = GAINS[goal] if isinstance(goal, str) else goal
        clip = threat.units.normaliser.clip
        super().__init__(
            count,
            gymnasium.spaces.Box(-clip, clip, (threat.units.obs_dim,), np.float32),
            gymnasium.spaces.Box(-1.0, 1.0, (turn.size,), np.float32),
        )
        self._actions = np.zeros((count, turn.size), np.float32)

    def reset(self) -> Floats:
        """Start every episode anew; normalised observations (B, obs_dim)."""
        self._victim.policy.reset(seed=self._seed)
        self._turn.reset(self._seed)
        return features(self._threat, self._envs.reset())

    def step_async(self, actions: Floats) -> None:
        """Take the adversary's actions (B, size)."""
        self._actions = actions

    def step_wait(self) -> tuple[Floats, Floats, NDArray[np.bool_], list[dict[str, Any]]]:
        """One step of every environment under what the victim is made to see."""
        victim, true = self._victim.policy, self._envs.observations
        seen = self._threat.seen(true, self._turn.perturbations(true, self._actions))
        steps = self._envs.step(victim.act(seen))
        if isinstance(victim, FeedbackPolicy):
            victim.observe(steps.rewards, steps.costs)
        done = steps.ended
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if done.any():
            last = features(self._threat, steps.next_observations)
            for row in np.flatnonzero(done):
                cut = bool(steps.truncated[row] and not steps.terminated[row])
                infos[row] = {"terminal_observation": last[row], "TimeLimit.truncated": cut}
            victim.reset(mask=done)
        gain = np.asarray(self._gain(steps), np.float32)
        return features(self._threat, self._envs.observations), gain, done, infos

    def close(self) -> None:
        """Close the environments."""
        self._envs.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """SB3 asks for ``render_mode`` alone, which is None."""
        return [None] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not supported. Raises: NotImplementedError."""
        raise NotImplementedError("the environments of an adversary have no attributes to set.")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Not supported. Raises: NotImplementedError."""
        raise NotImplementedError("the environments of an adversary have no methods to call.")

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]], indices: Any = None
    ) -> list[bool]:
        """Never."""
        return [False] * len(list(self._get_indices(indices)))


def features(threat: Threat, observations: Floats) -> Floats:
    """Observations (B, obs_dim), normalised and clipped."""
    rows = torch.as_tensor(observations, dtype=torch.float32, device=threat.device)
    return threat.units.features(rows).cpu().numpy()


class _Report(BaseCallback):
    def __init__(self, report: Callable[[float], None], total: int) -> None:
        super().__init__()
        self._report, self._total = report, total

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._report(min(1.0, self.num_timesteps / self._total))


def train_adversary(
    envs: AdversaryEnvs,
    config: LearnedConfig,
    path: Path,
    seed: int,
    report: Callable[[float], None] = lambda share: None,
) -> None:
    """Train with PPO and write the adversary to ``path`` (an SB3 .zip), which is there only when it is whole.

    Args:
        envs: to learn in.
        config: PPO's settings.
        path: ends with .zip.
        seed: of PPO.
        report: called with the share that is done.
    """
    scaled = VecNormalize(envs, norm_obs=False, norm_reward=True, gamma=config.discount)
    model = PPO(
        "MlpPolicy",
        scaled,
        n_steps=config.rollout,
        batch_size=min(config.batch, config.rollout * envs.num_envs),
        n_epochs=config.epochs,
        learning_rate=config.lr,
        clip_range=config.clip,
        ent_coef=config.entropy,
        gamma=config.discount,
        policy_kwargs={"net_arch": [config.width, config.width], "log_std_init": -0.5},
        seed=seed,
        device="cpu",
    )
    model.learn(config.steps, callback=_Report(report, config.steps))
    temporary = path.with_name(f".{path.stem}.tmp.zip")
    model.save(temporary)
    temporary.replace(path)


def load_adversary(path: Path, threat: Threat, turn: Turn) -> LearnedAttack:
    """The adversary that ``train_adversary`` wrote. Raises: ValueError if the file is damaged or of another size."""
    one = np.ones(turn.size, np.float32)
    return LearnedAttack(load_sb3(path, -one, one, threat.units.obs_dim), threat, turn)
