"""Learned adversaries: the direction of their step, the process they learn in, and that they learn."""

import numpy as np
import pytest
import torch

import saferl.envs
from saferl.adversaries.ascent import Autograd
from saferl.adversaries.attacks import AttackedPolicy, RandomAttack
from saferl.adversaries.learned import (
    AdversaryEnvs,
    Direction,
    LearnedConfig,
    Shift,
    load_adversary,
    towards,
    train_adversary,
)
from saferl.adversaries.objectives import Situation
from saferl.adversaries.threat import Normaliser, Threat, Units
from saferl.adversaries.victim import Victim
from saferl.evaluation.rollout import rollout
from saferl.policy import CallablePolicy
from tests.adversaries.shown import SHOWN
from tests.adversaries.victims import corners, linear_victim, normaliser, observations, threat

ONE = np.ones(2, np.float32)
DRIVER = CallablePolicy(lambda obs: np.stack([np.sin(3 * obs[:, 0]), 0.3 * np.cos(2 * obs[:, 1])], axis=1))
BALL = Threat(Units(Normaliser(np.zeros(11, np.float32), np.ones(11, np.float32), "metres")), 0.2)
POINT = {"start": "feasible"}


def test_with_one_action_pa_ad_moves_it_fully_the_way_its_director_says():
    """Up the objective: the published step goes down it, and would make the move small."""
    weights = np.array([[0.9, -1.4, 0.7, 1.1]])
    victim, ball, true = linear_victim(weights, limit=50), threat(4, 0.2), observations(40, 4)
    turn = Direction(victim, ball, Autograd(victim, ball))
    turn.reset(0)
    directions = np.where(np.arange(40) % 2, 0.7, -0.01).astype(np.float32)[:, None]
    seen = ball.seen(true, turn.perturbations(true, directions))
    moved = victim.policy.act(seen) - victim.policy.act(true)
    best = 0.2 * np.abs(weights[0] * normaliser(4).scale).sum()
    np.testing.assert_allclose(moved, np.sign(directions) * best, rtol=1e-3)


def test_with_several_actions_it_turns_towards_the_direction_and_lengthens_the_move():
    weights = np.random.default_rng(2).normal(size=(2, 8))
    victim, ball, true = linear_victim(weights, limit=1), threat(8, 0.2), observations(300, 8)
    directions = np.random.default_rng(3).normal(size=(300, 2)).astype(np.float32)
    turn = Direction(victim, ball, Autograd(victim, ball))
    turn.reset(0)
    deltas = turn.perturbations(true, directions)
    np.testing.assert_allclose(np.abs(deltas), 0.2, rtol=1e-5)  # it always saturates
    moved = victim.policy.act(ball.seen(true, deltas)) - victim.policy.act(true)
    cosine = (moved * directions).sum(1) / np.linalg.norm(moved, axis=1) / np.linalg.norm(directions, axis=1)
    assert cosine.mean() > 0.5
    anywhere = np.linalg.norm(corners(8, 0.2) * normaliser(8).scale @ weights.T, axis=1)
    assert np.linalg.norm(moved, axis=1).mean() > 1.3 * anywhere.mean()  # of any corner, 2 / pi is the mean |cosine|
    backwards = victim.policy.act(ball.seen(true, -deltas)) - victim.policy.act(true)
    assert ((moved - backwards) * directions).sum(1).mean() > 0


def test_its_objective_is_cosine_plus_length():
    victim = linear_victim(np.eye(2), limit=1)
    true = torch.zeros(3, 2)
    seen = torch.tensor([[3.0, 4.0], [0.0, 2.0], [-1.0, 0.0]])
    situation = Situation(true, victim.response(true))
    values = towards(torch.tensor([[1.0, 0.0]] * 3))(situation, seen, victim.response(seen))
    torch.testing.assert_close(values, torch.tensor([0.6 + 5, 0 + 2, -1 + 1.0]))


