"""Transformer: causal self-attention over short sequences, computed only for the tokens that are read."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saferl.nn.dense import dense
from saferl.nn.score_network import dropout_scales


class TransformerBlock(nn.Module):
    """x + attention(LayerNorm(x)), then x + contract(GELU(expand(LayerNorm(x)))).

    Args:
        width: of a token; a multiple of ``heads``.
        heads: of the attention.
        dtype: precision of the large products; the sum that runs through the blocks and the attention stay in float32.

    Source: Radford et al., Language Models are Unsupervised Multitask Learners (GPT-2), 2019.
    """

    def __init__(self, width: int, heads: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.width, self.heads, self.dtype = width, heads, dtype
        self.attention_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inputs = nn.Linear(width, 3 * width)  # queries, keys, values
        self.output = nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, read: slice = slice(None), dropout: float = 0.0) -> Tensor:
        """Map tokens (B, L, width) to (B, Q, width), those at ``read``; each sees itself and the tokens before it.

        ``dropout`` is the share of attention weights and of each sum's second term that is zeroed.
        """
        normed, kept = self.attention_norm(x), x[:, read]
        if kept.shape == x.shape:
            queries, keys, values = self._heads(self._dense(normed, self.inputs), 3)
        else:
            (queries,) = self._heads(self._dense(normed[:, read], self.inputs, slice(0, self.width)), 1)
            keys, values = self._heads(self._dense(normed, self.inputs, slice(self.width, None)), 2)
        length = x.shape[1]
        allowed = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()[read]  # (Q, L)
        mixed = attention(queries, keys, values, allowed, dropout).transpose(1, 2)  # (B, Q, heads, width / heads)
        mixed = mixed.to(self.dtype, memory_format=torch.contiguous_format).flatten(2)
        kept = kept + dropped(self._dense(mixed, self.output), dropout)
        inner = F.gelu(self._dense(self.norm(kept), self.expand))
        return kept + dropped(self._dense(inner, self.contract), dropout)

    def _dense(self, tokens: Tensor, layer: nn.Linear, part: slice = slice(None)) -> Tensor:
        """The rows ``part`` of a layer on tokens (B, L, in)."""
        rows = dense(tokens.flatten(0, 1), layer.weight[part], layer.bias[part], dtype=self.dtype)
        return rows.unflatten(0, tokens.shape[:2])

    def _heads(self, projected: Tensor, kinds: int) -> tuple[Tensor, ...]:
        """(B, L, kinds * width) as ``kinds`` float32 tensors (B, heads, L, width / heads)."""
        split = projected.unflatten(2, (kinds, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return split.to(torch.float32, memory_format=torch.contiguous_format).unbind()


def attention(queries: Tensor, keys: Tensor, values: Tensor, allowed: Tensor, dropout: float = 0.0) -> Tensor:
    """Mixtures (B, H, Q, e) of values, weighted by softmax(queries keys' / sqrt(e)).

    Args:
        queries: (B, H, Q, e).
        keys, values: (B, H, L, e).
        allowed: (Q, L) bool, at least one in each row.
        dropout: share of the weights that is zeroed.
    """
    if keys.is_cuda:
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=allowed, dropout_p=dropout)
    # On a CPU that function's gradient takes 1.5 times as long in float32, ten times in bfloat16.
    bias = torch.zeros(allowed.shape, device=keys.device).masked_fill(~allowed, -torch.inf)
    small = queries.flatten(0, 1) * queries.shape[-1] ** -0.5
    weights = torch.baddbmm(bias, small, keys.flatten(0, 1).transpose(1, 2)).softmax(-1)  # (B H, Q, L)
    return torch.bmm(dropped(weights, dropout), values.flatten(0, 1)).unflatten(0, queries.shape[:2])


def dropped(x: Tensor, share: float) -> Tensor:
    """``x`` with a random share of its elements zeroed and the others scaled so that the mean stays; any shape."""
    return x * dropout_scales(tuple(x.shape), share, x.device) if share else x


class Transformer(nn.Module):
    """Blocks between two LayerNorms; the last block computes only the tokens that are read.

    Args:
        width, heads, dtype: as of ``TransformerBlock``.
        layers: number of blocks, at least one.
    """

    def __init__(self, width: int, layers: int, heads: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.first_norm, self.last_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, dtype) for _ in range(layers))

    def forward(self, tokens: Tensor, read: slice = slice(None), dropout: float = 0.0) -> Tensor:
        """Map tokens (B, L, width) to float32 features (B, Q, width) of those at ``read``."""
        x = dropped(self.first_norm(tokens), dropout)
        blocks = [cast(TransformerBlock, block) for block in self.blocks]
        for block in blocks[:-1]:
            x = block(x, dropout=dropout)
        return self.last_norm(blocks[-1](x, read, dropout))
