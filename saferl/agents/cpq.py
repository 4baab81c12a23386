"""CPQ: Q-learning on actions that a cost critic holds to be safe, which it is taught not to believe of unknown ones.

Paper: Xu et al., Constraints Penalized Q-learning for Safe Offline Reinforcement Learning, AAAI 2022.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from saferl.agents.agent import Agent
from saferl.agents.bellman import FORMS, bellman_target, ends
from saferl.agents.settings import ConstrainedConfig, check_at_least, check_choice, check_positive
from saferl.nn.averaging import average_into
from saferl.nn.gaussian import SquashedGaussian
from saferl.nn.mlp import EnsembleMLP
from saferl.nn.multipliers import LogMultiplier
from saferl.nn.vae import ActionVAE
from saferl.offline_data.batch import Batch

REWARD, COST = slice(0, 2), slice(2, 4)  # members of the critic ensemble
CONSIDERED = 0.25  # of the policy's actions, the farthest from the data, may be unknown; published: all of them are


@dataclass(frozen=True, kw_only=True)
class CPQConfig(ConstrainedConfig):
    """Settings of CPQ; the defaults are those usual for DSRL."""

    actor_lr: float = 1e-4
    critic_lr: float = 1e-3
    vae_lr: float = 1e-3
    alpha_lr: float = 1e-4
    vae_hidden: int = 400
    vae_divergence_weight: float = 0.5  # beta
    candidates: int = 4  # N actions of the policy at each state that may be unknown to the data
    known_share: float = 0.95  # of the data's actions; a greater divergence of the encoder makes an action unknown
    cost_scale: float = 1.5  # unknown actions are to cost this multiple of kappa
    form: str = "corrected"  # or "published": with the faults of the reference code, see ``CPQ``

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "actor_lr", "critic_lr", "vae_lr", "alpha_lr", "cost_scale")
        check_at_least(self, 1, "vae_hidden", "candidates")
        check_at_least(self, 0, "vae_divergence_weight")
        if not 0 < self.known_share < 1:
            raise ValueError(f"agent.known_share must be in (0, 1); got {self.known_share}.")
        check_choice(self, "form", FORMS)


class CPQ(Agent):
    """Twins of Q_r and Q_c, a VAE of the data's actions, a Gaussian policy.

    An action of the policy is unknown where the VAE's encoder puts it farther from its prior than nearly all of the
    data's actions (published: the farthest quarter of the policy's own, wherever it is). The cost critic minimises
    its Bellman error plus e^alpha E[max(0, 1.5 kappa - Q_c(s, a unknown))], and alpha falls once unknown actions cost
    1.5 kappa on average. The reward's target, and the policy, count only actions with Q_c <= kappa. The paper's term
    has no max: it goes on raising Q_c until alpha has fallen, while the targets, which value the policy's own actions,
    rise with it; on our test beds the critic then ends far above any cost there is, and no action counts. And where no
    action counts, the paper's policy has no gradient: once it is unsafe everywhere it stays so. Ours lowers Q_c there.

    The published form reproduces the reference code's faults: the unknown actions' term is evaluated without gradient
    on the target copy, so that nothing of it reaches the cost critic; its actions are not squashed; its mean divides by
    all actions; the least of the cost twins counts; the reward's target ends where only the time ran out, the cost's
    never ends.
    """

    def __init__(self, config: CPQConfig, obs_dim: int, act_dim: int, device: torch.device | str = "cpu") -> None:
        super().__init__(config, obs_dim, act_dim, device)
        self.config: CPQConfig = config
        widths = (config.hidden, config.hidden)
        self.critics = EnsembleMLP(4, obs_dim + act_dim, widths, config.dtype)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.actor = SquashedGaussian(obs_dim, act_dim, widths, config.dtype)
        self.vae = ActionVAE(obs_dim, act_dim, config.vae_hidden, config.dtype)
        self.penalty = LogMultiplier(config.alpha_lr)
        self.to(self.device)
        self.threshold, self.published = config.threshold, config.form == "published"
        self.optimizers = {
            "actor": torch.optim.Adam(self.actor.parameters(), lr=config.actor_lr, fused=True),
            "critics": torch.optim.Adam(self.critics.parameters(), lr=config.critic_lr, fused=True),
            "vae": torch.optim.Adam(self.vae.parameters(), lr=config.vae_lr, fused=True),
        }

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the VAE, of the critics and of the actor."""
        vae_loss = self.vae.loss(batch.observations, batch.actions, self.config.vae_divergence_weight)
        self.step("vae", vae_loss)
        critic_loss, metrics = self.critic_loss(batch)
        self.step("critics", critic_loss)
        actor_loss, policy_metrics = self.actor_loss(batch.observations)
        self.step("actor", actor_loss)
        average_into(self.target_critics, self.critics, self.config.target_rate)
        return {"vae/loss": vae_loss.detach(), "actor/loss": actor_loss.detach(), **metrics, **policy_metrics}

    def critic_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Bellman errors of all critics plus the unknown actions' term (), alpha updated on the way; metrics."""
        aim = self.config.cost_scale * self.threshold
        unknown, missing = self.unknown_cost(batch, aim)
        penalty = self.penalty.value
        self.penalty.update(aim - unknown)
        q = self.critics(torch.cat([batch.observations, batch.actions], dim=1)).unflatten(0, (2, 2))  # (2, 2, B)
        losses = (q - self.critic_targets(batch).unsqueeze(1)).square().mean(2).sum(1)  # (2,)
        metrics = {
            "critics/reward_loss": losses[0].detach(),
            "critics/cost_loss": losses[1].detach(),
            "critics/cost_q": q[1].detach().mean(),
            "critics/unknown_cost_q": unknown,
            "multiplier/penalty": penalty,
        }
        return losses.sum() + penalty * missing, metrics

    def unknown_cost(self, batch: Batch, aim: float) -> tuple[Tensor, Tensor]:
        """Of N actions of the policy at each observation, the unknown ones' Q_c and what it lacks.

        Returns: mean Q_c () without gradient (``aim`` where none is unknown, so that alpha rests), and mean
        max(0, aim - Q_c) () with that of the cost critics.
        """
        config, observations = self.config, batch.observations
        with torch.no_grad():
            drawn = self.actor.sample(observations, config.candidates)
            actions = drawn.raw if self.published else drawn.actions  # (B, N, act_dim)
            apart = self.vae.encode_candidates(observations, actions).divergence().mean(2).flatten()  # (B N,)
            farthest, rows = torch.topk(apart, max(1, round(CONSIDERED * len(apart))), sorted=False)
            pairs = torch.cat([observations[rows // config.candidates], actions.flatten(0, 1)[rows]], dim=1)
            if self.published:
                unknown = self.target_critics(pairs, COST).amin(0).sum() / len(apart)
                return unknown, aim - unknown
            of_data = self.vae.encode(observations, batch.actions).divergence().mean(1)
            is_unknown = (farthest > torch.quantile(of_data, config.known_share)).float()  # (rows,)
        cost = self.critics(pairs, COST)  # (2, rows)
        share = is_unknown.mean()
        mean_cost = torch.where(share > 0, (is_unknown * cost.detach()).mean() / share, aim)
        return mean_cost, (is_unknown * (aim - cost).clamp(min=0)).mean() / share.clamp(min=1e-6)

    @torch.no_grad()
    def critic_targets(self, batch: Batch) -> Tensor:
        """Bellman targets (2, B): the reward's counts what follows only where Q_c' <= kappa."""
        following = batch.next_observations
        actions = self.actor.sample(following).actions
        q = self.target_critics(torch.cat([following, actions], dim=1))  # (4, B)
        cost = self._cost(q)
        reward_ends, cost_ends = ends(batch, self.config.form)
        next_reward = (cost <= self.threshold) * q[REWARD].amin(0)
        return torch.stack(
            [
                bellman_target(batch.rewards, reward_ends, next_reward, self.config.discount),
                bellman_target(batch.costs, cost_ends, cost, self.config.discount),
            ]
        )

    def actor_loss(self, observations: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """-E[Q_r(s, a) where Q_c(s, a) <= kappa, else -Q_c(s, a)] (), a drawn from the policy; metrics."""
        actions = self.actor.sample(observations).actions
        q = self.critics(torch.cat([observations, actions], dim=1), frozen=True)
        cost, value = self._cost(q), q[REWARD].amin(0)
        safe = cost <= self.threshold
        otherwise = torch.zeros_like(cost) if self.published else -cost
        metrics = {"policy/reward_q": value.detach().mean(), "policy/safe_share": safe.float().mean()}
        return -torch.where(safe, value, otherwise).mean(), metrics

    def _cost(self, q: Tensor) -> Tensor:
        """The twins' Q_c (B,) that counts, of q (4, B)."""
        return q[COST].amin(0) if self.published else q[COST].amax(0)

    def act(self, observations: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """tanh(mean), actions (B, act_dim) in [-1, 1] for observations (B, obs_dim); draws no noise."""
        return self.actor.mode(observations)
