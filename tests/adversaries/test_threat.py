"""The ball, and that nothing gets out of it."""

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from saferl.adversaries.ascent import AscentConfig
from saferl.adversaries.attacks import AttackedPolicy, RandomAttack
from saferl.adversaries.catalogue import EvolutionConfig, Means, make_attack
from saferl.adversaries.threat import Normaliser, Threat, Units, load_normaliser
from saferl.adversaries.victim import Victim
from saferl.evaluation.rollout import episode_seeds, rollout
from saferl.policy import CallablePolicy
from tests.adversaries.victims import critics, linear_victim, normaliser, observations, threat


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_whatever_an_adversary_gives_what_is_seen_lies_in_the_ball_and_in_the_box(norm):
    ball, true = threat(5, 0.3, norm), observations(400, 5)
    true[::7] = normaliser(5).mean + 9.9 * normaliser(5).scale  # close to the box's edge
    wild = np.random.default_rng(0).normal(0, 3, true.shape).astype(np.float32)
    seen = ball.seen(true, wild)
    moved = (seen.astype(np.float64) - true) / normaliser(5).scale
    length = np.abs(moved).max(1) if norm == "linf" else np.linalg.norm(moved, axis=1)
    assert length.max() <= 0.3 * (1 + 1e-4)
    assert np.quantile(length, 0.5) == pytest.approx(0.3, rel=1e-3)  # and the ball is used
    assert np.abs((seen - normaliser(5).mean) / normaliser(5).scale).max() <= 10 + 1e-4


def test_a_true_value_outside_the_box_may_stay_but_goes_no_further():
    ball = threat(2, 0.5)
    far = (normaliser(2).mean + normaliser(2).scale * np.array([[12.0, -12.0]])).astype(np.float32)
    np.testing.assert_array_equal(ball.seen(far, np.zeros((1, 2), np.float32)), far)
    np.testing.assert_array_equal(ball.seen(far, np.array([[0.5, -0.5]], np.float32)), far)
    nearer = ball.seen(far, np.array([[-0.5, 0.5]], np.float32))
    np.testing.assert_allclose(nearer - far, normaliser(2).scale * np.array([[-0.5, 0.5]]), rtol=1e-4)


def test_short_perturbations_pass_as_they_are():
    ball, true = threat(4, 0.3), observations(50, 4)
    deltas = np.random.default_rng(1).uniform(-0.3, 0.3, true.shape).astype(np.float32)
    np.testing.assert_allclose(ball.seen(true, deltas), true + normaliser(4).scale * deltas, rtol=1e-6)


def test_l2_cuts_by_length_and_keeps_the_direction():
    ball = threat(3, 0.5, "l2")
    deltas = torch.tensor([[3.0, 4.0, 0.0], [0.1, 0.1, 0.1]])
    cut = ball.cut(deltas, ball.limits(torch.as_tensor(observations(2, 3))))
    np.testing.assert_allclose(cut.numpy(), [[0.3, 0.4, 0.0], [0.1, 0.1, 0.1]], rtol=1e-5)


def test_a_dimension_that_never_varies_cant_be_perturbed():
    rows = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    rows[:, 1] = 9.81
    units = Normaliser.from_observations(rows, "rows")
    np.testing.assert_allclose(units.scale[[0, 2]], rows.std(0)[[0, 2]], rtol=1e-5)
    seen = Threat(Units(units), 0.5).seen(rows, np.ones_like(rows))
    np.testing.assert_array_equal(seen[:, 1], rows[:, 1])
    assert (seen[:, 0] != rows[:, 0]).all()


def test_eps_0_gives_the_very_bits_back():
    true = observations(20, 4)
    true[0] = [-0.0, 1e-42, 3e38, -1e-30]
    seen = threat(4, 0.0).seen(true, np.ones_like(true))
    assert seen.tobytes() == true.tobytes()


