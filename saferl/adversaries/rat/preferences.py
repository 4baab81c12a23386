"""Rewards learned from comparisons: Bradley-Terry's model, its loss under mistaken labels, and an ensemble of networks.

Sources: Christiano et al. 2017; Lee et al., PEBBLE, ICML 2021. The correction for labels that are the wrong way round
at a known rate is the forward correction of Patrini et al., CVPR 2017, for two classes.
"""

import torch
from torch import Tensor, nn

from saferl.nn.mlp import EnsembleMLP

ENOUGH = 0.97  # accuracy at which a fit stops


def preference_logits(first: Tensor, second: Tensor) -> Tensor:
    """log P[first preferred] / P[second preferred] = sum r(first) - sum r(second); rewards (..., L) to (...)."""
    return first.sum(-1) - second.sum(-1)


def preference_loss(logits: Tensor, labels: Tensor, mistakes: float = 0.0) -> Tensor:
    """Mean cross-entropy () of labels (M,) in [0, 1] with the label's probability under ``logits`` (..., M).

    A label is the wrong way round with probability rho = ``mistakes``, so its probability is (1 - rho) p + rho (1 - p).
    Without that, mistakes make the best weights too small, as they look like indifference.
    """
    if mistakes == 0:
        return nn.functional.binary_cross_entropy_with_logits(logits, labels.expand_as(logits))
    probability = mistakes + (1 - 2 * mistakes) * logits.sigmoid()
    return nn.functional.binary_cross_entropy(probability, labels.expand_as(logits))


class RewardEnsemble(nn.Module):
    """K networks with a tanh head, whose mean is the reward; its range is (0, 2).

    Comparisons of segments of one length say nothing about a constant, so 1 is added to tanh: were rewards negative,
    the policy that learns from them would rather end its episodes.

    Args:
        members: K.
        in_dim: obs_dim + act_dim.
        width: of two hidden layers.
    """

    def __init__(self, members: int, in_dim: int, width: int) -> None:
        super().__init__()
        self.networks = EnsembleMLP(members, in_dim, (width, width))

    def forward(self, inputs: Tensor) -> Tensor:
        """Rewards (K, ...) of each member for features and unit actions side by side (..., in_dim)."""
        rewards: Tensor = 1 + self.networks(inputs.reshape(-1, inputs.shape[-1])).tanh()
        return rewards.unflatten(1, inputs.shape[:-1])

    def logits(self, first: Tensor, second: Tensor) -> Tensor:
        """(K, M) for segments (M, L, in_dim)."""
        rewards = self(torch.stack([first, second]))  # (K, 2, M, L)
        return preference_logits(rewards[:, 0], rewards[:, 1])

    @torch.no_grad()
    def disagreement(self, first: Tensor, second: Tensor) -> Tensor:
        """(M,) standard deviation over members of P[first preferred]."""
        return self.logits(first, second).sigmoid().std(0)


class RewardModel:
    """The ensemble, the comparisons that it has seen, and its optimiser.

    Args:
        members, in_dim, width: of ``RewardEnsemble``.
        lr: of Adam.
        batch: comparisons in a step.
        epochs: of a fit at most; it ends where all members together predict 97 % of the labels.
        mistakes: rate of labels that are the wrong way round.
        seed: of weights and batches.
    """

    def __init__(
        self, members: int, in_dim: int, width: int, lr: float, batch: int, epochs: int, mistakes: float, seed: int
    ) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.ensemble = RewardEnsemble(members, in_dim, width)
        self._optimizer = torch.optim.Adam(self.ensemble.parameters(), lr=lr)
        self._batch, self._epochs, self._mistakes = batch, epochs, mistakes
        self._pairs: list[tuple[Tensor, Tensor, Tensor]] = []

    def __len__(self) -> int:
        """Comparisons seen."""
        return sum(len(labels) for _, _, labels in self._pairs)

    def add(self, first: Tensor, second: Tensor, labels: Tensor) -> None:
        """Take in M comparisons: segments (M, L, in_dim), labels (M,) that say how much the first is preferred."""
        self._pairs.append((first, second, labels))

    def fit(self) -> float:
        """Fit to all comparisons; the share of them (those without a draw) that the mean member predicts."""
        first, second, labels = (torch.cat(part) for part in zip(*self._pairs))
        for _ in range(self._epochs):
            for rows in torch.randperm(len(labels), generator=self._generator).split(self._batch):
                loss = preference_loss(self.ensemble.logits(first[rows], second[rows]), labels[rows], self._mistakes)
                self._optimizer.zero_grad(set_to_none=True)
                loss.backward()
                self._optimizer.step()
            accuracy = self._accuracy(first, second, labels)
            if accuracy > ENOUGH - self._mistakes:  # of mistaken labels no more can be predicted
                break
        return accuracy

    @torch.no_grad()
    def _accuracy(self, first: Tensor, second: Tensor, labels: Tensor) -> float:
        right = (self.ensemble.logits(first, second).mean(0) > 0) == (labels > 0.5)
        clear = labels != 0.5
        return float(right[clear].float().mean()) if bool(clear.any()) else 1.0

    @torch.no_grad()
    def rewards(self, inputs: Tensor) -> Tensor:
        """Mean reward (N,) for inputs (N, in_dim)."""
        return torch.cat([self.ensemble(rows).mean(0) for rows in inputs.split(8192)])
