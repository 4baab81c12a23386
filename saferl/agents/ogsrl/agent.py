"""OGSRL: constrained policy optimisation in a learned model, kept inside the data's support by a guardian.

Paper: Offline Guarded Safe Reinforcement Learning for Medical Treatment Optimization (arXiv 2505.16242, NeurIPS 2025),
with the optimiser of Achiam et al., Constrained Policy Optimization (ICML 2017). One update is one policy iteration:
paths in the model from recorded observations, a trust-region step under all constraints, then the values. Costs are
positive, and a cost's value is fitted to costs as they are; the paper's own code has negative costs against a positive
limit.
"""

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from saferl.agents.agent import Agent, BatchSource
from saferl.agents.ogsrl.config import OGSRLConfig
from saferl.agents.ogsrl.models import EnsembleModel, NearestModel, gaussian_log_prob
from saferl.agents.ogsrl.rollouts import Rollouts, advantages, imagine
from saferl.agents.ogsrl.support import Support
from saferl.agents.ogsrl.trust_region import Coefficients, conjugate_gradients, step_coefficients
from saferl.guardians import episode_numbers
from saferl.nn.multipliers import PIDMultiplier
from saferl.offline_data.batch import Batch
from saferl.offline_data.dataset import OfflineDataset
from saferl.offline_data.sampler import RowStream, Sampler

BACKTRACKS, SHRINK = 15, 0.8  # of the line search
CLIP = 10.0  # standard deviations of an input
ROWS = 2048  # steps that a product with the Fisher matrix or a step of the values sees at most, drawn anew


class StartRows(RowStream):
    """Observations (batch_size, obs_dim) with which paths begin, drawn evenly with replacement.

    Args:
        observations: (N, obs_dim) to draw from.
        batch_size, seed: as of ``Sampler``.
    """

    def __init__(self, observations: Tensor, batch_size: int, seed: int) -> None:
        super().__init__(seed, observations.device)
        self._rows, self.batch_size = observations, batch_size

    def sample(self) -> Tensor:
        """The next observations."""
        index = torch.randint(len(self._rows), (self.batch_size,), generator=self._generator, device=self.device)
        return self._rows[index]


class GaussianPolicy(nn.Module):
    """N(mean(s), diag(std^2)) with a standard deviation that does not depend on s; actions are clipped to [-1, 1]."""

    def __init__(self, obs_dim: int, act_dim: int, hidden: int, log_std: float) -> None:
        super().__init__()
        self.mean = _tanh_network(obs_dim, hidden, act_dim)
        self.log_std = nn.Parameter(torch.full((act_dim,), log_std))

    def log_prob(self, inputs: Tensor, actions: Tensor) -> Tensor:
        """Log-density (...) of actions (..., act_dim) before they are clipped."""
        return gaussian_log_prob(actions, self.mean(inputs), self.log_std)


class Inputs(nn.Module):
    """Observations less their mean, in standard deviations, clipped to [-10, 10]."""

    centre: Tensor
    spread: Tensor

    def __init__(self, obs_dim: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(obs_dim))
        self.register_buffer("spread", torch.ones(obs_dim))

    def fit(self, observations: Tensor) -> None:
        """Take the moments of observations (N, obs_dim); a column that never changes keeps its size."""
        self.centre.copy_(observations.mean(0))
        spread = observations.std(0, correction=0)
        self.spread.copy_(torch.where(spread > 1e-6, spread, 1.0))

    def forward(self, observations: Tensor) -> Tensor:
        """Inputs of the networks (..., obs_dim)."""
        return ((observations - self.centre) / self.spread).clamp(-CLIP, CLIP)