def test_an_attack_with_eps_0_changes_no_bit_of_a_rollout():
    generator = torch.Generator()

    class Noisy:  # its own noise must be drawn as without an adversary
        def act(self, rows):
            return np.sin(3 * rows[:, :2]) + 0.3 * torch.randn(len(rows), 2, generator=generator).numpy()

        def reset(self, mask=None, seed=None):
            if seed is not None:
                generator.manual_seed(seed)

    one = np.ones(2, np.float32)
    victim = Victim(Noisy(), 11, -one, one, "noisy")
    ball = threat(11, 0.0)
    clean = rollout(victim.policy, "point_robot", episode_seeds(0, 6))
    attacked = rollout(AttackedPolicy(victim, ball, RandomAttack(ball)), "point_robot", episode_seeds(0, 6))
    assert clean.returns.tobytes() == attacked.returns.tobytes()
    assert clean.costs.tobytes() == attacked.costs.tobytes()
    other = threat(11, 0.5)
    moved = rollout(AttackedPolicy(victim, other, RandomAttack(other)), "point_robot", episode_seeds(0, 6))
    assert (moved.returns != clean.returns).all()


def test_the_true_state_is_not_touched():
    """The environment makes the same step for the same action, whatever the victim saw."""
    one = np.ones(2, np.float32)
    blind = Victim(CallablePolicy(lambda rows: np.full((len(rows), 2), 0.3)), 11, -one, one, "blind")
    ball = threat(11, 2.0)
    clean = rollout(blind.policy, "point_robot", episode_seeds(0, 4))
    attacked = rollout(AttackedPolicy(blind, ball, RandomAttack(ball)), "point_robot", episode_seeds(0, 4))
    np.testing.assert_array_equal(clean.returns, attacked.returns)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_perturbations_fill_the_ball_evenly(norm):
    deltas = threat(3, 0.2, norm).random(20_000, torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_allclose(deltas.mean(0), 0, atol=0.004)
    if norm == "linf":
        inside = (np.abs(deltas) <= 0.1).all(1).mean()  # half the side in each of three dimensions
    else:
        inside = (np.linalg.norm(deltas, axis=1) <= 0.1).mean()
        assert np.linalg.norm(deltas, axis=1).max() <= 0.2 + 1e-6
    assert inside == pytest.approx(1 / 8, abs=0.01)


def test_dimensions_that_never_vary_take_no_length_from_a_random_perturbation():
    scale = np.where(np.arange(60) % 3 == 0, 0.5, 0).astype(np.float32)  # 20 vary
    units, true = Units(Normaliser(np.zeros(60, np.float32), scale, "made up")), np.zeros((4_000, 60), np.float32)
    for norm, expected in (("l2", 0.2 * 20 / 21), ("linf", 0.1)):  # mean length in 20 dimensions; of each entry
        ball = Threat(units, 0.2, norm)
        moved = ball.seen(true, ball.random(4_000, torch.Generator().manual_seed(0)).numpy())[:, ::3] / 0.5
        length = np.linalg.norm(moved, axis=1) if norm == "l2" else np.abs(moved)
        assert length.mean() == pytest.approx(expected, rel=0.01)
    never = Threat(Units(Normaliser(np.zeros(3, np.float32), np.zeros(3, np.float32), "made up")), 0.2, "l2")
    assert not never.random(5, torch.Generator()).any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    ("mean", "scale", "eps"), [(1000, 1e-3, 0.1), (9.81, 2e-6, 0.3), (9.81, 1e-4, 0.3), (1, 1, 1e-7), (2**20, 1, 0.2)]
)
def test_where_float32_is_coarse_beside_the_scale_rounding_does_not_lengthen_a_move(mean, scale, eps, norm):
    generator = np.random.default_rng(0)
    units = Normaliser(np.full(3, mean, np.float32), np.full(3, scale, np.float32), "made up")
    true = (units.mean + units.scale * generator.normal(size=(2_000, 3))).astype(np.float32)
    seen = Threat(Units(units), eps, norm).seen(true, generator.normal(size=true.shape).astype(np.float32))
    moved = np.abs(seen.astype(np.float64) - true) / units.scale.astype(np.float64)
    length = moved.max(1) if norm == "linf" else np.linalg.norm(moved, axis=1)
    assert length.max() <= eps * (1 + 1e-4)
    spacing = float(np.spacing(np.float32(mean))) / scale  # normalised units
    assert length.max() >= eps - 2 * spacing  # no more is lost than a step or two


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_in_ordinary_units_what_is_seen_is_float32s_sum_to_the_bit(norm):
    ball, true = threat(6, 0.1, norm), observations(3_000, 6)
    wild = np.random.default_rng(2).normal(0, 3, true.shape).astype(np.float32)
    rows = torch.as_tensor(true)
    cut = ball.cut(torch.as_tensor(wild), ball.limits(rows))
    assert ball.seen(true, wild).tobytes() == ball.shifted(rows, cut).numpy().tobytes()


