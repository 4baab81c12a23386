"""The parts of a collection against closed forms, slow rewrites and published numbers."""

import json
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from saferl.offline_data.collection import (
    CollectConfig,
    CostLimit,
    KeptActor,
    PIDConfig,
    PIDMultiplier,
    PPOConfig,
    PPOLagrangian,
    RandomPolicy,
    thinned,
)
from saferl.offline_data.collection.checkpoint import load_checkpoint, save_checkpoint
from saferl.offline_data.collection.data_card import markdown
from saferl.offline_data.collection.loop import rollouts
from saferl.offline_data.collection.ppo_lagrangian import combined_advantages, generalised_advantages
from saferl.offline_data.collection.recorder import Episode, EpisodeRecorder
from saferl.offline_data.collection.store import Kept, StageFile, save_episodes, transitions


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Speed(gymnasium.Env[Any, Any]):
    """One state, one action in [0, 4] (its box); a step pays and costs action / 4; over after ``length`` steps.

    Observed are the number of the episode, drawn at reset, and the time (0 where there is no ``clock``).
    Where ``mixed``, even numbers end by the task itself and odd ones by time; otherwise all end by time.
    """

    def __init__(self, length: int = 20, mixed: bool = False, clock: bool = True) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = spaces.Box(np.zeros(1, np.float32), np.full(1, 4, np.float32))
        self._length, self._mixed, self._clock = length, mixed, clock

    def _seen(self) -> np.ndarray:
        return np.array([float(self._number), float(self._t if self._clock else 0)])

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._number, self._t = int(self.np_random.integers(1000)), 0
        return self._seen(), {"cost": 0.0, "margin": -1.0}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._t += 1
        share = float(action[0]) / 4
        over = self._t >= self._length
        by_task = self._mixed and self._number % 2 == 0
        return self._seen(), share, over and by_task, over and not by_task, {"cost": share, "margin": share - 0.5}


gymnasium.register("saferl-test/Speed-v0", entry_point=Speed)


def trainer(limit: Any, normalised: bool = False, length: int = 20, clock: bool = True, **kwargs: Any) -> PPOLagrangian:
    recorder = EpisodeRecorder(DummyVecEnv([lambda: Speed(length, clock=clock)] * 8))
    recorder.seed(0)
    env = VecNormalize(recorder, norm_obs=True, norm_reward=normalised, gamma=0.9)
    settings: dict[str, Any] = {"n_steps": length, "batch_size": 80, "learning_rate": 3e-3, "gamma": 0.9, "seed": 0}
    settings |= {"policy_kwargs": {"log_std_init": -0.5, "net_arch": [16, 16]}, **kwargs}
    pid = PIDMultiplier(PIDConfig(smooth=0.5, most=5.0))
    return PPOLagrangian(env, pid, CostLimit.parse(limit), 10_000, cost_width=16, **settings)


# ---- the multiplier


def test_pid_follows_the_numbers_of_omnisafe():  # recomputed from OmniSafe's controller at limit 25
    pid = PIDMultiplier(PIDConfig())
    found = [pid.update(cost, 25) for cost in (60, 50, 40, 30, 20, 10)]
    assert found == pytest.approx([0.556, 0.945750, 1.173513, 1.242387, 1.155318, 0.915102], abs=5e-7)


def test_derivative_looks_back_over_the_delay_only():  # by hand: C = cost without smoothing, one update back
    pid = PIDMultiplier(PIDConfig(kp=0, ki=0, kd=1, initial=0, smooth=0, delay=1))
    assert [pid.update(cost, 0) for cost in (3, 5, 4, 9)] == pytest.approx([3, 2, 0, 5])


def test_sum_does_not_grow_beyond_the_greatest_multiplier():
    pid = PIDMultiplier(PIDConfig(kp=0, ki=1, kd=0, initial=0, most=5))
    assert [pid.update(cost, 10) for cost in (1000, 1000, 8)] == pytest.approx([5, 5, 3])


