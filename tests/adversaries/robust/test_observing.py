"""What an agent sees, what is kept of the truth, and how fast the radius grows."""

import math

import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import saferl.envs
from saferl.adversaries.robust.observing import AttackedObservations, normalised_threat, ramp
from saferl.offline_data.collection.recorder import EpisodeRecorder

EPS = 0.3


class Fixed:
    """A perturbation that is always the same, and longer than allowed in one entry."""

    def perturbations(self, observations):
        return np.tile(np.linspace(-0.5, 0.2, 11, dtype=np.float32), (len(observations), 1))

    def reset(self, mask=None, seed=None):
        """Nothing."""


def made(attack):
    recorder = EpisodeRecorder(
        DummyVecEnv([lambda: saferl.envs.make("point_robot", start="feasible", max_episode_steps=7)] * 3)
    )
    recorder.seed(0)
    return AttackedObservations(VecNormalize(recorder), normalised_threat(11, EPS, "linf"), attack)


def test_the_agent_sees_attacked_observations_everywhere_and_the_statistics_only_true_ones():
    """The published robust form perturbs the observation of a step and not the next one."""
    clean, attacked = made(None), made(Fixed())
    shift = np.clip(np.linspace(-0.5, 0.2, 11), -EPS, EPS)
    actions, ends = np.full((3, 2), 0.3, np.float32), 0
    np.testing.assert_allclose(attacked.reset(), clean.reset() + shift, atol=1e-5)
    for _ in range(20):
        truth, rewards, dones, infos = clean.step(actions)
        seen, same, again, shown = attacked.step(actions)
        np.testing.assert_allclose(seen, np.clip(truth + shift, -10, 10), atol=1e-5)
        np.testing.assert_allclose(same, rewards)
        np.testing.assert_array_equal(again, dones)
        for row in np.flatnonzero(dones):
            ends += 1
            last = infos[row]["terminal_observation"] + shift
            np.testing.assert_allclose(shown[row]["terminal_observation"], last, atol=1e-5)
    assert ends >= 3
    np.testing.assert_allclose(attacked.venv.obs_rms.mean, clean.venv.obs_rms.mean)
    np.testing.assert_allclose(attacked.venv.obs_rms.var, clean.venv.obs_rms.var)
    for mine, theirs in zip(attacked.take(), clean.take()):
        np.testing.assert_array_equal(mine, theirs)


def test_what_is_kept_are_whole_true_steps():
    envs = made(Fixed())
    envs.reset()
    shown = [envs.step(np.full((3, 2), 2.0))[0] for _ in range(10)]
    steps = envs.take()
    assert (steps.actions == 1).all()  # as carried out
    ended = np.zeros((10, 3), bool)
    ended[6] = True  # time runs out behind 7 steps, unless the robot leaves before
    goes_on = ~(steps.terminated | ended)[:-1]
    np.testing.assert_array_equal(steps.next_observations[:-1][goes_on], steps.observations[1:][goes_on])
    assert not np.allclose(shown[0], steps.next_observations[0])
    envs.step(np.zeros((3, 2)))
    assert len(envs.take().rewards) == 1


def test_the_radius_grows_from_0_at_its_start_to_nearly_all():
    assert ramp(0.2, 50, 100, 400) == 0
    assert ramp(0.2, 100, 100, 400) == 0
    assert ramp(0.2, 180, 100, 400) == pytest.approx(0.2 * (1 - math.exp(-1)))
    assert 0.19 < ramp(0.2, 500, 100, 400) < 0.2