def plain_episode(seed, adversary):
    """One episode of DRIVER in the plainest loop, under an adversary: (observation) -> perturbation."""
    env = saferl.envs.make("point_robot", **POINT)
    observation, _ = env.reset(seed=seed)
    rows, rewards, costs, ended = [observation], [], [], False
    while not ended:
        action = np.clip(DRIVER.act((observation + adversary(observation))[None])[0], -1, 1)
        observation, reward, terminated, truncated, info = env.step(action)
        rows, rewards, costs = [*rows, observation], [*rewards, reward], [*costs, info["cost"]]
        ended = terminated or truncated
    return np.array(rows), np.array(rewards), np.array(costs), terminated


@pytest.mark.parametrize("goal", ["reward", "cost"])
def test_the_process_is_the_victims_episode_under_the_perturbation(goal):
    victim = Victim(DRIVER, 11, -ONE, ONE, "driver")
    envs = AdversaryEnvs("point_robot", POINT, victim, BALL, Shift(BALL), goal, count=2, seed=40)
    action = np.linspace(-1.5, 1.5, 11).astype(np.float32)  # beyond the box: it is clipped
    expected = [plain_episode(seed, lambda _: 0.2 * np.clip(action, -1, 1)) for seed in (40, 41)]
    observed = envs.reset()
    ends = 0
    for step in range(min(len(each[1]) for each in expected)):
        for row, (rows, *_) in enumerate(expected):
            np.testing.assert_allclose(observed[row], np.clip(rows[step], -10, 10), atol=1e-5)
        observed, gains, done, infos = envs.step(np.stack([action, action]))
        for row, (rows, rewards, costs, terminated) in enumerate(expected):
            gain = costs[step] if goal == "cost" else -rewards[step]
            assert gains[row] == pytest.approx(gain, abs=1e-6)
            assert done[row] == (step == len(rewards) - 1)
            if done[row]:
                ends += 1
                np.testing.assert_allclose(infos[row]["terminal_observation"], rows[-1], atol=1e-5)
                assert infos[row]["TimeLimit.truncated"] == (not terminated)
                first, _ = saferl.envs.make("point_robot", **POINT).reset(seed=42 + row)
                np.testing.assert_allclose(observed[row], first, atol=1e-5)  # the next seed's start
    assert ends >= 1
    envs.close()


WEIGHTS = np.array([[1.0, -0.5]], np.float32)
QUICK = LearnedConfig(steps=3_000, envs=8, rollout=32, batch=64, epochs=10, lr=3e-3, width=16, discount=0.0)


@pytest.mark.parametrize(("kind", "goal"), [("shift", "reward"), ("direction", "reward"), ("direction", "cost")])
def test_an_adversary_learns_what_is_best(kind, goal, tmp_path):
    """a = s_0 - s_1 / 2: least reward by moving a down by eps |w|_1, most cost by moving it away from 0."""
    plain = linear_victim(WEIGHTS, limit=5)
    victim = Victim(plain.policy, 2, [-5.0], [5.0], "shown", respond=plain._respond)
    ball = Threat(Units(Normaliser(np.zeros(2, np.float32), np.ones(2, np.float32), "units")), 0.4)
    turn = Shift(ball) if kind == "shift" else Direction(victim, ball, Autograd(victim, ball))
    envs = AdversaryEnvs(SHOWN, {}, victim, ball, turn, goal, count=8, seed=0)
    shares = []
    train_adversary(envs, QUICK, tmp_path / "adversary.zip", seed=0, report=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["adversary.zip"]
    attack = load_adversary(tmp_path / "adversary.zip", ball, turn)
    seeds = np.arange(10_000, 10_200)
    clean = rollout(victim.policy, SHOWN, seeds)
    attacked = rollout(AttackedPolicy(victim, ball, attack), SHOWN, seeds)
    noise = rollout(AttackedPolicy(victim, ball, RandomAttack(ball)), SHOWN, seeds)
    move = 0.4 * np.abs(WEIGHTS).sum()
    if goal == "reward":
        gain, best = (clean.returns - attacked.returns).mean(), move
        by_noise = (clean.returns - noise.returns).mean()
    else:
        gain = (attacked.costs - clean.costs).mean()
        best = ((np.abs(clean.returns) + move) ** 2 - clean.costs).mean()
        by_noise = (noise.costs - clean.costs).mean()
    assert by_noise < 0.2 * best
    assert 0.85 * best < gain <= best * 1.001
