"""SA-regularised policies: the mean action at a state and that at the worst observation near it are to be alike.

Source: Zhang et al., Robust Deep Reinforcement Learning against Adversarial Perturbations on State Observations,
NeurIPS 2020 (SA-PPO); Liu et al. 2023 for the squared form in PPO-Lagrangian.
"""

from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from saferl.adversaries.ascent import Ascent, AscentConfig, Autograd
from saferl.adversaries.objectives import Situation, deviation
from saferl.adversaries.threat import Threat
from saferl.adversaries.victim import Respond, Response, Victim, clipped
from saferl.policy import CallablePolicy


def learning_victim(policy: ActorCriticPolicy, act_dim: int) -> Victim:
    """A PPO policy that is still learning, on normalised observations and with actions in [-1, 1]."""

    def gaussian(observations: Tensor, seed: int) -> Response:
        distribution: Any = policy.get_distribution(observations).distribution
        return Response(clipped(distribution.mean), distribution.mean, distribution.stddev)

    respond: Respond = gaussian
    low = -torch.ones(act_dim).numpy()
    obs_dim = int(policy.observation_space.shape[0])  # type: ignore[index]
    acts = CallablePolicy(lambda rows: policy.predict(rows, deterministic=True)[0])
    return Victim(acts, obs_dim, low, -low, "the policy that learns", respond)


class SmoothPolicy(ActorCriticPolicy):
    """PPO's policy whose entropy bonus carries the penalty: with ent_coef 1, PPO's own loss is the joint one.

    Attributes:
        ascent: finds the worst observation near each state; None: no penalty.
        kappa: weight of mean |mu(s) - mu(s~)|^2.
        entropy: weight of the entropy itself.
    """

    ascent: Ascent | None = None
    kappa: float = 1.0
    entropy: float = 0.0

    def regularise(self, threat: Threat, act_dim: int, kappa: float, entropy: float, steps: int, seed: int) -> None:
        """Begin with the penalty."""
        victim = learning_victim(self, act_dim)
        self.ascent = Ascent(Autograd(victim, threat), threat, AscentConfig(steps=steps))
        self._victim, self._noise = victim, torch.Generator().manual_seed(seed)
        self.kappa, self.entropy = kappa, entropy

    def penalty(self, observations: Tensor) -> Tensor:
        """|mu(s) - mu(s~)|^2 (B,) with gradient, s~ the worst that ascent finds."""
        assert self.ascent is not None
        with torch.no_grad():
            clean = self._victim.response(observations).mapped(Tensor.detach)
        deltas = self.ascent.best(deviation, Situation(observations, clean), self._noise)
        seen = self.ascent.threat.shifted(observations, deltas)
        means = [self._victim.response(rows).mean for rows in (observations, seen)]
        return (means[0] - means[1]).square().sum(-1)

    def evaluate_actions(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """As ActorCriticPolicy, with entropy * H - kappa * penalty in place of the entropy H."""
        values, log_probability, entropy = super().evaluate_actions(obs, actions)
        if self.ascent is None or self.ascent.threat.eps == 0:
            return values, log_probability, None if entropy is None else self.entropy * entropy
        assert entropy is not None
        return values, log_probability, self.entropy * entropy - self.kappa * self.penalty(obs)
