"""Robust trainings from end to end, tiny, and what comes out of them; attacked data sets."""

import dataclasses

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import saferl.train
from saferl.adversaries.attacks import RandomAttack
from saferl.adversaries.catalogue import ADVERSARIES
from saferl.adversaries.critics import Critics
from saferl.adversaries.learned import Shift, load_adversary
from saferl.adversaries.loading import load_victim
from saferl.adversaries.robust.augmentation import augmented
from saferl.adversaries.robust.config import parse_hardening
from saferl.adversaries.robust.observing import ramp
from saferl.adversaries.robust.training import Hardening, Part
from saferl.adversaries.threat import Threat, Units
from saferl.adversaries.victim import Victim
from saferl.command_line import UsageError, composed
from saferl.harden import _augmented, main
from saferl.offline_data.hdf5 import load_hdf5, save_hdf5
from tests.adversaries.victims import linear_victim, normaliser, observations, threat
from tests.offline_data.arrays import toy

SMALL = [
    "env=point_robot", "steps=160", "envs=2", "ppo.rollout=20", "ppo.batch=20", "ppo.epochs=1", "ppo.width=8",
    "attack_steps=2", "critics.updates=2", "critics.hidden=8", "critics.batch=8", "learned.steps=32", "learned.envs=2",
    "learned.rollout=16", "learned.epochs=1", "learned.width=8", "rat.steps=60", "rat.envs=2", "rat.random_steps=10",
    "rat.explore_steps=10", "rat.batch=4", "rat.width=8", "rat.labels=2", "rat.questions=2", "rat.segment=3",
    "rat.epochs=1", "rat.inner_every=10", "eps=0.2", "rounds=2",
]  # fmt: skip


BASE = OmegaConf.to_container(composed("harden", SMALL))


FEASIBLE = {"start": "feasible"}


def settings(**values):
    return parse_hardening({**BASE, **values})


def nobody(share, doing):
    pass


METHODS_IN_PARTS = [
    {"method": "none"},
    {"method": "adversarial", "attack": "mr"},
    {"method": "sa"},
    {"method": "atla", "adversary": "pa_ad_cost"},
    {"method": "rat_atla", "target": "stays"},
]


@pytest.mark.parametrize("values", METHODS_IN_PARTS, ids=lambda values: values["method"])
def test_a_training_that_was_stopped_ends_with_the_same_bytes(values, tmp_path):
    config = settings(**values, stages=3, rounds=3, steps=240, ramp_start=0.0)
    assert config.parts == 3
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    path = Hardening(config, FEASIBLE, whole, nobody).run()
    shares = []

    def stop(share, doing):
        shares.append(share)
        if share > 0.8:  # in the last of three parts
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Hardening(config, FEASIBLE, cut, stop).run()
    done = {each.name: each.stat().st_mtime_ns for each in cut.iterdir()}
    assert path.name not in done
    torch.rand(5)  # whatever else the process draws
    again = Hardening(config, FEASIBLE, cut, nobody).run()
    for name, written in done.items():
        assert (cut / name).stat().st_mtime_ns == written  # not made again
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("steps", [160, 190, 280])
def test_parts_have_the_rollouts_of_an_undivided_training(steps):
    def parts(stages):
        config = settings(stages=stages, steps=steps)
        return [config.steps_of(part) for part in range(config.parts)]

    assert sum(parts(3)) == sum(parts(1))
    assert min(parts(3)) >= 40  # a rollout
    assert sum(parts(1)) - steps in range(40)


def test_seeds_share_no_environment(tmp_path):
    firsts = []
    for seed in range(3):
        part = Part(settings(seed=seed, envs=4), FEASIBLE, 0, nobody)
        firsts.append(part.normaliser.venv.reset())
        part.envs.close()
    assert len(np.unique(np.concatenate(firsts), axis=0)) == 12


def test_a_training_that_is_done_is_not_made_again_without_its_parts(tmp_path):
    config = settings(stages=2)
    path = Hardening(config, FEASIBLE, tmp_path, nobody).run()
    (tmp_path / "stage0.safetensors").unlink()
    written = path.stat().st_mtime_ns
    assert Hardening(config, FEASIBLE, tmp_path, nobody).run() == path
    assert path.stat().st_mtime_ns == written
    assert not (tmp_path / "stage0.safetensors").exists()


def test_the_work_of_agent_and_adversary_is_told_as_it_goes_on(tmp_path):
    told = []
    config = settings(method="rat_atla", target="stays", rounds=2)
    Hardening(config, FEASIBLE, tmp_path, lambda share, doing: told.append((share, doing))).run()
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(0.75)  # no adversary follows the last round
    (adversary,) = {share for share, doing in told if doing == "adversary of round 1"}
    assert 0.25 <= adversary < 0.5


def test_ctrl_c_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def stop(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Hardening, "run", stop)
    with pytest.raises(SystemExit) as stopped:
        main([*SMALL, f"out={tmp_path}"])
    assert stopped.value.code == 130
    (settings_file,) = tmp_path.rglob("harden.yaml")
    assert f"resume={settings_file.parent} goes on" in capsys.readouterr().err


