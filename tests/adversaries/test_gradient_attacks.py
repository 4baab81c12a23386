"""Gradient attacks on victims and critics whose optimum is known in closed form or by enumeration."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from saferl.adversaries.ascent import Ascent, AscentConfig, Autograd
from saferl.adversaries.attacks import GradientAttack
from saferl.adversaries.catalogue import Means, make_attack
from saferl.adversaries.critics import cost_threshold
from saferl.adversaries.objectives import (
    OBJECTIVES,
    Situation,
    deviation,
    half_deviation_half_robust,
    more_cost,
    more_reward,
)
from saferl.adversaries.threat import Threat
from saferl.adversaries.trajectories import Trajectory
from saferl.adversaries.victim import Response, Victim, clipped
from saferl.policy import CallablePolicy
from tests.adversaries.victims import corners, critics, linear_victim, normaliser, observations, threat

WEIGHTS = np.array([[0.9, -1.4, 0.7, 1.1, -0.8, -1.2]])


def attack(name, victim, ball, seed=0, **means):
    made = make_attack(name, ball, Means(victim=victim, **means))
    made.reset(seed=seed)
    return made


def moved_actions(victim, ball, true, deltas):
    """By how much the action moved (B, act_dim), from what the policy really does."""
    return victim.policy.act(ball.seen(true, deltas)).astype(np.float64) - victim.policy.act(true)


@pytest.mark.parametrize("name", ["fgsm", "pgd", "mad"])
def test_on_a_linear_victim_the_action_moves_by_eps_times_the_l1_norm_of_its_weights(name):
    victim, ball, true = linear_victim(WEIGHTS, limit=1), threat(6, 0.2), observations(40, 6)
    moved = moved_actions(victim, ball, true, attack(name, victim, ball).perturbations(true))
    units = WEIGHTS[0] * normaliser(6).scale  # of the action per normalised unit
    np.testing.assert_allclose(np.abs(moved[:, 0]), 0.2 * np.abs(units).sum(), rtol=1e-3)


def test_in_the_l2_ball_it_moves_by_eps_times_the_l2_norm():
    victim, ball, true = linear_victim(WEIGHTS, limit=100), threat(6, 0.2, "l2"), observations(40, 6)
    config = AscentConfig(steps=50)
    moved = moved_actions(victim, ball, true, attack("pgd", victim, ball, ascent=config).perturbations(true))
    np.testing.assert_allclose(np.abs(moved[:, 0]), 0.2 * np.linalg.norm(WEIGHTS[0] * normaliser(6).scale), rtol=1e-3)


def test_with_several_actions_pgd_finds_the_best_corner_of_all():
    weights = np.random.default_rng(7).normal(size=(3, 6))
    victim, ball, true = linear_victim(weights, limit=100), threat(6, 0.2), observations(30, 6)
    config = AscentConfig(restarts=8)
    moved = moved_actions(victim, ball, true, attack("pgd", victim, ball, ascent=config).perturbations(true))
    best = np.square(corners(6, 0.2) * normaliser(6).scale @ weights.T).sum(1).max()
    np.testing.assert_allclose(np.square(moved).sum(1), best, rtol=2e-3)


def only(**known):
    """Critics of which no other may be asked."""
    return replace(critics(), **known)


@pytest.mark.parametrize(
    ("name", "which", "sign"),
    [("mr", "reward", 1), ("mc", "cost", 1), ("q", "reward", -1), ("rs", "robust", -1)],
)
def test_on_a_critic_that_is_convex_in_the_action_the_best_corner_is_found(name, which, sign):
    """ "q" and "rs" want the least of it: theirs is concave."""
    generator = np.random.default_rng(3)
    weights, root = generator.normal(size=(2, 5)), generator.normal(size=(2, 2))
    matrix = torch.as_tensor(root @ root.T, dtype=torch.float32)

    def critic(states, actions):  # its slope depends on the state
        shifted = 100 * actions + states[:, :2]
        return sign * ((shifted @ matrix) * shifted).sum(-1)

    victim, ball, true = linear_victim(weights, limit=100), threat(5, 0.3), observations(25, 5)
    config = AscentConfig(restarts=24)
    made = attack(name, victim, ball, ascent=config, critics=only(**{which: critic}))
    seen = ball.seen(true, made.perturbations(true))
    found = critic(torch.as_tensor(true), torch.as_tensor(victim.policy.act(seen) / 100))
    everywhere = true[:, None] + corners(5, 0.3) * normaliser(5).scale  # (B, 32, 5)
    actions = torch.as_tensor(everywhere @ weights.T / 100, dtype=torch.float32)
    states = torch.as_tensor(true)[:, None].expand(-1, 32, -1)
    values = critic(states.flatten(0, 1), actions.flatten(0, 1)).view(25, 32)
    np.testing.assert_allclose(sign * found, (sign * values).max(1).values, rtol=2e-3)


def test_value_shows_the_state_of_least_worth_in_the_ball():
    """V is concave in what is seen and looks at nothing else: its least is at a corner."""
    victim, ball, true = linear_victim(WEIGHTS, limit=1), threat(6, 0.3), observations(25, 6)
    root = torch.as_tensor(np.random.default_rng(4).normal(size=(6, 2)), dtype=torch.float32)

    def value(states, actions):
        return -(states @ root).square().sum(-1)

    made = attack("value", victim, ball, ascent=AscentConfig(restarts=24), critics=only(value=value))
    found = value(torch.as_tensor(ball.seen(true, made.perturbations(true))), None)
    everywhere = torch.as_tensor(true[:, None] + corners(6, 0.3) * normaliser(6).scale)  # (B, 64, 6)
    least = value(everywhere.flatten(0, 1), None).view(25, 64).min(1).values
    assert (
        least < 1.5 * value(torch.as_tensor(true), None)
    ).float().mean() > 0.3  # V is below 0: there is much to find
    np.testing.assert_allclose(found, least, rtol=2e-3)


def test_rs_mad_is_half_of_mad_and_half_of_robust_sarsas_loss():
    generator = torch.Generator().manual_seed(0)
    states, means, deviations = (torch.randn(3, 9, 2, generator=generator)).unbind()
    clean = Response(means, means, deviations.exp())
    seen = Response(means + 0.3 * deviations, means + 0.3 * deviations, deviations.exp())

    def robust(states, actions):
        return 3 * states[:, 0] + actions[:, 1]

    value = half_deviation_half_robust(only(robust=robust))(Situation(states, clean), states + 7, seen)
    size = deviations.exp() / deviations.exp().mean(-1, keepdim=True)  # sigma / m: equal in both, so MAD is a square
    mad = (0.3 * deviations / size).square().sum(-1)
    torch.testing.assert_close(value, 0.5 * mad - 0.5 * (3 * states[:, 0] + seen.actions[:, 1]))
    assert OBJECTIVES["rs_mad"] is half_deviation_half_robust


def test_langevin_noise_shrinks_as_it_is_written():
    """Where the objective is flat what the steps climb is MAD's noise alone: sqrt(2 eps / K) / (k + 2)."""

    class Flat:
        def values(self, objective, situation, deltas):
            return torch.zeros(len(deltas))

        def slopes(self, objective, situation, deltas, generator):
            return torch.zeros(len(deltas)), torch.zeros_like(deltas)

    climbed = []

    class Watched(Threat):
        def steepest(self, gradients):
            climbed.append(gradients)
            return super().steepest(gradients)

    true, count, eps = torch.as_tensor(observations(5_000, 4)), 5, 0.3
    situation, ball = Situation(true, Response(true, true)), Watched(threat(4, eps).units, eps)
    for langevin in (True, False):
        climbed.clear()
        ascent = Ascent(Flat(), ball, AscentConfig(steps=count), langevin=langevin)
        ascent.best(deviation, situation, torch.Generator().manual_seed(0))
        assert len(climbed) == 1 + count  # the first is the start
        for k, noise in enumerate(climbed[1:]):
            assert float(noise.mean()) == pytest.approx(0, abs=0.01)
            size = np.sqrt(2 * eps / count) / (k + 2) if langevin else 0
            assert float(noise.std()) == pytest.approx(size, rel=0.02)


