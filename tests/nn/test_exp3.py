"""EXP3 against a slow rewrite in plain Python, and its regret against the bound of its theorem."""

import math

import pytest
import torch

from saferl.nn.exp3 import EXP3

DUE = torch.tensor(True)


def play(losses, rounds, seed):
    """Arms of ``rounds`` rounds whose losses are ``losses[round][arm]``."""
    torch.manual_seed(seed)
    bandit = EXP3(len(losses[0]))
    arms = []
    for step in range(rounds):
        arms.append(int(bandit.arm))
        bandit.update(torch.tensor(losses[step % len(losses)][arms[-1]]), DUE)
    return bandit, arms


def test_the_probabilities_are_those_of_a_slow_rewrite():
    losses = [[0.9, 0.1, 0.5], [0.2, 0.8, 0.4]]
    bandit, arms = play(losses, 40, seed=3)
    sums = [0.0, 0.0, 0.0]
    for step, arm in enumerate(arms):
        shares = plain_probabilities(sums, step + 1)
        sums[arm] += losses[step % 2][arm] / shares[arm]
    assert bandit.probabilities().tolist() == pytest.approx(plain_probabilities(sums, 41), rel=1e-4)
    assert len(set(arms)) == 3


def plain_probabilities(sums, round_number):
    rate = math.sqrt(math.log(len(sums)) / (round_number * len(sums)))
    weights = [math.exp(-rate * each) for each in sums]
    return [weight / sum(weights) for weight in weights]


def test_arms_are_drawn_with_their_probabilities():
    torch.manual_seed(0)
    bandit = EXP3(3)
    bandit.losses.copy_(torch.tensor([0.0, 1.0, 2.0]))
    shares = torch.zeros(3)
    for _ in range(4000):
        bandit.rounds.fill_(1.0)
        bandit.update(torch.tensor(0.0), DUE)
        shares[bandit.arm] += 1 / 4000
    bandit.rounds.fill_(2.0)  # the next round's
    assert shares.tolist() == pytest.approx(bandit.probabilities().tolist(), abs=0.03)


@pytest.mark.parametrize("losses", [[[0.6, 0.2, 0.6, 0.9]], [[0.0, 0.1, 1.0, 1.0], [1.0, 0.1, 0.0, 1.0]]])
def test_the_regret_keeps_to_its_bound_and_is_far_below_that_of_chance(losses):
    rounds, runs = 1500, 4
    paid = 0.0
    for seed in range(runs):
        _, arms = play(losses, rounds, seed)
        paid += sum(losses[step % len(losses)][arm] for step, arm in enumerate(arms)) / runs
    sums = [sum(row[arm] for row in losses) * rounds / len(losses) for arm in range(4)]
    regret = paid - min(sums)
    assert regret < 2 * math.sqrt(rounds * 4 * math.log(4))
    assert regret < 0.5 * (sum(sums) / 4 - min(sums))


def test_nothing_happens_where_a_round_is_not_due():
    torch.manual_seed(1)
    bandit = EXP3(4)
    before = {key: value.clone() for key, value in bandit.state_dict().items()}
    for _ in range(10):
        bandit.update(torch.tensor(1.0), torch.tensor(False))
    assert all(torch.equal(value, before[key]) for key, value in bandit.state_dict().items())


def test_its_state_continues_the_game():
    torch.manual_seed(2)
    straight, resumed = EXP3(3), EXP3(3)
    for _ in range(20):
        straight.update(torch.tensor(0.3), DUE)
    resumed.load_state_dict(straight.state_dict())
    for bandit in (straight, resumed):
        torch.manual_seed(7)
        for _ in range(20):
            bandit.update(bandit.arm / 3, DUE)
    assert torch.equal(straight.losses, resumed.losses)


def test_one_arm_is_refused():
    with pytest.raises(ValueError, match="arms must be >= 2; got 1"):
        EXP3(1)