def test_a_training_in_one_stage_is_undivided_and_stages_are_rollouts_at_least():
    assert settings(stages=1).parts == 1
    assert settings(stages=9).parts == 4  # 160 steps, 40 a rollout


@pytest.mark.parametrize("name", ["stage0.safetensors", "critics-stage0.safetensors"])
def test_a_damaged_part_is_named(name, tmp_path):
    config = settings(method="adversarial", stages=2)
    Hardening(config, FEASIBLE, tmp_path, nobody).run()
    (tmp_path / "policy.safetensors").unlink()
    (tmp_path / name).write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=f"{name}.*; delete stage0.safetensors and resume={tmp_path} makes"):
        Hardening(config, FEASIBLE, tmp_path, nobody).run()
    (tmp_path / "stage0.safetensors").unlink()
    Hardening(config, FEASIBLE, tmp_path, nobody).run()


@pytest.mark.parametrize("word", ["adversarial", "sa"])
def test_the_radius_grows_during_the_training_and_the_policy_is_a_victim(word, tmp_path):
    told = []
    hardening = Hardening(settings(method=word, attack="mr"), FEASIBLE, tmp_path, lambda share, _: told.append(share))
    path, part = hardening.run(), hardening.part
    assert told == [0.25, 0.5, 0.75, 1.0]
    ball = part.threat if word == "adversarial" else part.model.policy.ascent.threat
    assert ball.eps == pytest.approx(ramp(0.2, 160, 40, 160))
    if word == "sa":
        assert part.threat.eps == 0  # it learns from true observations
    victim, _ = load_victim(str(path), "point_robot")
    rows = part.normaliser.venv.venv.reset()
    expected = part.model.policy.predict(part.normaliser.normalize_obs(rows), deterministic=True)[0]
    np.testing.assert_allclose(victim.policy.act(rows), np.clip(expected, -1, 1), atol=1e-5)


def test_without_a_defence_the_training_is_that_of_a_penalty_of_weight_0(tmp_path):
    weights = []
    for word in ("none", "sa"):
        (tmp_path / word).mkdir()
        hardening = Hardening(settings(method=word, kappa=0.0), FEASIBLE, tmp_path / word, nobody)
        hardening.run()
        weights.append(hardening.part.model.policy.state_dict())
    assert hardening.part.model.policy.ascent.threat.eps > 0  # the penalty was there
    for name, plain in weights[0].items():
        np.testing.assert_array_equal(plain, weights[1][name], err_msg=name)


def test_in_atla_the_adversary_of_a_round_attacks_what_the_agent_sees_in_the_next(tmp_path):
    config = settings(method="atla", adversary="sa_rl_cost")
    hardening = Hardening(config, FEASIBLE, tmp_path, nobody)
    hardening.run()
    assert hardening.part.threat.eps == 0.2
    victim, _ = load_victim(str(tmp_path / "round0.safetensors"), "point_robot")
    raw = Threat(Units(victim.normaliser), 0.2)
    attack = load_adversary(tmp_path / "adversary0.zip", raw, Shift(raw))
    rows = (victim.normaliser.mean + victim.normaliser.scale * observations(5, 11)).astype(np.float32)
    normalised = raw.units.features(raw.units.mean.new_tensor(rows)).numpy()
    np.testing.assert_allclose(
        hardening.part.envs.attack.perturbations(normalised), attack.perturbations(rows), atol=1e-5
    )
    assert np.abs(attack.perturbations(rows)).max() > 0


def test_rat_can_be_the_adversary_of_the_rounds(tmp_path):
    config = settings(method="rat_atla", target="stays")
    hardening = Hardening(config, FEASIBLE, tmp_path, nobody)
    hardening.run()
    names = {path.name for path in tmp_path.iterdir()}
    assert {"round0.safetensors", "adversary0.safetensors", "policy.safetensors"} <= names
    deltas = hardening.part.envs.attack.perturbations(observations(5, 11))
    assert 0 < np.abs(deltas).max() <= 0.2 + 1e-6


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "atla", "adversary": "mad"}, "needs an adversary that learns"),
        ({"method": "rat_atla"}, "adversary=rat needs target="),
        ({"method": "rat_atla", "target": "stands"}, "stands is for HalfCheetah and Hopper"),
        ({"method": "augment", "adversary": "mad"}, "needs victim="),
        ({"method": "augment"}, "needs an adversary that needs no training; got sa_rl_cost"),
        ({"method": "attla"}, "Did you mean method=atla"),
        ({"adversary": "pa_da"}, "Did you mean adversary=pa_ad"),
        ({"attack": "q"}, "attack must be mc or mr"),
        ({"method": "atla", "rounds": 1}, "rounds must be >= 2"),
        ({"method": "atla", "rounds": 4, "steps": 120}, r"rollout \* envs = 40 for each of the rounds; got 120"),
        ({"method": "augment", "adversary": "rs", "victim": "x", "data": "y"}, "adversary=rs asks a critic"),
        ({"steps": 10}, r"steps must be >= ppo.rollout \* envs = 40"),
        ({"eps": 0.0}, "eps must be > 0"),
    ],
)
def test_mistakes_are_told_in_one_line(values, message):
    with pytest.raises(UsageError, match=message):
        settings(**values)


