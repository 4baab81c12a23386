"""The peer in PyTorch: FISOR's update as one writes it first, one module per network, row by row of the paper.

Used by benchmarks/fisor_update.py as what saferl is compared with, and by the tests as a second opinion.
"""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saferl.agents.fisor import FISOR, Draws, FISORConfig
from saferl.offline_data.batch import Batch


class Block(nn.Module):
    """One residual block with nn.Dropout in front, or with given dropout factors."""

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(hidden, eps=1e-6)
        self.expand, self.contract = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)

    def forward(self, x: Tensor, scales: Tensor | None) -> Tensor:
        """Map (B, hidden) to (B, hidden)."""
        kept = self.dropout(x) if scales is None else x * scales
        return x + self.contract(F.mish(self.expand(self.norm(kept))))


class Score(nn.Module):
    """The noise prediction network, with every row's own time features."""

    def __init__(self, obs_dim: int, act_dim: int, config: FISORConfig) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.zeros(32))
        self.time_in, self.time_out = nn.Linear(64, 128), nn.Linear(128, 128)
        self.first = nn.Linear(act_dim + obs_dim + 128, config.hidden)
        self.blocks = nn.ModuleList(Block(config.hidden, config.dropout) for _ in range(config.blocks))
        self.last = nn.Linear(config.hidden, act_dim)

    def forward(self, x: Tensor, observations: Tensor, steps: Tensor, scales: list[Tensor] | None = None) -> Tensor:
        """Predicted noise (B, act_dim)."""
        phase = 2 * math.pi * steps[:, None].float() * self.frequencies
        time = self.time_out(F.mish(self.time_in(torch.cat([phase.cos(), phase.sin()], dim=1))))
        hidden = self.first(torch.cat([x, observations, time], dim=1))
        for index, block in enumerate(self.blocks):
            hidden = block(hidden, None if scales is None else scales[index])
        return self.last(F.mish(hidden))


def perceptron(in_dim: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(in_dim, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1), nn.Flatten(0)
    )