def test_pid_goes_on_from_its_saved_state_through_json():
    whole, first = PIDMultiplier(PIDConfig()), PIDMultiplier(PIDConfig())
    costs = [50.0, 3.0, 70.0, 20.0, 31.0, 12.5, 0.0, 44.0, 8.0, 90.0, 61.0, 17.0, 25.0]
    expected = [whole.update(cost, 25) for cost in costs]
    for cost in costs[:6]:
        first.update(cost, 25)
    second = PIDMultiplier(PIDConfig())
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [second.update(cost, 25) for cost in costs[6:]] == expected[6:]


def bandit_costs(pid: PIDMultiplier, steps: int = 400) -> np.ndarray:
    """Episode costs of exact policy gradient on a bandit: arm 1, taken with p = sigmoid(x), pays 1 and costs 100."""
    x, costs = 3.0, []
    for _ in range(steps):
        p = 1 / (1 + np.exp(-x))
        costs.append(100 * p)
        multiplier = pid.update(costs[-1], 25)
        x += 2.0 * p * (1 - p) * (1 - multiplier)  # slope of p - multiplier (100 p - 25) / 100
    return np.array(costs)


def test_proportional_and_derivative_terms_damp_the_oscillation_of_the_sum_alone():  # Stooke et al., 2020
    gains: dict[str, Any] = {"ki": 0.005, "initial": 0.0, "smooth": 0.0}
    summed = bandit_costs(PIDMultiplier(PIDConfig(kp=0, kd=0, **gains)))
    damped = bandit_costs(PIDMultiplier(PIDConfig(kp=0.05, kd=0.02, **gains)))
    assert np.ptp(summed[-150:]) > 30  # still swings around the limit
    assert np.ptp(damped[-150:]) < 0.5
    assert damped[-1] == pytest.approx(25, abs=0.5)
    overshoot = [np.clip(costs[50:] - 25, 0, None).sum() for costs in (summed, damped)]
    assert overshoot[1] < 0.2 * overshoot[0]


def test_limit_moves_evenly_and_refuses_what_is_no_limit():
    assert [CostLimit.parse([100, 0]).at(share) for share in (0, 0.25, 1)] == [100, 75, 0]
    assert CostLimit.parse(25).at(0.7) == 25
    assert not CostLimit.parse(None).constrained
    for wrong in (-1, [1], [1, 2, 3], "25", True, float("nan"), [1, None]):
        with pytest.raises(ValueError, match=r"limits: .* is not a cost limit; allowed"):
            CostLimit.parse(wrong)


# ---- advantages


def slow_advantages(signals, values, last, starts, dones, gamma, lam):  # the sum of the definition, term by term
    steps, envs = signals.shape
    result = np.zeros((steps, envs))
    for b in range(envs):
        for t in range(steps):
            weight = 1.0
            for k in range(t, steps):
                ends = dones[b] if k == steps - 1 else starts[k + 1, b]
                following = 0.0 if ends else (last[b] if k == steps - 1 else values[k + 1, b])
                result[t, b] += weight * (signals[k, b] + gamma * following - values[k, b])
                if ends:
                    break
                weight *= gamma * lam
    return result


def test_advantages_equal_their_definition():
    draw = np.random.default_rng(0)
    signals, values = draw.normal(size=(2, 12, 3)).astype(np.float32)
    starts = (draw.random((12, 3)) < 0.3).astype(np.float32)
    last, dones = draw.normal(size=3).astype(np.float32), np.array([True, False, False])
    found = generalised_advantages(signals, values, last, starts, dones, 0.97, 0.9)
    np.testing.assert_allclose(found, slow_advantages(signals, values, last, starts, dones, 0.97, 0.9), atol=1e-5)


def test_combined_advantage_is_the_weighted_mean_whatever_the_scales():
    reward = np.array([[1.0, -1.0], [1.0, -1.0]], np.float32)  # mean 0, deviation 1 already
    cost = np.array([[1.0, 1.0], [-1.0, -1.0]], np.float32)
    expected = (reward - 3 * cost) / 4
    np.testing.assert_allclose(combined_advantages(reward, cost, 3.0), expected, atol=1e-6)
    np.testing.assert_allclose(combined_advantages(50 * reward + 7, 0.1 * cost - 2, 3.0), expected, atol=1e-5)
    np.testing.assert_allclose(
        combined_advantages(reward, 1e-6 * cost, 1.0), reward / 2, atol=1e-3
    )  # noise stays noise


