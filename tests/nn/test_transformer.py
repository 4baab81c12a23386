import pytest
import torch
from torch import nn
from torch.nn import functional as F

from saferl.nn.transformer import Transformer, TransformerBlock, attention, dropped

BATCH, LENGTH, WIDTH, HEADS = 3, 7, 16, 4


def made(kind=TransformerBlock, *arguments, **settings):
    """Seeded, and moved off its first values so that no bias is 0 and no norm's weight 1."""
    torch.manual_seed(0)
    network = kind(WIDTH, *arguments, HEADS, **settings)
    for parameter in network.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return network


def tokens(seed=1):
    return torch.randn(BATCH, LENGTH, WIDTH, generator=torch.Generator().manual_seed(seed))


def reference(block):
    """Torch's own layer with the same weights."""
    layer = nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    pairs = [
        (layer.self_attn.in_proj_weight, block.inputs.weight),
        (layer.self_attn.in_proj_bias, block.inputs.bias),
        (layer.self_attn.out_proj, block.output),
        (layer.linear1, block.expand),
        (layer.linear2, block.contract),
        (layer.norm1, block.attention_norm),
        (layer.norm2, block.norm),
    ]
    for theirs, ours in pairs:
        if isinstance(theirs, nn.Module):
            theirs.load_state_dict(ours.state_dict())
        else:
            theirs.data.copy_(ours.data)
    return layer


def test_a_block_and_its_gradients_are_those_of_torchs_layer():
    block = made()
    layer = reference(block)
    ours, theirs = tokens().requires_grad_(), tokens().requires_grad_()
    mask = nn.Transformer.generate_square_subsequent_mask(LENGTH)
    out, expected = block(ours), layer(theirs, src_mask=mask, is_causal=True)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    weights = torch.randn_like(out)
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(block.inputs.weight.grad, layer.self_attn.in_proj_weight.grad, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(block.contract.weight.grad, layer.linear2.weight.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("read", [slice(None), slice(2, None, 4), slice(-1, None)])
def test_reading_some_tokens_gives_what_reading_all_gives_there(read):
    network = made(Transformer, 3)
    torch.testing.assert_close(network(tokens(), read), network(tokens())[:, read])


def test_no_token_sees_what_comes_behind_it():
    network = made(Transformer, 2)
    changed = tokens()
    changed[:, 4:] = 1e3
    before, after = network(tokens()), network(changed)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_attention_is_torchs():
    torch.manual_seed(0)
    queries, keys, values = torch.randn(2, HEADS, 3, 8), torch.randn(2, HEADS, 5, 8), torch.randn(2, HEADS, 5, 8)
    allowed = torch.ones(5, 5, dtype=torch.bool).tril()[1:4]
    expected = F.scaled_dot_product_attention(queries, keys, values, attn_mask=allowed)
    torch.testing.assert_close(attention(queries, keys, values, allowed), expected)


def test_dropping_keeps_the_mean_and_zeroes_its_share():
    torch.manual_seed(0)
    out = dropped(torch.ones(200, 500), 0.1)
    assert float((out == 0).float().mean()) == pytest.approx(0.1, abs=0.005)
    assert float(out.mean()) == pytest.approx(1, abs=0.005)
    assert torch.equal(dropped(out, 0.0), out)


def test_dropout_changes_what_a_network_says_and_its_absence_does_not():
    network = made(Transformer, 2)
    assert not torch.equal(network(tokens(), dropout=0.2), network(tokens(), dropout=0.2))
    assert torch.equal(network(tokens()), network(tokens()))


def test_bfloat16_says_nearly_the_same():
    exact, low = made(Transformer, 2), made(Transformer, 2, dtype=torch.bfloat16)
    out = low(tokens())
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, exact(tokens()), atol=0.05, rtol=0.05)