class Surrogates:
    """What moving the policy does to the sums along paths, to first order, and how far it has moved.

    Args:
        actor: the policy that drew the paths; what is told is about the weights that it has when it is told.
        inputs: (M, obs_dim) of the networks, of all steps of all paths.
        actions: (M, act_dim) that were drawn there.
        gained: (R, M) advantages.
        paths: how many.
    """

    def __init__(self, actor: GaussianPolicy, inputs: Tensor, actions: Tensor, gained: Tensor, paths: int) -> None:
        self._actor, self._inputs, self._actions, self._gained, self._paths = actor, inputs, actions, gained, paths
        with torch.no_grad():
            self._log_prob, self._mean = actor.log_prob(inputs, actions), actor.mean(inputs)
            self._log_std = actor.log_std.clone()

    def changes(self) -> Tensor:
        """Changes of a path's sums (R,) by importance weights of single steps."""
        ratios = (self._actor.log_prob(self._inputs, self._actions) - self._log_prob).exp()
        return self._gained @ (ratios - 1) / self._paths

    def divergence(self) -> Tensor:
        """Mean KL divergence () of the policy from what it was."""
        mean, log_std = self._actor.mean(self._inputs), self._actor.log_std
        squares = (2 * (self._log_std - log_std)).exp() + ((mean - self._mean) * (-log_std).exp()).square()
        return (0.5 * (squares - 1) + log_std - self._log_std).sum(1).mean()


