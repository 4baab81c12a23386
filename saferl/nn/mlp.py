"""Perceptrons: MLP, one network, and EnsembleMLP, several of one shape evaluated by batched matrix products."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from saferl.nn.dense import dense

MANY_ROWS = 64  # from here on a CPU is filled by one network's product


class MLP(nn.Module):
    """A perceptron with ReLU between its layers and none behind the last.

    Args:
        in_dim, out_dim: sizes of an input and an output row.
        hidden: widths of the ReLU layers.
        dtype: precision of the products; weights and their gradients stay in float32.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        hidden: Sequence[int] = (256, 256),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.layers = nn.ModuleList(nn.Linear(rows, columns) for rows, columns in pairwise([in_dim, *hidden, out_dim]))

    def forward(self, inputs: Tensor, frozen: bool = False) -> Tensor:
        """Outputs (B, out_dim) float32 for rows (B, in_dim); ``frozen`` lets gradients reach the rows only."""
        rows = inputs
        for index in range(len(self.layers)):
            weight, bias = self._layer(index, frozen)
            rows = dense(rows, weight, bias, relu=index < len(self.layers) - 1, dtype=self.dtype)
        return rows.float()

    def over_candidates(self, states: Tensor, candidates: Tensor) -> Tensor:
        """Outputs (B, N, out_dim) for rows [state, candidate]: states (B, S), candidates (B, N, in_dim - S)."""
        return self(_rows(states, candidates, self.dtype)).unflatten(0, candidates.shape[:2])

    def _layer(self, index: int, frozen: bool) -> tuple[Tensor, Tensor]:
        layer = self.layers[index]
        weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
        return (weight.detach(), bias.detach()) if frozen else (weight, bias)


class EnsembleMLP(nn.Module):
    """K independent perceptrons with a scalar output; one product per layer serves all members.

    Args:
        members: K, the number of networks.
        in_dim: size of an input row.
        hidden: widths of the ReLU layers, at least one.
        dtype: precision of the products on a CPU; weights and their gradients stay in float32.

    Each layer holds a weight (K, in, out) and a bias (K, 1, out). Weights start Xavier-uniform, biases at zero.
    """

    def __init__(
        self,
        members: int,
        in_dim: int,
        hidden: Sequence[int] = (256, 256),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.members, self.in_dim, self.dtype = members, in_dim, dtype
        sizes = [in_dim, *hidden, 1]
        shapes = list(pairwise(sizes))
        self.weights = nn.ParameterList(torch.empty(members, rows, columns) for rows, columns in shapes)
        self.biases = nn.ParameterList(torch.zeros(members, 1, columns) for _, columns in shapes)
        for weight in self.weights:
            for member in weight:
                nn.init.xavier_uniform_(member.data)  # symmetric in (in, out), so the transposed storage is harmless

    def forward(self, inputs: Tensor, members: slice = slice(None), frozen: bool = False) -> Tensor:
        """Outputs (K, B) of the chosen ``members`` for input rows (B, in_dim).

        ``frozen`` lets gradients reach the rows only, which spares the weights' share of a backward pass.
        """
        weights, biases = self._chosen(members, frozen)
        return _products(inputs.expand(len(weights[0]), *inputs.shape), weights, biases, self.dtype).squeeze(-1)

    def over_candidates(self, states: Tensor, candidates: Tensor, members: slice = slice(None)) -> Tensor:
        """Outputs (K, B, N) for input rows [state, candidate]: states (B, S), candidates (B, N, in_dim - S).

        For a few rows the state's part of the first layer is computed once per state. For many, that would save less
        than the passes over memory cost that put the two parts together.
        """
        (count, per_state, _), size = candidates.shape, states.shape[1]
        if count * per_state >= MANY_ROWS:
            rows = _rows(states, candidates, torch.float32 if states.is_cuda else self.dtype)
            return self(rows, members).unflatten(1, (count, per_state))
        weights, biases = self._chosen(members)
        of_state = torch.baddbmm(biases[0], states.expand(len(weights[0]), *states.shape), weights[0][:, :size])
        flat = candidates.flatten(0, 1)
        of_candidate = torch.bmm(flat.expand(len(weights[0]), *flat.shape), weights[0][:, size:])  # (K, B N, h)
        first = of_candidate.unflatten(1, (count, per_state)).add_(of_state.unsqueeze(2)).flatten(1, 2)
        return _products(first.relu_(), weights[1:], biases[1:], self.dtype).view(-1, count, per_state)

    def _chosen(self, members: slice, frozen: bool = False) -> tuple[list[Tensor], list[Tensor]]:
        weights, biases = [each[members] for each in self.weights], [each[members] for each in self.biases]
        return (
            ([each.detach() for each in weights], [each.detach() for each in biases]) if frozen else (weights, biases)
        )


def _rows(states: Tensor, candidates: Tensor, dtype: torch.dtype) -> Tensor:
    """Rows [state, candidate] (B N, S + A) of ``dtype``: states (B, S), candidates (B, N, A)."""
    repeated = states.to(dtype).unsqueeze(1).expand(-1, candidates.shape[1], -1)
    return torch.cat([repeated, candidates.to(dtype)], dim=2).flatten(0, 1)


def _products(rows: Tensor, weights: list[Tensor], biases: list[Tensor], dtype: torch.dtype) -> Tensor:
    """ReLU layers, the last without: rows (K, B, in) to (K, B, out) float32."""
    last = len(weights) - 1
    # One product fills a CPU: many rows go through member by member, which is a fifth faster than batched there.
    if rows.is_cuda or rows.shape[1] < MANY_ROWS:
        for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            rows = torch.baddbmm(bias, rows, weight)
            rows = rows if index == last else rows.relu()
        return rows
    outputs = []
    for signal, *layers in zip(rows.unbind(), *(each.unbind() for each in [*weights, *biases]), strict=True):
        for index, (weight, bias) in enumerate(zip(layers[: last + 1], layers[last + 1 :], strict=True)):
            signal = dense(signal, weight.t(), bias[0], relu=index < last, dtype=dtype)
        outputs.append(signal.float())
    return torch.stack(outputs)
