"""python -m saferl.train as a user types it."""

import json
import os

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file

import saferl
from saferl.agents import BC
from saferl.envs.tasks import find_task
from saferl.offline_data import OfflineDataset
from saferl.offline_data.hdf5 import save_hdf5
from saferl.train import main
from saferl.training.checkpoint import checkpoints
from tests.training.small import BC as BC_WORDS
from tests.training.small import runs, small_data, started, trained, words


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    return trained(folder, "steps=40", "log_every=20", "seed=3", "checkpoint_every=15")


def test_a_run_folder_holds_what_the_manual_says(run):
    names = {path.name for path in run.iterdir() if not path.name.startswith("events.")}
    assert names == {
        "config.yaml", "environment.json", "data.json", "metrics.jsonl", "checkpoints", "eval.json",
        "learning_curves.png", "returns.png",
    }  # fmt: skip
    assert any(path.name.startswith("events.out.tfevents") for path in run.iterdir())
    assert run.parts[-3:-1] == ("point_robot", "bc")
    assert run.name.startswith("3-")


def test_the_settings_are_written_resolved(run):
    settings = yaml.safe_load((run / "config.yaml").read_text())
    defaults = {"episodes": "all", "cost_limit": None, "lr": 1e-3, "precision": "float32"}
    assert settings["agent"] == {"name": "bc", "preset": "bc", "hidden": 16, "batch_size": 32, **defaults}
    assert (settings["steps"], settings["seed"], settings["data"]["reward_scale"]) == (40, 3, "dsrl")


def test_the_environment_of_the_run_is_written(run):
    facts = json.loads((run / "environment.json").read_text())
    assert facts["packages"]["torch"] == torch.__version__
    assert facts["cores"] == os.cpu_count()
    assert facts["saferl"] == saferl.__version__


def test_tensorboard_reads_the_losses(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run))
    events.Reload()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    scalars = {event.step: event.value for event in events.Scalars("actor/loss")}
    assert scalars == pytest.approx({line["step"]: line["actor/loss"] for line in lines})


def test_the_policy_of_a_run_acts_as_its_weights_say(run):
    weights = load_file(checkpoints(run / "checkpoints")[-1] / "weights.safetensors")
    observations = np.random.default_rng(0).normal(size=(6, 11)).astype(np.float32)
    hidden = observations
    for layer in (0, 1):
        weight, bias = weights[f"actor.layers.{layer}.weight"], weights[f"actor.layers.{layer}.bias"]
        hidden = np.maximum(hidden @ weight.T + bias, 0)
    expected = np.tanh(hidden @ weights["actor.layers.2.weight"].T + weights["actor.layers.2.bias"])
    np.testing.assert_allclose(saferl.load_policy(run).act(observations), expected, atol=1e-6)


def test_two_trainings_of_one_seed_are_equal_and_of_two_seeds_are_not(tmp_path):
    weights = []
    for seed in (0, 0, 1):
        folder = trained(tmp_path, "steps=5", f"seed={seed}")
        weights.append(load_file(checkpoints(folder / "checkpoints")[-1] / "weights.safetensors"))
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(np.array_equal(weights[0][name], weights[2][name]) for name in weights[0])
    assert len(runs(tmp_path)) == 3