def test_every_adversary_that_learns_can_be_that_of_atla():
    for name, kind in ADVERSARIES.items():
        if kind.goal is not None and name != "rat":
            assert settings(method="atla", adversary=name, target="stays").adversary == name


def test_attacked_copies_keep_everything_but_what_is_seen():
    data = toy(lengths=(5, 3, 4), obs_dim=4)
    ball = threat(4, 0.3)
    twice = augmented(data, ball, RandomAttack(ball), 2, 0, "random")
    count = len(data)
    assert (len(twice), twice.n_episodes) == (3 * count, 3 * data.n_episodes)
    for key in ("actions", "rewards", "costs", "terminals", "timeouts"):
        np.testing.assert_array_equal(getattr(twice, key), np.concatenate([getattr(data, key)] * 3))
    np.testing.assert_array_equal(twice.observations[:count], data.observations)
    scale, ends = normaliser(4).scale, set((data.episode_ends - 1).tolist())
    for copy in (1, 2):
        part = slice(copy * count, (copy + 1) * count)
        for key in ("observations", "next_observations"):
            moved = np.abs(getattr(twice, key)[part] - getattr(data, key)) / scale
            assert 0.2 < moved.max() <= 0.3 + 1e-4  # float32
        seen, following = twice.observations[part], twice.next_observations[part]
        for row in range(count):
            if row not in ends:
                np.testing.assert_array_equal(following[row], seen[row + 1])
    assert not np.array_equal(twice.observations[count : 2 * count], twice.observations[2 * count :])


def test_the_command_trains_and_augments(tmp_path, capsys):
    assert main([*SMALL, "method=sa", f"out={tmp_path / 'a'}"]) == 0
    (policy,) = (tmp_path / "a").rglob("policy.safetensors")
    assert f"saferl.attack victim={policy} env=point_robot" in capsys.readouterr().out
    before = policy.read_bytes()
    policy.unlink()
    assert main([f"resume={policy.parent}"]) == 0  # its last part
    assert policy.read_bytes() == before
    capsys.readouterr()
    assert main([f"resume={policy.parent}", "steps=10"]) == 2
    assert "leave out steps=" in capsys.readouterr().err
    assert main([f"resume={tmp_path}"]) == 2
    assert "no training there" in capsys.readouterr().err
    data = toy(lengths=(5, 3), obs_dim=11, act_dim=2)
    save_hdf5(data, tmp_path / "data.hdf5")
    words = [*SMALL, "method=augment", "adversary=mad", f"victim={policy}", f"data={tmp_path / 'data.hdf5'}"]
    assert main([*words, f"out={tmp_path / 'b'}"]) == 0
    (made,) = (tmp_path / "b").rglob("dataset.hdf5")
    assert load_hdf5(made).n_episodes == 4
    assert load_hdf5(made).metadata["attacked"] == "1 of 2 parts by mad, eps 0.2 (linf), seed 0"
    training = ["agent=bc", "env=point_robot", f"data.path={made}", "steps=2", "agent.hidden=8", "eval_episodes=1"]
    assert saferl.train.main([*training, f"out={tmp_path / 'runs'}"]) == 0  # what an offline agent learns from
    capsys.readouterr()
    assert main([*words, "adversary=mc"]) == 2
    assert "needs critics" in capsys.readouterr().err


def test_amad_changes_the_dearest_tenth_of_the_recorded_states(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    data = toy(lengths=(60, 40), obs_dim=2, act_dim=1)
    data = dataclasses.replace(data, observations=rng.normal(size=(100, 2)).astype(np.float32))
    plain = linear_victim(np.array([[1.0, -0.5]], np.float32), limit=5)
    slope = torch.ones(1, requires_grad=True)  # as a network would have

    def nothing(states, actions):
        return 0 * states[:, 0]

    critics = Critics(nothing, lambda states, actions: slope * states[:, 0], nothing, nothing, "made up")
    victim = Victim(plain.policy, 2, [-5.0], [5.0], "linear", respond=plain._respond, critics=critics)
    monkeypatch.setattr("saferl.harden.load_victim", lambda *_: (victim, "point_robot"))
    save_hdf5(data, tmp_path / "data.hdf5")
    config = settings(method="augment", adversary="amad", victim="x", data=str(tmp_path / "data.hdf5"))
    moved = np.abs(_augmented(config).observations[100:] - data.observations).max(1) > 1e-6
    assert moved.sum() == 10
    assert data.observations[moved, 0].min() > data.observations[~moved, 0].max()
