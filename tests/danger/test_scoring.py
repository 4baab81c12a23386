"""Scores of rules: against numerical integration, and a slow plain count."""

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad
from scipy.special import comb

from saferl.danger.scoring import (
    Priors,
    Warnings,
    added_scores,
    declared_priors,
    log_evidence,
    rule_cost,
    rules_evidence,
)

PRIORS = Priors(danger=(4.0, 2.0), other=(1.0, 3.0))


def example(seed=0, steps=60, size=6, episodes=7):
    generator = np.random.default_rng(seed)
    columns = generator.random((steps, size)) < 0.4
    episode = np.sort(np.concatenate([np.arange(episodes), generator.integers(episodes, size=steps - episodes)]))
    return columns, generator.random(steps) < 0.3, episode, generator


@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (3, 0, 1, 20), (5, 4, 7, 9)])
def test_the_evidence_is_the_integral_over_both_rates(counts):
    n11, n10, n01, n00 = counts

    def integral(yes, no, prior):
        return quad(lambda rate: rate**yes * (1 - rate) ** no * stats.beta(*prior).pdf(rate), 0, 1)[0]

    expected = np.log(integral(n11, n10, PRIORS.danger)) + np.log(integral(n01, n00, PRIORS.other))
    assert float(log_evidence(*counts, PRIORS)) == pytest.approx(expected, abs=1e-9)


def test_the_evidence_of_all_possible_warnings_sums_to_one():
    total = sum(  # 5 steps called dangerous, 4 others
        comb(5, a) * comb(4, b) * np.exp(log_evidence(a, 5 - a, b, 4 - b, PRIORS)) for a in range(6) for b in range(5)
    )
    assert total == pytest.approx(1)


def test_rules_that_say_what_is_safe_explain_nothing():
    assert rules_evidence(1, 9, 5, 5, PRIORS) == -np.inf
    assert rules_evidence(5, 5, 1, 9, PRIORS) == log_evidence(5, 5, 1, 9, PRIORS)
    assert rules_evidence(0, 0, 5, 5, PRIORS) == log_evidence(0, 0, 5, 5, PRIORS)  # no rule at all


def plain_score(columns, warned, episode, matched, per_episode):
    """Counts by loops."""
    called, told = list(matched), list(warned)
    if per_episode:
        called = [any(matched[episode == number]) for number in range(len(warned))]
    n = {(c, w): 0 for c in (False, True) for w in (False, True)}
    for c, w in zip(called, told):
        n[bool(c), bool(w)] += 1
    inside, outside = ((n[c, True], n[c, True] + n[c, False]) for c in (True, False))
    if inside[1] and outside[1] and inside[0] / inside[1] < outside[0] / outside[1]:
        return -np.inf
    return float(log_evidence(n[True, True], n[True, False], n[False, True], n[False, False], PRIORS))


@pytest.mark.parametrize("per_episode", [False, True])
@pytest.mark.parametrize("third", [False, True])
def test_all_pairs_score_as_each_by_itself(per_episode, third):
    columns, warned, episode, generator = example()
    if per_episode:
        warned = generator.random(episode.max() + 1) < 0.5
    warnings = Warnings(columns, warned, episode, per_episode)
    taken = generator.random(len(columns)) < 0.1
    also = columns[:, 2] if third else np.ones(len(columns), bool)
    scores = added_scores(warnings, taken, PRIORS, also if third else None)
    for i in range(columns.shape[1]):
        for j in range(columns.shape[1]):
            matched = taken | (columns[:, i] & columns[:, j] & also)
            assert scores[i, j] == pytest.approx(plain_score(columns, warned, episode, matched, per_episode))


def test_declared_rates_are_the_means_of_their_priors():
    priors = declared_priors(p=0.2, q=0.4)
    assert stats.beta(*priors.danger).mean() == pytest.approx(0.6, abs=0.003)
    assert stats.beta(*priors.other).mean() == pytest.approx(0.2, abs=0.007)


@pytest.mark.parametrize(("p", "q"), [(0.5, 0.5), (1.2, 0.0), (0.0, -0.1), (float("nan"), 0.0)])
def test_rates_that_can_not_be_are_refused(p, q):
    with pytest.raises(ValueError, match="declared rates need 0 <= p < 1 - q <= 1"):
        declared_priors(p, q)


def test_the_cost_of_a_rule_follows_the_design():  # log(V) + 1, then 2 log(V)
    assert [rule_cost(each, 40) for each in (1, 2, 3)] == pytest.approx(np.log(40) * np.array([1, 2, 3]) + [1, 0, 0])
