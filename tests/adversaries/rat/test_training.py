"""RAT's training: what lies in its data, and that it reaches the best attack of a victim where that is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from saferl.adversaries.ascent import Autograd, Evolution
from saferl.adversaries.attacks import AttackedPolicy
from saferl.adversaries.behaviour import Behaviour
from saferl.adversaries.learned import features
from saferl.adversaries.rat import training
from saferl.adversaries.rat.adversary import PerturberAttack
from saferl.adversaries.rat.config import RATConfig
from saferl.adversaries.rat.intention import Intention
from saferl.adversaries.rat.novelty import novelty
from saferl.adversaries.rat.training import RAT, Combined, Place, load_rat
from saferl.adversaries.targets import TARGETS
from saferl.adversaries.threat import Normaliser, Threat, Units
from saferl.adversaries.victim import Victim
from saferl.evaluation.rollout import rollout
from saferl.policy import CallablePolicy
from tests.adversaries.shown import SHOWN
from tests.adversaries.victims import linear_victim

WEIGHTS = np.array([[1.0, -0.5]], np.float32)
UP = Behaviour(lambda episode: bool(episode.actions[0, 0] > 0), lambda steps: (steps.actions[:, 0] + 5) / 10)
QUICK = {
    "steps": 1_000, "envs": 8, "random_steps": 200, "explore_steps": 200, "batch": 64, "width": 32, "labels": 200,
    "segment": 1, "query_every": 200, "questions": 100, "inner_every": 8, "outer_every": 80, "discount": 0.0,
    "adversary_lr": 3e-3, "lr": 3e-3,
}  # fmt: skip


def shown_place(behaviour=UP):
    plain = linear_victim(WEIGHTS, limit=5)
    victim = Victim(plain.policy, 2, [-5.0], [5.0], "shown", respond=plain._respond)
    ball = Threat(Units(Normaliser(np.zeros(2, np.float32), np.ones(2, np.float32), "units")), 0.4)
    return Place(SHOWN, {}, victim, ball, Autograd(victim, ball), behaviour)


@pytest.mark.parametrize("intention", [True, False])
def test_it_learns_the_best_perturbation_from_preferences_alone(intention, tmp_path):
    """The victim's action a = s_0 - s_1 / 2 is to be as large as possible: 0.4 |w|_1 more is the most there is."""
    place, config = shown_place(), RATConfig(**{**QUICK, "intention": intention, "update_every": 4 if intention else 2})
    rat, shares = RAT(place, config, seed=0), []
    rat.train(shares.append)
    assert shares == sorted(shares)
    path = tmp_path / f"rat{'.safetensors' if intention else '.zip'}"
    rat.save(path)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    seeds = np.arange(10_000, 10_200)
    clean = rollout(place.victim.policy, SHOWN, seeds)
    attacked = rollout(AttackedPolicy(place.victim, place.threat, load_rat(path, place.threat, config)), SHOWN, seeds)
    best = 0.4 * np.abs(WEIGHTS).sum()
    least = 0.85 if intention else 0.5  # SAC has to find the perturbation itself
    assert least * best < (attacked.returns - clean.returns).mean() <= best * 1.001
    assert rat.accuracy[-1] > 0.9


def test_a_training_without_a_question_is_no_training():
    config = RATConfig(**{**QUICK, "steps": 480, "segment": 25})  # episodes have one step
    with pytest.raises(ValueError, match=r"from step 400 on no episode had rat.segment=25 steps"):
        RAT(shown_place(), config, seed=0).train()


@pytest.mark.parametrize(
    ("random_steps", "explore_steps", "times"),
    [(48, 40, [48]), (45, 40, [48]), (392, 200, [504]), (400, 800, [504, 1000]), (1000, 1000, [1000, 1504])],
)
def test_exploration_is_rewarded_for_novelty_however_short_it_is(random_steps, explore_steps, times, monkeypatch):
    """At the first step behind each multiple of 500, or where there is none at its own first; then nothing new."""
    told = []

    def note(states, *others):
        told.append(len(states) - 8)  # steps of all environments before these
        return novelty(states, *others)

    def stop(self):
        raise InterruptedError

    monkeypatch.setattr(RAT, "_ask", stop)
    monkeypatch.setattr(training, "novelty", note)
    monkeypatch.setattr(Intention, "update", lambda self, count: None)
    settings = {"steps": 2_048, "random_steps": random_steps, "explore_steps": explore_steps}
    rat = RAT(shown_place(), RATConfig(**{**QUICK, **settings}), seed=0)
    with pytest.raises(InterruptedError):
        rat.train()
    assert told == times
    buffer, count = rat.intention.buffer, times[-1] // 8 + 1
    assert buffer.filled > count
    states = torch.as_tensor(buffer.observations[:count].reshape(-1, 2))
    expected = novelty(states, 5, torch.Generator())  # too few states for a draw
    assert float(expected.std()) > 0.9
    np.testing.assert_allclose(buffer.rewards[:count].ravel(), expected, atol=1e-5)
    assert not buffer.rewards[count : buffer.filled].any()


def test_the_intention_by_itself_acts_in_the_environments_box():
    place = shown_place()
    victim = Victim(place.victim.policy, 2, [-1.0], [4.0], "shown")
    rat = RAT(replace(place, victim=victim), RATConfig(**QUICK), seed=0)
    rows = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    unit = rat.intention.act(rows)
    assert np.ptp(unit) > 0.01
    np.testing.assert_allclose(rat.imitated().act(rows), -1 + 5 * (unit + 1) / 2, rtol=1e-5)


