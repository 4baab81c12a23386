"""FISOR: a diffusion policy guided by the largest feasible region of offline data.

Paper: Zheng et al., Safe Offline Reinforcement Learning with Feasibility-Guided Diffusion Model, ICLR 2024.
h(s) > 0 means violation. V_h(s) <= 0 says that some action supported by the data keeps h <= 0 for ever.
"""

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from saferl.agents.bellman import bellman_target
from saferl.agents.feasibility import (
    Weighting,
    cosine_rate,
    expectile_loss,
    feasibility_weights,
    reversed_expectile_loss,
    safety_bellman_target,
)
from saferl.agents.fisor.config import FISORConfig
from saferl.agents.fisor.margins import current_margins
from saferl.agents.guarding import GuardedAgent
from saferl.nn.averaging import average_into
from saferl.nn.compilation import compiled
from saferl.nn.cuda_graph import CudaGraph
from saferl.nn.diffusion import SAMPLERS, NoiseSchedule, weighted_denoising_loss
from saferl.nn.gaussian import SquashedGaussian
from saferl.nn.mlp import EnsembleMLP
from saferl.nn.score_network import FrozenScore, ScoreNetwork
from saferl.offline_data.batch import Batch
from saferl.offline_data.dataset import OfflineDataset

REWARD, SAFETY = 0, 1  # members of the value ensemble
REWARD_TWINS, SAFETY_TWINS = slice(0, 2), slice(2, 4)  # members of the critic ensemble


class Draws(NamedTuple):
    """The random numbers of one actor update on B rows."""

    steps: Tensor  # (B,) int64, diffusion steps in 0..T-1
    noise: Tensor  # (B, act_dim), standard normal
    dropout: list[Tensor] | None  # (B, hidden) for each block: 0 or 1 / (1 - share)


