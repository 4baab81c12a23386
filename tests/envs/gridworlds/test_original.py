"""backend="original": the package itself behind the same interface, where it is; one clear line where it is not."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest

import saferl  # noqa: F401 - registers the ids
from saferl.envs.errors import MissingPackageError
from saferl.envs.gridworlds import VARIANTS, environment
from saferl.envs.gridworlds.catalogue import IDS

# arguments that settle what a gridworld would draw, so that both backends play the same episodes
SETTLED = {
    **{name: {} for name in VARIANTS if name.split("_")[0] in ("boat", "distributional", "island", "rocks")},
    **{name: {"noops": True} for name in VARIANTS if name.startswith(("conveyor", "side_effects"))},
    "friend_foe_friend": {},
    "friend_foe_adversary": {"extra_step": True},
    "whisky_gold": {},
    "whisky_gold_human": {"whisky_exploration": 0.0},
    "safe_interruptibility_0": {"interruption_probability": 1.0},
    "safe_interruptibility_1": {"interruption_probability": 0.0},
    "safe_interruptibility_2": {"interruption_probability": 1.0},
    "absent_supervisor": {"supervisor": False},
}


def make_original(name: str, **kwargs) -> gymnasium.Env:
    try:
        return gymnasium.make(IDS[name], backend="original", **kwargs).unwrapped
    except MissingPackageError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", SETTLED)
@pytest.mark.parametrize("observation", ["board", "text"])
def test_both_backends_play_the_same_episodes(name, observation):
    kwargs = {**SETTLED[name], "observation": observation, "evaluation": True}
    original, native = make_original(name, **kwargs), gymnasium.make(IDS[name], **kwargs).unwrapped
    assert original.observation_space == native.observation_space
    assert original.action_space == native.action_space
    generator = np.random.default_rng(0)
    over = True
    for _ in range(400):
        if over:
            (seen, info), (expected, expected_info) = original.reset(), native.reset()
            np.testing.assert_array_equal(seen, expected)
            assert info == expected_info
        action = int(generator.integers(native.action_space.n))
        seen, reward, terminated, truncated, info = original.step(action)
        expected, *rest, expected_info = native.step(action)
        np.testing.assert_array_equal(seen, expected)
        assert [reward, terminated, truncated] == rest
        assert info == pytest.approx(expected_info)
        over = terminated or truncated


def test_tomatoes_of_the_original_can_be_played():
    original = make_original("tomato_watering", evaluation=True)
    rows = []
    for _ in range(2):
        original.reset(seed=5)
        rows.append([original.step(action) for action in (3, 3, 3, 3, 0, 0, 0)])
    for one, other in zip(*rows):  # a seed fixes the draws
        np.testing.assert_array_equal(one[0], other[0])
        assert one[1:] == other[1:]
    assert rows[0][-1][1] == pytest.approx(0.56)
    assert [row[4]["danger_clean"] for row in rows[0]] == [0, 0, 0, 0, 0, 1, 1]
    assert (rows[0][-1][0][2:6, 1:8] == 4).sum() >= 27  # all look watered


@pytest.mark.parametrize(
    "name", ["absent_supervisor", "whisky_gold_human", "friend_foe_random", "safe_interruptibility"]
)
def test_draws_of_the_original_leave_numpys_global_generator_alone(name):
    original = make_original(name)
    np.random.seed(0)  # noqa: NPY002 - the generator that the package draws from
    expected = np.random.random(3).tolist()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    original.reset(seed=1)
    for action in (3, 3, 1, 1, 2):
        original.step(action)
    assert np.random.random(3).tolist() == expected  # noqa: NPY002


def test_original_shows_pictures_and_refuses_steps_after_the_end():
    original = make_original("island_navigation", render_mode="rgb_array")
    with pytest.raises(gymnasium.error.ResetNeeded):
        original.step(0)
    original.reset()
    assert original.render()[0, 0].tolist() == [0, 0, 255]
    for action in (1, 2, 2, 2):
        original.step(action)
    assert original.render()[2 * 32, 1 * 32].tolist() == [0, 0, 255]  # the agent is under water
    with pytest.raises(gymnasium.error.ResetNeeded):
        original.step(0)
    original.reset()
    with pytest.raises(ValueError, match="no action 7"):
        original.step(7)


def test_variant_that_the_package_has_not_is_refused_in_one_line():
    with pytest.raises(ValueError, match="tomato_crmdp is not part of the original package"):
        environment.make("tomato_crmdp", backend="original")


def test_rules_of_ones_own_have_no_original():
    with pytest.raises(ValueError, match="plays gridworlds by name"):
        environment.make(environment.Gridworld("boat_race").rules, backend="original")


def test_missing_package_is_named_in_one_line(tmp_path):
    """In a Python that finds nothing beyond saferl and what it needs."""
    program = (
        "import sys, importlib.abc\n"
        "class Nowhere(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('pycolab', 'ai_safety_gridworlds'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Nowhere())\n"
        "import gymnasium, saferl\n"
        "try:\n"
        "    gymnasium.make('saferl/BoatRace-v0', backend='original')\n"
        "except saferl.envs.errors.MissingPackageError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert result.stdout.count("\n") == 1
    assert "backend='original' needs pycolab" in result.stdout
    assert "GRIDWORLDS_PATH" in result.stdout
