"""Noise models: rates, independence, and the same bits for whoever asks."""

import hashlib

import numpy as np
import pytest
from scipy import stats

from saferl.danger.noise import KINDS, Noise, pair_words, parse_noise, splitmix64, uniforms

N = 40_000
STEPS = np.arange(N)


def bits(noise: Noise, danger: bool, seed: int = 0, episodes=0, steps=STEPS) -> np.ndarray:
    pairs = pair_words(STEPS[:, None], np.zeros((N, 1)))
    return noise.bits(np.full(N, danger), seed=seed, episodes=episodes, steps=steps, pairs=pairs)


def test_the_hash_is_splitmix64():
    # The first outputs of the generator for seed 1234567, as published with implementations in many languages.
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    states = [(1234567 + k * 0x9E3779B97F4A7C15) % 2**64 for k in range(5)]
    assert [splitmix64(state) for state in states] == published
    assert splitmix64(np.array(states, np.uint64)).tolist() == published


@pytest.mark.parametrize("kind", ["fp", "fn", "both", "episode", "persistent"])
def test_the_rates_are_those_of_the_table(kind):
    p, q = {"fp": (0.3, 0.0), "fn": (0.0, 0.2)}.get(kind, (0.3, 0.2))
    noise = Noise(kind, p, q)
    for danger, rate in ((True, 1 - q), (False, p)):
        count = int(bits(noise, danger).sum())
        if rate in (0, 1):
            assert count == rate * N
        else:
            interval = stats.binomtest(count, N).proportion_ci(0.999)
            assert interval.low < rate < interval.high
    assert noise.rates == (1 - q, p)


def test_clean_bits_are_the_true_ones():
    assert bits(Noise(), True).all()
    assert not bits(Noise(), False).any()


def test_the_extreme_rates_turn_every_bit():
    noise = Noise("both", 1.0, 1.0)
    assert bits(noise, False).all()
    assert not bits(noise, True).any()


def test_two_learners_who_do_different_things_see_the_same_noise():
    noise = Noise("both", 0.4, 0.3)
    rng = np.random.default_rng(1)
    episodes, steps, danger = rng.integers(0, 50, N), rng.integers(0, 100, N), rng.random(N) < 0.5
    whole = noise.bits(danger, seed=5, episodes=episodes, steps=steps)
    order = rng.permutation(N)  # another learner comes to the same places in another order, one at a time
    for i in order[:2000]:
        single = noise.bit(bool(danger[i]), seed=5, episode=int(episodes[i]), step=int(steps[i]))
        assert single == whole[i]


def test_the_bits_of_successive_steps_are_independent():
    noise = Noise("fp", 0.5)
    for shift, columns in (("steps", bits(noise, False)), ("episodes", bits(noise, False, episodes=STEPS, steps=3))):
        for lag in (1, 2, 7, 100):
            table = np.histogram2d(columns[:-lag], columns[lag:], 2)[0]
            assert stats.chi2_contingency(table, correction=False).pvalue > 1e-3, (shift, lag)
        ones = columns.reshape(-1, 10).sum(1)  # of ten in a row: binomial
        expected = stats.binom.pmf(np.arange(11), 10, 0.5) * len(ones)
        assert stats.chisquare(np.bincount(ones, minlength=11), expected).pvalue > 1e-3


def test_seeds_and_episodes_have_noise_of_their_own():
    noise = Noise("fp", 0.5)
    first = bits(noise, False)
    for other in (bits(noise, False, seed=1), bits(noise, False, episodes=1)):
        agreement = stats.binomtest(int((first == other).sum()), N).proportion_ci(0.999)
        assert agreement.low < 0.5 < agreement.high


def test_the_uniform_numbers_are_uniform():
    assert stats.kstest(uniforms(1, 0, 0, STEPS.astype(np.uint64)), "uniform").pvalue > 1e-3


