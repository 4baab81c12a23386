"""python -m saferl.attack as a user types it."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import saferl.adversaries.runner
from saferl.attack import main
from saferl.evaluation.rollout import episode_seeds, rollout
from saferl.policy import CallablePolicy
from tests.adversaries.shown import SHOWN
from tests.training.small import BC, FISOR, trained

torch.manual_seed(0)
network = nn.Sequential(nn.Linear(11, 16), nn.Tanh(), nn.Linear(16, 2))
with torch.no_grad():
    network[2].weight.mul_(4)

SMALL = [
    "env=point_robot", "env_kwargs={start:feasible,max_episode_steps:25}", "episodes=4", "reference_episodes=3",
    "critics.episodes=3", "critics.updates=20",
    "critics.hidden=8", "learned.steps=64", "learned.envs=2", "learned.rollout=16", "learned.epochs=1",
    "learned.width=8", "ascent.steps=2", "queries.directions=2",
]  # fmt: skip
KWARGS = {"start": "feasible", "max_episode_steps": 25}
NETWORK = [f"victim={__name__}:network", *SMALL]


def function(observations):
    with torch.no_grad():
        return network(torch.as_tensor(observations)).numpy()


def goes_left(episode):
    return episode.observations[-1, 0] < episode.observations[0, 0]


def folder_of(tmp_path):
    (path,) = tmp_path.glob("*/attack-*/*/attack.yaml")
    return path.parent


def read(folder):
    return json.loads((folder / "attacks.json").read_text())


def test_all_adversaries_are_compared_on_the_same_starts(tmp_path, capsys):
    words = [*NETWORK, "adversary=all", "eps=0.3", f"target={__name__}:goes_left", f"out={tmp_path}"]
    assert main(words) == 0
    text = capsys.readouterr().out
    folder = folder_of(tmp_path)
    results = read(folder)
    names = ["none", "random", "fgsm", "pgd", "mad", "amad", "value", "q", "rs", "rs_mad", "mr", "mc", "sa_rl",
             "sa_rl_cost", "pa_ad", "pa_ad_cost"]  # fmt: skip
    assert [each["adversary"] for each in results] == names
    assert len({tuple(each["per_episode"]["seeds"]) for each in results}) == 1
    assert len({tuple(each["per_episode"]["returns"]) for each in results}) > 12  # they are not the same attack
    assert all(each["queries"] == 0 for each in results)
    for name in names[1:]:
        assert f"{name}, eps 0.3" in text
    for name in ("report.md", "curves.png", "paths.png", "critics.safetensors", "environment.json"):
        assert (folder / name).stat().st_size > 0
    page = (folder / "report.md").read_text()
    assert "clean episodes of the victim" in page
    assert "fitted: 20 updates on 3 noisy episodes" in page
    assert "goes_left" in json.dumps(results[0]["target"])
    # The clean row is what an evaluation without any adversary gives.
    clean = rollout(CallablePolicy(function), "point_robot", episode_seeds(0, 4), env_kwargs=KWARGS)
    np.testing.assert_allclose(results[0]["per_episode"]["returns"], clean.returns, atol=1e-5)
    np.testing.assert_array_equal(results[0]["per_episode"]["costs"], clean.costs)


RAT = ["rat.steps=60", "rat.envs=2", "rat.random_steps=10", "rat.explore_steps=10", "rat.batch=4", "rat.width=8",
       "rat.labels=2", "rat.questions=2", "rat.segment=3", "rat.epochs=1", "rat.inner_every=10"]  # fmt: skip


class Remembers:
    """A policy that takes feedback, and so may have a memory of each row."""

    def act(self, observations):
        return 0.5 * np.tanh(observations[:, :2])

    def observe(self, rewards, costs):
        pass

    def reset(self, mask=None, seed=None):
        pass


remembers = Remembers()


def test_rat_learns_against_a_victim_with_a_memory(tmp_path):
    words = [f"victim={__name__}:remembers", *SMALL, *RAT, "eps=0.3", "target=stays", f"out={tmp_path}"]
    assert main([*words, "adversary=rat"]) == 0
    rat = read(folder_of(tmp_path))[1]
    assert rat["queries_training"] > 60  # copies were asked
    assert rat["attacked_observations"] > 0


def test_adversaries_that_learn_a_target_need_one_whose_steps_have_scores(tmp_path, capsys):
    words = [*NETWORK, *RAT, "adversary=[sa_rl_target,rat]", "eps=0.3", f"out={tmp_path}"]
    assert main([*words, "target=stays"]) == 0
    results = read(folder_of(tmp_path))
    assert [each["adversary"] for each in results] == ["none", "sa_rl_target", "rat"]
    assert all(each["target"]["name"] == "stays" for each in results)
    assert results[1]["per_episode"]["returns"] != results[2]["per_episode"]["returns"]
    own = results[2]["intention"]
    assert 0 <= own["low"] <= own["rate"] <= own["high"] <= 1
    assert "intention" not in results[1]
    report = (folder_of(tmp_path) / "report.md").read_text()
    assert f"RAT's intention, eps 0.3: acting by itself it shows the target in {100 * own['rate']:.0f} %" in report
    capsys.readouterr()
    for target, message in (
        ([], "adversary=sa_rl_target needs target="),
        (["target=runs_backward"], "runs_backward is for HalfCheetah and Hopper"),
        ([f"target={__name__}:goes_left"], "learns from steps"),
    ):
        assert main([*words, *target]) == 2
        assert message in capsys.readouterr().err


def test_a_stopped_comparison_goes_on_where_it_was(tmp_path, capsys, monkeypatch):
    words = [*NETWORK, "adversary=[mc,sa_rl]", "eps=[0.1,0.3]"]
    assert main([*words, f"out={tmp_path / 'whole'}"]) == 0
    whole = read(folder_of(tmp_path / "whole"))

    class Stop(saferl.adversaries.runner.Comparison):
        def _result(self, name, eps, prepared):
            if (name, eps) == ("sa_rl", 0.1):
                raise KeyboardInterrupt
            return super()._result(name, eps, prepared)

    monkeypatch.setattr("saferl.attack.Comparison", Stop)
    with pytest.raises(SystemExit) as stopped:
        main([*words, f"out={tmp_path / 'parts'}"])
    assert stopped.value.code == 130
    folder = folder_of(tmp_path / "parts")
    assert f"resume={folder} goes on" in capsys.readouterr().err
    done = {path.name: path.stat().st_mtime_ns for path in (folder / "results").iterdir()}
    assert set(done) == {"none-0.json", "mc-0.1.json", "mc-0.3.json"}
    monkeypatch.undo()
    assert main([f"resume={folder}"]) == 0
    for name, time in done.items():
        assert (folder / "results" / name).stat().st_mtime_ns == time  # not done again
    for one, other in zip(whole, read(folder), strict=True):
        np.testing.assert_allclose(one["per_episode"]["returns"], other["per_episode"]["returns"], atol=1e-4)


def test_a_function_is_attacked_by_questions_which_are_counted(tmp_path, capsys):
    words = [f"victim={__name__}:function", *SMALL, "adversary=[pgd,random]", "eps=0.2", f"out={tmp_path}"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "a black box" in text
    results = {each["adversary"]: each for each in read(folder_of(tmp_path))}
    assert results["random"]["queries"] == 0
    # The clean answer, two slopes from 2 x 2 + 1 answers, the last point.
    assert results["pgd"]["queries"] == 12 * results["pgd"]["attacked_observations"]
    assert re.search(r"pgd, eps 0.2\s.*\s12\s", text)


def test_questions_of_a_training_are_counted_and_outlive_a_stop(tmp_path, capsys, monkeypatch):
    words = [f"victim={__name__}:function", *SMALL, *RAT, "adversary=[pgd,pa_ad,rat]", "eps=0.2", "target=stays"]

    def stop(*_):
        raise KeyboardInterrupt

    words.append(f"out={tmp_path}")
    for load in ("load_adversary", "load_rat"):  # between training and evaluation
        with monkeypatch.context() as patched:
            patched.setattr(saferl.adversaries.runner, load, stop)
            with pytest.raises(SystemExit):
                main(words)
        words = [f"resume={folder_of(tmp_path)}"]
    capsys.readouterr()
    assert main(words) == 0
    asked = {each["adversary"]: each["queries_training"] for each in read(folder_of(tmp_path))}
    assert (asked["none"], asked["pgd"]) == (0, 0)
    assert asked["pa_ad"] == 7 * 64  # at each step the clean answer, one at the start, a slope from 2 x 2 + 1
    assert asked["rat"] > 60
    text = capsys.readouterr().out
    assert "questions to train" in text
    assert re.search(rf"pa_ad, eps 0.2\s.*\s{7 * 64}\s", text)


def test_what_rat_could_never_be_taught_costs_one_line(tmp_path, capsys):
    words = [*NETWORK, *RAT, "rat.segment=30", "adversary=rat", "eps=0.2", "target=stays", f"out={tmp_path}"]
    assert main(words) == 2  # episodes have 25 steps
    error = capsys.readouterr().err.strip()
    assert "no episode had rat.segment=30 steps; give shorter segments" in error.splitlines()[-1]
    assert "Traceback" not in error


@pytest.fixture(scope="module")
def learned_folder(tmp_path_factory):
    """A comparison of all that keeps something it has trained, but for its results."""
    out = tmp_path_factory.mktemp("learned")
    words = [*NETWORK, *RAT, "adversary=[mc,sa_rl,rat]", "eps=0.2", "target=stays", f"out={out}"]
    assert main(words) == 0
    return folder_of(out)


CRITICS, RAT_FILE = "critics.safetensors", "adversaries/rat-0.2.safetensors"


@pytest.mark.parametrize(
    ("result", "file", "damage"),
    [
        ("mc-0.2", CRITICS, "its beginning"), ("mc-0.2", CRITICS, "other weights"),
        ("sa_rl-0.2", "adversaries/sa_rl-0.2.zip", "its beginning"), ("rat-0.2", RAT_FILE, "its beginning"),
        ("rat-0.2", RAT_FILE, "other weights"), ("rat-0.2", RAT_FILE, "no file"),
    ],
)  # fmt: skip
def test_damaged_files_cost_one_line_that_says_how_to_go_on(result, file, damage, learned_folder, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(learned_folder, folder)
    (folder / "results" / f"{result}.json").unlink()  # so that it is evaluated again
    path = folder / file
    if damage == "its beginning":
        path.write_bytes(path.read_bytes()[:400])
    elif damage == "other weights":
        save_file({"network.0.bias": torch.zeros(3)}, path)
    else:
        path.unlink()
    assert main([f"resume={folder}"]) == 2
    error = capsys.readouterr().err.strip()
    line = error.splitlines()[-1]
    assert line.startswith("saferl.attack: ")
    assert str(path) in line
    assert f"resume={folder}" in line
    assert "Traceback" not in error
    path.unlink(missing_ok=True)  # what it tells to do
    if result != "mc-0.2":
        note = path.with_suffix(".json")
        assert str(note) in line
        note.unlink()
    assert main([f"resume={folder}"]) == 0


CDT = ["agent=cdt", "agent.hidden=16", "agent.layers=1", "agent.heads=2", "agent.batch_size=16", "agent.context=4"]


@pytest.mark.parametrize(("name", "agent"), [("bc", BC), ("fisor_small", FISOR), ("cdt", CDT)])
def test_a_run_is_attacked_where_it_was_trained_and_a_vanishing_attack_changes_nothing(name, agent, tmp_path, capsys):
    """So questions to a policy with noise or a memory leave both as they were, resets of rows included."""
    run = trained(tmp_path, "steps=10", agent=agent)
    capsys.readouterr()
    words = [
        f"victim={run}", *SMALL[1:], "adversary=pgd", "eps=[1e-7,0.3]", "num_envs=2", f"out={tmp_path / 'attacks'}",
    ]  # fmt: skip
    assert main(words) == 0
    assert f"{name} (" in capsys.readouterr().out
    folder = folder_of(tmp_path / "attacks")
    assert folder.parent.name == f"attack-{name}"
    clean, vanishing, real = (each["per_episode"]["returns"] for each in read(folder))
    np.testing.assert_allclose(vanishing, clean, atol=1e-3)
    assert np.abs(np.subtract(real, clean)).max() > 2e-3


def test_rat_attacks_a_decision_transformer(tmp_path):
    run = trained(tmp_path, "steps=10", agent=CDT)
    words = [f"victim={run}", *SMALL[1:], *RAT, "adversary=rat", "target=stays", "eps=0.3", f"out={tmp_path / 'a'}"]
    assert main(words) == 0
    clean, rat = (each["per_episode"]["returns"] for each in read(folder_of(tmp_path / "a")))
    assert np.abs(np.subtract(rat, clean)).max() > 1e-3


weighted = nn.Linear(2, 1, bias=False)
with torch.no_grad():
    weighted.weight.copy_(torch.tensor([[1.0, -0.5]]))


def test_with_fitted_critics_attacks_come_close_to_what_is_best(tmp_path):
    """a = s_0 - s_1 / 2 of s uniform on [-1, 1]^2; the reward is a, the cost a^2."""
    words = [
        f"victim={__name__}:weighted", f"env={SHOWN}", "episodes=60", "reference_episodes=200", "critics.episodes=300",
        "critics.updates=300", "critics.hidden=16", "critics.lr=0.005", "critics.noise=2", "adversary=[random,q,mr,mc]",
        "eps=0.5", f"out={tmp_path}",
    ]  # fmt: skip
    assert main(words) == 0
    clean, noise, less, more, costly = read(folder_of(tmp_path))
    move = 0.5 * 1.5 / np.sqrt(3)  # a unit is the deviation of U(-1, 1)
    gain = more["return"]["mean"] - clean["return"]["mean"]
    assert 0.95 * move < gain < 1.1 * move
    assert -1.1 * move < less["return"]["mean"] - clean["return"]["mean"] < -0.95 * move
    actions = np.array(clean["per_episode"]["returns"])
    best = ((np.abs(actions) + move) ** 2 - actions**2).mean()
    assert 0.9 * best < costly["cost"]["mean"] - clean["cost"]["mean"] < 1.1 * best
    assert abs(noise["cost"]["mean"] - clean["cost"]["mean"]) < 0.3 * best


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["adversary=mx"], "no adversary named 'mx'. Did you mean adversary="),
        (["adversary=[]"], "adversary must be a name, a list of names, or all; got []"),
        (["eps=0"], "eps must be > 0"),
        (["eps=[0.1,-1]"], "eps must be > 0"),
        (["norm=l1"], "norm must be one of linf, l2"),
        (["ascent.step=3"], "no key named 'ascent.step'. Did you mean ascent.steps="),
        (["ascent.steps=0"], "ascent.steps must be >= 1"),
        (["objective=mq"], "no objective named 'mq'"),
        (["target=stay"], "no target named 'stay'. Did you mean target=stays?"),
        (["critics.source=none"], "critics.source must be auto or fit"),
        (["learned.lr=0"], "learned.lr must be > 0"),
        (["statistics=missing.npz"], "expected an .npz file"),
        (["episodes=0"], "episodes must be >= 1"),
        (["-m", "seed=1,2"], "attack takes no -m"),
    ],
)
def test_mistakes_cost_one_line(words, message, tmp_path, capsys):
    assert main([*NETWORK, *words, f"out={tmp_path}"]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not list(tmp_path.glob("*/attack-*"))


def test_resume_needs_a_comparison_and_no_other_settings(tmp_path, capsys):
    assert main([f"resume={tmp_path}"]) == 2
    assert "no comparison there" in capsys.readouterr().err
    assert main([f"resume={tmp_path}", "eps=0.2"]) == 2
    assert "leave out eps=" in capsys.readouterr().err
    assert main(["env=point_robot"]) == 2
    assert "victim has no value" in capsys.readouterr().err