@pytest.mark.parametrize("optimizer", ["sign", "adam"])
def test_where_the_best_action_is_within_reach_it_is_reached(optimizer):
    weights = np.array([[1.0, -0.5, 0.3], [0.2, 0.8, -1.0]])
    victim, ball, true = linear_victim(weights, limit=10), threat(3, 0.5), observations(20, 3)
    wanted = torch.as_tensor(true @ weights.T / 10 + 0.01, dtype=torch.float32)  # a step of 0.1 in either action

    def critic(states, actions):
        return -(actions - wanted).square().sum(-1)

    config = AscentConfig(optimizer=optimizer, steps=200, lr=0.02)
    made = attack("mr", victim, ball, ascent=config, critics=critics(reward=critic))
    moved = moved_actions(victim, ball, true, made.perturbations(true))
    np.testing.assert_allclose(moved, 0.1, atol=0.02)


def test_stronger_with_eps():
    generator = torch.Generator().manual_seed(0)
    hidden, out = torch.randn(8, 4, generator=generator), torch.randn(2, 8, generator=generator)

    def respond(rows, noise):
        mean = (rows @ hidden.T).tanh() @ out.T
        return Response(mean, mean)

    one = np.ones(2, np.float32)
    victim = Victim(CallablePolicy(lambda rows: rows[:, :2]), 4, -one, one, "net", respond)
    true = torch.as_tensor(observations(60, 4))
    situation = Situation(true, respond(true, generator))
    values = []
    for eps in (0.02, 0.05, 0.1, 0.2, 0.4):
        ball = threat(4, eps)
        ascent = Ascent(Autograd(victim, ball), ball, AscentConfig(restarts=3))
        deltas = ascent.best(deviation, situation, torch.Generator().manual_seed(1))
        values.append(deviation(situation, true, respond(ball.shifted(true, deltas), generator)).numpy())
    assert (np.diff([each.mean() for each in values]) > 0).all()
    assert (np.diff(values, axis=0) > -1e-3).mean() > 0.95  # nearly every row too


