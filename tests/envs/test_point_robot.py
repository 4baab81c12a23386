"""PointRobot against recorded transitions, the paper's figures and plain rewrites."""

import itertools
import math
from pathlib import Path

import gymnasium
import h5py
import numpy as np
import pytest

import saferl.envs
from saferl.envs import point_robot
from saferl.envs.point_robot_batched import step_states

RECORDED = Path(__file__).parents[3] / "shared" / "oracles" / "fisor" / "point_robot_mix_100k.hdf5"


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    if not RECORDED.exists():
        pytest.skip(f"recorded transitions are not here ({RECORDED.name})")
    rows = np.sort(np.random.default_rng(0).choice(100_000, 3000, replace=False))
    with h5py.File(RECORDED) as file:
        return {key: file[key][:][rows] for key in file}


def states_of(observations: np.ndarray) -> np.ndarray:
    heading = np.arctan2(observations[:, 4].astype(float), observations[:, 3].astype(float))
    return np.column_stack([observations[:, :3], heading])


def grid(speed: float, heading: float) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(-3, 3, 201), np.linspace(-3, 3, 201))
    return np.column_stack([x.ravel(), y.ravel(), np.full(x.size, speed), np.full(x.size, heading)])


def test_recorded_transitions_of_the_original_environment_are_reproduced(recorded):
    env = point_robot.PointRobot()
    states = states_of(recorded["observations"])
    for i in range(len(states)):
        first, _ = env.reset(options={"state": states[i]})
        after, reward, terminated, _, info = env.step(recorded["actions"][i])
        np.testing.assert_allclose(first, recorded["observations"][i], atol=1e-5)
        np.testing.assert_allclose(after, recorded["next_observations"][i], atol=1e-5)
        assert reward == pytest.approx(recorded["rewards"][i], abs=1e-5)
        assert info["margin"] == pytest.approx(recorded["h"][i], abs=1e-5)
        assert info["cost"] == recorded["costs"][i]
        assert terminated == bool(recorded["terminals"][i])


def test_recorded_transitions_are_reproduced_by_the_batched_step(recorded):
    _, rewards, margins, terminated, _, after = step_states(states_of(recorded["observations"]), recorded["actions"])
    np.testing.assert_allclose(after, recorded["next_observations"], atol=1e-5)
    np.testing.assert_allclose(rewards, recorded["rewards"], atol=1e-5)
    np.testing.assert_allclose(margins, recorded["h"], atol=1e-5)
    np.testing.assert_array_equal(margins > 0, recorded["costs"] == 1)
    np.testing.assert_array_equal(terminated, recorded["terminals"] == 1)


@pytest.mark.parametrize(("slice_", "share"), list(zip(point_robot.SLICES, (12.1, 14.1, 15.9))))
def test_infeasible_share_of_each_map_is_the_published_one(slice_, share):
    assert 100 * point_robot.analytic_infeasible(grid(*slice_)).mean() == pytest.approx(share, abs=0.05)


def test_hazards_cover_the_published_share_of_the_map():
    assert 100 * (point_robot.margin(grid(0, 0)) > 0).mean() == pytest.approx(11.1, abs=0.05)


def test_fixed_start_is_just_avoidable_and_0_3_m_further_it_is_not():
    states = [point_robot.FIXED_START, (-1.5, 0, 2, math.pi / 4)]
    assert point_robot.analytic_infeasible(states).tolist() == [False, True]


def infeasible_slowly(state: tuple[float, float, float, float]) -> bool:
    """The manoeuvre written out with complex numbers, in full and without early exits."""
    for centre in (0.4 - 1.2j, -0.4 + 1.2j):
        position, speed, heading = complex(state[0], state[1]), state[2], state[3]
        seen = (centre - position) * np.exp(-1j * heading)  # the centre in the body frame
        entered = abs(seen) < 0.8
        turn = -1 if seen.imag >= 0 else 1
        if seen.real > 0:
            while speed > 0:
                position += 0.05 * speed * np.exp(1j * heading)
                speed, heading = speed - 0.05, heading + 0.05 * turn
                entered |= abs(position - centre) < 0.8
        if entered:
            return True
    return False


