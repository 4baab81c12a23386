"""An environment whose truth is known, and policies for it."""

import gymnasium
import numpy as np
from scipy import stats

from saferl.guardians import GuardedPolicy, GuardianConfig, fit_guardian
from saferl.offline_data import OfflineDataset
from saferl.policy import as_policy

SPREAD = 0.1  # of the environment's own noise


class Coins(gymnasium.Env):
    """``steps`` times: an action a in [-1, 1] earns a, and costs 1 where a + noise > 1 - risk.

    Observation: share of the steps that are done, shape (1,).
    """

    def __init__(self, steps=1, risk=0.0):
        self.observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        self.steps, self.risk, self.done = steps, risk, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.done = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.done += 1
        cost = float(action[0] + SPREAD * self.np_random.standard_normal() > 1 - self.risk)
        return np.full(1, self.done / self.steps, np.float32), float(action[0]), self.done == self.steps, False, {
            "cost": cost
        }  # fmt: skip


gymnasium.register("saferl-tests/Coins-v0", entry_point=Coins, max_episode_steps=4)
ENV = f"env={__name__}:saferl-tests/Coins-v0"


def rate(action, risk=0.0, noise=0.0):
    """Probability that a step costs, for actions N(action, noise^2)."""
    return stats.norm.sf((1 - risk - action) / np.hypot(SPREAD, noise))


def careful(observations):
    """Costs in 2.3 % of the steps."""
    return np.full((len(observations), 1), 0.8, np.float32)


def bold(observations):
    """Costs in half of the steps."""
    return np.full((len(observations), 1), 1.0, np.float32)


def with_action(boldness):
    """The policy that always takes this action."""
    return lambda observations: np.full((len(observations), 1), boldness, np.float32)


def guarded(threshold):
    """The bold policy, and the careful one where a guardian finds too little support for it; support is at most 0."""
    data = recorded(200, seed=0)
    guardian = fit_guardian(data.observations, data.actions, GuardianConfig(kind="knn"))
    guardian.threshold = threshold
    return GuardedPolicy(as_policy(bold), guardian, as_policy(careful))


def indifferent(threshold):
    """The same policy at any threshold."""
    return careful


NOISE = 0.3  # of the recorded actions


def behaviour(observations, actions):
    """Log density of the recorded actions: N(0.6, 0.3^2)."""
    return stats.norm.logpdf(actions[:, 0], 0.6, NOISE)


def nearby(observations):
    """A little more careful than what was recorded."""
    return np.full((len(observations), 1), 0.5, np.float32)


def recorded(episodes, seed, steps=2):
    """Episodes of the behaviour in Coins of ``steps`` steps."""
    generator = np.random.default_rng(seed)
    actions = generator.normal(0.6, NOISE, (episodes * steps, 1)).astype(np.float32)
    costs = (actions[:, 0] + SPREAD * generator.standard_normal(len(actions)) > 1).astype(np.float32)
    share = np.tile(np.arange(steps) / steps, episodes)[:, None].astype(np.float32)
    ends = np.arange(len(actions)) % steps == steps - 1
    return OfflineDataset(
        observations=share, next_observations=share + np.float32(1 / steps), actions=actions, rewards=actions[:, 0],
        costs=costs, terminals=ends, timeouts=np.zeros_like(ends),
    )  # fmt: skip
