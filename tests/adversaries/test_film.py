"""Films and speeds of evaluated episodes, against the environment stepped by hand; the report that shows them."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest

import saferl.envs
from saferl.adversaries.film import filmed, moments
from saferl.adversaries.robot_targets import speed
from saferl.adversaries.trajectories import Recorder, Trajectory
from saferl.attack import main
from saferl.envs.point_robot import PointRobot
from saferl.evaluation.rollout import rollout
from saferl.policy import CallablePolicy

KWARGS = {"start": "feasible", "max_episode_steps": 20}
DRAWN, HIDDEN = "test/DrawnRobot-v0", "test/HiddenRobot-v0"


class Hidden(PointRobot):
    metadata = {"render_modes": []}  # noqa: RUF012  gymnasium's own declaration


class Drawn(PointRobot):
    pass


for name, kind in ((DRAWN, Drawn), (HIDDEN, Hidden)):
    if name not in gymnasium.registry:
        gymnasium.register(name, kind, max_episode_steps=20)


def swerves(observations):
    return np.stack([np.sin(5 * observations[:, 0]), np.cos(3 * observations[:, 1])], axis=1)


def act_dim_of(env_id):
    return saferl.envs.make(env_id).action_space.shape[0]


def recorded():
    """Four episodes from seed 5 on, two side by side."""
    recorder = Recorder()
    rollout(CallablePolicy(swerves), "point_robot", np.arange(5, 9), num_envs=2, env_kwargs=KWARGS, watch=recorder)
    return recorder.trajectories()


def test_a_film_shows_the_episode_itself():
    episode = recorded()[2]
    film = filmed("point_robot", KWARGS, 7, episode)
    env = saferl.envs.make("point_robot", render_mode="rgb_array", **KWARGS)
    observation, _ = env.reset(seed=7)
    by_hand = [env.render()]
    for _ in range(len(episode)):
        observation = env.step(swerves(observation[None])[0])[0]
        by_hand.append(env.render())
    env.close()
    np.testing.assert_array_equal(film, [by_hand[step] for step in moments(len(episode))])
    assert len({picture.tobytes() for picture in film}) == 6


@pytest.mark.parametrize("env_id", ["SafetyHopperVelocity-v1", "SafetyPointCircle1-v0", "saferl/HalfCheetahSpeed-v0"])
def test_the_camera_stays_with_a_robot_that_runs_away(env_id):
    kwargs = {"max_episode_steps": 10}
    recorder = Recorder()
    steady = CallablePolicy(lambda observations: np.full((len(observations), act_dim_of(env_id)), 0.3))
    rollout(steady, env_id, np.arange(3, 4), env_kwargs=kwargs, watch=recorder)
    (episode,) = recorder.trajectories()
    film = filmed(env_id, kwargs, 3, episode)
    env = saferl.envs.make(env_id, render_mode="rgb_array", camera_name="track", **kwargs)
    env.reset(seed=3)
    by_hand = [env.render()]
    for action in episode.actions:
        env.step(action)
        by_hand.append(env.render())
    env.close()
    stride = max(1, len(by_hand[0]) // 240)
    np.testing.assert_array_equal(film, [by_hand[step][::stride, ::stride] for step in moments(len(episode))])


def test_pictures_are_taken_from_the_start_to_the_end():
    assert moments(1000) == [0, 200, 400, 600, 800, 1000]
    assert moments(3) == [0, 1, 1, 2, 2, 3]  # a short episode has some twice


def test_a_film_of_another_episode_is_refused():
    episode = recorded()[2]
    with pytest.raises(ValueError, match="did not come to the same end"):
        filmed("point_robot", KWARGS, 8, episode)
    with pytest.raises(ValueError, match="did not come to the same end"):
        filmed("point_robot", KWARGS, 7, replace(episode, actions=-episode.actions))
    with pytest.raises(ValueError, match=f"{HIDDEN} has no pictures"):
        filmed(HIDDEN, {"start": "feasible"}, 7, episode)


def test_speeds_are_those_of_the_observation():
    rows = np.zeros((4, 17), np.float32)
    rows[:, 8] = [0.5, -1, -2, 3]

    def told(env_id, rows):
        zeros = np.zeros((3, 1), np.float32)
        return speed(env_id, Trajectory(rows, zeros, zeros, zeros[:, 0], zeros[:, 0], False))

    words, values = told("SafetyHalfCheetahVelocity-v1", rows)
    assert words == "forward velocity (m/s)"
    np.testing.assert_array_equal(values, [0.5, -1, -2, 3])
    rows = np.zeros((4, 60), np.float32)
    rows[:, 3:6] = [3, 4, 0]
    words, values = told("OfflinePointGoal1Gymnasium-v0", rows)
    assert words == "speed (m/s)"
    np.testing.assert_array_equal(values, [5, 5, 5, 5])
    assert told("OfflineCarCircle1Gymnasium-v0", rows) is None


@pytest.mark.parametrize("env_id", [DRAWN, HIDDEN])
def test_the_report_shows_the_film_or_says_why_there_is_none(env_id, tmp_path, capsys):
    words = [f"victim={__name__}:swerves", f"env={env_id}", "env_kwargs={start:feasible}", "adversary=random",
             "eps=[0.2,0.5]", "episodes=3", "reference_episodes=2", f"out={tmp_path}"]  # fmt: skip
    assert main(words) == 0
    (folder,) = (path.parent for path in tmp_path.glob("**/attack.yaml"))
    page = (folder / "report.md").read_text()
    films = {path.name for path in (folder / "films").iterdir()}
    if env_id == HIDDEN:
        assert not films
        assert f"No film of the robot: ValueError: {HIDDEN} has no pictures." in page
        return
    assert "![films.png](films.png)" in page
    assert (folder / "films.png").stat().st_size > 10_000
    assert films == {"none-0.npy", "random-0.2.npy", "random-0.5.npy"}
    starts = [np.load(folder / "films" / name, allow_pickle=False)[0] for name in films]
    assert all((picture == starts[0]).all() for picture in starts)  # the same start


def test_where_the_film_of_the_largest_eps_fails_no_other_is_shown_in_its_place(tmp_path, monkeypatch):
    taken, drawn = [], []

    def fails_the_third_time(*arguments):
        taken.append(arguments)
        if len(taken) == 3:
            raise RuntimeError("no context")
        return filmed(*arguments)

    monkeypatch.setattr("saferl.adversaries.runner.filmed", fails_the_third_time)
    monkeypatch.setattr("saferl.attack.film_strips", lambda results, films, path, title: drawn.append(set(films)))
    words = [f"victim={__name__}:swerves", f"env={DRAWN}", "env_kwargs={start:feasible}", "adversary=random",
             "eps=[0.2,0.5]", "episodes=3", "reference_episodes=2", f"out={tmp_path}"]  # fmt: skip
    assert main(words) == 0
    assert len(list(tmp_path.glob("**/films/*.npy"))) == 2  # the clean one, and that of eps 0.2
    assert drawn == [{"none"}]