class OGSRL(Agent):
    """A Gaussian policy, a value each for reward, cost and leaving the support, a model and a guardian."""

    config: OGSRLConfig

    def __init__(self, config: OGSRLConfig, obs_dim: int, act_dim: int, device: torch.device | str = "cpu") -> None:
        super().__init__(config, obs_dim, act_dim, device)
        self.limits = torch.tensor(config.limits, device=self.device)
        self.actor = GaussianPolicy(obs_dim, act_dim, config.hidden, config.initial_log_std)
        self.values = nn.ModuleList(_tanh_network(obs_dim, config.hidden, 1) for _ in range(1 + len(self.limits)))
        gains = config.proportional_gain, config.integral_gain, config.derivative_gain
        self.multipliers = nn.ModuleList(PIDMultiplier(*gains) for _ in self.limits)
        self.inputs = Inputs(obs_dim)
        self.model: NearestModel | EnsembleModel = (
            NearestModel(obs_dim, act_dim, config.neighbours)
            if config.model == "knn"
            else EnsembleModel(obs_dim, act_dim, config.members, config.model_hidden, config.model_updates)
        )
        self.support = None if config.guardian is None else Support(config.guardian_settings)
        self.to(self.device)
        self.optimizers = {"values": torch.optim.Adam(self.values.parameters(), lr=config.critic_lr, fused=True)}

    def sampler(
        self,
        dataset: OfflineDataset,
        seed: int = 0,
        action_low: ArrayLike | None = None,
        action_high: ArrayLike | None = None,
        reward_scale: float = 1.0,
    ) -> BatchSource:
        """Where paths begin; fits the model, the guardian and the inputs' scale to the data.

        Paths as long as an episode begin where episodes do, shorter ones anywhere. ``exit_reward`` is not scaled.
        """
        rows = Sampler(dataset, 1, self.device, seed, action_low, action_high, reward_scale)
        data = rows.batch(torch.arange(len(dataset), device=self.device))
        generator = torch.Generator(self.device).manual_seed(seed)
        self.inputs.fit(data.observations)
        self.model.fit(self._some(data, generator), generator)
        if self.support is not None:
            self.support.fit(data, seed, episode_numbers(dataset.episode_lengths))
        starts = data.observations
        if self.config.whole_episodes:
            starts = starts[torch.as_tensor(dataset.episode_starts, device=self.device)]
        return StartRows(starts, self.config.batch_size, seed)

    def _some(self, data: Batch, generator: torch.Generator) -> Batch:
        """At most ``model_rows`` of the data, drawn without replacement."""
        count, most = len(data.rewards), self.config.model_rows
        if most is None or count <= most:
            return data
        kept = torch.randperm(count, generator=generator, device=self.device)[:most]
        return Batch(**{key: value[kept] for key, value in vars(data).items() if value is not None})

    def update(self, batch: Tensor) -> dict[str, Tensor]:  # type: ignore[override]  # its sampler's rows
        """One policy iteration from observations (B, obs_dim)."""
        config = self.config
        paths = imagine(self.draw, self.model, self.support, self._valued, batch, config.steps, config.exit_reward)
        inputs = self.inputs(paths.observations)
        values = self._valued(paths.observations)
        gained = advantages(paths.gains, values, paths.ahead, paths.over, paths.alive, config.discount, config.trace)
        excess = paths.sums[1:] - self.limits
        metrics = self.policy_step(inputs, paths, gained, excess)
        loss = self.fit_values(inputs[paths.alive > 0], (gained + values)[:, paths.alive > 0])
        metrics |= {"values/loss": loss, "paths/reward": paths.sums[0], "paths/cost": paths.sums[1]}
        if self.support is not None:
            metrics["paths/left_support"] = paths.sums[2]
        return metrics | {"paths/length": paths.alive.sum(0).mean()}

    def policy_step(self, inputs: Tensor, paths: Rollouts, gained: Tensor, excess: Tensor) -> dict[str, Tensor]:
        """A step of the policy, if the line search finds one.

        All in units of one path's undiscounted sums, as the excess is: the surrogates are sums along paths, the
        advantages are not standardised.

        Args:
            inputs: (T, B, obs_dim) of the networks.
            paths: the steps.
            gained: (1 + C, T, B) advantages of reward and costs.
            excess: (C,) of the costs over their limits.
        """
        config = self.config
        alive = paths.alive > 0
        seen = inputs[alive]  # (M, obs_dim)
        gained = gained[:, alive] - gained[:, alive].mean(1, keepdim=True)  # (1 + C, M)
        weights = excess.new_zeros(len(excess))
        if config.optimizer == "pid_lag":
            weights, gained = self._weighed(gained, excess)
            excess = excess[:0]
        surrogates = Surrogates(self.actor, seen, paths.actions[alive], gained, paths.alive.shape[1])

        @torch.no_grad()
        def accepted() -> bool:
            """Whether the new policy is near enough, costs no more than allowed, and earns no less if it was safe."""
            changes = surrogates.changes()
            near = surrogates.divergence() <= 1.0001 * config.radius
            fine = near and (changes[1:] <= (-excess).clamp(min=0) + 1e-8).all()
            return bool(fine and (changes[0] >= 0 or (excess > 0).any()))

        parameters = list(self.actor.parameters())
        changes = surrogates.changes()
        gradients = torch.stack(
            [_flat(torch.autograd.grad(each, parameters, retain_graph=True)) for each in changes.unbind()]
        )
        product = fisher_product(self.actor, _some(seen), config.damping)
        directions = conjugate_gradients(product, gradients, config.gradient_iterations)
        found = _coefficients(gradients, directions, excess, config.radius)
        step = found.of_gradient * directions[0]
        step = step - torch.as_tensor(found.of_constraints, dtype=step.dtype, device=self.device) @ directions[1:]
        taken = _line_search(parameters, step, accepted)
        metrics = {
            "policy/step": torch.tensor(taken, device=self.device),
            "policy/recovery": torch.tensor(float(found.case == "recovery"), device=self.device),
            "policy/log_std": self.actor.log_std.detach().mean(),
        }
        if config.optimizer == "pid_lag":
            names = ("cost", "support")[: len(weights)]
            metrics |= {f"multiplier/{name}": weight for name, weight in zip(names, weights.unbind())}
        return metrics

    def _weighed(self, gained: Tensor, excess: Tensor) -> tuple[Tensor, Tensor]:
        """The multipliers (C,) at these excesses, and the advantage (1, M) of reward less costs that they weigh."""
        weights = torch.zeros_like(excess)
        for place, multiplier in enumerate(self.multipliers):
            assert isinstance(multiplier, PIDMultiplier)
            weights[place] = multiplier.update(excess[place])
        unit = gained / gained.std(1, correction=0, keepdim=True).clamp(min=1e-8)
        return weights, ((unit[0] - weights @ unit[1:]) / (1 + weights.sum())).unsqueeze(0)

    def fit_values(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Steps of the values towards targets (1 + C, M) at inputs (M, obs_dim); the last squared error ()."""
        loss = torch.zeros((), device=self.device)
        rows = torch.cat([inputs, targets.T], dim=1)
        for _ in range(self.config.critic_steps):
            seen, wanted = _some(rows).split([inputs.shape[1], len(targets)], dim=1)
            predicted = torch.stack([value(seen).squeeze(-1) for value in self.values], dim=1)
            loss = (predicted - wanted).square().mean(0).sum()
            self.step("values", loss)
        return loss.detach()

    @torch.no_grad()
    def _valued(self, observations: Tensor) -> Tensor:
        """Values (1 + C, ...) of observations (..., obs_dim)."""
        inputs = self.inputs(observations)
        return torch.stack([value(inputs).squeeze(-1) for value in self.values])

    def draw(self, observations: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Actions (B, act_dim), not clipped, at observations (B, obs_dim)."""
        mean = self.actor.mean(self.inputs(observations))
        noise = torch.empty_like(mean).normal_(generator=generator)
        return mean + self.actor.log_std.exp() * noise

    def act(self, observations: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Drawn actions (B, act_dim) in [-1, 1]: it is the noisy policy that keeps the limits."""
        return self.draw(observations, generator).clamp(-1, 1)


def fisher_product(actor: GaussianPolicy, inputs: Tensor, damping: float) -> Callable[[Tensor], Tensor]:
    """v -> (F + damping I) v for rows v (R, P), F the mean Fisher matrix of the policy at inputs (M, obs_dim).

    F = J' diag(std^-2) J / M for the mean's parameters, J the mean's derivative, and 2 for each log std: for a
    Gaussian both are the second derivative of the KL divergence. The log std comes first.
    """
    parameters = list(actor.mean.parameters())
    scale = (-2 * actor.log_std.detach()).exp() / len(inputs)
    mean = actor.mean(inputs)
    weights = torch.zeros_like(mean, requires_grad=True)  # w; J' w is linear in it, so that its derivative gives J v
    pulled = torch.autograd.grad(mean, parameters, weights, create_graph=True)

    def one(row: Tensor) -> Tensor:
        of_std, of_mean = row.split([len(scale), len(row) - len(scale)])
        parts = of_mean.split([each.numel() for each in parameters])
        tangent = [part.view_as(each) for part, each in zip(parts, parameters)]
        (change,) = torch.autograd.grad(pulled, weights, tangent, retain_graph=True)  # J v
        back = torch.autograd.grad(mean, parameters, change * scale, retain_graph=True)
        return torch.cat([2 * of_std, _flat(back)]) + damping * row

    return lambda rows: torch.stack([one(row) for row in rows])


def _coefficients(gradients: Tensor, directions: Tensor, excess: Tensor, radius: float) -> Coefficients:
    """The step's coefficients from gradients and directions (1 + C, P), in float64."""
    inner = (gradients.double() @ directions.double().T).cpu().numpy()
    inner = (inner + inner.T) / 2
    return step_coefficients(inner[0, 0], inner[0, 1:], inner[1:, 1:], excess.double().cpu().numpy(), radius)


def _line_search(parameters: list[nn.Parameter], step: Tensor, accepted: Callable[[], bool]) -> float:
    """Shorten ``step`` until it is accepted; the share that was taken, 0 where none was."""
    before = torch.cat([each.detach().flatten() for each in parameters])
    share = 1.0
    for _ in range(BACKTRACKS):
        _set(parameters, before + share * step)
        if accepted():
            return share
        share *= SHRINK
    _set(parameters, before)
    return 0.0


@torch.no_grad()
def _set(parameters: list[nn.Parameter], vector: Tensor) -> None:
    for each, part in zip(parameters, vector.split([each.numel() for each in parameters])):
        each.copy_(part.view_as(each))


def _some(rows: Tensor) -> Tensor:
    """At most ``ROWS`` of the rows (M, ...), drawn with replacement if there are more."""
    return rows if len(rows) <= ROWS else rows[torch.randint(len(rows), (ROWS,), device=rows.device)]


def _flat(gradients: tuple[Any, ...]) -> Tensor:
    return torch.cat([each.flatten() for each in gradients])


def _tanh_network(in_dim: int, hidden: int, out_dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(in_dim, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, out_dim)
    )