def test_random_is_weaker_than_one_step_and_one_step_than_several_on_a_convex_objective():
    weights = np.random.default_rng(11).normal(size=(3, 8))
    victim, ball, true = linear_victim(weights, limit=100), threat(8, 0.2), observations(200, 8)
    found = {}
    for name in ("random", "fgsm", "pgd"):
        moved = moved_actions(victim, ball, true, attack(name, victim, ball).perturbations(true))
        found[name] = np.square(moved).sum(1).mean()
    assert found["random"] < 0.5 * found["fgsm"]
    assert found["fgsm"] < found["pgd"]


def test_the_critic_is_asked_at_the_true_state_and_the_gradient_flows_through_the_policy():
    """Q(s, a) = s_0 a + 5 s_1: a critic that looked at the manipulated state would be misled by the second term."""
    weights = np.array([[1.0, -0.5]])
    victim, ball, true = linear_victim(weights, limit=20), threat(2, 0.1), observations(30, 2)
    true[:, 0] = np.where(true[:, 0] > 0, 1, -1)
    asked = []

    def critic(states, actions):
        asked.append((states, states.requires_grad))
        return 20 * states[:, 0] * actions[:, 0] + 5 * states[:, 1]

    deltas = attack("mc", victim, ball, critics=critics(cost=critic)).perturbations(true)
    assert len(asked) > 10
    for states, with_gradient in asked:
        np.testing.assert_array_equal(states.numpy(), true)
        assert not with_gradient
    up = np.sign(true[:, :1] * weights)  # of Q, through the action alone
    np.testing.assert_allclose(deltas, 0.1 * up, rtol=1e-4)


def test_mad_starts_where_its_gradient_is_not_zero():
    victim, ball, true = linear_victim(WEIGHTS, limit=1), threat(6, 0.2), torch.as_tensor(observations(10, 6))
    situation = Situation(true, victim.response(true))
    slopes = Autograd(victim, ball)
    _, at_truth = slopes.slopes(deviation, situation, torch.zeros_like(true), torch.Generator())
    assert not at_truth.any()
    deltas = attack("mad", victim, ball).perturbations(true.numpy())
    assert (np.abs(deltas) > 0.19).all()


