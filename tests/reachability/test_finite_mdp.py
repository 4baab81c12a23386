"""Finite processes against chains by hand and a plain dictionary implementation."""

import numpy as np
import pytest

from saferl.reachability.finite_mdp import solve


def test_chain_by_hand():
    # 0 -> 1 -> 2, which ends in a violation of 1: V1 = g max(0, V2), V0 = g max(0, V1), h = 0 on the way.
    value = solve([[[1]], [[2]], [[2]]], constraint=[0, 0, 1], terminal=[0, 0, 1], discount=0.9)
    np.testing.assert_allclose(value.values, [0.81, 0.9, 1.0], atol=1e-9)
    assert value.bound <= 1e-9


def test_discount_mixes_in_the_present_margin():
    # h = -1 now, 1 next: V0 = 0.1 (-1) + 0.9 max(-1, 1) = 0.8.
    value = solve([[[1]], [[1]]], constraint=[-1, 1], terminal=[0, 1], discount=0.9)
    assert value.values[0] == pytest.approx(0.8)


def test_action_that_stays_safe_is_found():
    # From 0, action 0 falls, action 1 stays.
    value = solve([[[1], [0]], [[1], [1]]], constraint=[-1, 1], discount=1.0)
    np.testing.assert_allclose(value.values, [-1, 1])
    assert value.policy[0] == 1


def test_adversary_and_chance_differ():
    successors = [[[1, 2]], [[1, -1]], [[2, -1]]]
    worst = solve(successors, constraint=[-1, -1, 1], discount=1.0)
    drawn = solve(
        successors, constraint=[-1, -1, 1], discount=1.0, max_sweeps=1, sweep="jacobi",
        probabilities=[[[0.75, 0.25]], [[1, 0]], [[1, 0]]],
    )  # fmt: skip
    assert worst.values[0] == 1
    assert drawn.values[0] == pytest.approx(-0.5)


def test_reach_avoid_goes_around():
    # A ring of six with the target at 3 and a hole at 1: from 0 the way is backwards, over 5 and 4.
    successors = [[[(s + 1) % 6], [(s - 1) % 6]] for s in range(6)]
    hole, goal = [-1, 1, -1, -1, -1, -1], [1, 1, 1, -1, 1, 1]
    value = solve(successors, constraint=hole, target=goal, discount=1.0)
    assert (value.values <= 0).tolist() == [True, False, True, True, True, True]
    assert value.policy[0] == 1
    only = solve(successors, target=goal, discount=1.0)
    assert (only.values <= 0).all()


@pytest.mark.parametrize("sweep", ["jacobi", "gauss_seidel"])
@pytest.mark.parametrize("avoiding", [False, True])
def test_policy_gets_there_whatever_the_adversary_does(sweep, avoiding):
    # At discount 1 all states that can reach the target are worth the same: least value ahead alone goes in circles.
    generator = np.random.default_rng(1)
    for _ in range(100):
        successors = generator.integers(0, 12, (12, 3, 2))
        target = np.where(generator.random(12) < 0.2, -1.0, 1.0)
        hole = np.where((generator.random(12) < 0.2) & (target > 0), 1.0, -1.0) if avoiding else None
        value = solve(successors, target=target, constraint=hole, discount=1.0, sweep=sweep)
        outside = {s for s in range(12) if target[s] > 0}
        while True:  # the states where the adversary can stay out of the target, or enter a hole, for ever
            ahead = successors[np.arange(12), value.policy]  # (12, 2)
            kept = {s for s in outside if any(then in outside for then in ahead[s].tolist())}
            if hole is not None:
                kept |= {s for s in outside if hole[s] > 0}
            if kept == outside:
                break
            outside = kept
        assert {s for s in range(12) if value.values[s] > 0} == outside


