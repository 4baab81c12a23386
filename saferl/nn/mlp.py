"""EnsembleMLP: several ReLU networks of one shape, evaluated by batched matrix products."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from saferl.nn.dense import dense


class EnsembleMLP(nn.Module):
    """K independent perceptrons with a scalar output; one product per layer serves all members.

    Args:
        members: K, the number of networks.
        in_dim: size of an input row.
        hidden: widths of the ReLU layers, at least one.

    Each layer holds a weight (K, in, out) and a bias (K, 1, out). Weights start Xavier-uniform, biases at zero.
    """

    def __init__(self, members: int, in_dim: int, hidden: Sequence[int] = (256, 256)) -> None:
        super().__init__()
        self.members, self.in_dim = members, in_dim
        sizes = [in_dim, *hidden, 1]
        shapes = list(pairwise(sizes))
        self.weights = nn.ParameterList(torch.empty(members, rows, columns) for rows, columns in shapes)
        self.biases = nn.ParameterList(torch.zeros(members, 1, columns) for _, columns in shapes)
        for weight in self.weights:
            for member in weight:
                nn.init.xavier_uniform_(member.data)  # symmetric in (in, out), so the transposed storage is harmless

    def forward(self, inputs: Tensor, members: slice = slice(None)) -> Tensor:
        """Outputs (K, B) of the chosen ``members`` for input rows (B, in_dim)."""
        weights, biases = self._chosen(members)
        return _products(inputs.expand(len(weights[0]), *inputs.shape), weights, biases).squeeze(-1)

    def over_candidates(self, states: Tensor, candidates: Tensor, members: slice = slice(None)) -> Tensor:
        """Outputs (K, B, N) for input rows [state, candidate]: states (B, S), candidates (B, N, in_dim - S).

        The state's part of the first layer is computed once per state, not once per candidate.
        """
        (count, per_state, _), size = candidates.shape, states.shape[1]
        weights, biases = self._chosen(members)
        of_state = torch.baddbmm(biases[0], states.expand(len(weights[0]), *states.shape), weights[0][:, :size])
        flat = candidates.flatten(0, 1)
        of_candidate = torch.bmm(flat.expand(len(weights[0]), *flat.shape), weights[0][:, size:])  # (K, B N, h)
        first = of_candidate.unflatten(1, (count, per_state)).add_(of_state.unsqueeze(2)).flatten(1, 2)
        return _products(first.relu(), weights[1:], biases[1:]).view(-1, count, per_state)

    def _chosen(self, members: slice) -> tuple[list[Tensor], list[Tensor]]:
        return [weight[members] for weight in self.weights], [bias[members] for bias in self.biases]


def _products(rows: Tensor, weights: list[Tensor], biases: list[Tensor]) -> Tensor:
    """ReLU layers, the last without: rows (K, B, in) to (K, B, out)."""
    last = len(weights) - 1
    # One product fills a CPU: many rows go through member by member, which is a fifth faster than batched there.
    if rows.is_cuda or rows.shape[1] < 64:
        for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            rows = torch.baddbmm(bias, rows, weight)
            rows = rows if index == last else rows.relu()
        return rows
    outputs = []
    for signal, *layers in zip(rows.unbind(), *(each.unbind() for each in [*weights, *biases]), strict=True):
        for index, (weight, bias) in enumerate(zip(layers[: last + 1], layers[last + 1 :], strict=True)):
            signal = dense(signal, weight.t(), bias[0], relu=index < last)
        outputs.append(signal)
    return torch.stack(outputs)
