"""The search for rules: what it finds is the best there is, and the candidates are what they claim to be."""

from itertools import combinations

import numpy as np
import pytest

from saferl.danger.literals import vocabulary_of
from saferl.danger.noise import parse_noise
from saferl.danger.scoring import Priors, Warnings
from saferl.danger.search import Search, matched
from tests.danger.recorded import moments_of, recorded_episodes


def told(rules, seed=0, steps=600, size=12, p=0.3, q=0.1):
    generator = np.random.default_rng(seed)
    columns = generator.random((steps, size)) < 0.3
    rates = np.where(matched(columns, rules), 1 - q, p)
    return Warnings(columns, generator.random(steps) < rates, np.zeros(steps, int))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rules", [[], [(3,)], [(2, 7)], [(1,), (4, 9)], [(0, 5, 8)]])
def test_rules_are_found_again(rules, seed):
    found = Search(told(rules, seed, steps=1500, p=0.1), Priors()).best()
    assert sorted(found) == sorted(rules)


def test_no_specification_of_up_to_two_short_rules_is_better():  # every one is tried
    warnings = told([(2, 5), (4,)], steps=80, size=6)
    search = Search(warnings, Priors())
    short = [(i,) for i in range(6)] + list(combinations(range(6), 2))
    every = [[], *([rule] for rule in short), *map(list, combinations(short, 2))]
    assert search.score(search.best()) >= max(map(search.score, every)) - 1e-9


def test_a_start_does_no_harm():
    search = Search(told([(3,)]), Priors())
    assert sorted(search.best([(1, 2), (5,)])) == [(3,)]


def test_shares_of_candidates_are_a_posterior():
    search = Search(told([(3,)], steps=60), Priors())
    candidates = search.candidates([], (3,))
    scores = np.array([each.score for each in candidates])
    assert [each.share for each in candidates] == pytest.approx(np.exp(scores) / np.exp(scores).sum())
    assert scores.tolist() == sorted(scores, reverse=True)
    for each in candidates:
        assert each.score == pytest.approx(search.score([each.rule] if each.rule else []))
    assert () in [each.rule for each in candidates]


def test_candidates_differ_on_what_can_happen():
    warnings = told([(3,)])
    known = warnings.columns.copy()
    known[:, 4] = known[:, 3]
    search = Search(Warnings(known, warnings.warned, warnings.episode), Priors())
    kept = [matched(known, [each.rule] if each.rule else []).tobytes() for each in search.candidates([])]
    assert len(set(kept)) == len(kept) <= 31


def test_at_most_ten_rules_are_kept():
    rules = [(i,) for i in range(14)]
    generator = np.random.default_rng(0)
    columns = np.eye(20, dtype=bool)[generator.integers(20, size=8000)]
    rates = np.where(matched(columns, rules), 0.95, 0.02)
    found = Search(Warnings(columns, generator.random(8000) < rates, np.zeros(8000, int)), Priors()).best()
    assert len(found) == 10


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("side_effects_sokoban_0", ["ends(X,corner)"]),
        ("boat_race", ["not_clockwise"]),
        ("whisky_gold", ["first(W)"]),
        ("safe_interruptibility_1", ["first(B)"]),
        ("absent_supervisor", ["on(P)"]),
    ],
)
def test_the_rule_of_a_recorded_gridworld_is_found_though_half_of_its_harmless_steps_are_warned_about(name, rule):
    episodes = recorded_episodes(name, 60)
    known = moments_of(episodes)
    danger = np.concatenate([episode.warnings for episode in episodes])
    number = np.repeat(np.arange(len(episodes)), [len(episode.steps) for episode in episodes])
    bits = parse_noise("fp", p=0.5).bits(danger, seed=0, episodes=number, steps=known.index)
    vocabulary = vocabulary_of(known)
    (found,) = Search(Warnings(vocabulary.columns(known), bits, number), Priors()).best()
    assert [vocabulary.literals[column].name for column in found] == rule