def test_the_deviation_is_the_kl_divergence_in_the_mean_deviations_units():
    generator = torch.Generator().manual_seed(0)
    means, stds = torch.randn(2, 7, 3, generator=generator), torch.rand(2, 7, 3, generator=generator) + 0.2
    clean, seen = (Response(mean, mean, std) for mean, std in zip(means, stds))
    normal = torch.distributions.Normal
    exact = torch.distributions.kl_divergence(normal(means[0], stds[0]), normal(means[1], stds[1])).sum(-1)
    value = deviation(Situation(means[0], clean), means[0], seen)
    torch.testing.assert_close(value, 2 * stds[0].mean(-1) ** 2 * exact)
    # Equal deviations: the sum of ((mu - mu~) / (sigma / mean sigma))^2.
    value = deviation(Situation(means[0], clean), means[0], seen._replace(deviation=stds[0]))
    scaled = (means[1] - means[0]) / (stds[0] / stds[0].mean(-1, keepdim=True))
    torch.testing.assert_close(value, scaled.square().sum(-1))


def test_a_saturated_policy_still_shows_where_up_is():
    point = torch.tensor([[3.0, -0.5]], requires_grad=True)
    actions = clipped(point)
    assert actions.tolist() == [[1.0, -0.5]]
    actions.sum().backward()
    assert point.grad.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("config", [AscentConfig(), AscentConfig(optimizer="adam", steps=5), AscentConfig(steps=1)])
def test_no_perturbation_is_carried_from_one_call_to_the_next(config):
    """Whatever came before, the same observations with the same noise get the same perturbation."""

    def critic(states, actions):
        return torch.sin(5 * actions[:, 0] + states[:, 0])

    victim, ball = linear_victim(WEIGHTS, limit=3), threat(6, 0.5)
    ascent = Ascent(Autograd(victim, ball), ball, config)
    made = GradientAttack(victim, ball, ascent, more_reward(critics(reward=critic)))
    true = observations(20, 6)
    results = []
    for before in (observations(20, 6, seed=1), observations(20, 6, seed=2)):
        made.reset(seed=4)
        made.perturbations(before)
        results.append(made.perturbations(true))
    np.testing.assert_array_equal(*results)
    made.reset(seed=5)
    assert (made.perturbations(true) != results[0]).any()  # the noise is the seed's


def test_restarts_leave_a_hilltop_that_is_not_the_highest():
    def critic(states, actions):  # a low hill at the true action, a high one at the ball's edge
        return -actions[:, 0].square() + 3 * (actions[:, 0] - 0.3).clamp(min=0)

    victim, ball, true = linear_victim([[1.0]], limit=1), threat(1, 0.5), np.zeros((16, 1), np.float32)
    found = []
    for restarts in (1, 6):
        config = AscentConfig(restarts=restarts, stride=0.5)
        ascent = Ascent(Autograd(victim, ball), ball, config)
        made = GradientAttack(victim, ball, ascent, more_cost(critics(cost=critic)))
        made.reset(seed=0)
        actions = torch.as_tensor(ball.seen(true, made.perturbations(true)))
        found.append(float(critic(actions, actions).mean()))
    assert found[1] > found[0] + 0.05


def test_adaptive_mad_attacks_where_the_cost_critic_is_above_its_threshold_and_nowhere_else():
    victim, ball, true = linear_victim(WEIGHTS, limit=1), threat(6, 0.2), observations(60, 6)

    def cost(states, actions):
        return states[:, 0]

    threshold = float(np.quantile(true[:, 0], 0.8))
    made = attack("amad", victim, ball, critics=critics(cost=cost), threshold=threshold)
    deltas = made.perturbations(true)
    dear = true[:, 0] >= threshold
    assert 0 < dear.sum() < 60
    assert not deltas[~dear].any()
    assert (np.abs(deltas[dear]) > 0.19).all()
    assert not attack("amad", victim, ball, critics=critics(cost=cost), threshold=1e9).perturbations(true).any()


def test_its_threshold_is_what_a_tenth_of_the_clean_steps_exceeds():
    victim = linear_victim([[0.5, 0.0]], limit=2)
    rows = np.random.default_rng(0).normal(size=(1001, 2)).astype(np.float32)
    actions = victim.policy.act(rows[:-1]).astype(np.float32)
    zeros = np.zeros(1000)
    episode = Trajectory(rows, actions, actions, zeros, zeros, False)

    def cost(states, taken):  # of state and action in the box's units
        return states[:, 1] + 10 * taken[:, 0]

    expected = np.quantile(rows[:-1, 1] + 10 * actions[:, 0] / 2, 0.9)
    assert cost_threshold(critics(cost=cost), [episode], victim) == pytest.approx(expected, rel=1e-5)