# ---- PPO with a limit


def test_training_meets_the_limit_where_cost_is_what_pays():  # best allowed: 5 of 20 in both
    model = trainer(5)
    costs: list[float] = []
    model.on_rollout = lambda: costs.append(float(np.mean(model.finished)))
    model.learn(12_000)
    assert costs[0] == pytest.approx(10, abs=2)  # untrained: the middle of the box
    assert np.mean(costs[-15:]) == pytest.approx(5, abs=1)


def test_training_without_a_limit_goes_for_the_reward():
    model = trainer(None)
    model.learn(6_000)
    assert np.mean(model.finished) > 17
    assert model.multiplier is not None
    assert model.multiplier.value == model.multiplier.config.initial  # was never updated


def test_cost_critic_does_not_take_the_time_limit_for_an_end():  # 0.5 a step for ever: 0.5 / (1 - 0.9)
    model = trainer(1000, length=5, clock=False, learning_rate=1e-2, batch_size=40)  # a limit that never binds
    model.policy.optimizer.param_groups[0]["lr"] = 0.0
    model.lr_schedule = lambda progress: 0.0  # the policy stays in the middle of the box
    with torch.no_grad():
        model.policy.log_std.fill_(-10)
        model.policy.action_net.weight.zero_()
    model.learn(4_000)
    values = model.cost_values(np.asarray(model._last_obs))
    np.testing.assert_allclose(values, 5.0, atol=0.3)  # with the limit as an end: at most 2.05


# ---- recording