def dictionary(successors, shares, h, l, ends, g, sweeps):  # noqa: E741
    """The operators in plain Python."""
    start = {s: h[s] if l is None else (l[s] if h is None else max(h[s], l[s])) for s in range(len(successors))}
    values = dict(start)
    for _ in range(sweeps):
        now = dict(values)
        for s, actions in enumerate(successors):
            if ends[s]:
                continue
            ahead = []
            for a, following in enumerate(actions):
                known = [(k, then) for k, then in enumerate(following) if then >= 0]
                if shares is None:
                    ahead.append(max(now[then] for _, then in known))
                else:
                    ahead.append(sum(shares[s][a][k] * now[then] for k, then in known))
            best = min(ahead)
            if l is None:
                values[s] = (1 - g) * h[s] + g * max(h[s], best)
            elif h is None:
                values[s] = (1 - g) * l[s] + g * min(l[s], best)
            else:
                values[s] = (1 - g) * start[s] + g * max(h[s], min(l[s], best))
    return np.array([values[s] for s in range(len(successors))])


@pytest.mark.parametrize("problem", ["avoid", "reach", "reach-avoid"])
@pytest.mark.parametrize("chance", [False, True])
@pytest.mark.parametrize("sweep", ["jacobi", "gauss_seidel"])
def test_random_processes_equal_the_dictionary(problem, chance, sweep):
    generator = np.random.default_rng(3)
    successors = generator.integers(0, 30, (30, 3, 4))
    successors[generator.random(successors.shape) < 0.3] = -1
    successors[..., 0] = np.maximum(successors[..., 0], 0)
    shares = np.where(successors >= 0, generator.random(successors.shape), 0.0)
    shares /= shares.sum(axis=2, keepdims=True)
    h = None if problem == "reach" else generator.normal(size=30)
    l = None if problem == "avoid" else generator.normal(size=30)  # noqa: E741
    ends = generator.random(30) < 0.2
    value = solve(
        successors, constraint=h, target=l, terminal=ends, discount=0.9, probabilities=shares if chance else None,
        sweep=sweep, tolerance=1e-10,
    )  # fmt: skip
    expected = dictionary(successors.tolist(), shares.tolist() if chance else None, h, l, ends, 0.9, 400)
    np.testing.assert_allclose(value.values, expected, atol=1e-9)
    assert value.converged


def test_bound_is_certain():
    generator = np.random.default_rng(0)
    successors, h = generator.integers(0, 50, (50, 2, 2)), generator.normal(size=50)
    exact = solve(successors, constraint=h, discount=0.95, tolerance=1e-12)
    for sweep in ("jacobi", "gauss_seidel"):
        early = solve(successors, constraint=h, discount=0.95, sweep=sweep, max_sweeps=3)
        assert np.abs(early.values - exact.values).max() <= early.bound + 1e-12


def test_undiscounted_jacobi_sweeps_are_steps():
    chain = [[[min(s + 1, 9)]] for s in range(10)]
    h = [-1] * 9 + [1]
    value = solve(chain, constraint=h, discount=1.0, sweep="jacobi", max_sweeps=4)
    assert (value.values > 0).tolist() == [False] * 5 + [True] * 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(successors=[[0]]), r"must have shape \(S, A, K\)"),
        (dict(successors=[[[5]], [[0]]]), "states 0 to 1, or -1 for none; got 5"),
        (dict(successors=[[[-2]], [[0]]]), "or -1 for none; got -2"),
        (dict(tolerance=0.0), "tolerance must be positive; got 0.0"),
        (dict(probabilities=[[[1.0]], [[np.nan]]]), "probabilities of state 1"),
        (dict(probabilities=[[[1.0]], [[-1.0]]]), "probabilities of state 1"),
        (dict(successors=[[[-1]], [[0]]]), "state 0 has an action without successor"),
        (dict(constraint=[1.0]), r"constraint must be 2 finite numbers; got shape \(1,\)"),
        (dict(constraint=[1.0, np.nan]), "2 finite numbers"),
        (dict(constraint=None), "give constraint"),
        (dict(probabilities=[[[0.5]], [[1]]]), "probabilities of state 0"),
        (dict(terminal=[True]), r"terminal must have shape \(2,\)"),
        (dict(discount=2), r"\[0, 1\]; got 2"),
        (dict(sweep="sor"), "got 'sor'"),
    ],
)
def test_tables_that_do_not_fit_are_refused(changes, message):
    settings = dict(successors=[[[1]], [[0]]], constraint=[0.0, 1.0], discount=0.9) | changes
    with pytest.raises(ValueError, match=message):
        solve(settings.pop("successors"), **settings)
