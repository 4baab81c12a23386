"""Lagrange multipliers whose state lies in buffers, so that a checkpoint holds it."""

import torch
from torch import Tensor, nn


class PIDMultiplier(nn.Module):
    """A multiplier m >= 0 driven by a PID law on the excess of a cost over its threshold.

    I <- max(0, I + e), D = max(0, e - e_before), m = max(0, K_P e + K_I I + K_D D); e_before starts at 0.
    Source: Stooke et al., Responsive Safety in Reinforcement Learning by PID Lagrangian Methods (2020), algorithm 2.

    Args:
        proportional, integral, derivative: the gains K_P, K_I, K_D.
    """

    total: Tensor
    before: Tensor
    value: Tensor

    def __init__(self, proportional: float = 0.1, integral: float = 0.003, derivative: float = 0.001) -> None:
        super().__init__()
        self.gains = (proportional, integral, derivative)
        for name in ("total", "before", "value"):  # I, e_before, m
            self.register_buffer(name, torch.zeros(()))

    @torch.no_grad()
    def update(self, excess: Tensor) -> Tensor:
        """The multiplier () after seeing ``excess`` () = cost - threshold."""
        proportional, integral, derivative = self.gains
        self.total.add_(excess).clamp_(min=0)
        rise = (excess - self.before).clamp(min=0)
        self.before.copy_(excess)
        self.value.copy_((proportional * excess + integral * self.total + derivative * rise).clamp(min=0))
        return self.value.clone()


class LogMultiplier(nn.Module):
    """A multiplier e^alpha > 0 that follows the gradient of e^alpha times an excess; alpha is clipped.

    Args:
        rate: step size of alpha.
        initial: alpha at the start.
        limit: greatest |alpha|.
    """

    alpha: Tensor

    def __init__(self, rate: float, initial: float = 0.0, limit: float = 5.0) -> None:
        super().__init__()
        self.rate, self.limit = rate, limit
        self.register_buffer("alpha", torch.tensor(initial))

    @property
    def value(self) -> Tensor:
        """e^alpha ()."""
        return self.alpha.exp()

    @torch.no_grad()
    def update(self, excess: Tensor) -> None:
        """alpha <- clip(alpha + rate e^alpha excess); ``excess`` () > 0 makes the multiplier grow."""
        self.alpha.add_(self.rate * self.alpha.exp() * excess).clamp_(-self.limit, self.limit)
