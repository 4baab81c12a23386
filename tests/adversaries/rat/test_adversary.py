"""The bilevel step against finite differences and known optima."""

import numpy as np
import pytest
import torch
from torch.func import functional_call

from saferl.adversaries.ascent import Autograd
from saferl.adversaries.attacks import AttackedPolicy, situation_of
from saferl.adversaries.rat.adversary import Bilevel, Perturber, PerturberAttack, StateWeights, load_perturber
from saferl.adversaries.threat import Threat
from tests.adversaries.victims import linear_victim, observations, threat

WEIGHTS = np.array([[0.9, -0.4, 0.7], [0.2, 1.1, -0.5]])
ROWS = 12


def wanted(states):
    """An intended action (B, 2), not reachable everywhere."""
    return torch.stack([states[:, 0].sin(), 0.3 * states[:, 1]], dim=1)


def apart(situation, seen, response):
    return (response.actions - wanted(situation.observations)).square().sum(-1)


def loss(situation, seen, response):
    """-Q of a critic that likes something else."""
    return (response.actions[:, 0] - 0.7).square() - response.actions[:, 1] * situation.observations[:, 2]


def bilevel(ball, weights=True, lr=0.05, width=5, seed=0, outer_lr=1e-3, limit=1):
    torch.manual_seed(seed)
    victim = linear_victim(WEIGHTS, limit=limit)
    perturber = Perturber(ball, width)
    states = StateWeights(ball, 4) if weights else None
    return victim, Bilevel(perturber, states, Autograd(victim, ball), apart, loss, lr, outer_lr, seed=0)


def situation(victim, ball, count=ROWS, seed=0):
    return situation_of(victim, ball, observations(count, 3, seed), torch.Generator().manual_seed(0))


def plain_outer(step, victim, ball, rows, weights, lr):
    """J(alpha - lr grad L) in double precision, by the plain chain of autograd and for given weights (B,)."""
    parameters = {
        name: value.detach().clone().requires_grad_(True) for name, value in step.perturber.named_parameters()
    }

    def answers(alpha):
        seen = ball.shifted(rows.observations, functional_call(step.perturber, alpha, (rows.observations,)))
        return seen, victim.response(seen)

    inner = (weights * apart(rows, *answers(parameters))).mean()
    gradients = torch.autograd.grad(inner, list(parameters.values()))
    stepped = {name: value - lr * each for (name, value), each in zip(parameters.items(), gradients)}
    return float(loss(rows, *answers(stepped)).mean().detach())


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def in_double(ball, step, victim_weights=WEIGHTS):
    """Everything in float64, or differences of J drown in rounding."""
    units = ball.units
    units.mean, units.scale, units._inverse = (each.double() for each in (units.mean, units.scale, units._inverse))
    step.perturber.double()
    if step.weights is not None:
        step.weights.double()


@pytest.mark.parametrize("lr", [0.05, 1.0])
def test_each_states_hypergradient_is_the_finite_difference_in_its_weight(lr, double):
    """f(s) differs from state to state: one number for the batch, as published, is not even near."""
    ball = threat(3, 0.4)
    victim, step = bilevel(ball, lr=lr)
    rows = situation(victim, ball)
    in_double(ball, step)
    rows = rows._replace(observations=rows.observations.double())
    matrix = torch.as_tensor(WEIGHTS)
    victim._respond = lambda seen, seed: rows.clean._replace(actions=seen @ matrix.T, mean=seen @ matrix.T)
    weights = torch.rand(ROWS, generator=torch.Generator().manual_seed(1)) + 0.5
    found = step.hypergradients(rows, weights) / ROWS
    expected = []
    for row in range(ROWS):
        up, down = weights.clone(), weights.clone()
        up[row] += 1e-5
        down[row] -= 1e-5
        both = [plain_outer(step, victim, ball, rows, each, lr) for each in (up, down)]
        expected.append((both[0] - both[1]) / 2e-5)
    exact = torch.tensor(expected)
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4 * float(exact.abs().max()))
    published = found.mean().expand(ROWS)
    assert (published - exact).abs().max() > 0.5 * exact.abs().max()