def third_varies(eps, norm="l2"):
    """A ball in 60 dimensions of which 20 vary."""
    scale = np.where(np.arange(60) % 3 == 0, 0.5, 0).astype(np.float32)
    return Threat(Units(Normaliser(np.zeros(60, np.float32), scale, "made up")), eps, norm)


def length_in_l2(ball, true, deltas):
    return np.linalg.norm((ball.seen(true, deltas) - true)[:, ::3] / 0.5, axis=1)


@pytest.mark.parametrize("white_box", [True, False])
@pytest.mark.parametrize("name", ["fgsm", "pgd", "mad", "mr"])
def test_dimensions_that_never_vary_take_no_length_from_a_gradient_attack(name, white_box):
    """Slopes from answers are noise there, as are MAD's Langevin steps; "mr" climbs by Adam."""
    weights = np.random.default_rng(5).normal(size=(1, 60))
    victim, ball = linear_victim(weights, limit=1, white_box=white_box), third_varies(0.2)
    true = np.random.default_rng(6).normal(0, 0.01, (40, 60)).astype(np.float32)  # no action leaves its box
    ascent = AscentConfig(optimizer="adam", steps=20) if name == "mr" else AscentConfig(stride=4)
    means = Means(
        victim=victim,
        critics=critics(reward=lambda states, actions: actions[:, 0]),
        ascent=ascent,
        queries=EvolutionConfig(directions=6),
    )
    attack = make_attack(name, ball, means)
    attack.reset(seed=0)
    np.testing.assert_allclose(length_in_l2(ball, true, attack.perturbations(true)), 0.2, rtol=1e-4)


def test_the_steepest_move_has_length_1_where_something_varies():
    gradients = torch.randn(50, 60, generator=torch.Generator().manual_seed(0))
    moves = third_varies(0.2).steepest(gradients)
    torch.testing.assert_close(moves[:, ::3].norm(dim=1), torch.ones(50))
    signs = third_varies(0.2, "linf").steepest(gradients)
    torch.testing.assert_close(signs[:, ::3], gradients[:, ::3].sign())
    for each in (moves, signs):
        assert not each.view(50, 20, 3)[:, :, 1:].any()


def test_units_are_those_of_vecnormalize(tmp_path):
    env = VecNormalize(DummyVecEnv([lambda: gymnasium.make("Pendulum-v1")]), clip_obs=2.0)
    env.reset()
    for _ in range(200):
        env.step(np.ones((1, 1)))
    np.savez(tmp_path / "stats.npz", mean=env.obs_rms.mean, var=env.obs_rms.var, clip=env.clip_obs)
    units = Units(load_normaliser(tmp_path / "stats.npz", 3))
    rows = np.random.default_rng(0).normal(0, 3, (50, 3)).astype(np.float32)
    np.testing.assert_allclose(units.features(torch.as_tensor(rows)), env.normalize_obs(rows), atol=1e-5)


def test_files_of_statistics_that_are_none_are_refused_in_one_line(tmp_path):
    np.savez(tmp_path / "short.npz", mean=np.zeros(3), var=np.ones(3))
    with pytest.raises(ValueError, match="is for 3 observations; the environment has 4"):
        load_normaliser(tmp_path / "short.npz", 4)
    np.savez(tmp_path / "pickle.npz", mean=np.array([{}], object), var=np.ones(3))
    with pytest.raises(ValueError, match=r"expected an \.npz file with mean and var"):
        load_normaliser(tmp_path / "pickle.npz", 3)
    with pytest.raises(ValueError, match=r"expected an \.npz file"):
        load_normaliser(tmp_path / "missing.npz", 3)


def test_what_is_no_perturbation_is_refused():
    ball, true = threat(3, 0.1), observations(2, 3)
    with pytest.raises(ValueError, match="NaN or infinite"):
        ball.seen(true, np.full_like(true, np.nan))
    with pytest.raises(ValueError, match="must have the shape"):
        ball.seen(true, np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match="norm must be one of linf, l2; got 'l1'"):
        threat(3, 0.1, "l1")
    with pytest.raises(ValueError, match="eps must be a number >= 0"):
        threat(3, -0.1)
