"""EnsembleMLP against each member computed alone."""

import math

import pytest
import torch

from saferl.nn.mlp import EnsembleMLP


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
