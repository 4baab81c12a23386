"""Oracles against what they are defined by, on steps and on whole data sets."""

import numpy as np
import pytest

import saferl.envs
from saferl.danger.oracles import CleanBit, CostAbove, LeavesRegion, MarginAbove, Transition, dangers
from saferl.offline_data.point_robot import generate
from saferl.reachability import Grid, Value


@pytest.fixture(scope="module")
def data():
    return generate(n=3_000, seed=0)


def transition(info=None, before=0.0, after=0.0) -> Transition:
    return Transition(
        observation=np.array([before, 7.0]), action=np.zeros(1), reward=0.0, next_observation=np.array([after, 7.0]),
        terminated=False, truncated=False, info=info or {},
    )  # fmt: skip


def right_of_half() -> Value:
    """V = x - 0.5 on [-5, 5], exact between the nodes because it is linear."""
    grid = Grid((-5.0,), (5.0,), (11,))
    return Value(grid, np.linspace(-5, 5, 11) - 0.5)


def first_column(observations):
    return observations[:, :1]


def hazard_margin(observations: np.ndarray) -> np.ndarray:
    """0.8 m minus the distance to the nearer of the two hazards, from the positions in the observations."""
    x, y = observations[:, 0].astype(float), observations[:, 1].astype(float)
    return 0.8 - np.minimum(np.hypot(x - 0.4, y + 1.2), np.hypot(x + 0.4, y - 1.2))


def test_cost_is_danger_where_there_is_any():
    assert CostAbove()(transition({"cost": 0.5}))
    assert not CostAbove()(transition({"cost": 0.0}))
    assert not CostAbove(1.0)(transition({"cost": 1.0}))


def test_a_margin_above_a_level_below_zero_warns_early(data):
    h = hazard_margin(data.next_observations)
    clear = np.abs(h + 0.1) > 1e-5  # float32 decides the rest
    np.testing.assert_array_equal(dangers(MarginAbove(-0.1), data)[clear], (h > -0.1)[clear])
    assert dangers(MarginAbove(-0.1), data).sum() > dangers(MarginAbove(), data).sum() > 0
    np.testing.assert_array_equal(dangers(MarginAbove(), data), dangers(CostAbove(), data))


@pytest.mark.parametrize(
    ("before", "after", "danger"),
    [(0.4, 0.6, True), (0.4, 0.5, False), (0.6, 0.7, False), (0.6, 0.4, False), (0.5, 0.51, True)],
)
def test_only_the_step_that_leaves_the_region_is_dangerous(before, after, danger):
    assert LeavesRegion(right_of_half(), first_column)(transition(before=before, after=after)) is danger


def test_a_whole_data_set_is_labelled_as_its_steps_are(data):
    x, x_next = data.observations[:, 0], data.next_observations[:, 0]
    region = LeavesRegion(right_of_half(), first_column)
    np.testing.assert_array_equal(dangers(region, data), (x <= 0.5) & (x_next > 0.5))
    for oracle in (region, CostAbove(), MarginAbove(-0.2)):
        np.testing.assert_array_equal(dangers(lambda step, o=oracle: o(step), data), dangers(oracle, data))


def test_any_function_of_the_step_is_an_oracle(data):
    bits = dangers(lambda step: step.next_observation[2] > 1.0 and step.action[0] > 0, data)
    np.testing.assert_array_equal(bits, (data.next_observations[:, 2] > 1.0) & (data.actions[:, 0] > 0))
    assert bits.any()


def test_what_an_environment_does_not_tell_is_named():
    with pytest.raises(ValueError, match=r"the margin oracle needs info\['margin'\], which the environment doesn't"):
        MarginAbove()(transition({"cost": 0.0}))
    with pytest.raises(ValueError, match="make the environment with evaluation=True"):
        CleanBit()(transition({"cost": 0.0}))


def test_data_without_margins_or_bits_of_another_shape_are_refused(data):
    class Wrong:
        def rows(self, dataset):
            return np.zeros(3)

    plain = generate(n=100, seed=0)
    object.__setattr__(plain, "margins", None)
    with pytest.raises(ValueError, match="dataset: the margin oracle needs margins, which these data don't have"):
        dangers(MarginAbove(), plain)
    with pytest.raises(ValueError, match=r"rows must have shape \(3000,\); got \(3,\)"):
        dangers(Wrong(), data)


def test_the_environments_info_holds_what_the_oracles_need():
    env = saferl.envs.make("point_robot")
    env.reset(seed=0)
    *_, info = env.step(np.zeros(2, np.float32))
    assert isinstance(CostAbove()(transition(info)), bool)
    assert MarginAbove(-9.0)(transition(info))