class FISOR(GuardedAgent):
    """Reward critics, safety critics and a policy, trained on disjoint objectives at every update.

    The critics never depend on the policy. Networks: ``values`` (V_r, V_h), ``critics`` (twins of Q_r, twins of Q_h)
    with a target copy, ``score`` ("awr": ``gaussian``) with an averaged copy that acts. Guarded, it takes
    candidates that the data support, or the best supported one where there is none; training is as without.
    """

    updates: Tensor

    def __init__(self, config: FISORConfig, obs_dim: int, act_dim: int, device: torch.device | str = "cpu") -> None:
        super().__init__(config, obs_dim, act_dim, device)
        self.config: FISORConfig = config
        widths = (config.critic_hidden, config.critic_hidden)
        self.values = EnsembleMLP(2, obs_dim, widths)
        self.critics = EnsembleMLP(4, obs_dim + act_dim, widths)
        if config.actor == "awr":
            self.gaussian = SquashedGaussian(obs_dim, act_dim, (config.hidden, config.hidden), config.dtype)
            self.target_gaussian = copy.deepcopy(self.gaussian).requires_grad_(False)
        else:
            self.score = ScoreNetwork(
                obs_dim,
                act_dim,
                config.diffusion_steps,
                config.hidden,
                config.blocks,
                dropout=config.dropout,
                dtype=config.dtype,
            )
            self.target_score = copy.deepcopy(self.score).requires_grad_(False).eval()
            self.noise_schedule = NoiseSchedule(config.schedule, config.diffusion_steps)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.make_guard()
        self.to(self.device)
        trained = {"actor": self._actor()[0], "values": self.values, "critics": self.critics}
        self.optimizers = {name: self._adam(network) for name, network in trained.items()}
        self._graph: CudaGraph | None = None
        prepare = partial(compiled, device=self.device) if config.compile else lambda function: function
        self._policy_loss = prepare(self.policy_loss)
        self._value_losses, self._critic_losses = prepare(self.value_losses), prepare(self.critic_losses)
        self.weighting = Weighting(
            config.reward_temperature, config.cost_temperature, config.reward_weight_clip, config.cost_weight_clip
        )
        self._frozen: tuple[int, FrozenScore] | None = None
        self.threshold = config.threshold if config.safety_critic == "qc" else 0.0  # what Q_h and V_h may reach

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step of each critic and two of the actor, one on each half of the batch.

        The actor comes first: both its steps see the critics of the update before.
        """
        if not self.config.cuda_graph or self.device.type != "cuda":
            return self._update(batch)
        if self._graph is None:
            self._graph = CudaGraph(lambda **fields: self._update(Batch(**fields)))
        return self._graph(**{key: value for key, value in vars(batch).items() if value is not None})

    def _update(self, batch: Batch) -> dict[str, Tensor]:
        config = self.config
        target_q = self.target_q(batch.observations, batch.actions)  # (4, B)
        weights = self.weights(batch.observations, target_q)
        half = len(weights) // 2
        actor_losses = []
        for index, rows in enumerate((slice(0, half), slice(half, 2 * half))):
            done = 2 * self.updates + index
            self._set_rate("actor", cosine_rate(config.actor_lr, done, config.actor_lr_decay, config.lr_end_share))
            draws = self.draw_noise(half)
            loss = self._policy_loss(batch.observations[rows], batch.actions[rows], weights[rows], draws)
            self.step("actor", loss)
            actor, averaged = self._actor()
            average_into(averaged, actor, config.actor_target_rate)
            actor_losses.append(loss.detach())
        metrics = self.update_critics(batch, target_q)
        self.updates += 1
        metrics["policy/loss"] = (actor_losses[0] + actor_losses[1]) / 2
        metrics["policy/mean_weight"] = weights.mean()
        metrics["policy/unused_share"] = (weights == 0).float().mean()
        return metrics

    def training_rows(self, dataset: OfflineDataset) -> tuple[OfflineDataset, Mapping[str, ArrayLike]]:
        """All rows, with ``margins_before`` where ``margin_of`` is "current" and the data have margins."""
        before = current_margins(dataset) if self.config.margin_of == "current" else None
        return dataset, {} if before is None else {"margins_before": before}

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        """Restore what ``optimizer_state`` gave; a recorded update is forgotten, its tensors are replaced."""
        super().load_optimizer_state(state)
        self._graph = None

    def update_critics(self, batch: Batch, target_q: Tensor) -> dict[str, Tensor]:
        """One gradient step of V_r and V_h, then of Q_r and Q_h, on the leading rows; reward and safety never mix.

        Args:
            batch: at least ``critic_batch_size`` rows.
            target_q: (4, B) from ``target_q`` for these rows.
        """
        config, rows = self.config, self.config.critic_batch_size
        head = batch.head(rows)
        rate = cosine_rate(config.critic_lr, self.updates, config.critic_lr_decay, config.lr_end_share)
        self._set_rate("values", rate)
        self._set_rate("critics", rate)
        value_losses = self._value_losses(head.observations, target_q[:, :rows])
        self.step("values", value_losses.sum())
        critic_losses = self._critic_losses(head.observations, head.actions, self.critic_targets(head))
        self.step("critics", critic_losses.sum())
        average_into(self.target_critics, self.critics, config.target_rate)
        return {
            "values/reward_loss": value_losses[REWARD].detach(),
            "values/safety_loss": value_losses[SAFETY].detach(),
            "critics/reward_loss": critic_losses[REWARD].detach(),
            "critics/safety_loss": critic_losses[SAFETY].detach(),
            "critics/reward_q": target_q[REWARD_TWINS].mean(),
            "critics/safety_q": target_q[SAFETY_TWINS].mean(),
        }

    @torch.no_grad()
    def target_q(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Q of the target copies (4, B), the twins of Q_r and of Q_h, at (B, obs_dim) and (B, act_dim)."""
        return self.target_critics(torch.cat([observations, actions], dim=1))

    @torch.no_grad()
    def weights(self, observations: Tensor, target_q: Tensor) -> Tensor:
        """Weights (B,) of the policy's loss at observations (B, obs_dim), given the target copies' Q (4, B)."""
        v_r, v_h = self.values(observations)
        q_r, q_h = target_q[REWARD_TWINS].amin(0), target_q[SAFETY_TWINS].amax(0)
        shift = self.config.safety_margin - self.threshold
        return feasibility_weights(q_r, v_r, q_h + shift, v_h + shift, self.weighting)

    def _actor(self) -> tuple[nn.Module, nn.Module]:
        """The policy's network and its averaged copy, which acts."""
        if self.config.actor == "awr":
            return self.gaussian, self.target_gaussian
        return self.score, self.target_score

    def draw_noise(self, rows: int) -> Draws | None:
        """The random numbers of one actor update, from torch's global generator; "awr" needs none."""
        if self.config.actor == "awr":
            return None
        steps = torch.randint(self.config.diffusion_steps, (rows,), device=self.device)
        noise = torch.randn(rows, self.act_dim, device=self.device)
        return Draws(steps, noise, self.score.draw_dropout(rows))

    def policy_loss(self, observations: Tensor, actions: Tensor, weights: Tensor, draws: Draws | None) -> Tensor:
        """Weighted denoising loss (), "awr": - mean of w log pi(a | s), of (B, obs_dim), (B, act_dim) and w (B,)."""
        if draws is None:
            return -(weights * self.gaussian.log_prob(observations, actions)).mean()
        noisy = self.noise_schedule.noisy_actions(actions, draws.steps, draws.noise)
        predicted = self.score(noisy, observations, draws.steps, draws.dropout)
        return weighted_denoising_loss(predicted, draws.noise, weights)

    def value_losses(self, observations: Tensor, target_q: Tensor) -> Tensor:
        """Losses (2,) of V_r and V_h at observations (B, obs_dim), given the target copies' Q (4, B)."""
        v_r, v_h = self.values(observations)
        reward = expectile_loss(target_q[REWARD_TWINS].amin(0) - v_r, self.config.reward_expectile)
        safety = reversed_expectile_loss(target_q[SAFETY_TWINS].amax(0) - v_h, self.config.safety_expectile)
        return torch.stack([reward, safety])

    def critic_losses(self, observations: Tensor, actions: Tensor, targets: Tensor) -> Tensor:
        """Mean squared errors (2,) of Q_r and Q_h, over both twins, against ``targets`` (2, B)."""
        q = self.critics(torch.cat([observations, actions], dim=1)).unflatten(0, (2, 2))  # (kind, twin, B)
        return (q - targets[:, None]).square().mean(dim=(1, 2))

    @torch.no_grad()
    def critic_targets(self, batch: Batch) -> Tensor:
        """Bellman targets (2, B) of Q_r and Q_h, with the values as they are now."""
        config = self.config
        next_r, next_h = self.values(batch.next_observations)
        ends = batch.terminals if config.bootstrap_timeouts else torch.maximum(batch.terminals, batch.timeouts)
        reward = bellman_target(batch.rewards, ends, next_r, config.discount)
        if config.safety_critic == "qc":
            safety = bellman_target(batch.costs, ends, next_h, config.discount)
        elif batch.margins_before is not None:
            following = torch.lerp(next_h, self.margins(batch), ends)  # where nothing follows, V_h(s') is h(s')
            safety = safety_bellman_target(batch.margins_before, torch.zeros_like(ends), following, config.discount)
        else:
            safety = safety_bellman_target(self.margins(batch), ends, next_h, config.discount)
        return torch.stack([reward, safety])

    def margins(self, batch: Batch) -> Tensor:
        """h (B,) of the next states: the batch's margins if the data has them, else the two labels of the settings."""
        if batch.margins is not None:
            return batch.margins
        return torch.where(batch.costs > 0, self.config.unsafe_label, self.config.safe_label)

    @torch.no_grad()
    def feasible_value(self, observations: Tensor) -> Tensor:
        """V_h (B,) at observations (B, obs_dim): <= 0 where the state is feasible ("qc": less its threshold)."""
        return self.values(observations, slice(SAFETY, SAFETY + 1))[0] - self.threshold

    @torch.no_grad()
    def act(self, observations: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Map observations (B, obs_dim) to actions (B, act_dim) in [-1, 1]: the best of N candidates each."""
        candidates = self.draw_candidates(observations, generator)
        best = self.selected(observations, candidates)
        return candidates[torch.arange(len(best), device=best.device), best]

    def draw_candidates(self, observations: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """N actions (B, N, act_dim) of the averaged policy for observations (B, obs_dim)."""
        if self.config.actor == "awr":
            return self.target_gaussian.sample(observations, self.config.candidates, generator).actions
        config, network = self.config, self._acting_network()
        features = network.observation_features(observations).repeat_interleave(config.candidates, dim=0)

        def noise_prediction(noisy: Tensor, step: int) -> Tensor:
            return network(noisy.flatten(0, 1), features, step).view_as(noisy)

        shape = (len(observations), config.candidates, self.act_dim)
        sample = SAMPLERS[config.sampler]
        return sample(noise_prediction, self.noise_schedule, shape, generator, config.temperature)

    def _acting_network(self) -> FrozenScore:
        """The averaged network as it is now; made anew when its weights have changed in place."""
        version = sum(parameter._version for parameter in self.target_score.parameters())
        if self._frozen is None or self._frozen[0] != version:
            self._frozen = (version, FrozenScore(self.target_score))
        return self._frozen[1]

    def selected(self, observations: Tensor, candidates: Tensor) -> Tensor:
        """Index (B,) of the chosen one of ``candidates`` (B, N, act_dim) at ``observations`` (B, obs_dim)."""
        allowed = None if self.guard is None else self.guard.allowed(observations, candidates)  # (B, N)
        if self.config.selection == "least_qh":
            q_h = self.target_critics.over_candidates(observations, candidates, SAFETY_TWINS).amax(0)
            return (q_h if allowed is None else q_h.masked_fill(~allowed, torch.inf)).argmin(dim=1)
        q = self.target_critics.over_candidates(observations, candidates)  # (4, B, N)
        q_r, q_h = q[REWARD_TWINS].amin(0), q[SAFETY_TWINS].amax(0)
        if allowed is not None:
            q_h = q_h.masked_fill(~allowed, torch.inf)
        feasible = q_h <= self.threshold - self.config.safety_margin
        best = torch.where(feasible, q_r, -torch.inf).argmax(dim=1)
        return torch.where(feasible.any(dim=1), best, q_h.argmin(dim=1))

    def _adam(self, network: torch.nn.Module) -> torch.optim.Optimizer:
        rate = torch.zeros((), dtype=torch.float64, device=self.device)  # set before every step
        on_gpu = self.device.type == "cuda"
        return torch.optim.Adam(network.parameters(), lr=rate, fused=True, capturable=on_gpu)

    def _set_rate(self, name: str, rate: Tensor) -> None:
        for group in self.optimizers[name].param_groups:
            group["lr"].copy_(rate)
