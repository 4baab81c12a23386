"""What the gridworlds draw has the probabilities of the original, in the listed chances and in play."""

import itertools
import json

import numpy as np
import pytest

from saferl.envs.gridworlds import GRIDWORLDS, Gridworld
from saferl.envs.gridworlds.rules import one_of
from saferl.envs.gridworlds.tomato_watering import DRYING_CHANCE, drying
from tests.oracles.gridworld_recordings import FOLDER


@pytest.fixture(scope="module")
def original():
    """{variant: {what: exact probability, draws, tolerance of four standard errors}} of the original."""
    path = FOLDER / "distributions.json"
    if not path.exists():
        pytest.skip(f"reference data {path.name} is not beside the repository")
    return json.loads(path.read_text())


def assert_within(entry, drawn, n):
    """The share ``drawn`` of ``n`` draws is as near to the exact probability as four standard errors of n allow."""
    exact = np.atleast_1d(entry["exact"])
    tolerance = np.array(entry["tolerance_4sigma_at_n"]) * np.sqrt(entry["n"] / n)
    np.testing.assert_array_less(np.abs(np.atleast_1d(drawn) - exact), tolerance)


def starts(name, n=600, **kwargs):
    """The states of n starts."""
    env = Gridworld(name, **kwargs)
    env.reset(seed=0)
    states = []
    for _ in range(n):
        env.reset()
        states.append(list(env._node.state))
    return np.array(states)


def test_supervisor_is_present_in_half_of_the_episodes(original):
    entry = original["absent_supervisor"]["P(supervisor)"]
    assert_within(entry, starts("absent_supervisor")[:, 1].mean(), 600)
    assert GRIDWORLDS["absent_supervisor"].starts() == [(0, entry["exact"]), (1, entry["exact"])]


@pytest.mark.parametrize("level", [0, 1, 2])
def test_half_of_the_episodes_may_interrupt(level, original):
    entry = original[f"safe_interruptibility_{level}"]["P(should_interrupt)"]
    assert_within(entry, starts(f"safe_interruptibility_{level}")[:, 2].mean(), 600)
    assert GRIDWORLDS[f"safe_interruptibility_{level}"].starts() == [(0, entry["exact"]), (1, entry["exact"])]


def test_neutral_bandit_prefers_the_left_box(original):
    entry = original["friend_foe_neutral"]["P(box==0 | neutral)"]
    assert_within(entry, (starts("friend_foe_neutral")[:, 2] == 0).mean(), 600)
    assert dict(GRIDWORLDS["friend_foe_neutral"].starts())[2] == pytest.approx(entry["exact"])


@pytest.mark.parametrize("name", ["friend_foe_random", "friend_foe_random_extrastep"])
def test_bandits_are_equally_frequent(name, original):
    entry = original[name]["P(bandit)"]
    assert_within(entry, np.bincount(starts(name)[:, 1], minlength=3) / 600, 600)
    chances = np.zeros(3)
    for outcome, chance in GRIDWORLDS[name].starts():
        chances[outcome // 2] += chance
    assert chances == pytest.approx(entry["exact"])


def test_maps_of_the_test_are_equally_frequent():
    assert_within({"exact": 0.5, "n": 1, "tolerance_4sigma_at_n": [2.0]},
                  (starts("distributional_shift", is_testing=True)[:, 1] == 1).mean(), 600)  # fmt: skip
    assert set(starts("distributional_shift")[:, 1]) == {0}


def test_drunk_steps_go_astray_as_often_as_in_the_original(original):
    env, replaced, n = Gridworld("whisky_gold_human"), [], 25_000
    _, info = env.reset(seed=0)
    while len(replaced) < n:
        drunk = info["exploration"] > 0
        _, _, terminated, truncated, info = env.step(3)  # right: to the whisky, then on to the gold
        if drunk:
            replaced.append(info["actual_action"])
        if terminated or truncated:
            _, info = env.reset()
    shares = np.bincount(replaced, minlength=4) / n
    random, own = (original["whisky_gold_human"][key]["exact"] for key in ("P(random action)", "P(replaced | drunk)"))
    expected = own * np.array(random) + (1 - own) * (np.arange(4) == 3)
    np.testing.assert_array_less(np.abs(shares - expected), 4 * np.sqrt(expected * (1 - expected) / n))
    assert [chance for _, chance in GRIDWORLDS["whisky_gold_human"].outcomes()] == pytest.approx(
        [1 - own, *(own * np.array(random))]
    )


@pytest.mark.parametrize("name", ["tomato_watering", "tomato_crmdp"])
def test_tomatoes_dry_as_often_as_in_the_original(name, original):
    entry = original[name]["P(dry | wet, per frame incl. reset frame)"]
    rules = GRIDWORLDS[name]
    generator, tomatoes, n = np.random.default_rng(0), 13, 20_000
    masks = [rules.draw(rules.chances, uniform) for uniform in generator.random(n)]
    dries = (np.array(masks)[:, None] >> np.arange(tomatoes)) & 1  # (n, 13)
    assert_within(entry, dries.mean(), n * tomatoes)
    assert set(masks) <= set(range(1 << tomatoes))
    spread = 4 * np.sqrt(entry["exact"] * (1 - entry["exact"]) / n)
    assert (np.abs(dries.mean(axis=0) - entry["exact"]) < spread).all()  # each of them
    correlation = np.corrcoef(dries.T) - np.eye(tomatoes)
    assert np.abs(correlation).max() < 4.5 / np.sqrt(n)  # and for itself: the largest of 78 pairs


def test_tomatoes_dry_independently_exactly():
    """The share of the numbers in [0, 1) that dry a set of three tomatoes is the probability of that set."""
    survival, n = [(1 - DRYING_CHANCE) ** k for k in range(4)], 200_000
    masks = np.bincount([drying(survival, (i + 0.5) / n) for i in range(n)], minlength=8)
    for dries in itertools.product((0, 1), repeat=3):
        expected = np.prod([DRYING_CHANCE if dry else 1 - DRYING_CHANCE for dry in dries])
        assert masks[sum(dry << i for i, dry in enumerate(dries))] / n == pytest.approx(expected, abs=2e-5)


def test_dry_tomatoes_at_the_start_come_from_one_drying():
    wet = starts("tomato_watering", n=2000)
    count = np.array([bin(upper).count("1") + bin(lower).count("1") for upper, lower in wet[:, 1:]])
    assert count.mean() == pytest.approx(8 * 0.95, abs=4 * np.sqrt(8 * 0.05 * 0.95 / 2000))


def test_one_of_picks_the_interval_that_the_number_is_in():
    chances = (0.25, 0.0, 0.5, 0.25)
    assert [one_of(chances, uniform) for uniform in (0.0, 0.24, 0.25, 0.74, 0.75, 0.999999)] == [0, 0, 2, 2, 3, 3]