def random_states(n: int, seed: int) -> np.ndarray:
    low, high = (-2.5, -2.5, -0.5, -math.pi), (2.5, 2.5, 3, math.pi)
    return np.random.default_rng(seed).uniform(low, high, (n, 4))


def test_analytic_set_equals_the_manoeuvre_simulated_slowly():
    states = random_states(1500, seed=1)
    expected = [infeasible_slowly(state) for state in states]
    assert 100 < sum(expected) < 1400
    np.testing.assert_array_equal(point_robot.analytic_infeasible(states), expected)


def escapes(state: np.ndarray, segments: tuple[int, ...]) -> bool:
    """Whether any sequence of constant actions, from {-1, 0, 1}^2 for each segment, avoids both hazards."""
    actions = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=2)))
    states = state[None]
    for steps in segments:
        chosen = np.tile(actions, (len(states), 1))
        states = np.repeat(states, len(actions), axis=0)
        safe = np.ones(len(states), bool)
        for _ in range(steps):
            states, _, margins, *_ = step_states(states, chosen)
            safe &= margins <= 0
        states = states[safe]
    return len(states) > 0


def test_no_action_sequence_escapes_from_the_analytic_infeasible_set():  # search over 9^4 sequences a state
    states = random_states(20_000, seed=2)
    lost = point_robot.analytic_infeasible(states) & (point_robot.margin(states) <= 0)
    assert lost.sum() > 300
    assert not any(escapes(state, (3, 5, 10, 40)) for state in states[lost][:300])


def test_some_action_sequence_escapes_from_just_outside_the_analytic_set():
    states = random_states(20_000, seed=3)
    close = ~point_robot.analytic_infeasible(states) & (point_robot.margin(states) > -0.5) & (states[:, 2] > 0.5)
    assert close.sum() > 100
    assert all(escapes(state, (3, 5, 10, 40)) for state in states[close][:100])


def test_a_violation_is_counted_and_does_not_end_the_episode():
    env = saferl.envs.make("point_robot")
    _, info = env.reset(options={"state": (-0.4, 0.35, 2.0, math.pi / 2)})
    assert info == {"cost": 0.0, "margin": pytest.approx(-0.05), "is_success": False}
    _, _, terminated, truncated, info = env.step(np.zeros(2, np.float32))
    assert (info["cost"], info["margin"]) == (1.0, pytest.approx(0.05))
    assert not terminated
    assert not truncated


def test_reaching_the_goal_pays_one_more_and_ends_the_episode():
    env = saferl.envs.make("point_robot")
    env.reset(options={"state": (1.86, 2.2, 1.0, 0.0)})
    _, reward, terminated, _, info = env.step(np.zeros(2, np.float32))
    assert reward == pytest.approx(1.05)
    assert terminated
    assert info["is_success"]


def test_episode_is_truncated_after_300_steps():
    env = saferl.envs.make("point_robot")
    env.reset(options={"state": (-2.0, 0.0, 0.0, 0.0)})
    steps = 1
    while not any(env.step(np.zeros(2, np.float32))[2:4]):
        steps += 1
    assert steps == 300


@pytest.mark.parametrize("kind", point_robot.STARTS)
def test_starts_are_of_their_kind(kind):
    states = point_robot.start_states(200, kind, np.random.default_rng(0))
    assert states.shape == (200, 4)
    assert (np.abs(states[:, :2]) <= 3).all()
    assert ((states[:, 2] >= 0.5) & (states[:, 2] <= 2)).all()
    assert ((states[:, 3] >= math.pi / 4) & (states[:, 3] <= 3 * math.pi / 4)).all()
    lost = [infeasible_slowly(state) for state in states]
    if kind in ("feasible", "fixed"):
        assert not any(lost)
    if kind == "infeasible":
        assert all(lost)
        assert (point_robot.margin(states) <= 0).all()