def test_the_outer_step_gives_more_weight_where_that_helps():
    ball = threat(3, 0.4)
    victim, step = bilevel(ball, lr=0.05, outer_lr=0.01)
    rows = situation(victim, ball, count=64)
    before = step.weights(rows.observations).detach()
    gradients = step.hypergradients(rows, before)
    for _ in range(30):
        step.outer_step(rows)
    change = step.weights(rows.observations).detach() - before
    assert float((gradients * change).mean()) < 0
    assert ((step.weights(rows.observations) > 0) & (step.weights(rows.observations) < 2)).all()


def test_perturbations_fill_the_box_and_never_leave_it():
    """The published rollouts project on an l1 ball, in which no two dimensions can both be at eps."""
    ball = threat(3, 0.2)
    _, step = bilevel(ball)
    with torch.no_grad():
        step.perturber.network[-1].bias += torch.tensor([50.0, -50.0, 50.0])
    rows = observations(20, 3)
    deltas = PerturberAttack(step.perturber).perturbations(rows)
    np.testing.assert_allclose(deltas, np.tile([0.2, -0.2, 0.2], (20, 1)), rtol=1e-5)
    shift = (ball.seen(rows, deltas) - rows) / ball.units.normaliser.scale
    np.testing.assert_allclose(shift, deltas, atol=1e-5)


def test_a_victim_that_already_does_what_is_intended_is_left_alone():
    ball = threat(3, 0.3)
    victim, step = bilevel(ball, weights=False, lr=0.01, width=32)
    step._distance = lambda rows, seen, response: (response.actions - rows.clean.actions).square().sum(-1)
    rows = situation(victim, ball, count=128)
    for _ in range(300):
        final = step.inner_step(rows)
    assert final < 2e-3


def test_the_inner_loss_reaches_the_best_perturbation_of_a_linear_victim():
    """One state: the least of |W (s + scale delta) - a*|^2 over the box, by a solver of bounded least squares."""
    from scipy.optimize import lsq_linear

    ball = threat(3, 0.3)
    victim, step = bilevel(ball, lr=0.01, width=16, limit=50)  # so wide that nothing is clipped
    step._distance = lambda rows, seen, response: apart(rows, seen, response._replace(actions=50 * response.actions))
    rows = situation(victim, ball, count=1, seed=3)
    for _ in range(400):
        final = step.inner_step(rows)
    matrix = WEIGHTS * ball.units.normaliser.scale
    gap = wanted(rows.observations)[0].numpy() - WEIGHTS @ rows.observations[0].numpy()
    best = lsq_linear(matrix, gap, (-0.3, 0.3))
    assert final == pytest.approx(2 * best.cost, rel=0.02)  # tanh only comes near the edge
    assert final < 0.9 * float(gap @ gap)


def test_an_adversary_survives_its_file_and_damage_is_told(tmp_path):
    ball = threat(3, 0.2)
    _, step = bilevel(ball)
    step.perturber.save(tmp_path / "rat.safetensors")
    again = load_perturber(tmp_path / "rat.safetensors", ball)
    rows = observations(5, 3)
    both = [PerturberAttack(each).perturbations(rows) for each in (step.perturber, again)]
    np.testing.assert_array_equal(*both)
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"bad\.safetensors: not a RAT adversary"):
        load_perturber(tmp_path / "bad.safetensors", ball)


def test_with_eps_0_nothing_changes():
    victim = linear_victim(WEIGHTS, limit=1)
    ball = Threat(threat(3, 0.2).units, 0.0)
    torch.manual_seed(0)
    attacked = AttackedPolicy(victim, ball, PerturberAttack(Perturber(ball, 5)))
    rows = observations(7, 3)
    np.testing.assert_array_equal(attacked.act(rows), victim.policy.act(rows))