def test_nothing_is_left_outside_of_out(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(words(tmp_path, "steps=2")) == 0
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["agent=bcc"], "no agent named 'bcc'. Did you mean agent=bc?"),
        (["sed=1"], "no key named 'sed'. Did you mean seed=?"),
        (["agent.lrr=1"], "no key named 'agent.lrr'. Did you mean agent.lr=?"),
        (["data.pth=x"], "no key named 'data.pth'. Did you mean data.path=?"),
        (["+new=1"], "no key named 'new'."),
        (["env=point_robt"], "no environment named 'point_robt'. Did you mean point_robot"),
        (["seed=a"], "seed must be a whole number; got 'a'."),
        (["seed=-1"], "seed must be in 0 .. 2**32 - 1; got -1."),
        (["steps=0"], "steps must be >= 1; got 0."),
        (["steps=1.5"], "steps must be a whole number; got 1.5."),
        (["agent.lr=fast"], "agent.lr must be a number; got 'fast'."),
        (["agent.lr=-1"], "agent.lr must be > 0; got -1.0."),
        (["data.reward_scale=drsl"], "data.reward_scale must be dsrl or a number > 0; got 'drsl'."),
        (["device=gpu"], "device must be auto, cpu, cuda or cuda:N; got 'gpu'."),
        (["resume=nowhere"], "nowhere does not exist; give a folder like"),
        (["seed"], "can't read 'seed': settings are written key=value"),
        (["seed=[1"], "can't read 'seed=[1'"),
        (["--sed"], "unrecognized arguments: --sed"),
        (["--experimental-rerun=x"], "saferl unpickles nothing"),
        (["-m", "seed=1,2,x"], "seed must be a whole number; got 'x'."),
        (["seed=1", "-m", "agent=bc,fisorr"], "no agent named 'fisorr'. Did you mean agent=fisor?"),
        (["hydra.sweep.dirr=x"], "no key named 'hydra.sweep.dirr'; +hydra.sweep.dirr=... adds it"),
        (["hydra/launcher=rayy"], "no hydra/launcher named 'rayy'. Did you mean hydra/launcher=ray?"),
    ],
)
def test_a_mistake_costs_one_line(arguments, message, tmp_path, capsys):
    if any(word.startswith("hydra/launcher") for word in arguments):
        pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="the extra `ray` is not installed")
    known = ["agent=bc"] if not any("agent=" in word for word in arguments) else []
    assert main([*known, f"out={tmp_path}", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.strip().splitlines()
    assert line.startswith("saferl.train: ")
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_data_of_another_environment_cost_one_line(tmp_path, capsys):
    assert main(words(tmp_path, "env=Pendulum-v1")) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "11 values, but Pendulum-v1 has 3" in line
    assert runs(tmp_path) == []


def test_a_dsrl_task_is_trained_without_its_simulator(tmp_path):
    task = find_task("OfflineMetadrive-easysparse-v0")
    n, ends = 40, np.arange(40) % 20 == 19
    data = OfflineDataset(
        observations=np.zeros((n, task.obs_dim)),
        next_observations=np.zeros((n, task.obs_dim)),
        actions=np.full((n, 2), 0.25),
        rewards=np.ones(n),
        costs=np.zeros(n),
        terminals=ends,
        timeouts=np.zeros(n, bool),
    )
    save_hdf5(data, tmp_path / "drive.hdf5")
    common = ["env=OfflineMetadrive-easysparse-v0", f"data.path={tmp_path / 'drive.hdf5'}", f"out={tmp_path / 'runs'}"]
    assert main([*BC_WORDS, *common, "steps=150", "agent.lr=0.01", "eval_episodes=0"]) == 0
    (run,) = runs(tmp_path)
    assert not (run / "eval.json").exists()
    assert saferl.load_policy(run).act(np.zeros((1, task.obs_dim), np.float32))[0] == pytest.approx(0.25, abs=0.02)


def test_a_missing_simulator_costs_one_line_with_the_way_out(tmp_path, capsys):
    assert main([*BC_WORDS, "env=OfflineMetadrive-easysparse-v0", f"out={tmp_path}"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "MetaDrive" in line
    assert "eval_episodes=0 trains without it" in line


def test_a_preset_of_the_users_own(tmp_path, capsys):
    (tmp_path / "conf" / "agent").mkdir(parents=True)
    (tmp_path / "conf" / "agent" / "mine.yaml").write_text(
        "name: bc\ndefault_steps: 3\nlr: 0.5\nhidden: 8\nbatch_size: 4\n"
    )
    own = ["--config-dir", str(tmp_path / "conf")]
    assert main([*own, *words(tmp_path, agent=["agent=mine"])]) == 0
    (run,) = runs(tmp_path)
    assert run.parent.name == "mine"
    assert yaml.safe_load((run / "config.yaml").read_text())["steps"] == 3
    capsys.readouterr()
    assert main([*own, "agent=mina"]) == 2
    assert "no agent named 'mina'. Did you mean agent=mine?" in capsys.readouterr().err
    assert main(["--config-dir", str(tmp_path / "nowhere")]) == 2
    assert "nowhere is not a folder." in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(tmp_path, monkeypatch):
    monkeypatch.setattr(BC, "update", lambda self, batch: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(words(tmp_path, "steps=2"))


def test_help_explains_every_key(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code in (0, None)
    text = capsys.readouterr().out
    for key in ("env", "path", "reward_scale", "steps", "seed", "device", "out", "resume", "log_every"):
        (line,) = [line for line in text.splitlines() if line.strip().startswith(f"{key}: ")]
        assert len(line.split(maxsplit=2)[2]) > 20, line


def test_a_resumed_run_may_get_more_steps_but_keeps_the_rest(tmp_path, capsys):
    first = trained(tmp_path, "steps=20")
    for word, message in (
        ("seed=1", f"seed=1 contradicts {first} (seed=0)"),
        ("agent.lr=0.5", f"agent.lr=0.5 contradicts {first} (agent.lr=0.001)"),
        ("agent=fisor_small", f"agent=fisor_small contradicts {first} (agent=bc)"),
        ("steps=10", f"steps=10 is less than the 20 of {first}"),
    ):
        capsys.readouterr()
        assert main([f"resume={first}", word]) == 2
        assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert main([f"resume={first}", "steps=30", *BC_WORDS[1:]]) == 0  # words that agree are no contradiction
    assert yaml.safe_load((first / "config.yaml").read_text())["steps"] == 30
    straight = trained(tmp_path / "straight", "steps=30", f"{small_data(tmp_path)}")
    weights = [load_file(checkpoints(each / "checkpoints")[-1] / "weights.safetensors") for each in (first, straight)]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_sweep_ends_with_a_table_over_its_runs(tmp_path, capsys):
    assert main(["-m", *words(tmp_path, "steps=4", "seed=0,1")]) == 0
    text = capsys.readouterr().out
    table = text[text.rindex("mean and 95 % interval") :]
    returns = []
    for each in runs(tmp_path):
        facts = json.loads((each / "eval.json").read_text())
        (row,) = [line for line in table.splitlines() if f"bc, seed {each.name.partition('-')[0]} " in line]
        assert f"{facts['return']['mean']:.3g}" in row
        returns.append(facts["return"]["mean"])
    (row,) = [line for line in table.splitlines() if "bc, mean of 2" in line]
    assert f"{np.mean(returns):.3g}" in row
    (sweep,) = (tmp_path / "runs" / "sweeps").iterdir()
    assert (sweep / "table.txt").read_text().strip().endswith(table.strip()[-200:])
    assert {each["run"] for each in json.loads((sweep / "sweep.json").read_text())} == {str(r) for r in runs(tmp_path)}


def test_a_run_that_fails_does_not_stop_its_sweep(tmp_path, monkeypatch, capsys):
    update = BC.update

    def poisoned(self, batch):
        loss = torch.tensor(float("nan")) if torch.initial_seed() == 0 else torch.tensor(1.0)
        return {**update(self, batch), "x/loss": loss}

    monkeypatch.setattr(BC, "update", poisoned)
    assert main(["-m", *words(tmp_path, "steps=4", "seed=0,1")]) == 1
    captured = capsys.readouterr()
    assert "saferl.train: step 1: x/loss is NaN or infinite" in captured.err
    assert len([each for each in runs(tmp_path) if (each / "eval.json").exists()]) == 1


@pytest.mark.slow
def test_a_sweep_on_a_local_ray_cluster(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="the extra `ray` is not installed")
    process = started(
        "-m", *words(tmp_path, "steps=30", "seed=0,1"), "hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"
    )
    out, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors
    assert len(runs(tmp_path)) == 2
    assert "bc, mean of 2" in out
    alone = trained(tmp_path / "alone", "steps=30", "seed=1", small_data(tmp_path))
    weights = [
        load_file(checkpoints(each / "checkpoints")[-1] / "weights.safetensors") for each in (runs(tmp_path)[1], alone)
    ]
    for name, tensor in weights[0].items():
        np.testing.assert_allclose(tensor, weights[1][name], atol=1e-5)  # another process may sum in another order