def test_recorder_keeps_what_the_environment_saw_and_tells_an_end_from_a_timeout():
    recorder = EpisodeRecorder(DummyVecEnv([lambda: Speed(3, mixed=True)] * 4))
    recorder.seed(5)
    firsts = [recorder.reset().copy()]
    actions = np.random.default_rng(0).uniform(-1.5, 1.5, (9, 4, 1)).astype(np.float32)
    for action in actions:
        observations, _, dones, _ = recorder.step(action)
        if dones.all():
            firsts.append(np.array(observations))
    episodes = recorder.take()
    assert len(episodes) == 12
    assert recorder.take() == []
    for k, episode in enumerate(episodes):
        first = firsts[k // 4][k % 4]
        executed = 2 * (np.clip(actions[3 * (k // 4) : 3 * (k // 4) + 3, k % 4], -1, 1) + 1)  # [-1, 1] to [0, 4]
        np.testing.assert_allclose(episode.actions, executed, atol=1e-6)
        np.testing.assert_array_equal(episode.observations, [[first[0], t] for t in range(4)])  # the last one too
        np.testing.assert_allclose(episode.costs, executed[:, 0] / 4, atol=1e-6)
        np.testing.assert_allclose(episode.margins, executed[:, 0] / 4 - 0.5, atol=1e-6)
        assert episode.terminal == (first[0] % 2 == 0)
    assert len({episode.terminal for episode in episodes}) == 2


def test_recorder_refuses_spaces_that_it_cannot_record():
    env = DummyVecEnv([lambda: gymnasium.make("CartPole-v1")])
    with pytest.raises(ValueError, match="bounded one-dimensional Box of actions; got Discrete"):
        EpisodeRecorder(env)


def test_rollouts_allot_episodes_beforehand_and_repeat_with_their_seed():
    config = CollectConfig(env="saferl-test/Speed-v0", envs=3)
    first, again, other = (rollouts(config, RandomPolicy(1), 7, seed) for seed in (1, 1, 2))
    assert len(first) == len(other) == 7
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a.actions, b.actions)
        np.testing.assert_array_equal(a.observations, b.observations)
    assert not np.array_equal(first[0].actions, other[0].actions)


# ---- kept policies


def test_kept_actor_acts_as_the_model_that_was_saved(tmp_path):
    model = trainer(5)
    model.learn(800)
    env = model.get_env()
    assert isinstance(env, VecNormalize)
    save_checkpoint(model, env, tmp_path / "a.safetensors", {})
    raw = np.random.default_rng(0).normal(0, 300, (64, 2)).astype(np.float32)
    expected = model.predict(env.normalize_obs(raw), deterministic=True)[0]  # clipped to [-1, 1]
    kept = KeptActor(tmp_path / "a.safetensors")
    np.testing.assert_allclose(kept.act(raw), expected, atol=1e-5)
    noisy = KeptActor(tmp_path / "a.safetensors", noise=0.1)
    noisy.reset(seed=3)
    differences = noisy.act(raw) - expected
    assert 0.05 < differences.std() < 0.15


def test_checkpoint_brings_back_all_that_the_next_update_depends_on(tmp_path):
    model = trainer(5, normalised=True)
    model.learn(800)
    env = model.get_env()
    assert isinstance(env, VecNormalize)
    save_checkpoint(model, env, tmp_path / "a.safetensors", {})
    fresh = trainer(5, normalised=True, seed=7)
    fresh_env = fresh.get_env()
    assert isinstance(fresh_env, VecNormalize)
    load_checkpoint(fresh, fresh_env, tmp_path / "a.safetensors")
    for each, normaliser in ((model, env), (fresh, fresh_env)):
        normaliser.seed(11)
        torch.manual_seed(11)
        np.random.seed(11)  # noqa: NPY002 - SB3's buffer draws from it
        each._last_obs = None
        each.learn(800, reset_num_timesteps=False)
    assert model.num_timesteps == fresh.num_timesteps
    for name, value in model.policy.state_dict().items():
        assert torch.equal(value, fresh.policy.state_dict()[name]), name
    for name, value in model.cost_critic.state_dict().items():
        assert torch.equal(value, fresh.cost_critic.state_dict()[name]), name
    assert model.multiplier is not None
    assert fresh.multiplier is not None
    assert model.multiplier.state_dict() == fresh.multiplier.state_dict()


def test_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"\x80\x04 a pickle")
    with pytest.raises(ValueError, match=r"a\.safetensors: not a policy"):
        KeptActor(path)


# ---- the store


def test_thinning_levels_the_densest_cells_and_leaves_the_sparse_ones():
    draw = np.random.default_rng(1)
    corners, sizes = [(0, 0), (0, 10), (10, 0), (10, 10)], [50, 20, 5, 1]  # far apart: one cell each
    points = np.array([corner for corner, size in zip(corners, sizes) for _ in range(size)], dtype=float)
    rows = thinned(points[:, 0], points[:, 1], 30, draw)
    assert len(set(rows.tolist())) == 30
    left = [int(np.sum((points[rows] == corner).all(1))) for corner in corners]
    assert left == [12, 12, 5, 1]  # water level 12: min(size, 12) sums to 30


def test_thinning_uses_a_grid_of_ceil_sqrt_target_and_keeps_all_where_there_is_no_need():
    costs = np.arange(10.0)  # to 8: 3 cells a side, with 3, 3 and 4 of them
    rows = thinned(costs, np.zeros(10), 8, np.random.default_rng(0))
    left = np.bincount((costs[rows] / 9 * 3).astype(int).clip(max=2))
    assert sorted(left.tolist()) == [2, 3, 3]
    assert thinned(costs, costs, 10, np.random.default_rng(0)).tolist() == list(range(10))


def test_thinning_favours_no_corner_among_equally_dense_cells():  # 64 cells of one, 50 wanted: each stays in 50 of 64
    costs, returns = (axis.ravel().astype(float) for axis in np.meshgrid(range(8), range(8)))
    stayed = np.zeros(64)
    for seed in range(300):
        stayed[thinned(costs, returns, 50, np.random.default_rng(seed))] += 1 / 300
    deviation = np.sqrt(50 / 64 * 14 / 64 / 300)
    assert np.abs(stayed - 50 / 64).max() < 4.5 * deviation
    assert stayed[costs == 0].mean() == pytest.approx(50 / 64, abs=0.03)


def made_episode(number: int, steps: int, terminal: bool) -> Episode:
    rows = np.arange(steps, dtype=np.float32)
    seen = np.stack([np.full(steps + 1, number), np.arange(steps + 1)], 1).astype(np.float32)
    return Episode(seen, rows[:, None] + 10 * number, rows + number, rows % 2, rows - 1, terminal)


def test_stage_file_gives_back_single_episodes_and_the_dataset_ends_them_right(tmp_path):
    episodes = [made_episode(1, 3, True), made_episode(2, 5, False), made_episode(3, 2, False)]
    save_episodes(tmp_path / "s.safetensors", [Kept(e, f"source {i}") for i, e in enumerate(episodes)], {"x": 1})
    stage = StageFile(tmp_path / "s.safetensors")
    assert (stage.notes, stage.sources) == ({"x": 1}, ["source 0", "source 1", "source 2"])
    assert stage.totals.tolist() == [[1, 6], [2, 20], [1, 7]]  # by hand: cost return, reward return
    arrays = transitions(stage.episodes(np.array([0, 2])))
    assert arrays["observations"].tolist() == [[1, 0], [1, 1], [1, 2], [3, 0], [3, 1]]
    assert arrays["next_observations"].tolist() == [[1, 1], [1, 2], [1, 3], [3, 1], [3, 2]]
    assert arrays["actions"][:, 0].tolist() == [10, 11, 12, 30, 31]
    assert arrays["terminals"].tolist() == [False, False, True, False, False]
    assert arrays["timeouts"].tolist() == [False, False, False, False, True]
    assert arrays["margins"].tolist() == [-1, 0, 1, -1, 0]


def test_damaged_stage_is_named(tmp_path):
    (tmp_path / "s.safetensors").write_bytes(b"12345678910")
    with pytest.raises(ValueError, match=r"s\.safetensors: not a stage of a collection"):
        StageFile(tmp_path / "s.safetensors")


# ---- settings and card


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"limits": []}, "limits is empty"),
        ({"limits": [-3]}, "limits: -3 is not a cost limit"),
        ({"steps": 100}, "steps must be at least ppo.rollout"),
        ({"noise": [-1.0]}, "noise: every value must be"),
        ({"trajectories": 0}, "trajectories must be a whole number >= 1"),
        ({"seed": -1}, "seed must be in 0"),
        ({"max_cost": -1.0}, "max_cost must be >= 0"),
    ],
)
def test_settings_name_what_is_wrong(settings, message):
    with pytest.raises(ValueError, match=message) as error:
        CollectConfig(env="x", **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["lr", "gamma", "gae", "batch", "entropy"])
