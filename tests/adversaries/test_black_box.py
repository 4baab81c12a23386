"""Slopes of victims that can only be asked, against the exact ones."""

import numpy as np
import pytest
import torch

from saferl.adversaries.ascent import AscentConfig, Autograd, Evolution
from saferl.adversaries.catalogue import EvolutionConfig, Means, make_attack
from saferl.adversaries.objectives import Situation, more_reward
from saferl.adversaries.victim import Victim
from tests.adversaries.victims import critics, linear_victim, normaliser, observations, threat

WEIGHTS = np.array([[0.9, -1.4, 0.7, 1.1], [0.3, 0.5, -1.2, 0.8]])


def quadratic(states, actions):
    return (actions[:, 0] + 0.5 * states[:, 1]).square() - actions[:, 1]


def test_the_slope_from_answers_is_the_gradient():
    true, ball = torch.as_tensor(observations(20, 4)), threat(4, 0.1)
    white, black = linear_victim(WEIGHTS, limit=100), linear_victim(WEIGHTS, limit=100, white_box=False)
    situation = Situation(true, white.response(true))
    objective = more_reward(critics(reward=quadratic))
    deltas = 0.05 * torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    values, exact = Autograd(white, ball).slopes(objective, situation, deltas, torch.Generator())
    generator = torch.Generator().manual_seed(1)
    same_values, estimate = Evolution(black, ball, 3_000).slopes(objective, situation, deltas, generator)
    torch.testing.assert_close(values, same_values, rtol=1e-4, atol=1e-5)
    # Antithetic pairs cancel the quadratic part; what is left is the spread of 3,000 directions in 4 dimensions.
    error = (estimate - exact).norm(dim=1) / exact.norm(dim=1)
    assert error.max() < 0.1


def test_a_black_box_is_attacked_nearly_as_well_and_its_questions_are_counted():
    true, ball = observations(30, 4), threat(4, 0.2)
    reached = []
    for white_box in (True, False):
        victim = linear_victim(WEIGHTS[:1], limit=100, white_box=white_box)
        config = AscentConfig(steps=8)
        means = Means(
            victim=victim,
            critics=critics(reward=lambda states, actions: 100 * actions[:, 0]),
            ascent=config,
            queries=EvolutionConfig(directions=12),
        )
        made = make_attack("mr", ball, means)
        made.reset(seed=0)
        seen = ball.seen(true, made.perturbations(true))
        reached.append((victim.policy.act(seen) - victim.policy.act(true))[:, 0])
        # The clean answer, eight slopes from 2 x 12 + 1 answers, the last point.
        assert victim.queries == (0 if white_box else 30 * (1 + 8 * 25 + 1))
    best = 0.2 * np.abs(WEIGHTS[0] * normaliser(4).scale).sum()
    np.testing.assert_allclose(reached[0], best, rtol=1e-3)
    assert reached[1].mean() > 0.95 * best


class Remembering:
    """a = what was seen before the last step, plus half of what is seen now; strict about its rows."""

    def __init__(self, rows):
        self.rows, self.calls, self.steps = rows, 0, 0
        self.before = np.zeros((rows, 2), np.float32)

    def act(self, observations):
        assert len(observations) == self.rows
        self.calls += 1
        return self.before + 0.5 * observations[:, :2]

    def observe(self, rewards, costs):
        self.steps += 1

    def reset(self, mask=None, seed=None):
        pass


def test_a_victim_with_a_memory_is_asked_about_its_own_rows_only():
    policy = Remembering(7)
    bound = np.full(2, 100, np.float32)
    victim = Victim(policy, 4, -bound, bound, "remembering")
    made = make_attack(
        "pgd",
        threat(4, 0.1),
        Means(victim=victim, ascent=AscentConfig(steps=2), queries=EvolutionConfig(directions=3)),
    )
    made.perturbations(observations(7, 4))
    assert policy.calls == 1 + 2 * 7 + 1
    assert victim.queries == 7 * policy.calls
    assert policy.steps == 0  # questions are no steps


def test_without_gradients_there_is_no_white_box():
    victim = linear_victim(WEIGHTS)
    black = victim.as_black_box()
    assert victim.white_box
    assert not black.white_box
    rows = torch.as_tensor(observations(5, 4))
    torch.testing.assert_close(black.response(rows).actions, victim.response(rows).actions, rtol=1e-4, atol=1e-9)
    assert black.queries == 5
    assert victim.queries == 0


@pytest.mark.parametrize("name", ["fgsm", "pgd", "mad", "mc", "mr", "q"])
def test_every_gradient_attack_has_a_form_for_black_boxes(name):
    victim = linear_victim(WEIGHTS, limit=10, white_box=False)
    means = Means(victim=victim, critics=critics(quadratic, quadratic), ascent=AscentConfig(steps=3))
    deltas = make_attack(name, threat(4, 0.1), means).perturbations(observations(6, 4))
    assert (np.abs(deltas) > 0.01).any(axis=1).all()
