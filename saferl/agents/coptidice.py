"""COptiDICE: weigh the data as the best safe policy would visit it, then imitate with these weights.

Paper: Lee et al., COptiDICE: Offline Constrained Reinforcement Learning via Stationary Distribution Correction
Estimation, ICLR 2022. w(s, a) = d(s, a) / d_D(s, a): how often the policy is in s and does a, discounted and normalised
(an occupancy), against the data.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional as F

from saferl.agents.agent import Agent
from saferl.agents.bellman import FORMS, ends
from saferl.agents.settings import ConstrainedConfig, check_choice, check_positive
from saferl.agents.start_mean import starts
from saferl.nn.gaussian import SquashedGaussian
from saferl.nn.mlp import EnsembleMLP
from saferl.offline_data.batch import Batch
from saferl.offline_data.dataset import OfflineDataset

VALUE, COST_VALUE = 0, 1  # members of the ensemble: nu and chi
JITTER = 0.1  # published form: noise on states and actions, in the batch's standard deviations


@dataclass(frozen=True, kw_only=True)
class COptiDICEConfig(ConstrainedConfig):
    """Settings of COptiDICE; the defaults are those usual for DSRL. ``target_rate`` has no use: nothing is copied."""

    actor_lr: float = 1e-4
    critic_lr: float = 1e-4
    multiplier_lr: float = 1e-4  # of lambda and tau
    regularisation: float = 0.5  # alpha, in units of the reward of a step: what a divergence of 1 from the data costs
    cost_radius: float = 0.01  # epsilon: how far, in KL, the data may be reweighted to raise the estimated cost
    form: str = "corrected"  # or "published": with the faults of the reference code, see ``COptiDICE``

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "actor_lr", "critic_lr", "multiplier_lr", "regularisation", "cost_radius")
        check_choice(self, "form", FORMS)


def divergence(ratio: Tensor) -> Tensor:
    """f(x) of the soft chi-square divergence: x (ln x - 1) + 1 for x < 1, (x - 1)^2 / 2 from there on; any shape."""
    return torch.where(ratio < 1, torch.xlogy(ratio, ratio) - ratio + 1, 0.5 * (ratio - 1).square())


def ratio_at_slope(slope: Tensor) -> Tensor:
    """(f')^-1(y), the x at which f has slope y: e^y for y < 0, y + 1 from there on; > 0, any shape."""
    return torch.where(slope < 0, slope.clamp(max=0).exp(), slope + 1)


def conjugate(slope: Tensor) -> Tensor:
    """f*(y) = max_x (x y - f(x)) = x y - f(x) at x = (f')^-1(y): e^y - 1 for y < 0, y^2 / 2 + y from there on."""
    return torch.where(slope < 0, slope.clamp(max=0).expm1(), 0.5 * slope.square() + slope)


class COptiDICE(Agent):
    """Networks: nu and chi, values of reward (less lambda cost) and of cost, in one ensemble; the policy.

    With e = r - lambda c + gamma (1 - d) nu(s') - nu(s), the weights are w = (f')^-1(e / alpha). nu minimises
    (1 - gamma) E_p0[nu] + alpha E[f*(e / alpha)]; lambda grows where the cost's upper bound E[q w c] exceeds
    (1 - gamma) kappa. q is the reweighting of the data, within cost_radius of it, that chi can least refute:
    q = softmax(w (c + gamma (1 - d) chi(s') - chi(s)) / tau) over the batch. p0, where episodes begin, enters by the
    column ``starts``, whose mean is 1: E_p0[nu] = E[starts nu]; without the column any row may be a beginning.

    The "published" form reproduces the reference code's faults: kappa where (1 - gamma) kappa bounds the cost, so that
    the limit hardly ever binds; the normal density at the action itself, while tanh(mean) acts; states and actions
    jittered by 0.1 standard deviations; values that end where only the time ran out; and starts (1 - gamma) chi inside
    of the softmax, where the few rows that begin an episode, 1 / p0 times their size, crowd out all others.
    """

    def __init__(self, config: COptiDICEConfig, obs_dim: int, act_dim: int, device: torch.device | str = "cpu") -> None:
        super().__init__(config, obs_dim, act_dim, device)
        self.config: COptiDICEConfig = config
        widths = (config.hidden, config.hidden)
        self.values = EnsembleMLP(2, obs_dim, widths, config.dtype)
        self.actor = SquashedGaussian(obs_dim, act_dim, widths, config.dtype)
        self.raw_multiplier, self.raw_temperature = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(()))
        self.to(self.device)
        groups = [
            {"params": list(self.values.parameters()), "lr": config.critic_lr},
            {"params": [self.raw_multiplier, self.raw_temperature], "lr": config.multiplier_lr},
        ]
        self.optimizers = {
            "occupancy": torch.optim.Adam(groups, fused=True),
            "actor": torch.optim.Adam(self.actor.parameters(), lr=config.actor_lr, fused=True),
        }
        published = config.form == "published"
        self.cost_bound = config.threshold * (1.0 if published else 1 - config.discount)

    @property
    def multiplier(self) -> Tensor:
        """lambda () > 0, reward per unit of cost."""
        return F.softplus(self.raw_multiplier)

    def training_rows(self, dataset: OfflineDataset) -> tuple[OfflineDataset, Mapping[str, ArrayLike]]:
        """All rows, with ``starts`` of mean 1: N / E in the E of N rows that begin an episode, 0 elsewhere."""
        return dataset, {"starts": starts(dataset) * (len(dataset) / dataset.n_episodes)}

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step of nu, chi, lambda and tau together, then one of the policy on the weights they gave."""
        loss, weights, metrics = self.occupancy_loss(batch)
        self.step("occupancy", loss)
        actor_loss = self.actor_loss(batch, weights)
        self.step("actor", actor_loss)
        return metrics | {"actor/loss": actor_loss.detach()}

    def occupancy_loss(self, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """L_nu + L_chi + L_tau + L_lambda (), each with a gradient in its own variable alone; weights (B,); metrics."""
        config = self.config
        starts = torch.ones_like(batch.rewards) if batch.starts is None else batch.starts
        goes_on = config.discount * (1 - ends(batch, config.form)[0])  # (B,)
        both = self.values(torch.cat([batch.observations, batch.next_observations]))  # (2, 2 B)
        here, there = both.unflatten(1, (2, -1)).unbind(1)  # (2, B), nu and chi at s and at s'
        ahead = goes_on * there - here  # (2, B)
        at_start = (1 - config.discount) * starts * here  # (2, B)
        multiplier, temperature = self.multiplier, F.softplus(self.raw_temperature)

        slope = (batch.rewards - multiplier.detach() * batch.costs + ahead[VALUE]) / config.regularisation
        weights = ratio_at_slope(slope.detach())
        value_loss = at_start[VALUE].mean() + config.regularisation * conjugate(slope).mean()

        flaw = weights * (batch.costs + ahead[COST_VALUE])  # (B,)
        fixed = at_start[COST_VALUE]
        if config.form == "published":
            flaw, fixed = flaw + fixed, torch.zeros_like(fixed)
        logits = flaw.detach() / temperature.detach()
        doubt = logits.softmax(0) * len(logits)  # q, (B,) with mean 1
        log_doubt = logits.log_softmax(0) + math.log(len(logits))
        radius = (doubt * log_doubt - doubt + 1).mean()
        cost_value_loss = (fixed + doubt * flaw).mean()
        temperature_loss = temperature * (config.cost_radius - radius)

        cost = (doubt * weights * batch.costs).mean()
        multiplier_loss = multiplier * (self.cost_bound - cost)
        metrics = {
            "values/loss": value_loss,
            "values/cost_loss": cost_value_loss,
            "occupancy/divergence": divergence(weights).mean(),
            "occupancy/mean_weight": weights.mean(),
            "occupancy/cost": (weights * batch.costs).mean(),
            "occupancy/cost_bound": cost,
            "occupancy/radius": radius,
            "occupancy/temperature": temperature,
            "multiplier/value": multiplier,
        }
        loss = value_loss + cost_value_loss + temperature_loss + multiplier_loss
        return loss, weights, {key: value.detach() for key, value in metrics.items()}

    def actor_loss(self, batch: Batch, weights: Tensor) -> Tensor:
        """- E[w ln pi(a | s)] (), for weights (B,)."""
        if self.config.form == "published":
            return -(weights * self._published_log_prob(batch)).mean()
        return -(weights * self.actor.log_prob(batch.observations, batch.actions)).mean()

    def _published_log_prob(self, batch: Batch) -> Tensor:
        """(B,) log-density of jittered actions at jittered states, as if the policy had no tanh."""
        states, actions = (
            values + JITTER * values.std(0) * torch.randn_like(values) for values in (batch.observations, batch.actions)
        )
        mean, log_std = self.actor(states)
        return torch.distributions.Normal(mean, log_std.exp(), validate_args=False).log_prob(actions).sum(-1)

    def act(self, observations: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """tanh(mean), actions (B, act_dim) in [-1, 1] for observations (B, obs_dim); draws no noise."""
        return self.actor.mode(observations)
