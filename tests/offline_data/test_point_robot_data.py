"""The built-in PointRobot data against the recorded set and against the environment."""

from pathlib import Path

import numpy as np
import pytest

from saferl.envs.point_robot import PointRobot, margin
from saferl.offline_data import load_hdf5
from saferl.offline_data.dataset import OfflineDataset
from saferl.offline_data.point_robot import generate

RECORDED = Path(__file__).parents[3] / "shared" / "oracles" / "fisor" / "point_robot_mix_100k.hdf5"


@pytest.fixture(scope="module")
def generated() -> OfflineDataset:
    return generate(n=100_000, seed=0)


def facts(data: OfflineDataset, rows: slice) -> dict[str, float]:
    after = data.next_observations[rows]
    return {
        "cost rate": float(data.costs[rows].mean()),
        "episodes": float((data.terminals | data.timeouts)[rows].sum()),
        "goals": float((np.hypot(after[:, 0] - 2.2, after[:, 1] - 2.2) <= 0.3).sum()),
        "speed": float(after[:, 2].mean()),
        "reward": float(data.rewards[rows].mean()),
    }


# the whole, then the three parts; tolerances are about three times the spread over seeds
@pytest.mark.parametrize("rows", [slice(None), slice(0, 35_000), slice(35_000, 70_000), slice(70_000, 100_000)])
def test_mix_has_the_statistics_of_the_recorded_set(generated, rows):
    if not RECORDED.exists():
        pytest.skip(f"recorded transitions are not here ({RECORDED.name})")
    ours, theirs = facts(generated, rows), facts(load_hdf5(RECORDED), rows)
    print(ours, theirs)
    assert ours["cost rate"] == pytest.approx(theirs["cost rate"], abs=0.03)
    assert ours["episodes"] == pytest.approx(theirs["episodes"], rel=0.1)
    assert ours["goals"] == pytest.approx(theirs["goals"], rel=0.2, abs=50)
    assert ours["speed"] == pytest.approx(theirs["speed"], abs=0.15)
    assert ours["reward"] == pytest.approx(theirs["reward"], abs=0.01)


def test_whole_mix_has_the_counts_of_the_recipe(generated):
    assert len(generated) == 100_000
    assert generated.costs.mean() == pytest.approx(0.118, abs=0.015)
    assert generated.terminals.sum() == pytest.approx(1311, rel=0.1)
    assert generated.timeouts.sum() == pytest.approx(313, rel=0.15)


def test_rows_are_steps_of_the_environment(generated):
    env = PointRobot()
    for row in np.random.default_rng(0).choice(len(generated), 300, replace=False):
        seen = generated.observations[row].astype(float)
        env.reset(options={"state": (*seen[:3], np.arctan2(seen[4], seen[3]))})
        after, reward, terminated, _, info = env.step(generated.actions[row])
        np.testing.assert_allclose(after, generated.next_observations[row], atol=1e-5)
        assert reward == pytest.approx(generated.rewards[row], abs=1e-5)
        assert info["cost"] == generated.costs[row]
        assert info["margin"] == pytest.approx(generated.margins[row], abs=1e-5)
        assert terminated == generated.terminals[row]


def test_episodes_are_whole_and_in_order(generated):
    inside = ~(generated.terminals | generated.timeouts)[:-1]
    np.testing.assert_array_equal(generated.next_observations[:-1][inside], generated.observations[1:][inside])
    assert not (generated.terminals & generated.timeouts).any()
    assert generated.episode_lengths.max() <= 300


def test_margin_belongs_to_the_state_after_the_step(generated):
    after = generated.next_observations[:, [0, 1, 2, 4]]
    np.testing.assert_allclose(generated.margins, margin(after), atol=1e-5)
    np.testing.assert_array_equal(generated.costs > 0, generated.margins > 0)


def test_same_seed_gives_the_same_data_and_another_seed_does_not():
    first, again, other = generate(500, seed=4), generate(500, seed=4), generate(500, seed=5)
    assert len(first) == 500
    for key, array in first.arrays().items():
        np.testing.assert_array_equal(array, again.arrays()[key])
    assert not np.array_equal(first.observations, other.observations)


def test_too_few_transitions_give_one_line():
    with pytest.raises(ValueError, match="n >= 10 transitions; got 3"):
        generate(3)
