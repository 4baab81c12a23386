"""RAT's adversary and its state weights: a bilevel step with one forward-mode pass for all hypergradients.

    inner  L(alpha; omega) = mean_s h_omega(s) D(s, alpha)     D: distance of the victim at s~ from the intention at s
    outer  J(alpha) = mean_s -Q(s, pi_victim(s~_alpha))        Q: the intention's critic
    step   alpha^ = alpha - eta grad_alpha L
    then   grad_omega J(alpha^) = mean_s f(s) grad_omega h(s)  f(s) = -eta <grad_alpha^ J, grad_alpha D(s)>

The victim acts by its mean, so that J has no entropy term. Through the victim go ``Slopes`` alone, the gradients g(s)
of D at the perturbation delta(s), so that black boxes are attacked by the same code: <v, grad_alpha D(s)> is
<g(s), (d delta(s) / d alpha) v>, and the directional derivative of all rows along v is one forward-mode pass.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.func import functional_call, jvp

from saferl.adversaries.ascent import Slopes
from saferl.adversaries.attacks import Floats
from saferl.adversaries.objectives import Objective, Situation
from saferl.adversaries.threat import Threat
from saferl.nn.mlp import MLP

Parameters = dict[str, Tensor]


class Perturber(nn.Module):
    """delta(s) = eps tanh(network(s)), cut to the ball.

    Args:
        threat: the ball.
        width: of two hidden layers.
    """

    def __init__(self, threat: Threat, width: int) -> None:
        super().__init__()
        self.threat = threat
        obs_dim = threat.units.obs_dim  # plain layers: forward-mode derivatives pass them
        first, second = nn.Linear(obs_dim, width), nn.Linear(width, width)
        self.network = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Linear(width, obs_dim))
        self.to(threat.device)

    def forward(self, observations: Tensor) -> Tensor:
        """Perturbations (B, obs_dim) in normalised units for true observations (B, obs_dim)."""
        deltas = self.threat.eps * self.network(self.threat.units.features(observations)).tanh()
        return self.threat.cut(deltas, self.threat.limits(observations))

    def save(self, path: Path) -> None:
        """Write the weights, whole or not at all."""
        temporary = path.with_name(f".{path.name}.tmp")
        save_file(self.state_dict(), temporary)
        temporary.replace(path)


class StateWeights(nn.Module):
    """h(s) = 1 + tanh(network(s)), in (0, 2)."""

    def __init__(self, threat: Threat, width: int = 64) -> None:
        super().__init__()
        self.units = threat.units
        self.network = MLP(threat.units.obs_dim, 1, (width, width)).to(threat.device)

    def forward(self, observations: Tensor) -> Tensor:
        """(B,) for observations (B, obs_dim)."""
        weights: Tensor = 1 + self.network(self.units.features(observations)).squeeze(-1).tanh()
        return weights


class PerturberAttack:
    """A trained perturber as an attack; nothing about it is random."""

    def __init__(self, perturber: Perturber) -> None:
        self._perturber = perturber

    @torch.no_grad()
    def perturbations(self, observations: Floats) -> Floats:
        """As ``Attack``."""
        true = torch.as_tensor(observations, dtype=torch.float32, device=self._perturber.threat.device)
        return self._perturber(true).cpu().numpy()

    def reset(self, mask: object = None, seed: int | None = None) -> None:
        """As ``Attack``."""


def load_perturber(path: Path, threat: Threat) -> Perturber:
    """What ``Perturber.save`` wrote. Raises: ValueError naming the file if it holds no such network."""
    try:
        weights = load_file(path)
        perturber = Perturber(threat, len(weights["network.0.bias"]))
        perturber.load_state_dict(weights)
    except (KeyError, OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{path}: not a RAT adversary for {threat.units.obs_dim} observations ({error}).") from error
    return perturber.requires_grad_(False)


def pulled_back(perturber: Perturber, parameters: Parameters, observations: Tensor, slopes: Tensor) -> Parameters:
    """mean_s of the gradient of <slopes(s), delta(s)>: a gradient at delta(s), (B, obs_dim), as one at alpha."""
    leaves: dict[str, Tensor] = {name: each.detach().requires_grad_(True) for name, each in parameters.items()}
    deltas = functional_call(perturber, leaves, (observations,))
    gradients = torch.autograd.grad((slopes * deltas).sum() / len(observations), list(leaves.values()))
    return dict(zip(leaves, gradients))


class Bilevel:
    """One perturber's inner and outer steps.

    Args:
        perturber: alpha.
        weights: omega; None weighs every state 1 and makes no outer step.
        slopes: of objectives through the victim.
        distance: D, an objective to make small.
        loss: -Q, an objective to make small.
        lr: of the inner steps, and eta.
        outer_lr: of omega's.
        seed: of a black box's questions.
    """

    def __init__(
        self,
        perturber: Perturber,
        weights: StateWeights | None,
        slopes: Slopes,
        distance: Objective,
        loss: Objective,
        lr: float,
        outer_lr: float,
        seed: int,
    ) -> None:
        self.perturber, self.weights = perturber, weights
        self._slopes, self._distance, self._loss, self._lr = slopes, distance, loss, lr
        self._inner = torch.optim.Adam(perturber.parameters(), lr=lr)
        self._outer = None if weights is None else torch.optim.Adam(weights.parameters(), lr=outer_lr)
        self._generator = torch.Generator().manual_seed(seed)

    def _of(self, objective: Objective, situation: Situation, deltas: Tensor) -> tuple[Tensor, Tensor]:
        return self._slopes.slopes(objective, situation, deltas.detach(), self._generator)

    def inner_step(self, situation: Situation) -> float:
        """One step of Adam on alpha down L; the mean distance before it."""
        observations = situation.observations
        deltas = self.perturber(observations)
        values, slopes = self._of(self._distance, situation, deltas)
        if self.weights is not None:
            slopes = slopes * self.weights(observations).detach()[:, None]
        self._inner.zero_grad(set_to_none=True)
        ((slopes * deltas).sum() / len(observations)).backward()
        self._inner.step()
        return float(values.mean())

    def hypergradients(self, situation: Situation, weights: Tensor) -> Tensor:
        """f(s) (B,) at weights h(s) (B,): how J(alpha^) changes with h(s), times B."""
        observations = situation.observations
        alpha: Parameters = {name: value.detach() for name, value in self.perturber.named_parameters()}
        deltas = self.perturber(observations)
        _, distances = self._of(self._distance, situation, deltas)
        descent = pulled_back(self.perturber, alpha, observations, weights[:, None] * distances)
        stepped = {name: value - self._lr * descent[name] for name, value in alpha.items()}
        _, losses = self._of(self._loss, situation, functional_call(self.perturber, stepped, (observations,)))
        upward = pulled_back(self.perturber, stepped, observations, losses)  # grad J at alpha^

        def moved(parameters: Parameters) -> Tensor:
            return functional_call(self.perturber, parameters, (observations,))

        along = jvp(moved, (alpha,), (upward,))[1]  # (B, obs_dim), all rows in one forward-mode pass
        return -self._lr * (distances * along).sum(-1)

    def outer_step(self, situation: Situation) -> None:
        """One step of Adam on omega down J(alpha^); nothing without weights."""
        if self.weights is None or self._outer is None:
            return
        weights = self.weights(situation.observations)
        gradients = self.hypergradients(situation, weights.detach())
        self._outer.zero_grad(set_to_none=True)
        (gradients * weights).mean().backward()
        self._outer.step()
