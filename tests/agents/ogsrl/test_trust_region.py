"""CPO's step against a general solver in all cases, and conjugate gradients against numpy."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from saferl.agents.ogsrl.trust_region import conjugate_gradients, several_constraints, step_coefficients

RADIUS = 0.02


def step(hessian, g, b, c, solve=step_coefficients):
    """D by the formula, and its case."""
    x, p = np.linalg.solve(hessian, g), np.linalg.solve(hessian, b.T).T  # (P,), (m, P)
    found = solve(g @ x, p @ g, b @ p.T, np.asarray(c, float), RADIUS)
    return found.of_gradient * x - found.of_constraints @ p, found.case


def solver(hessian, g, b, c):
    """D by SLSQP, from several starts."""
    rules = [{"type": "ineq", "fun": lambda d: 2 * RADIUS - d @ hessian @ d, "jac": lambda d: -2 * hessian @ d}]
    rules += [
        {"type": "ineq", "fun": lambda d, i=i: -c[i] - b[i] @ d, "jac": lambda d, i=i: -b[i]} for i in range(len(c))
    ]
    best = None
    for start in (0.01 * g, -0.01 * b.sum(0), np.zeros(len(g))):
        found = minimize(
            lambda d: -g @ d, start, jac=lambda d: -g, constraints=rules, method="SLSQP", options={"ftol": 1e-14}
        )
        if found.success and (best is None or found.fun < best.fun):
            best = found
    return best.x


def problem(seed, m=1, size=5):
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(size, size))
    return factor @ factor.T + np.eye(size), rng.normal(size=size), rng.normal(size=(m, size))


def reach(hessian, b):
    """How far a constraint can move inside the region."""
    return np.sqrt(2 * RADIUS * np.diag(b @ np.linalg.solve(hessian, b.T)))


def lowest(hessian, b):
    """By SLSQP: the step inside the region that lowers b' D most."""
    region = {"type": "ineq", "fun": lambda d: 2 * RADIUS - d @ hessian @ d, "jac": lambda d: -2 * hessian @ d}
    found = minimize(lambda d: b @ d, 0 * b, jac=lambda d: b, constraints=[region], method="SLSQP", tol=1e-10)
    assert found.success
    return found.x


def recovery(hessian, b, c):
    """By SLSQP: the step that repairs the greatest share of the excesses c that one can, and that share.

    A constraint with room to spare may lose that share of it.
    """
    goal = np.append(np.zeros(len(hessian)), -1.0)  # z = (D, share)
    rules = [
        {
            "type": "ineq",
            "fun": lambda z: 2 * RADIUS - z[:-1] @ hessian @ z[:-1],
            "jac": lambda z: np.append(-2 * hessian @ z[:-1], 0),
        },
        {"type": "ineq", "fun": lambda z: -b @ z[:-1] - c * z[-1], "jac": lambda z: -np.column_stack([b, c])},
    ]
    found = minimize(lambda z: goal @ z, 0 * goal, jac=lambda z: goal, constraints=rules, method="SLSQP", tol=1e-10)
    assert found.success
    return found.x[:-1], found.x[-1]


# Of what one step can repair: all of the region is feasible, some of it with the limit kept or broken, none of it.
@pytest.mark.parametrize("share", [-2, -0.9, -0.3, 0.0, 0.3, 0.9, 2])
@pytest.mark.parametrize("seed", range(8))
def test_one_constraint_equals_the_solver_in_all_four_cases(seed, share):
    hessian, g, b = problem(seed)
    c = share * reach(hessian, b)
    ours, case = step(hessian, g, b, c)
    best = lowest(hessian, b[0]) if share > 1 else solver(hessian, g, b, c)
    np.testing.assert_allclose(ours, best, atol=2e-5)
    assert (case == "recovery") == (share > 1)
    assert case != "constrained" or share > -1
    general, same = step(hessian, g, b, c, several_constraints)
    np.testing.assert_allclose(general, ours, atol=1e-6)
    assert same == case


SHARES = [(-2, -2), (-0.5, -0.5), (0.4, -0.6), (0.5, 0.3), (0.0, 0.1), (-2, 0.3), (2, 2), (2, -0.5), (1.5, 0.3)]


