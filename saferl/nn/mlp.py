"""Perceptrons: MLP, one network, and EnsembleMLP, several of one shape evaluated by batched matrix products."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from saferl.nn.dense import dense


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
        return self._from(inputs, 0, frozen)

    def over_candidates(self, states: Tensor, candidates: Tensor) -> Tensor:
        """Outputs (B, N, out_dim) for rows [state, candidate]: states (B, S), candidates (B, N, in_dim - S).

        The state's part of the first layer is computed once per state, not once per candidate.
        """
        (count, per_state, _), size = candidates.shape, states.shape[1]
        weight, bias = self._layer(0, frozen=False)
        # Copies of the two parts: oneDNN falls back to a loop for weights whose rows are apart in memory.
        of_state = dense(states, weight[:, :size].contiguous(), bias, dtype=self.dtype)
        per_candidate = weight[:, size:].contiguous()
        of_candidate = dense(candidates.flatten(0, 1), per_candidate, torch.zeros_like(bias), dtype=self.dtype)
        first = of_candidate.unflatten(0, (count, per_state)) + of_state.unsqueeze(1)  # (B, N, h)
        return self._from(first.flatten(0, 1).relu(), 1, frozen=False).unflatten(0, (count, per_state))

    def _from(self, rows: Tensor, start: int, frozen: bool) -> Tensor:
        for index in range(start, len(self.layers)):
            weight, bias = self._layer(index, frozen)
            rows = dense(rows, weight, bias, relu=index < len(self.layers) - 1, dtype=self.dtype)
        return rows.float()

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

        The state's part of the first layer is computed once per state, not once per candidate.
        """
        (count, per_state, _), size = candidates.shape, states.shape[1]
        weights, biases = self._chosen(members)
        of_state = torch.baddbmm(biases[0], states.expand(len(weights[0]), *states.shape), weights[0][:, :size])
        flat = candidates.flatten(0, 1)
        outputs = []
        for member, state_part in enumerate(of_state):  # one at a time: its activations then stay in the cache
            first = (flat @ weights[0][member, size:]).view(count, per_state, -1) + state_part.unsqueeze(1)
            rows = first.flatten(0, 1).relu().unsqueeze(0)  # (1, B N, h)
            rest = (
                [each[member : member + 1] for each in weights[1:]],
                [each[member : member + 1] for each in biases[1:]],
            )
            outputs.append(_products(rows, *rest, self.dtype))
        return torch.cat(outputs).view(-1, count, per_state)

    def _chosen(self, members: slice, frozen: bool = False) -> tuple[list[Tensor], list[Tensor]]:
        weights, biases = [each[members] for each in self.weights], [each[members] for each in self.biases]
        return (
            ([each.detach() for each in weights], [each.detach() for each in biases]) if frozen else (weights, biases)
        )


def _products(rows: Tensor, weights: list[Tensor], biases: list[Tensor], dtype: torch.dtype) -> Tensor:
    """ReLU layers, the last without: rows (K, B, in) to (K, B, out) float32."""
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
            signal = dense(signal, weight.t(), bias[0], relu=index < last, dtype=dtype)
        outputs.append(signal.float())
    return torch.stack(outputs)
