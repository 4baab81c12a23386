"""ScoreNetwork against a plain rewrite, its mish and dropout against their definitions."""

import math

import pytest
import torch
from torch.nn import functional as F

from saferl.nn.score_network import ScoreNetwork, dropout_scales, mish


def plain_prediction(network, actions, observations, steps, scales):
    """The network as its definition reads: every row's own time features, torch's own mish."""
    p = {name: value.detach().double() for name, value in network.named_parameters()}

    def dense(name, x):
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    phase = 2 * math.pi * steps.double()[:, None] * p["frequencies"]
    time = dense("time_out", F.mish(dense("time_in", torch.cat([phase.cos(), phase.sin()], dim=1))))
    x = dense("first", torch.cat([actions.double(), observations.double(), time], dim=1))
    for index in range(len(network.blocks)):
        y = x * scales[index].double()
        y = (y - y.mean(1, keepdim=True)) / torch.sqrt(y.var(1, keepdim=True, unbiased=False) + 1e-6)
        y = y * p[f"blocks.{index}.norm.weight"] + p[f"blocks.{index}.norm.bias"]
        x = x + dense(f"blocks.{index}.contract", F.mish(dense(f"blocks.{index}.expand", y)))
    return dense("last", F.mish(x))


@pytest.mark.parametrize(("obs_dim", "count"), [(76, 1_656_610), (11, 1_639_970)])
def test_number_of_parameters_is_the_papers(obs_dim, count):
    assert sum(p.numel() for p in ScoreNetwork(obs_dim, 2).parameters()) == count


def test_prediction_equals_the_plain_rewrite():
    torch.manual_seed(0)
    network = ScoreNetwork(6, 2, hidden=16, blocks=2, frequencies=4, time_dim=8)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)  # biases and LayerNorm away from their simple start
    actions, observations, steps = torch.randn(9, 2), torch.randn(9, 6), torch.arange(9) % 5
    scales = network.draw_dropout(9)
    expected = plain_prediction(network, actions, observations, steps, scales)
    predicted = network(actions, observations, steps, scales)
    torch.testing.assert_close(predicted.double(), expected, atol=1e-5, rtol=1e-5)
    network.eval()
    without = plain_prediction(network, actions, observations, steps, [torch.ones(9, 16)] * 2)
    torch.testing.assert_close(network(actions, observations, steps).double(), without, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(without, expected)


def test_mish_is_torchs_mish_over_its_whole_range():
    x = torch.cat([torch.linspace(-100, 100, 4001), torch.linspace(-4, 4, 4001)])
    exact = F.mish(x.double())
    assert ((mish(x).double() - exact).abs() / exact.abs().clamp(min=1)).max() < 2e-6


def test_gradient_of_mish_is_that_of_torchs_mish():
    x = torch.linspace(-30, 30, 6001, requires_grad=True)
    exact = x.detach().double().requires_grad_()
    mish(x).sum().backward()
    F.mish(exact).sum().backward()
    assert (x.grad.double() - exact.grad).abs().max() < 2e-6
    assert torch.autograd.gradcheck(mish, torch.linspace(-5, 5, 11, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_dropout_zeroes_its_share_and_keeps_the_mean(share):
    torch.manual_seed(0)
    scales = dropout_scales((1000, 400), share, torch.device("cpu"))
    dropped = (scales == 0).double()
    assert dropped.mean().item() == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 400_000))
    assert scales.max().item() == pytest.approx(1 / (1 - share), rel=1e-4)
    # Four factors share one 64-bit draw: neighbours must still be independent.
    for lag in (1, 2, 3, 4):
        together = (dropped[:, lag:] * dropped[:, :-lag]).mean().item()
        assert together == pytest.approx(share**2, abs=0.003)


def test_dropout_of_nothing_and_odd_shapes():
    assert dropout_scales((3, 7), 0.3, torch.device("cpu")).shape == (3, 7)
    assert torch.equal(dropout_scales((5,), 0.0, torch.device("cpu")), torch.ones(5))


def test_block_weights_start_lecun_normal_and_the_rest_xavier():
    torch.manual_seed(0)
    network = ScoreNetwork(76, 2)
    assert network.blocks[0].expand.weight.std().item() == pytest.approx(1 / 16, rel=0.01)
    assert network.blocks[2].contract.weight.std().item() == pytest.approx(1 / 32, rel=0.01)
    assert network.first.weight.abs().max().item() <= math.sqrt(6 / (206 + 256))
    assert network.frequencies.std().item() == pytest.approx(0.2, rel=0.5)
