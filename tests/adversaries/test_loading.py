"""Victims by name."""

import threading

import gymnasium
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from safetensors.torch import save_file
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

import saferl.envs
from saferl.adversaries import white_box
from saferl.adversaries.attacks import AttackedPolicy
from saferl.adversaries.catalogue import Means, make_attack, make_turn
from saferl.adversaries.learned import LearnedAttack
from saferl.adversaries.loading import load_victim, onnx_policy, space_of
from saferl.adversaries.threat import Normaliser, Threat, Units
from saferl.adversaries.victim import Victim
from saferl.command_line import UsageError
from saferl.evaluation.sb3_zip import SB3Actor
from saferl.offline_data.collection import CollectConfig, KeptActor, PPOConfig, collect
from saferl.offline_data.collection.recorder import EpisodeRecorder
from tests.adversaries.test_white_box import slope_by_differences, slope_by_gradient
from tests.training.small import trained

ROWS = np.random.default_rng(0).normal(size=(9, 11)).astype(np.float32)

torch.manual_seed(0)
network = nn.Sequential(nn.Linear(11, 8), nn.Tanh(), nn.Linear(8, 2))
model = sb3.SAC("MlpPolicy", saferl.envs.make("point_robot"), seed=0, device="cpu", buffer_size=10)


def function(observations):
    return np.tanh(observations[:, :2])


def wrong_shape(observations):
    return observations[:, :3]


def not_finite(observations):
    return np.full((len(observations), 2), np.nan)


number = 3


class Recurrent:
    """h <- 0.9 h + 0.1 s, the action; ``act`` changes the memory."""

    def __init__(self):
        self.memory = None

    def act(self, observations):
        if self.memory is None or len(self.memory) != len(observations):
            self.memory = np.zeros((len(observations), 2), np.float32)
        self.memory = 0.9 * self.memory + 0.1 * observations[:, :2]
        return self.memory

    def reset(self, mask=None, seed=None):
        if mask is None:
            self.memory = None
        else:
            self.memory[mask] = 0


class Gait(Recurrent):
    """A rhythm, whatever is seen."""

    def act(self, observations):
        self.memory = (0 if self.memory is None else self.memory) + np.ones(len(observations))
        return 0.01 * observations[:, :2] + np.sin(self.memory)[:, None]


class Noisy:
    def __init__(self, obeys):
        self.obeys, self.generator = obeys, np.random.default_rng(0)

    def act(self, observations):
        return np.clip(observations[:, :2] + 0.1 * self.generator.standard_normal((len(observations), 2)), -1, 1)

    def reset(self, mask=None, seed=None):
        if self.obeys and seed is not None:
            self.generator = np.random.default_rng(seed)


class WithFeedback(Recurrent):
    def observe(self, rewards, costs):
        pass


class Locked(Recurrent):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


class Shared(Recurrent):
    def __deepcopy__(self, memo):
        return self


recurrent, gait, locked, shared = Recurrent(), Gait(), Locked(), Shared()
noisy, stubborn, with_feedback = Noisy(True), Noisy(False), WithFeedback()


