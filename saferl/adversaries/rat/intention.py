"""Intention: Stable-Baselines3's SAC on rewards that a teacher's answers taught, stepped by a loop of ours."""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import SAC
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import polyak_update
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor, nn

from saferl.adversaries.objectives import Objective, Situation
from saferl.adversaries.rat.buffer import PreferenceBuffer
from saferl.adversaries.rat.config import RATConfig
from saferl.adversaries.rat.distance import Intended
from saferl.adversaries.threat import Threat
from saferl.adversaries.victim import Response

CATCH_UP = 100  # updates at once behind the first answers of the teacher

Floats = NDArray[np.float32]


class _Spaces(gymnasium.Env[Any, Any]):
    """SAC asks an environment for its spaces when it is made; it never steps this one."""

    def __init__(self, observation_space: spaces.Box, action_space: spaces.Box) -> None:
        self.observation_space, self.action_space = observation_space, action_space


class Intention:
    """A policy in [-1, 1]^size on features of true observations.

    Args:
        threat: whose units make features.
        size: of its actions.
        carried_dim: entries of the action that the environment gets.
        config: sizes and rates.
        seed: of weights, actions and batches.
    """

    def __init__(self, threat: Threat, size: int, carried_dim: int, config: RATConfig, seed: int) -> None:
        clip = threat.units.normaliser.clip
        seen = spaces.Box(-clip, clip, (threat.units.obs_dim,), np.float32)
        acted = spaces.Box(-1.0, 1.0, (size,), np.float32)
        self.model = SAC(
            "MlpPolicy",
            DummyVecEnv([lambda: _Spaces(seen, acted)]),
            learning_rate=config.lr,
            buffer_size=1,
            batch_size=config.batch,
            gamma=config.discount,
            ent_coef="auto_0.1",
            policy_kwargs={"net_arch": [config.width, config.width]},
            seed=seed,
            device="cpu",
        )
        self.model.set_logger(configure(None, []))  # SAC logs in every update
        self.buffer = PreferenceBuffer(-(-config.steps // config.envs), seen, acted, carried_dim, config.envs)
        self.model.replay_buffer = self.buffer
        self._batch, self._units = config.batch, threat.units

    def update(self, count: int) -> None:
        """``count`` updates of SAC."""
        if count:
            self.model.train(count, self._batch)

    def restart_critics(self) -> None:
        """Forget what the rewards before were worth, and catch up with those of now."""
        for module in self.model.critic.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()
        polyak_update(self.model.critic.parameters(), self.model.critic_target.parameters(), 1.0)
        self.model.critic.optimizer.state.clear()
        self.update(CATCH_UP)

    @torch.no_grad()
    def sampled(self, features: Floats) -> Floats:
        """Actions (B, size) with noise for features (B, obs_dim)."""
        actions: Floats = self.model.actor(torch.as_tensor(features), deterministic=False).numpy()
        return actions

    def intended(self, observations: Tensor) -> Intended:
        """Its Gaussian at true observations (B, obs_dim)."""
        mean, log_deviation, _ = self.model.actor.get_action_dist_params(self._units.features(observations).cpu())
        device = observations.device
        return Intended(mean.to(device), log_deviation.exp().to(device))

    def loss(self) -> Objective:
        """-Q(s, a) (B,) of the victim's action, by the lesser of the twins."""
        critic = self.model.critic

        def objective(situation: Situation, seen: Tensor, response: Response) -> Tensor:
            features = self._units.features(situation.observations).cpu()
            values = torch.cat(critic(features, response.actions.cpu()), dim=1)
            return -values.amin(1).to(seen.device)

        return objective

    @torch.no_grad()
    def act(self, observations: Floats) -> Floats:
        """Its mean actions (B, size) in [-1, 1] for true observations (B, obs_dim)."""
        rows = torch.as_tensor(observations, dtype=torch.float32, device=self._units.device)
        actions: Floats = self.model.actor(self._units.features(rows).cpu(), deterministic=True).numpy()
        return actions