def drive(rows):
    return np.stack([np.sin(3 * rows[:, 0]), 0.3 * np.cos(2 * rows[:, 1])], axis=1)


@pytest.fixture(scope="module")
def driven():
    """A short training on PointRobot whose victim's actions can be told from the intention's."""
    one = np.ones(2, np.float32)
    victim = Victim(CallablePolicy(drive), 11, -one, one, "driver")
    ball = Threat(Units(Normaliser(np.zeros(11, np.float32), np.full(11, 0.5, np.float32), "half metres")), 0.1)
    kwargs = {"start": "feasible", "max_episode_steps": 40}
    place = Place("point_robot", kwargs, victim, ball, Evolution(victim, ball, 2), TARGETS["stays"])
    config = RATConfig(
        steps=800, envs=4, random_steps=100, explore_steps=100, batch=16, width=8, labels=20, questions=20, segment=5,
        epochs=2, inner_every=100, inner_updates=2, outer_every=200, update_every=50,
    )  # fmt: skip
    rat = RAT(place, config, seed=3)
    rat.train()
    return place, rat


def test_observations_in_the_data_are_true_ones_before_and_behind_each_step(driven):
    """The published code of the robust form adds the perturbation to one of the two."""
    place, rat = driven
    buffer = rat.intention.buffer
    ended = buffer.dones[:-1].astype(bool)
    np.testing.assert_array_equal(buffer.next_observations[:-1][~ended], buffer.observations[1:][~ended])
    true = np.stack(rat._states)
    np.testing.assert_allclose(buffer.observations, features(place.threat, true.reshape(-1, 11)).reshape(true.shape))
    after, moved = true[1:][~ended], true[:-1][~ended]  # PointRobot: x += dt v cos(theta), v += dt a
    np.testing.assert_allclose(after[:, 0], moved[:, 0] + 0.05 * moved[:, 2] * moved[:, 3], atol=1e-4)
    np.testing.assert_allclose(after[:, 2] - moved[:, 2], 0.05 * buffer.carried[:-1][~ended][:, 0], atol=1e-4)


def test_both_the_attacked_victim_and_the_intention_act_and_the_learner_knows_who_did_what(driven):
    """The victim is attacked: what it did is its answer to something within eps, and not always that to the truth."""
    rat = driven[1]
    start = 200 // 4
    states, carried = np.stack(rat._states)[start:], rat.intention.buffer.carried[start:]
    np.testing.assert_array_equal(rat.intention.buffer.actions[start:], carried)
    corners = np.stack([drive((states + shift).reshape(-1, 11)) for shift in np.linspace(-0.05, 0.05, 21)])
    low, high = corners.min(0) - 2e-3, corners.max(0) + 2e-3
    within = ((carried.reshape(-1, 2) >= low) & (carried.reshape(-1, 2) <= high)).all(1)
    assert 0.2 < within.mean() < 0.95


def test_an_episode_changes_hands_at_a_time_that_is_uniform_over_the_horizon():
    combined = Combined(64, 25, np.random.default_rng(0))
    held = np.zeros(25)
    for _ in range(30):
        for age in range(25):
            held[age] += combined.by_victim().mean() / 30  # the victim still acts at this age
            combined.step(np.full(64, age == 24))
    np.testing.assert_allclose(held, 1 - np.arange(25) / 25, atol=0.05)


class Watching:
    """A linear policy that remembers, of each row, how many steps of its episode it saw and was told of."""

    def __init__(self, policy):
        self._policy, self.seen, self.told, self.ended = policy, np.zeros(8, int), np.zeros(8, int), 0

    def act(self, observations):
        if len(observations) == 8:
            self.seen = self.told + 1
        return self._policy.act(observations)

    def observe(self, rewards, costs):
        assert (self.seen == self.told + 1).all()  # each step of each row, whoever acts
        self.told = self.told + 1

    def reset(self, mask=None, seed=None):
        if mask is not None and len(mask) == 8:
            self.ended += int(mask.sum())
            self.told = np.where(mask, 0, self.told)


def test_a_victim_with_a_memory_watches_every_step_and_is_asked_at_the_moment(monkeypatch):
    """One-step episodes; the best perturbation is found as against a victim without a memory."""
    place, asked = shown_place(), []
    watching = Watching(place.victim.policy)
    victim = Victim(watching, 2, [-5.0], [5.0], "watching", respond=place.victim._respond)
    assert victim.remembers
    monkeypatch.setattr(training.Bilevel, "inner_step", _noted(training.Bilevel.inner_step, asked))
    config = RATConfig(**{**QUICK, "update_every": 4})
    rat = RAT(replace(place, victim=victim), config, seed=0)
    rat.train()
    assert watching.ended == 1_000  # all steps end an episode
    assert set(asked) == {8}  # rows of the moment, not 64 that were drawn
    seeds = np.arange(10_000, 10_200)
    clean = rollout(place.victim.policy, SHOWN, seeds)
    attacked = rollout(AttackedPolicy(place.victim, place.threat, PerturberAttack(rat.perturber)), SHOWN, seeds)
    best = 0.4 * np.abs(WEIGHTS).sum()
    assert 0.85 * best < (attacked.returns - clean.returns).mean() <= best * 1.001


def _noted(inner_step, asked):
    def noted(self, situation):
        asked.append(len(situation.observations))
        return inner_step(self, situation)

    return noted


def test_settings_out_of_range_are_told():
    with pytest.raises(ValueError, match=r"rat\.steps must be > rat\.random_steps \+ rat\.explore_steps = 10000"):
        RATConfig(steps=10_000)
    with pytest.raises(ValueError, match=r"rat\.members must be >= 2"):
        RATConfig(members=1)