@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("seed", range(6))
def test_two_constraints_equal_the_solver(seed, shares):
    hessian, g, b = problem(seed, m=2)
    c = np.array(shares) * reach(hessian, b)
    ours, case = step(hessian, g, b, c)
    if max(shares) > 0:
        repair, share = recovery(hessian, b, c)
        assert (case == "recovery") == (share < 1)  # both together can't be met
        if case == "recovery":
            np.testing.assert_allclose(ours, repair, atol=2e-5)
            return
    assert case != "recovery"
    assert (b @ ours + c).max() < 1e-9
    np.testing.assert_allclose(ours, solver(hessian, g, b, c), atol=2e-5)


def test_far_from_the_limit_it_is_the_plain_trust_region_step():
    hessian, g, b = problem(0)
    ours, case = step(hessian, g, b, -5 * reach(hessian, b))
    assert case == "gradient"
    x = np.linalg.solve(hessian, g)
    np.testing.assert_allclose(ours, np.sqrt(2 * RADIUS / (g @ x)) * x)


@pytest.mark.parametrize("solve", [step_coefficients, several_constraints])
def test_out_of_reach_it_recovers_along_the_constraint_alone(solve):
    hessian, g, b = problem(0)
    ours, case = step(hessian, g, b, 3 * reach(hessian, b), solve)
    assert case == "recovery"
    assert b[0] @ ours == pytest.approx(-reach(hessian, b)[0])  # no step inside the region lowers it more
    assert ours @ hessian @ ours / 2 == pytest.approx(RADIUS)


def test_two_constraints_out_of_reach_go_towards_both():
    hessian, g, b = problem(1, m=2)
    c = 4 * reach(hessian, b)
    ours, case = step(hessian, g, b, c)
    assert case == "recovery"
    assert ours @ hessian @ ours / 2 == pytest.approx(RADIUS)
    nearest = minimize(
        lambda d: d @ hessian @ d / 2,
        np.zeros(5),
        jac=lambda d: hessian @ d,
        constraints=[{"type": "ineq", "fun": lambda d: -c - b @ d, "jac": lambda d: -b}],
        method="SLSQP",
        options={"ftol": 1e-15},
    ).x
    direction = nearest / np.sqrt(nearest @ hessian @ nearest)
    np.testing.assert_allclose(ours / np.sqrt(ours @ hessian @ ours), direction, atol=1e-4)


def test_a_constraint_without_gradient_is_left_out():
    hessian, g, b = problem(0)
    ours, case = step(hessian, g, 1e-8 * b, [-0.1])
    assert case == "gradient"
    assert ours @ hessian @ ours / 2 == pytest.approx(RADIUS)
    both, _ = step(hessian, g, np.concatenate([b, 1e-8 * b]), [0.3 * reach(hessian, b)[0], 0.5])
    alone, _ = step(hessian, g, b, 0.3 * reach(hessian, b))
    np.testing.assert_allclose(both, alone, atol=1e-8)


@pytest.mark.parametrize("solve", [step_coefficients, several_constraints])
def test_without_a_reward_gradient_it_repairs_and_else_stays(solve):
    hessian, g, b = problem(0)
    np.testing.assert_allclose(step(hessian, 0 * g, b, -0.5 * reach(hessian, b), solve)[0], 0, atol=1e-9)
    ours, _ = step(hessian, 0 * g, b, 0.5 * reach(hessian, b), solve)
    assert b[0] @ ours == pytest.approx(-0.5 * reach(hessian, b)[0])


@pytest.mark.parametrize("sign", [1, -1])
def test_parallel_gradients_of_reward_and_cost(sign):  # A = q - r^2 / s = 0
    hessian, g, _ = problem(2)
    b = sign * g[None]
    for share in (-0.4, 0.4):
        c = share * reach(hessian, b)
        ours, _ = step(hessian, g, b, c)
        assert b[0] @ ours + c[0] <= 1e-5  # the multiplier is near 0, and what is divided by it a rounding error
        expected = -c[0] if sign == 1 else reach(hessian, b)[0]  # as far as the limit, or as the region goes
        assert g @ ours == pytest.approx(expected, rel=1e-4)


def test_conjugate_gradients_solve_several_right_hand_sides():
    hessian, g, b = problem(3, m=2)
    rows = torch.tensor(np.concatenate([g[None], b, 0 * b[:1]]))
    matrix = torch.tensor(hessian)
    found = conjugate_gradients(lambda v: v @ matrix, rows, 20)
    np.testing.assert_allclose(found, np.linalg.solve(hessian, rows.numpy().T).T, atol=1e-8)
