"""DubinsCar: arcs against the integrated equations, hazards against brute force."""

import math

import gymnasium
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import saferl.envs
from saferl.envs import dubins_car
from saferl.reachability import SYSTEMS


@pytest.mark.parametrize("turn_rate", [-1.0, -0.3, 0.0, 1e-9, 0.7, 1.0, 5.0])
def test_a_step_solves_the_equations_of_motion(turn_rate):
    env = dubins_car.DubinsCar()
    start = (-2.0, 0.5, 0.4)
    env.reset(options={"state": start})
    env.step([turn_rate])
    held = np.clip(turn_rate, -1, 1)
    solution = solve_ivp(lambda _, s: (math.cos(s[2]), math.sin(s[2]), held), (0, 0.05), start, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(env.state, solution.y[:, -1], atol=1e-10)


def test_the_reachability_system_moves_the_same_way():
    env, generator = dubins_car.DubinsCar(), np.random.default_rng(0)
    for state in dubins_car.start_states(20, "random", generator):
        u = generator.uniform(-1, 1, 1)
        env.reset(options={"state": state})
        env.step(u)
        change = SYSTEMS["dubins_car"]().displacement(state, u, (), dubins_car.DT)
        np.testing.assert_allclose(env.state, state + np.array(change), atol=1e-12)


def test_reward_is_progress_and_the_goal_ends_the_episode():
    env = dubins_car.DubinsCar()
    env.reset(options={"state": (2.01, 0.0, 0.0)})
    total, terminated, steps = 0.0, False, 0
    while not terminated:
        _, reward, terminated, truncated, info = env.step([0.0])
        total, steps = total + reward, steps + 1
        assert not truncated
    assert info["is_success"]
    assert steps == 12  # 0.59 m at 0.05 m a step
    assert total == pytest.approx(0.6 + 1)


def test_leaving_the_arena_ends_the_episode_without_success():
    env = dubins_car.DubinsCar()
    env.reset(options={"state": (-3.98, 0.0, math.pi)})
    *_, terminated, _, info = env.step([0.0])
    assert terminated
    assert not info["is_success"]
    assert info["cost"] == 0.0


def test_cost_is_one_inside_a_hazard_and_does_not_end_it():
    env = dubins_car.DubinsCar()
    env.reset(options={"state": (-1.03, 0.0, 0.0)})
    *_, terminated, _, info = env.step([0.0])
    assert info["cost"] == 1.0
    assert info["margin"] == pytest.approx(0.02)
    assert not terminated


def best_turns(state: np.ndarray) -> float:
    """The least, over turning hard one way and then the other, of the greatest margin within 4 s."""
    best = math.inf
    for first in (-1.0, 1.0):
        for switch in (20, 40, 80):
            x, y, heading, worst = *state, -math.inf
            for step in range(80):
                heading_after = heading + 0.05 * (first if step < switch else -first)
                x, y = x + 0.05 * math.cos(heading), y + 0.05 * math.sin(heading)
                heading = heading_after
                worst = max(worst, float(dubins_car.margin([[x, y, heading]])[0]))
            best = min(best, worst)
    return best


def test_infeasible_starts_hit_a_hazard_whatever_the_turn():
    generator = np.random.default_rng(0)
    candidates = dubins_car.start_states(200, "random", generator)
    infeasible = candidates[dubins_car.analytic_infeasible(candidates)]
    assert len(infeasible) >= 5
    assert min(best_turns(state) for state in infeasible[:15]) > -0.03  # what Euler steps of 0.05 s are off by


def test_feasible_starts_are_those_that_one_hard_turn_saves_from_the_first_hazard():
    assert not dubins_car.analytic_infeasible([[-1.75, 0.0, 0.0]])[0]  # sqrt(1.75^2 + 1) - 1 = 1.016 > 1
    assert dubins_car.analytic_infeasible([[-1.72, 0.0, 0.0]])[0]  # 0.990
    assert not dubins_car.analytic_infeasible([[-1.2, 0.0, math.pi]])[0]
    starts = dubins_car.start_states(300, "feasible", np.random.default_rng(1))
    assert not dubins_car.analytic_infeasible(starts).any()
    assert (dubins_car.margin(starts) <= 0).all()


def test_states_come_back_from_observations():
    states = dubins_car.start_states(100, "random", np.random.default_rng(0))
    np.testing.assert_allclose(dubins_car.states_of(dubins_car.observation(states)), states, atol=1e-6)


def test_bearings_are_those_of_the_body_frame():
    seen = dubins_car.observation([[0.0, -2.0, math.pi / 2]])[0]  # the first hazard is 2 m ahead
    np.testing.assert_allclose(seen[7:10], [2, 1, 0], atol=1e-6)
    np.testing.assert_allclose(seen[4], math.hypot(3, 2), atol=1e-6)
    assert seen[6] < 0  # the goal lies to the right


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="no start 'fast'; allowed: random, feasible"):
        saferl.envs.make("dubins_car", start="fast")
    with pytest.raises(ValueError, match="can't render 'human'"):
        dubins_car.DubinsCar(render_mode="human")
    env = dubins_car.DubinsCar()
    with pytest.raises(ValueError, match="action of 1 finite number"):
        env.step([0.0, 0.0])
    with pytest.raises(ValueError, match="must be 3 finite numbers"):
        env.reset(options={"state": (0, 0)})
    with pytest.raises(ValueError, match=r"shape \(N, 3\)"):
        dubins_car.margin(np.zeros((2, 4)))


def test_time_limit():
    assert gymnasium.spec("saferl/DubinsCar-v0").max_episode_steps == dubins_car.TIME_LIMIT
