"""Multipliers against sequences that were computed by hand or recorded from FSRL."""

import pytest
import torch

from saferl.nn.multipliers import LogMultiplier, PIDMultiplier


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ([60, 50, 40, 30, 20, 10], [7.525, 2.045, 1.56, 1.07, 0.575, 0.075]),
        ([5, 12, 20, 8], [0, 0.801, 1.306, 0]),
    ],
)
def test_pid_follows_the_recorded_sequence(costs, expected):
    # design/constrained_rl.md: FSRL's law with gains .05, .0005, .1 and the limit 10
    multiplier = PIDMultiplier(0.05, 0.0005, 0.1)
    values = [float(multiplier.update(torch.tensor(cost - 10.0))) for cost in costs]
    assert values == pytest.approx(expected, abs=1e-6)


def test_pid_integrates_a_lasting_excess_and_forgets_it_below_the_limit():
    multiplier = PIDMultiplier(0.0, 1.0, 0.0)
    assert [float(multiplier.update(torch.tensor(e))) for e in (2.0, 2.0, -1.0, -9.0, 1.0)] == [2, 4, 3, 0, 1]


def test_a_copy_of_the_state_continues_the_sequence():
    first, second = PIDMultiplier(), PIDMultiplier()
    for excess in (3.0, -1.0, 2.0):
        first.update(torch.tensor(excess))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.update(torch.tensor(4.0)), second.update(torch.tensor(4.0)))


def test_the_log_multiplier_climbs_the_gradient_of_its_product_with_the_excess():
    multiplier = LogMultiplier(rate=0.1, initial=0.5)
    alpha = torch.tensor(0.5, requires_grad=True)
    (alpha.exp() * 3.0).backward()
    multiplier.update(torch.tensor(3.0))
    assert float(multiplier.alpha) == pytest.approx(0.5 + 0.1 * float(alpha.grad))
    for _ in range(100):
        multiplier.update(torch.tensor(3.0))
    assert float(multiplier.alpha) == 5
