"""dense: one layer's product, by the fastest routine at hand.

On a CPU torch hands float32 products to MKL, which on AMD processors (Zen 4: 76 to 90 against 97 to 105 GFLOP/s on one
core) is slower than oneDNN, the library behind torch's bfloat16 products and convolutions. Where this build of torch
has oneDNN, ``dense`` uses it for both precisions, forwards and backwards; elsewhere, and on a GPU, it is ``F.linear``.
A processor without AVX-512 has no fast bfloat16 products: there they are float32 products of the rounded factors, with
a rounded result (a tenth of the time of torch's own routine, and the sums are in float32 either way).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

# What torch's own compiler calls for a layer. Its name starts with an underscore, so its absence must be survivable.
_linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None
_pack = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None) if _linear is not None else None

_has_bfloat16 = _linear is not None and torch.ops.mkldnn._is_mkldnn_bf16_supported()

_WORTH_IT = 2**26  # multiplications of a layer from which its gradient is worth a detour through Python

# As an operator of our own it can stand in a compiled graph with weights that change.
torch.library.define("saferl::product", "(Tensor rows, Tensor weight, Tensor? bias, str activation) -> Tensor")


@torch.library.impl("saferl::product", "CPU")
def _product_on_cpu(rows: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    assert _linear is not None
    dtype = rows.dtype
    if dtype == torch.bfloat16 and not _has_bfloat16:
        rows, weight, bias = rows.float(), weight.float(), None if bias is None else bias.float()
    return _linear(rows, weight, bias, activation, [], "").to(dtype)


@torch.library.register_fake("saferl::product")
def _product_shape(rows: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    return rows.new_empty((rows.shape[0], weight.shape[0]))


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Tensor:
    return torch.ops.saferl.product.default(rows, weight, bias, activation)


class _Dense(torch.autograd.Function):
    """rows @ weight.T + bias, then ReLU if asked for, by oneDNN in ``dtype``; gradients have the inputs' dtypes."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        rows: Tensor,
        weight: Tensor,
        bias: Tensor,
        relu: bool,
        dtype: torch.dtype,
    ) -> Tensor:
        low_rows, low_weight = rows.to(dtype), weight.to(dtype)
        out = _product(low_rows, low_weight, bias.to(dtype), "relu" if relu else "none")
        ctx.save_for_backward(low_rows, low_weight, out if relu else low_weight[:0])
        ctx.relu, ctx.dtypes = relu, (rows.dtype, weight.dtype)  # type: ignore[attr-defined]
        return out

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, out = ctx.saved_tensors  # type: ignore[attr-defined]
        row_type, weight_type = ctx.dtypes  # type: ignore[attr-defined]
        if ctx.relu:  # type: ignore[attr-defined]
            gradient = torch.ops.aten.threshold_backward(gradient, out, 0)  # where(out > 0, gradient, 0), but faster
        of_rows = _product(gradient, weight.t()).to(row_type) if ctx.needs_input_grad[0] else None  # type: ignore[attr-defined]
        if not ctx.needs_input_grad[1]:  # type: ignore[attr-defined]
            return of_rows, None, None, None, None  # a frozen layer: weight and bias come without gradient together
        # Not by _product, which copies a left factor that is transposed; in the weight's own layout, else it is copied.
        of_bias = gradient.sum(0, dtype=weight_type)
        if gradient.dtype == torch.bfloat16 and not _has_bfloat16:
            gradient, rows = gradient.float(), rows.float()
        of_weight = gradient.t() @ rows if weight.is_contiguous() else (rows.t() @ gradient).t()
        return of_rows, of_weight.to(weight_type), of_bias, None, None


def dense(rows: Tensor, weight: Tensor, bias: Tensor, relu: bool = False, dtype: torch.dtype = torch.float32) -> Tensor:
    """rows @ weight.T + bias, then ReLU if asked for.

    Args:
        rows: (B, in).
        weight: (out, in), in any memory layout.
        bias: (out,).
        relu: whether max(0, .) follows.
        dtype: precision of the product; the weight's gradient is always of the weight's own.
    Returns: (B, out) of ``dtype``.
    """
    if rows.device.type == "cpu" and _linear is not None:
        if not torch.is_grad_enabled():
            return _product(rows.to(dtype), weight.to(dtype), bias.to(dtype), "relu" if relu else "none")
        if rows.shape[0] * weight.numel() >= _WORTH_IT or dtype != weight.dtype:
            return _Dense.apply(rows, weight, bias, relu, dtype)
    out = F.linear(rows.to(dtype), weight.to(dtype), bias.to(dtype))
    return out.relu() if relu else out


class FrozenDense:
    """One layer with the weights it has now, laid out once for fast products with few rows; no gradient.

    Args:
        weight: (out, in).
        bias: (out,).
        dtype: precision of the product.
    """

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype = torch.float32) -> None:
        self.weight, self.bias = weight.detach().to(dtype, copy=True), bias.detach().to(dtype, copy=True)
        self.packed = False
        if _pack is not None and weight.device.type == "cpu" and (_has_bfloat16 or dtype != torch.bfloat16):
            self.weight, self.packed = _pack(self.weight), True

    def __call__(self, rows: Tensor, base: Tensor | None = None) -> Tensor:
        """rows @ weight.T + bias (B, out) of the layer's dtype, plus ``base`` (B, out) in its own dtype if given."""
        rows = rows.to(self.weight.dtype)
        if not self.packed:
            out = dense(rows, self.weight, self.bias, dtype=rows.dtype)
        elif base is not None and base.dtype == rows.dtype:
            return torch.ops.mkldnn._linear_pointwise.binary(rows, base, self.weight, self.bias, "add")
        else:
            out = torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, "none", [], "")
        return out if base is None else base + out
