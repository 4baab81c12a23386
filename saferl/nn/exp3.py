"""EXP3: a bandit that keeps its regret small whatever the losses are; its state lies in buffers."""

import math

import torch
from torch import Tensor, nn


class EXP3(nn.Module):
    """Draws one of K arms a round, sees the loss of that arm alone, and learns from it.

    Arm i has probability p_i ~ exp(-eta_t L_i), where L_i is the sum of loss / p_i over the rounds that played it and
    eta_t = sqrt(ln K / (t K)) in round t. No length of the game is needed: against losses in [0, 1] that are fixed in
    advance, the expected loss of t rounds exceeds the best arm's by at most 2 sqrt(t K ln K), for every t.

    Source: Auer et al., The Nonstochastic Multiarmed Bandit Problem (2002); in this form and with this bound, Bubeck
    and Cesa-Bianchi, Regret Analysis of Stochastic and Nonstochastic Multi-armed Bandit Problems (2012), theorem 3.1.

    Args:
        arms: K, at least 2.

    Draws come from torch's global generator, the first one when the bandit is made.
    """

    losses: Tensor
    rounds: Tensor
    arm: Tensor

    def __init__(self, arms: int) -> None:
        super().__init__()
        if arms < 2:
            raise ValueError(f"arms must be >= 2; got {arms}.")
        self.arms = arms
        self.register_buffer("losses", torch.zeros(arms))  # L
        self.register_buffer("rounds", torch.ones(()))  # t, of the round in play
        self.register_buffer("arm", torch.randint(arms, ()))  # the one in play

    @torch.no_grad()
    def probabilities(self) -> Tensor:
        """p (K,) of the round in play."""
        rate = (math.log(self.arms) / self.arms / self.rounds).sqrt()
        return (-rate * self.losses).softmax(0)

    @torch.no_grad()
    def update(self, loss: Tensor, due: Tensor) -> None:
        """Where ``due`` () is true, charge ``loss`` () in [0, 1] to the arm in play and draw the next; else nothing.

        A tensor decides, so that no round waits for the device; random numbers are drawn in either case.
        """
        played = torch.zeros_like(self.losses).scatter_(0, self.arm.unsqueeze(0), 1.0)  # (K,)
        self.losses.add_(due * loss * played / self.probabilities())
        self.rounds.add_(due)
        drawn = torch.multinomial(self.probabilities(), 1).squeeze(0)
        self.arm.copy_(torch.where(due, drawn, self.arm))