def test_ppo_settings_name_what_is_wrong(key):
    with pytest.raises(ValueError, match=f"ppo.{key} must"):
        PPOConfig(**{key: -1})


def test_card_for_people_survives_a_collection_without_known_versions():
    spread = {"min": 0.0, "mean": 1.0, "max": 2.0}
    stage = {"limit": "none", "stage": 0, "steps": 0, "reward": None, "cost": 1.0, "multiplier": 0.0}
    card = {
        "env": "x", "seed": 0, "transitions": 10, "episodes": 2, "obs_dim": 2, "act_dim": 1, "margins": False,
        "reward_return": spread, "cost_return": spread, "episode_length": spread, "episodes_without_cost": 1,
        "best_return_within_cost": {"0": 1.0}, "terminal_episodes": 0, "made_with": {}, "wall_s": 60.0, "cpu_s": 30.0,
        "stages": [stage | {"episodes_seen": 2, "episodes_too_costly": 0}],
        "policies": [{"policy": "random", "episodes": 2, "reward_return": spread, "cost_return": spread}],
    }  # fmt: skip
    text = markdown(card)
    assert "2 episodes, 10 transitions" in text
    assert "| - | random | 0 |" not in text
    assert "| none | random | 0 | - | 1.00 | 0.00 | 2 | 0 |" in text
