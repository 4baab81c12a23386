"""EnsembleMLP against each member computed alone."""

import math

import pytest
import torch

from saferl.nn.mlp import MLP, EnsembleMLP


@pytest.fixture
def ensemble():
    torch.manual_seed(0)
    network = EnsembleMLP(3, 5, (8, 6))
    with torch.no_grad():
        for bias in network.biases:
            bias.normal_()  # zero as made, which would hide a bias that is left out
    return network


def member_alone(network, member, row):
    """One output for one row, neuron by neuron."""
    signal = row.tolist()
    for index, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        if index:
            signal = [max(value, 0.0) for value in signal]
        columns, offsets = weight[member].T.tolist(), bias[member, 0].tolist()
        signal = [
            sum(w * x for w, x in zip(column, signal, strict=True)) + b
            for column, b in zip(columns, offsets, strict=True)
        ]
    return signal[0]


def test_every_member_is_a_perceptron_of_its_own(ensemble):
    rows = torch.randn(4, 5)
    expected = [[member_alone(ensemble, k, row) for row in rows] for k in range(3)]
    torch.testing.assert_close(ensemble(rows), torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_a_slice_gives_those_members(ensemble):
    rows = torch.randn(4, 5)
    torch.testing.assert_close(ensemble(rows, slice(1, 3)), ensemble(rows)[1:3])


def test_candidates_equal_the_rows_written_out(ensemble):
    states, candidates = torch.randn(4, 3), torch.randn(4, 7, 2)
    rows = torch.cat([states[:, None].expand(4, 7, 3), candidates], dim=-1).reshape(28, 5)
    torch.testing.assert_close(ensemble.over_candidates(states, candidates), ensemble(rows).unflatten(1, (4, 7)))
    torch.testing.assert_close(
        ensemble.over_candidates(states, candidates, slice(2, 3)), ensemble(rows, slice(2, 3)).unflatten(1, (4, 7))
    )


@pytest.mark.parametrize(
    ("members", "in_dim", "count"), [(1, 76, 85_761), (2, 78, 172_546), (1, 11, 69_121), (2, 13, 139_266)]
)
def test_number_of_parameters_is_the_papers(members, in_dim, count):  # design: V and the Q pairs, two tasks
    assert sum(p.numel() for p in EnsembleMLP(members, in_dim).parameters()) == count


def test_weights_start_xavier_uniform_and_biases_zero():
    network = EnsembleMLP(2, 78)
    for member in range(2):
        bound = math.sqrt(6 / (78 + 256))
        weight = network.weights[0][member]
        assert weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert not torch.equal(network.weights[1][0], network.weights[1][1])
    assert all(not bias.any() for bias in network.biases)


@pytest.mark.parametrize("count", [4, 100])  # batched products, and member by member
def test_a_frozen_ensemble_gives_the_rows_their_gradient_and_the_weights_none(ensemble, count):
    rows = torch.randn(count, 5, requires_grad=True)
    (expected,) = torch.autograd.grad(ensemble(rows).sum(), rows)
    ensemble(rows, frozen=True).sum().backward()
    torch.testing.assert_close(rows.grad, expected)
    assert all(parameter.grad is None for parameter in ensemble.parameters())


def test_an_mlp_is_its_layers_with_relu_between():
    torch.manual_seed(0)
    network = MLP(5, 2, (8, 6))
    rows = torch.randn(7, 5)
    signal = rows
    for index, layer in enumerate(network.layers):
        signal = signal @ layer.weight.T + layer.bias
        signal = signal.clamp(min=0) if index < 2 else signal
    torch.testing.assert_close(network(rows), signal)


def test_an_mlp_over_candidates_equals_the_rows_written_out():
    torch.manual_seed(0)
    network = MLP(5, 2, (8, 6))
    states, candidates = torch.randn(4, 3), torch.randn(4, 7, 2)
    rows = torch.cat([states[:, None].expand(4, 7, 3), candidates], dim=-1).reshape(28, 5)
    torch.testing.assert_close(network.over_candidates(states, candidates), network(rows).unflatten(0, (4, 7)))


def test_bfloat16_products_are_close_and_come_back_as_float32():
    torch.manual_seed(0)
    exact, rough = (EnsembleMLP(3, 20, (64, 64), dtype) for dtype in (torch.float32, torch.bfloat16))
    rough.load_state_dict(exact.state_dict())
    rows = torch.randn(200, 20)
    out = rough(rows)
    assert out.dtype == torch.float32
    assert 0 < (out - exact(rows)).abs().max() < 0.05
    assert rough.over_candidates(rows[:, :18], rows[:, None, 18:]).shape == (3, 200, 1)
