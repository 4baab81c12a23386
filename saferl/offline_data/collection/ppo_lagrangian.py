"""PPOLagrangian: Stable-Baselines3's PPO on A = (A_r - lambda A_c) / (1 + lambda), with a critic for cost.

Reward and cost advantages are standardised before they are combined; lambda follows the PID controller of ``pid.py``.
An episode cut by the time limit isn't over in either critic: both bootstrap from its last observation.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from saferl.offline_data.collection.config import PPOConfig
from saferl.offline_data.collection.pid import CostLimit, PIDConfig, PIDMultiplier

Floats = NDArray[np.float32]


def generalised_advantages(
    signals: Floats,
    values: Floats,
    last_values: Floats,
    starts: Floats,
    last_dones: NDArray[Any],
    gamma: float,
    lam: float,
) -> Floats:
    """Generalised advantage estimates (T, B) of a rollout (Schulman et al., 2016).

    Args:
        signals: (T, B) reward or cost of each step, with gamma V(last observation) added where time cut the episode.
        values: (T, B) value of the observation before each step.
        last_values: (B,) value of the observation after the last step.
        starts: (T, B) 1 where a step is the first of its episode.
        last_dones: (B,) whether the last step ended its episode.
        gamma, lam: discount and trace decay.
    """
    advantages = np.zeros_like(signals)
    following, trace = last_values, np.zeros_like(last_values)
    goes_on = 1.0 - np.asarray(last_dones, dtype=np.float32)
    for t in reversed(range(len(signals))):
        trace = signals[t] + gamma * goes_on * following - values[t] + gamma * lam * goes_on * trace
        advantages[t] = trace
        following, goes_on = values[t], 1.0 - starts[t]
    return advantages


def combined_advantages(reward: Floats, cost: Floats, multiplier: float) -> Floats:
    """(A_r - lambda A_c) / (1 + lambda), both standardised over the rollout; same shape as ``reward``."""
    return ((_standardised(reward) - multiplier * _standardised(cost)) / (1 + multiplier)).astype(np.float32)


def _standardised(advantages: Floats) -> Floats:
    # The floor keeps the noise of a critic from being blown up where no cost (or reward) occurs at all.
    return (advantages - advantages.mean()) / max(float(advantages.std()), 1e-3)


class PPOLagrangian(PPO):
    """PPO with a cost limit.

    Args:
        env: vector environment with observations of shape (obs_dim,), whose info has "cost".
        multiplier: the PID-controlled lambda; None trains without regard to cost.
        limit: d(t), compared with the mean undiscounted cost of the episodes that end in a rollout.
        horizon: environment steps of the whole run, over which ``limit`` is spread.
        cost_width: units in each of the two hidden layers of the cost critic.
        learning_rate: of the policy, its value and the cost critic, constant.
        policy: PPO's, a name or a class.
        kwargs: PPO's own settings.
    """

    def __init__(
        self,
        env: VecEnv,
        multiplier: PIDMultiplier | None,
        limit: CostLimit,
        horizon: int,
        cost_width: int = 64,
        learning_rate: float = 3e-4,
        policy: str | type[ActorCriticPolicy] = "MlpPolicy",
        **kwargs: Any,
    ) -> None:
        super().__init__(policy, env, learning_rate=learning_rate, normalize_advantage=False, device="cpu", **kwargs)
        self.multiplier, self.limit, self.horizon = multiplier, limit, horizon
        layers: list[nn.Module] = [nn.Linear(spaces.flatdim(env.observation_space), cost_width), nn.Tanh()]
        layers += [nn.Linear(cost_width, cost_width), nn.Tanh(), nn.Linear(cost_width, 1)]
        self.cost_critic = nn.Sequential(*layers)
        self.cost_optimizer = torch.optim.Adam(self.cost_critic.parameters(), lr=learning_rate, eps=1e-5)
        self.finished: list[float] = []  # costs of the episodes that ended in the last rollout
        self.on_rollout: Callable[[], None] = lambda: None  # called after each rollout
        self._running = np.zeros(self.n_envs)  # (B,) cost so far of the episodes under way

    @classmethod
    def of(
        cls, env: VecEnv, ppo: PPOConfig, pid: PIDConfig, limit: CostLimit, horizon: int, **changed: Any
    ) -> "PPOLagrangian":
        """The learner that settings describe; ``changed`` replaces arguments of the constructor."""
        warnings.filterwarnings("ignore", message="You have specified a mini-batch size")  # a short last batch is fine
        settings: dict[str, Any] = {
            "cost_width": ppo.width,
            "n_steps": ppo.rollout,
            "batch_size": ppo.batch,
            "n_epochs": ppo.epochs,
            "learning_rate": ppo.lr,
            "gamma": ppo.gamma,
            "gae_lambda": ppo.gae,
            "clip_range": ppo.clip,
            "target_kl": ppo.target_kl,
            "max_grad_norm": ppo.grad_norm,
            "ent_coef": ppo.entropy,
            "policy_kwargs": {"log_std_init": ppo.log_std, "net_arch": [ppo.width, ppo.width]},
        }
        return cls(env, PIDMultiplier(pid) if limit.constrained else None, limit, horizon, **settings | changed)

    def cost_values(self, observations: NDArray[Any]) -> Floats:
        """Discounted cost to come (...,), for normalised observations (..., obs_dim)."""
        with torch.no_grad():
            scaled = self.cost_critic(torch.as_tensor(observations, dtype=torch.float32)).squeeze(-1)
        return scaled.numpy() / (1 - self.gamma)  # the network holds the mean cost per step, of order 1

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """A rollout as PPO makes it, then the cost side: returns, lambda and the combined advantages."""
        self._running[np.asarray(self._last_episode_starts, dtype=bool)] = 0.0
        recorder = _CostRecorder(self._running)
        both = CallbackList([callback, recorder])
        both.init_callback(self)
        if not super().collect_rollouts(env, both, rollout_buffer, n_rollout_steps):
            return False
        self.finished = recorder.finished
        advantages, values = self._cost_advantages(recorder, rollout_buffer)
        self._cost_inputs = torch.as_tensor(rollout_buffer.observations.reshape(advantages.size, -1))
        self._cost_targets = torch.as_tensor((advantages + values).reshape(-1) * (1 - self.gamma))
        multiplier = self._updated_multiplier()
        rollout_buffer.advantages = combined_advantages(rollout_buffer.advantages, advantages, multiplier)
        self.on_rollout()
        return True

    def _cost_advantages(self, recorder: "_CostRecorder", buffer: RolloutBuffer) -> tuple[Floats, Floats]:
        costs = np.asarray(recorder.costs, dtype=np.float32)  # (T, B)
        for t, index, observation in recorder.cut:
            costs[t, index] += self.gamma * self.cost_values(observation)
        values = self.cost_values(buffer.observations)
        last_values, last_dones = self.cost_values(np.asarray(self._last_obs)), np.asarray(self._last_episode_starts)
        starts = buffer.episode_starts
        return generalised_advantages(
            costs, values, last_values, starts, last_dones, self.gamma, self.gae_lambda
        ), values

    def _updated_multiplier(self) -> float:
        if self.multiplier is None or not self.limit.constrained:
            return 0.0
        if self.finished:
            progress = min(1.0, self.num_timesteps / self.horizon)
            self.multiplier.update(float(np.mean(self.finished)), self.limit.at(progress))
        return self.multiplier.value

    def train(self) -> None:
        """PPO's update on the combined advantages, then the cost critic's regression."""
        super().train()
        count = len(self._cost_targets)
        for _ in range(self.n_epochs):
            for rows in torch.randperm(count).split(self.batch_size):
                loss = self.cost_loss(self._cost_inputs[rows], self._cost_targets[rows])
                self.cost_optimizer.zero_grad()
                loss.backward()
                self.cost_optimizer.step()

    def cost_loss(self, observations: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error of the cost critic; targets (N,) are mean costs per step, (1 - gamma) times the return."""
        return (self.cost_critic(observations).squeeze(-1) - targets).pow(2).mean()


class _CostRecorder(BaseCallback):
    """Notes the cost of each step, where time cut an episode, and the total cost of each episode that ended."""

    def __init__(self, running: NDArray[np.float64]) -> None:
        super().__init__()
        self._running = running  # (B,), shared with the algorithm from rollout to rollout
        self.costs: list[list[float]] = []  # (T, B)
        self.cut: list[tuple[int, int, Floats]] = []  # step, environment, last observation (normalised)
        self.finished: list[float] = []

    def _on_step(self) -> bool:
        infos, dones = self.locals["infos"], self.locals["dones"]
        costs = [float(info["cost"]) for info in infos]
        self._running += costs
        for index in np.flatnonzero(dones):
            if infos[index]["TimeLimit.truncated"]:
                self.cut.append((len(self.costs), int(index), infos[index]["terminal_observation"]))
            self.finished.append(float(self._running[index]))
            self._running[index] = 0.0
        self.costs.append(costs)
        return True