class PlainFISOR:
    """The whole agent, starting from the weights of ``agent``; only the "hj" critic and margins from costs."""

    def __init__(self, agent: FISOR) -> None:
        self.config, self.act_dim = agent.config, agent.act_dim
        width = agent.config.critic_hidden
        self.score = Score(agent.obs_dim, agent.act_dim, agent.config)
        self.score.load_state_dict(agent.score.state_dict())
        self.values = [perceptron(agent.obs_dim, width) for _ in range(2)]
        self.critics = [perceptron(agent.obs_dim + agent.act_dim, width) for _ in range(4)]
        for networks, ensemble in ((self.values, agent.values), (self.critics, agent.critics)):
            for member, network in enumerate(networks):
                for index, weight in enumerate(ensemble.weights):
                    layer = network[2 * index]
                    assert isinstance(layer, nn.Linear)
                    layer.weight.data.copy_(weight[member].T)
                    layer.bias.data.copy_(ensemble.biases[index][member, 0])
        self.targets, self.target_score = copy.deepcopy(self.critics), copy.deepcopy(self.score).eval()
        self.rates = {"actor": self.config.actor_lr, "critic": self.config.critic_lr}
        self.actor_optimizer = torch.optim.Adam(self.score.parameters(), lr=self.config.actor_lr)
        self.value_optimizers = [torch.optim.Adam(v.parameters(), lr=self.config.critic_lr) for v in self.values]
        pairs = [nn.ModuleList(self.critics[:2]), nn.ModuleList(self.critics[2:])]
        self.critic_optimizers = [torch.optim.Adam(pair.parameters(), lr=self.config.critic_lr) for pair in pairs]
        self.schedule, self.actor_updates = agent.noise_schedule, 0

    def update(self, batch: Batch, draws: list[Draws] | None = None) -> dict[str, Tensor]:
        """Two actor updates and one of every critic; ``draws`` replace the random numbers of the two."""
        half = self.config.batch_size // 2
        for index in range(2):
            rows = slice(index * half, (index + 1) * half)
            actor_loss = self._update_actor(
                batch.observations[rows], batch.actions[rows], None if draws is None else draws[index]
            )
        n = self.config.critic_batch_size
        s, a, after = batch.observations[:n], batch.actions[:n], batch.next_observations[:n]
        ends = torch.maximum(batch.terminals, batch.timeouts)[:n]
        self._update_reward_critics(s, a, batch.rewards[:n], after, ends)
        self._update_safety_critics(s, a, torch.where(batch.costs > 0, 25.0, -1.0)[:n], after, ends)
        return {"policy/loss": actor_loss}

    def _update_actor(self, s: Tensor, a: Tensor, draws: Draws | None) -> Tensor:
        config = self.config
        with torch.no_grad():
            sa = torch.cat([s, a], dim=1)
            q_r, v_r = torch.minimum(self.targets[0](sa), self.targets[1](sa)), self.values[0](s)
            q_h, v_h = torch.maximum(self.targets[2](sa), self.targets[3](sa)), self.values[1](s)
            escape = torch.exp(config.cost_temperature * (v_h - q_h)).clamp(max=config.cost_weight_clip)
            gain = torch.exp(config.reward_temperature * (q_r - v_r)).clamp(max=config.reward_weight_clip)
            weights = torch.where(v_h > 0, escape, gain * (q_h <= 0))
        steps = torch.randint(config.diffusion_steps, (len(a),)) if draws is None else draws.steps
        noise = torch.randn_like(a) if draws is None else draws.noise
        alpha_bars = self.schedule.alpha_bars[steps][:, None]
        noisy = alpha_bars.sqrt() * a + (1 - alpha_bars).sqrt() * noise
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bfloat16"):
            predicted = self.score(noisy, s, steps, None if draws is None else draws.dropout)
        loss = (weights * ((predicted - noise) ** 2).sum(dim=1)).mean()
        decay = 0.5 * (1 + math.cos(math.pi * self.actor_updates / config.actor_lr_decay))
        self.actor_optimizer.param_groups[0]["lr"] = config.actor_lr * decay
        self.actor_updates += 1
        descend(self.actor_optimizer, loss)
        track(self.target_score, self.score, config.actor_target_rate)
        return loss.detach()

    def _update_reward_critics(self, s: Tensor, a: Tensor, r: Tensor, after: Tensor, ends: Tensor) -> None:
        config, sa = self.config, torch.cat([s, a], dim=1)
        with torch.no_grad():
            q = torch.minimum(self.targets[0](sa), self.targets[1](sa))
        u = q - self.values[0](s)
        expectile = config.reward_expectile
        descend(self.value_optimizers[0], (torch.where(u > 0, expectile, 1 - expectile) * u**2).mean())
        with torch.no_grad():
            target = r + config.discount * (1 - ends) * self.values[0](after)
        loss = (((self.critics[0](sa) - target) ** 2).mean() + ((self.critics[1](sa) - target) ** 2).mean()) / 2
        descend(self.critic_optimizers[0], loss)
        for copy_, critic in zip(self.targets[:2], self.critics[:2], strict=True):
            track(copy_, critic, config.target_rate)

    def _update_safety_critics(self, s: Tensor, a: Tensor, h: Tensor, after: Tensor, ends: Tensor) -> None:
        config, sa = self.config, torch.cat([s, a], dim=1)
        with torch.no_grad():
            q = torch.maximum(self.targets[2](sa), self.targets[3](sa))
        u = q - self.values[1](s)
        expectile = config.safety_expectile
        descend(self.value_optimizers[1], (torch.where(u < 0, expectile, 1 - expectile) * u**2).mean())
        with torch.no_grad():
            worst = torch.maximum(h, self.values[1](after))
            target = (1 - ends) * ((1 - config.discount) * h + config.discount * worst) + ends * h
        loss = (((self.critics[2](sa) - target) ** 2).mean() + ((self.critics[3](sa) - target) ** 2).mean()) / 2
        descend(self.critic_optimizers[1], loss)
        for copy_, critic in zip(self.targets[2:], self.critics[2:], strict=True):
            track(copy_, critic, config.target_rate)

    @torch.no_grad()
    def act(self, observations: Tensor) -> Tensor:
        """Actions (B, act_dim): the candidate of least Q_h."""
        count, n, config = len(observations), self.config.candidates, self.config
        s = observations.repeat_interleave(n, dim=0)
        x = torch.randn(count * n, self.act_dim)
        for t in range(config.diffusion_steps - 1, -1, -1):
            beta, alpha_bar = self.schedule.betas[t], self.schedule.alpha_bars[t]
            eps = self.target_score(x, s, torch.full((count * n,), t))
            x = (x - beta / (1 - alpha_bar).sqrt() * eps) / (1 - beta).sqrt()
            if t > 0:
                x = x + beta.sqrt() * torch.randn_like(x)
            x = x.clamp(-1, 1)
        sa = torch.cat([s, x], dim=1)
        q_h = torch.maximum(self.targets[2](sa), self.targets[3](sa)).view(count, n)
        return x.view(count, n, -1)[torch.arange(count), q_h.argmin(dim=1)]


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@torch.no_grad()
def track(copy_: nn.Module, module: nn.Module, share: float) -> None:
    for target, source in zip(copy_.parameters(), module.parameters(), strict=True):
        target.mul_(1 - share).add_(source, alpha=share)