def test_start_of_one_episode_can_be_chosen_at_reset():
    env = saferl.envs.make("point_robot")
    observation, _ = env.reset(seed=0, options={"start": "fixed"})
    np.testing.assert_allclose(observation[:5], [-1.8, 0, 2, math.sqrt(0.5), math.sqrt(0.5)], atol=1e-6)


def test_picture_shows_hazards_goal_and_robot_where_they_are():
    env = saferl.envs.make("point_robot", render_mode="rgb_array")
    env.reset(options={"state": (-2.0, 0.0, 1.0, 0.0)})
    picture = env.render()

    def colour(x: float, y: float) -> tuple[int, ...]:
        return tuple(int(c) for c in picture[round((3 - y) / 6 * 399), round((x + 3) / 6 * 399)])

    red, green, blue = colour(0.4, -1.2), colour(2.2, 2.2), colour(-2.05, 0.0)
    assert max(red) == red[0] > red[1]
    assert max(green) == green[1] > green[0]
    assert max(blue) == blue[2] > blue[0]
    assert colour(-2.0, 1.5) == (255, 255, 255)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: saferl.envs.make("point_robot", start="nowhere"), "allowed: random, fixed, feasible, infeasible"),
        (lambda: point_robot.PointRobot(render_mode="human"), "'rgb_array'"),
        (lambda: point_robot.PointRobot().reset(options={"state": (0, 0, 0)}), "4 finite numbers"),
        (lambda: point_robot.PointRobot().step([0.0, math.nan]), "2 finite numbers"),
        (lambda: point_robot.margin(np.zeros(4)), r"shape \(N, 4\)"),
        (lambda: step_states(np.zeros((3, 4)), np.zeros((2, 2))), r"shape \(3, 2\)"),
    ],
)
def test_a_wrong_argument_gives_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def vector(mode: str, n: int = 32) -> gymnasium.vector.VectorEnv:
    return gymnasium.make_vec("saferl/PointRobot-v0", num_envs=n, vectorization_mode=mode)


def test_batched_robots_equal_single_ones_through_restarts():
    batched, single = vector("vector_entry_point"), vector("sync")
    np.testing.assert_array_equal(batched.reset(seed=3)[0], single.reset(seed=3)[0])
    generator = np.random.default_rng(0)
    ends = 0
    for _ in range(400):
        actions = generator.uniform(-1.2, 1.2, (32, 2)).astype(np.float32)
        ours, theirs = batched.step(actions), single.step(actions)
        for got, expected in zip(ours[:4], theirs[:4]):
            np.testing.assert_allclose(got, expected, atol=1e-6)
        assert ours[4].keys() == theirs[4].keys()
        for key in theirs[4]:
            np.testing.assert_allclose(ours[4][key], theirs[4][key], atol=1e-9)
        ends += int(ours[2].sum() + ours[3].sum())
    assert ends > 100  # else the restarts were not looked at


def test_batched_robots_take_one_seed_each():
    batched = vector("vector_entry_point", n=3)
    together, _ = batched.reset(seed=[7, 7, 8])
    alone, _ = saferl.envs.make("point_robot").reset(seed=8)
    np.testing.assert_array_equal(together[0], together[1])
    np.testing.assert_array_equal(together[2], alone)
    with pytest.raises(ValueError, match="3 robots need one seed or 3; got 2"):
        batched.reset(seed=[1, 2])


def test_batched_robots_can_be_placed():
    batched = vector("vector_entry_point", n=2)
    observations, infos = batched.reset(options={"state": [(-2, 0, 1, 0), (0.4, -1.2, 0, 0)]})
    np.testing.assert_allclose(observations[:, :3], [(-2, 0, 1), (0.4, -1.2, 0)], atol=1e-6)
    np.testing.assert_allclose(infos["margin"], [0.8 - math.hypot(1.6, 1.2), 0.8], atol=1e-12)