class Spaces(gymnasium.Env):
    """Two observations, two actions."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def __init__(self, low=(-1.0, -1.0), high=(1.0, 1.0)):
        self.action_space = gymnasium.spaces.Box(np.array(low, np.float32), np.array(high, np.float32))

    def reset(self, *, seed=None, options=None):
        return np.ones(2, np.float32), {"cost": 0.0}

    def step(self, action):
        return np.ones(2, np.float32), 0.0, False, False, {"cost": 0.0}


SPACES, NARROW = "test/Spaces-v0", {"low": (-0.4, 0.0), "high": (0.4, 3.0)}
if SPACES not in gymnasium.registry:
    gymnasium.register(SPACES, Spaces)


def same_as_policy(victim):
    """A victim's answers are its policy's actions."""
    said = victim.box.from_unit(victim.response(torch.as_tensor(ROWS)).actions.detach()).numpy()
    np.testing.assert_allclose(said, victim.policy.act(ROWS), atol=1e-5)


def test_a_run_brings_its_environment_and_its_gradients(tmp_path):
    run = trained(tmp_path, "steps=20")
    victim, env = load_victim(str(run))
    assert env == "point_robot"
    assert victim.white_box
    assert victim.critics is None  # behaviour cloning learns none
    assert victim.normaliser is None
    same_as_policy(victim)
    assert not load_victim(str(run), black_box=True)[0].white_box


def test_a_policy_that_collect_kept_brings_its_statistics(tmp_path):
    config = CollectConfig(
        env="point_robot", trajectories=2, limits=[None], steps=64, stages=1, episodes=1, noise=[0.0],
        random_episodes=0, envs=2, ppo=PPOConfig(rollout=32, batch=32, epochs=1, width=8),
    )  # fmt: skip
    collect(config, tmp_path, {}, lambda progress: None)
    (path,) = (tmp_path / "policies").glob("*.safetensors")
    victim, _ = load_victim(str(path), "point_robot")
    assert victim.white_box
    assert victim.normaliser is not None
    assert np.ptp(victim.normaliser.scale) > 0.1
    same_as_policy(victim)
    deviation = victim.response(torch.as_tensor(ROWS)).deviation
    assert deviation[0, 0] == pytest.approx(np.exp(-0.5), rel=0.05)  # PPO has hardly moved it


def kept_policy(path):
    """A policy as saferl.collect keeps it, from two observations to two actions in [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    arrays = {
        "observations.mean": torch.tensor([0.5, -1.0]),
        "observations.var": torch.tensor([4.0, 0.25]),
        "policy.mlp_extractor.policy_net.0.weight": torch.randn(8, 2, generator=generator),
        "policy.mlp_extractor.policy_net.0.bias": torch.zeros(8),
        "policy.action_net.weight": 0.4 * torch.randn(2, 8, generator=generator),
        "policy.action_net.bias": torch.tensor([0.1, -0.2]),
        "policy.log_std": torch.tensor([-0.5, -1.0]),
    }
    save_file(arrays, path)
    return path


@pytest.mark.parametrize("box", [{}, NARROW])
def test_a_kept_policy_acts_in_the_environments_box_as_it_did_when_it_was_trained(box, tmp_path):
    path = kept_policy(tmp_path / "kept.safetensors")
    rows = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    victim, _ = load_victim(str(path), SPACES, env_kwargs=box)
    unit, acted = KeptActor(path).act(rows), victim.policy.act(rows)
    assert 2 < (np.abs(unit) == 1).any(1).sum() < 38  # some are clipped
    recorder = EpisodeRecorder(DummyVecEnv([lambda: Spaces(**box)]))
    recorder.reset()
    for action, here in zip(unit, acted):
        recorder.step_async(action[None])
        np.testing.assert_allclose(here, recorder._executed[0], rtol=1e-6, atol=1e-7)
    if not box:
        np.testing.assert_array_equal(acted, unit)
    point = torch.as_tensor(rows)
    said = victim.response(point)
    np.testing.assert_allclose(victim.box.from_unit(said.actions).numpy(), acted, atol=1e-6)
    np.testing.assert_allclose(said.deviation[0], np.exp([-0.5, -1.0]), rtol=1e-5)  # in [-1, 1] units, whatever the box
    inside = torch.as_tensor((np.abs(unit) < 0.95).all(1))
    directions = torch.randn(point.shape, generator=torch.Generator().manual_seed(1))
    differences = slope_by_differences(victim, point, directions)[inside]
    gradient = slope_by_gradient(victim, point, directions)[inside]
    assert ((gradient - differences).norm() / differences.norm()) < 1e-3


def test_an_sb3_file_is_a_white_box_behind_its_statistics_if_it_has_any(tmp_path):
    ppo = sb3.PPO("MlpPolicy", saferl.envs.make("point_robot"), seed=0, device="cpu")
    ppo.save(tmp_path / "model.zip")
    victim, _ = load_victim(str(tmp_path / "model.zip"), "point_robot")
    assert victim.normaliser is None
    same_as_policy(victim)
    np.testing.assert_allclose(victim.policy.act(ROWS), ppo.predict(ROWS, deterministic=True)[0], atol=1e-5)
    mean, variance = ROWS.mean(0), 4 * ROWS.var(0)
    np.savez(tmp_path / "stats.npz", mean=mean, var=variance)
    victim, _ = load_victim(str(tmp_path / "model.zip"), "point_robot", statistics=str(tmp_path / "stats.npz"))
    same_as_policy(victim)
    scaled = (ROWS - mean) / np.sqrt(variance + 1e-8)
    np.testing.assert_allclose(victim.policy.act(ROWS), ppo.predict(scaled, deterministic=True)[0], atol=1e-5)


@pytest.mark.parametrize("algorithm", [sb3.TD3, sb3.DDPG, sb3.SAC])
def test_a_deterministic_actors_file_moves_what_its_model_moves(algorithm, tmp_path):
    """a = tanh(10 s_0 + 8), which is saturated, and tanh(s_1): only s_1 moves the action."""
    made = algorithm("MlpPolicy", Spaces(), device="cpu", buffer_size=10, policy_kwargs={"net_arch": []})
    last = made.actor.mu if algorithm is sb3.SAC else made.actor.mu[0]
    with torch.no_grad():
        last.weight.copy_(torch.tensor([[10.0, 0.0], [0.0, 1.0]]))
        last.bias.copy_(torch.tensor([8.0, 0.0]))
    made.save(tmp_path / "model.zip")
    victim, _ = load_victim(str(tmp_path / "model.zip"), SPACES)
    in_memory = Victim(victim.policy, *space_of(SPACES, {}), "in memory", white_box.of_model(made))
    ball = Threat(Units(Normaliser(np.zeros(2, np.float32), np.ones(2, np.float32), "plain")), 0.3, "l2")
    rows = torch.zeros(1, 2)
    for each in (victim, in_memory):
        if algorithm is sb3.SAC:  # the mean of its Gaussian, which RAT compares with the intention's
            np.testing.assert_allclose(each.response(rows).mean, [[8, 0]], atol=1e-5)
            continue
        torch.testing.assert_close(each.response(rows), in_memory.response(rows))
        attack = make_attack("pgd", ball, Means(victim=each))
        attack.reset(seed=0)
        np.testing.assert_allclose(np.abs(attack.perturbations(rows.numpy())), [[0, 0.3]], atol=0.01)


@pytest.mark.parametrize(("name", "white"), [("network", True), ("model", True), ("function", False)])
def test_what_can_be_imported(name, white):
    victim, _ = load_victim(f"{__name__}:{name}", "point_robot")
    assert victim.white_box == white
    assert (victim.obs_dim, victim.act_dim) == (11, 2)
    same_as_policy(victim)


@pytest.mark.parametrize(
    ("word", "env", "message"),
    [
        (f"{__name__}:function", None, "needs env=ID"),
        (f"{__name__}:wrong_shape", "point_robot", r"must give finite actions \(2, 2\).*got \(2, 3\)"),
        (f"{__name__}:not_finite", "point_robot", "must give finite actions"),
        (f"{__name__}:number", "point_robot", "is not a policy"),
        (f"{__name__}:locked", "point_robot", "act changes its memory.*can't be copied.*lock.*let observe"),
        (f"{__name__}:shared", "point_robot", "act changes its memory.*a copy shares the memory; let observe"),
        (f"{__name__}:nothing", "point_robot", "has no attribute 'nothing'"),
        ("no/such/run", None, "does not exist"),
        ("missing.zip", "point_robot", "does not exist"),
        ("missing.safetensors", "point_robot", "not a policy that saferl.collect kept"),
        (f"{__name__}:function", "pointrobot", "no environment named"),
        (f"{__name__}:function", "CartPole-v1", "attacks need flat Box observations and actions"),
    ],
)
def test_what_is_no_victim_is_refused_in_one_line(word, env, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_victim(word, env)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["recurrent", "gait"])
@pytest.mark.parametrize("attack", ["pgd", "pa_ad"])
def test_questions_leave_no_trace_in_a_policy_whose_memory_act_changes(name, attack):
    victim, _ = load_victim(f"{__name__}:{name}", SPACES, black_box=True)
    assert victim.remembers
    rows, policy = np.ones((3, 2), np.float32), victim.policy
    policy.reset(seed=0)
    clean = [policy.act(rows) for _ in range(4)]
    ball = Threat(Units(Normaliser(np.zeros(2, np.float32), np.ones(2, np.float32), "plain")), 1e-7)
    means = Means(victim=victim)
    if attack == "pgd":
        made = make_attack(attack, ball, means)
    else:
        one = np.ones(2, np.float32)
        made = LearnedAttack(SB3Actor(nn.Sequential(nn.Linear(2, 2)), -one, one, True), ball,
                             make_turn(attack, ball, means))  # fmt: skip
    attacked = AttackedPolicy(victim, ball, made)
    attacked.reset(seed=0)
    np.testing.assert_allclose([attacked.act(rows) for _ in range(4)], clean, atol=1e-5)
    assert victim.queries > 3 * 4 * 33  # sixteen pairs of questions and more at each of four steps


@pytest.mark.parametrize("name", ["noisy", "stubborn", "with_feedback", "function", "network", "model"])
def test_noise_and_feedback_are_not_taken_for_a_memory_that_act_changes(name):
    victim, _ = load_victim(f"{__name__}:{name}", "point_robot")
    assert not victim.recurrent
    assert victim.remembers == (name == "with_feedback")


def test_without_onnxruntime_it_is_said_what_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(UsageError, match="pip install onnxruntime"):
        onnx_policy("policy.onnx")


@pytest.mark.parametrize("rows", ["any", 1])
def test_an_onnx_file_is_a_black_box(rows, tmp_path):
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weights = np.random.default_rng(0).normal(size=(11, 2)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["observations", "weights"], ["product"]),
         helper.make_node("Tanh", ["product"], ["actions"])],
        "policy",
        [helper.make_tensor_value_info("observations", kind, [rows, 11])],
        [helper.make_tensor_value_info("actions", kind, [rows, 2])],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (tmp_path / "policy.onnx").write_bytes(made.SerializeToString())
    victim, _ = load_victim(str(tmp_path / "policy.onnx"), "point_robot")
    assert not victim.white_box
    np.testing.assert_allclose(victim.policy.act(ROWS), np.tanh(ROWS @ weights), atol=1e-5)
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(UsageError, match="onnxruntime can't read it"):
        onnx_policy(str(tmp_path / "broken.onnx"))