def test_persistent_noise_repeats_for_a_pair_and_not_for_others():
    noise = Noise("persistent", 0.5, 0.0)
    observations, actions = np.tile([[1.0, 2.0]], (N, 1)), np.tile([[0.5]], (N, 1))
    same = noise.bits(np.zeros(N, bool), seed=0, episodes=STEPS, steps=STEPS, pairs=pair_words(observations, actions))
    assert same.all() or not same.any()
    assert 0.49 < bits(noise, False).mean() < 0.51


def test_a_pair_is_the_blake2b_digest_of_its_float32_numbers():
    observation, action = np.array([1.5, -0.0, 3.0]), np.array([2], np.int64)
    text = (3).to_bytes(8, "little") + np.array([1.5, 0.0, 3.0, 2.0], "<f4").tobytes()
    expected = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
    assert pair_words(observation[None], action[None]).tolist() == [expected]
    assert pair_words(observation[None].astype(np.float32), action[None].astype(np.float32)).tolist() == [expected]


def test_what_is_observation_and_what_is_action_matters():
    assert pair_words([[1.0, 2.0]], [[3.0]]) != pair_words([[1.0]], [[2.0, 3.0]])


def test_an_episode_has_one_bit_at_its_end_the_or_of_its_steps():
    noise = Noise("episode", 0.1, 0.1)
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 12, 300)
    ends = np.zeros(lengths.sum(), bool)
    ends[np.cumsum(lengths) - 1] = True
    single = rng.random(len(ends)) < 0.15
    given, start = noise.given(single, ends), 0
    for end in np.flatnonzero(ends):  # slow plain rewrite
        assert given[end] == any(single[start : end + 1])
        assert not given[start:end].any()
        start = end + 1
    np.testing.assert_array_equal(Noise("both", 0.1, 0.1).given(single, ends), single)


def test_the_rate_of_warned_episodes_without_danger_is_that_of_the_or():
    ends = STEPS % 5 == 4
    noise = Noise("episode", 0.1)
    given = noise.given(bits(noise, False), ends)[ends]
    interval = stats.binomtest(int(given.sum()), len(given)).proportion_ci(0.999)
    assert interval.low < 1 - 0.9**5 < interval.high


def test_the_words_of_a_setting_and_back():
    for kind, p, q in (("clean", None, None), ("fp", 0.5, None), ("fn", None, 0.2), ("both", 0.1, 0.2)):
        noise = parse_noise(kind, p, q)
        words = dict(word.split("=") for word in str(noise).split()[1:])
        assert parse_noise(str(noise).split()[0], **{key: float(value) for key, value in words.items()}) == noise
    assert parse_noise("episode") == Noise("episode")
    assert str(parse_noise("persistent", 0.25)) == "persistent p=0.25 q=0"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"kind": "fpp", "p": 0.1}, f"no noise named 'fpp'; allowed: {', '.join(KINDS)}"),
        ({"kind": "fp"}, "noise=fp needs p"),
        ({"kind": "both", "p": 0.1}, "noise=both needs q"),
        ({"kind": "fp", "p": 1.5}, "p must be a probability, 0 to 1; got 1.5"),
        ({"kind": "fn", "q": float("nan")}, "q must be a probability"),
        ({"kind": "fp", "p": 0.1, "q": 0.1}, "noise=fp takes p; got q=0.1"),
        ({"kind": "clean", "p": 0.1}, "noise=clean takes neither p nor q; got p=0.1"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(words, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")) as error:
        parse_noise(**words)
    assert "\n" not in str(error.value)


def test_a_key_must_be_made_of_whole_numbers_and_persistent_noise_needs_pairs():
    with pytest.raises(ValueError, match=r"the episode must be a whole number >= 0; got \[-1\]"):
        Noise("fp", 0.5).bits([True], seed=0, episodes=-1, steps=0)
    with pytest.raises(ValueError, match="needs the pairs"):
        Noise("persistent", 0.5).bits([True], seed=0, episodes=0, steps=0)
    with pytest.raises(ValueError, match="as many observations as actions; got 2 and 1"):
        pair_words([[1.0], [2.0]], [[1.0]])
