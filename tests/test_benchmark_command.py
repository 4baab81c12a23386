"""python -m saferl.benchmark as a user types it."""

import csv
import html
import json
import shutil

import pytest
from omegaconf import OmegaConf

from saferl.benchmark import main
from saferl.command_line import composed
from saferl.training.checkpoint import checkpoints
from saferl.training.run_folder import find_runs
from tests.benchmarking.small import words


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a benchmark of BC on two limits with two seeds."""
    folder = tmp_path_factory.mktemp("benchmark")
    assert main(words(folder, "limits=[0,10]")) == 0
    return folder


def rows(folder):
    with (folder / "out" / "results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def plan(folder):
    return json.loads((folder / "out" / "plan.json").read_text())


def weights_written(folder):
    return {path: path.stat().st_mtime_ns for path in (folder / "out" / "runs").rglob("weights.safetensors")}


def test_a_table_has_a_row_for_each_agent_task_seed_and_limit(folder):
    found = {(row["agent"], row["task"], int(row["seed"]), float(row["limit"])) for row in rows(folder)}
    assert found == {("bc", "point_robot", seed, limit) for seed in (0, 1) for limit in (0.0, 10.0)}


def test_the_plan_names_the_folder_of_every_run(folder):
    assert [(run["agent"], run["seed"], run["state"]) for run in plan(folder)["runs"]] == [
        ("bc", 0, "complete"), ("bc", 1, "complete"),
    ]  # fmt: skip
    for run in plan(folder)["runs"]:
        (found,) = find_runs(str(folder / "out" / run["folder"]))
        assert found.settings()["seed"] == run["seed"]
        assert (found.path / run["evaluations"][0]["file"]).exists()


def test_the_plan_is_printed_and_all_of_it_is_cached_the_second_time(folder, capsys):
    before = weights_written(folder)
    assert main(words(folder, "limits=[0,10]")) == 0
    text = capsys.readouterr().out
    assert "2 (2 cached)" in text
    assert "nothing to compute" in text
    assert weights_written(folder) == before


def test_a_limit_more_costs_an_agent_that_ignores_limits_nothing(folder, capsys):
    assert main(words(folder, "limits=[0,10,20]")) == 0
    assert "nothing to compute" in capsys.readouterr().out
    assert len(rows(folder)) == 6


def test_a_seed_more_trains_that_seed_alone(folder, capsys):
    before = weights_written(folder)
    assert main(words(folder, "seeds=3", "plan_only=true")) == 0
    assert "3 (2 cached)" in capsys.readouterr().out
    assert [run["state"] for run in plan(folder)["runs"]] == ["complete", "complete", "open"]
    assert weights_written(folder) == before


def test_a_run_that_fails_is_told_at_the_end_and_stops_no_other(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)  # runs are found wherever their folder lies
    run, other = plan(tmp_path)["runs"][:2]
    shutil.rmtree(tmp_path / "out" / other["folder"])
    broken = tmp_path / "out" / run["folder"]
    (checkpoints(broken / "checkpoints")[-1] / "weights.safetensors").write_bytes(b"no weights")
    (broken / run["evaluations"][0]["file"]).unlink()
    capsys.readouterr()
    assert main(words(tmp_path, "seeds=2")) == 1
    captured = capsys.readouterr()
    assert "saferl.benchmark: bc on point_robot, seed 0: " in captured.err.splitlines()[-1]
    assert "weights.safetensors: can't be loaded" in captured.err.splitlines()[-1]
    assert [(row["agent"], row["seed"]) for row in rows(tmp_path)] == [("bc", "1")]
    assert [run["state"] for run in plan(tmp_path)["runs"]] == ["failed", "complete"]
    assert html.escape("can't be loaded") in (tmp_path / "out" / "report.html").read_text()


def test_what_can_not_be_had_is_in_the_plan_and_in_the_results(folder, tmp_path, monkeypatch, capsys):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("SAFERL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DSRL_DATASET_URL", "http://127.0.0.1:9/nothing")
    monkeypatch.delenv("DSRL_DATASET_DIR", raising=False)
    common = words(tmp_path, "tasks=[InvertedPendulum-v5,easysparse,point_robot]", "seeds=1", "limits=[0]")
    assert main(common) == 1
    text = capsys.readouterr().out
    (missing,) = [line for line in text.splitlines() if "will fail: everything on InvertedPendulum-v5" in line]
    assert "data.path=" in missing
    (simulator,) = [line for line in text.splitlines() if "will fail: everything on easysparse" in line]
    assert "MetaDrive" in simulator
    assert [row["task"] for row in rows(tmp_path)] == ["point_robot"]
    causes = {run["task"]: run["cause"] for run in plan(tmp_path)["runs"]}
    assert "no data for InvertedPendulum-v5" in causes["InvertedPendulum-v5"]
    assert causes["point_robot"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["agents=[bcc]"], "no agent named 'bcc'. Did you mean agent=bc?"),
        (["agnts=[bc]"], "no key named 'agnts'. Did you mean agents=?"),
        (["tasks=[CarRum]"], "no task named 'CarRum'. Did you mean tasks=[CarRun]?"),
        (["overrides=[agent.lrr=1]"], "no key named 'agent.lrr'. Did you mean agent.lr=?"),
        (["agent_overrides={bc:[agent.lr=-1]}"], "bc on point_robot: agent.lr must be > 0"),
        (["protocol=dslr"], "no protocol named 'dslr'. Did you mean protocol=dsrl?"),
        (["seeds=a"], "seeds must be a list or a whole number; got 'a'."),
        (["data={point_robot:nowhere.hdf5}"], "nowhere.hdf5}: no such file or folder."),
        (["-m"], "a benchmark takes no -m"),
        (["--sed"], "unrecognized arguments: --sed"),
    ],
)
def test_a_mistake_costs_one_line(arguments, message, tmp_path, capsys):
    assert main(words(tmp_path, *arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.strip().splitlines()
    assert line.startswith("saferl.benchmark: ")
    assert message in line
    assert not (tmp_path / "out").exists()


def test_a_folder_that_another_benchmark_works_in_is_refused(tmp_path, capsys):
    import fcntl

    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(words(tmp_path)) == 2
    assert "another benchmark works in this folder" in capsys.readouterr().err


def test_help_explains_every_key(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code in (0, None)
    text = capsys.readouterr().out
    for key in OmegaConf.to_container(composed("benchmark", [])):
        (line,) = [line for line in text.splitlines() if line.strip().startswith(f"{key} ")]
        assert len(line.split(maxsplit=1)[1]) > 20, line
    assert "$RAY_ADDRESS" in text
