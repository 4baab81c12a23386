"""EnsembleMLP: several ReLU networks of one shape, evaluated by batched matrix products."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


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
        weight, bias = self.weights[0][members], self.biases[0][members]
        rows = inputs.expand(weight.shape[0], *inputs.shape)
        return self._after_first_layer(torch.baddbmm(bias, rows, weight), members)

    def over_candidates(self, states: Tensor, candidates: Tensor, members: slice = slice(None)) -> Tensor:
        """Outputs (K, B, N) for input rows [state, candidate]: states (B, S), candidates (B, N, in_dim - S).

        The state's part of the first layer is computed once per state, not once per candidate.
        """
        (count, per_state, _), size = candidates.shape, states.shape[1]
        weight, bias = self.weights[0][members], self.biases[0][members]
        of_state = torch.baddbmm(bias, states.expand(len(weight), *states.shape), weight[:, :size])  # (K, B, h)
        flat = candidates.flatten(0, 1)
        of_candidate = torch.bmm(flat.expand(len(weight), *flat.shape), weight[:, size:])  # (K, B N, h)
        first = of_candidate.unflatten(1, (count, per_state)) + of_state.unsqueeze(2)
        return self._after_first_layer(first.flatten(1, 2), members).unflatten(1, (count, per_state))

    def _after_first_layer(self, hidden: Tensor, members: slice) -> Tensor:
        """Outputs (K, B) from the first layer's sums (K, B, h)."""
        for weight, bias in zip(self.weights[1:], self.biases[1:], strict=True):
            hidden = torch.baddbmm(bias[members], hidden.relu(), weight[members])
        return hidden.squeeze(-1)
