"""dense against the product written out in float64, forwards and backwards."""

import pytest
import torch

from saferl.nn.dense import dense


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("rows", "inner", "outer"), [(70, 5, 9), (70, 9, 5), (1, 3, 4), (1024, 256, 300)])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_a_layer_and_its_gradients(rows, inner, outer, relu, transposed, dtype, tolerance):
    torch.manual_seed(0)
    x, bias = torch.randn(rows, inner, requires_grad=True), torch.randn(outer, requires_grad=True)
    stored = torch.randn(inner, outer) if transposed else torch.randn(outer, inner)
    weight = (stored.t() if transposed else stored).requires_grad_()
    upstream = torch.randn(rows, outer)
    out = dense(x, weight, bias, relu, dtype)
    assert out.dtype == dtype
    gradients = torch.autograd.grad((out * upstream).sum(), (x, weight, bias))
    exact = x.double() @ weight.double().T + bias.double()
    # Where the sum is within the rounding of zero, the two may disagree on which side of the ReLU it lies.
    mask = (out > 0).double() if relu else torch.ones_like(exact)
    through = upstream.double() * mask
    expected = (through @ weight.double(), through.T @ x.double(), through.sum(0))
    if relu:
        exact = exact.clamp(min=0)
    with torch.no_grad():
        torch.testing.assert_close(dense(x, weight, bias, relu, dtype), out)
    for mine, other in zip((out, *gradients), (exact, *expected), strict=True):
        assert (mine.double() - other).abs().max() <= tolerance * other.abs().max()
    assert all(gradient.dtype == torch.float32 for gradient in gradients)


def test_no_gradient_is_made_for_rows_that_need_none():
    weight = torch.randn(4, 3, requires_grad=True)
    dense(torch.randn(8, 3), weight, torch.zeros(4)).sum().backward()
    assert weight.grad is not None
