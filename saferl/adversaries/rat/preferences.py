"""Rewards learned from comparisons: Bradley-Terry's model, its loss under mistaken labels, and an ensemble of networks.

Sources: Christiano et al. 2017; Lee et al., PEBBLE, ICML 2021. The correction for labels that are the wrong way round
at a known rate is the forward correction of Patrini et al., CVPR 2017, for two classes.
"""

import torch
from torch import Tensor, nn

from saferl.nn.mlp import EnsembleMLP

ENOUGH = 0.97  # accuracy at which a fit stops
RESTRAINT = 0.02  # of the squares before the tanh, in a fit's loss
RANGE = (0.01, 0.99)  # quantiles of the rewards seen, which become 0 and 1


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
    """K networks with a tanh head and range (0, 2).

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
        return 1 + self.before_tanh(inputs).tanh()

    def before_tanh(self, inputs: Tensor) -> Tensor:
        """(K, ...) for inputs (..., in_dim)."""
        outputs: Tensor = self.networks(inputs.reshape(-1, inputs.shape[-1]))
        return outputs.unflatten(1, inputs.shape[:-1])

    def logits(self, first: Tensor, second: Tensor) -> Tensor:
        """(K, M) for segments (M, L, in_dim)."""
        rewards = self(torch.stack([first, second]))  # (K, 2, M, L)
        return preference_logits(rewards[:, 0], rewards[:, 1])

    def loss(self, first: Tensor, second: Tensor, labels: Tensor, mistakes: float) -> Tensor:
        """Loss () of comparisons: their cross-entropy, and a little for outputs that are large before the tanh.

        Without the latter the tanh saturates where the networks extrapolate, and having no slope there they could
        never unlearn it.
        """
        outputs = self.before_tanh(torch.stack([first, second]))  # (K, 2, M, L)
        rewards = outputs.tanh()
        entropy = preference_loss(preference_logits(rewards[:, 0], rewards[:, 1]), labels, mistakes)
        return entropy + RESTRAINT * outputs.square().mean()

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
        epochs: of a fit at most; it ends where all members together predict 97 % of the labels, and of those that
            came last, which would else be outvoted by what is known for long.
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
        self._low, self._span = 0.0, 1.0

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
                loss = self.ensemble.loss(first[rows], second[rows], labels[rows], self._mistakes)
                self._optimizer.zero_grad(set_to_none=True)
                loss.backward()
                self._optimizer.step()
            accuracy = self._accuracy(first, second, labels)
            if min(accuracy, self._accuracy(*self._pairs[-1])) > ENOUGH - self._mistakes:  # no more can be predicted
                break
        return accuracy

    @torch.no_grad()
    def _accuracy(self, first: Tensor, second: Tensor, labels: Tensor) -> float:
        right = (self.ensemble.logits(first, second).mean(0) > 0) == (labels > 0.5)
        clear = labels != 0.5
        return float(right[clear].float().mean()) if bool(clear.any()) else 1.0

    @torch.no_grad()
    def stretch(self, inputs: Tensor) -> None:
        """Let rewards span 0 to 1 over what was seen (N, in_dim): sums of many steps tell apart what differs little."""
        low, high = torch.quantile(self._means(inputs[:: 1 + len(inputs) // 20_000]), torch.tensor(RANGE)).tolist()
        self._low, self._span = low, max(high - low, 1e-3)

    @torch.no_grad()
    def rewards(self, inputs: Tensor) -> Tensor:
        """Mean reward (N,) for inputs (N, in_dim), never negative, or the policy would rather end its episodes."""
        return ((self._means(inputs) - self._low) / self._span).clamp(min=0)

    def _means(self, inputs: Tensor) -> Tensor:
        return torch.cat([self.ensemble(rows).mean(0) for rows in inputs.split(8192)])
