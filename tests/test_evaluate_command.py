"""python -m saferl.evaluate as a user types it."""

import json
import shutil

import numpy as np
import pytest
import stable_baselines3 as sb3

import saferl.envs
from saferl.envs.point_robot import HAZARD_RADIUS, HAZARDS
from saferl.evaluate import main
from saferl.evaluation.audit_robots import PointRobotAudit
from saferl.evaluation.rollout import rollout
from saferl.reachability import Grid, Value
from tests.training.small import FISOR, trained


def still(observations):
    return np.zeros((len(observations), 2), np.float32)


def three_wide(observations):
    return np.zeros((len(observations), 3), np.float32)


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return [trained(folder, "steps=20", f"seed={seed}") for seed in (0, 1)]


def facts_of(run):
    return json.loads((run / "eval.json").read_text())


def test_a_run_is_evaluated_as_a_rollout_of_its_policy(two_runs):
    assert main([f"run={two_runs[0]}", "episodes=6", "seed=50"]) == 0
    facts = facts_of(two_runs[0])
    policy = saferl.load_policy(two_runs[0])
    episodes = rollout(policy, "point_robot", range(50, 56), env_kwargs={"start": "feasible"})
    assert facts["per_episode"]["returns"] == episodes.returns.tolist()
    assert facts["per_episode"]["seeds"] == list(range(50, 56))
    assert facts["cost"]["mean"] == pytest.approx(episodes.costs.mean())
    assert facts["violation_rate"]["rate"] == np.mean(episodes.violations > 0)
    assert facts["limits"][0]["limit"] == 0
    data = json.loads((two_runs[0] / "data.json").read_text())
    span = data["max_return"] - data["min_return"]
    assert facts["normalised_return"]["mean"] == pytest.approx((episodes.returns.mean() - data["min_return"]) / span)


def test_evaluating_twice_gives_the_same_numbers(two_runs):
    results = []
    for _ in range(2):
        assert main([f"run={two_runs[0]}", "episodes=4"]) == 0
        results.append(facts_of(two_runs[0]))
    assert results[0] == results[1]


@pytest.mark.parametrize("form", ["list", "folder", "glob"])
def test_several_runs_share_one_table(form, two_runs, capsys):
    folder = two_runs[0].parent
    word = {"list": f"run=[{two_runs[0]},{two_runs[1]}]", "folder": f"run={folder}", "glob": f"run={folder}/*-*"}[form]
    assert main([word, "episodes=4"]) == 0
    table = capsys.readouterr().out
    means = [facts_of(run)["return"]["mean"] for run in two_runs]
    for run, mean in zip(two_runs, means):
        (row,) = [line for line in table.splitlines() if f"seed {run.name.partition('-')[0]} " in line]
        assert f"{mean:.3g}" in row
    (row,) = [line for line in table.splitlines() if "mean of 2" in line]
    assert f"{np.mean(means):.3g}" in row


def test_different_settings_are_compared_by_pairs(two_runs, tmp_path, capsys):
    other = trained(tmp_path, "steps=20", "agent.lr=0.1")
    capsys.readouterr()
    assert main([f"run=[{two_runs[0]},{other}]", "episodes=5"]) == 0
    text = capsys.readouterr().out
    returns = [np.array(facts_of(run)["per_episode"]["returns"]) for run in (two_runs[0], other)]
    row = text[text.index("paired by start") :].splitlines()[-2]
    assert f"{np.mean(returns[1] - returns[0]):+.3g}" in row


def test_a_function_is_a_policy(tmp_path, capsys):
    words = ["env=point_robot", "episodes=4", f"out={tmp_path}", "cost_limit=[3,8]", "env_kwargs={start:fixed}"]
    assert main([f"policy={__name__}:still", *words]) == 0
    (path,) = tmp_path.glob("point_robot/*/*/eval.json")
    facts = json.loads(path.read_text())
    # From (-1.8, 0) at 2 m/s and 45 degrees, straight on: every episode is the same and leaves the arena.
    assert len(set(facts["per_episode"]["lengths"])) == 1
    assert [each["limit"] for each in facts["limits"]] == [3, 8]
    assert facts["limits"][0]["normalised_cost"] == pytest.approx(facts["cost"]["mean"] / 3)
    assert f"written: {path}" in capsys.readouterr().out


def test_an_sb3_file_is_a_policy(tmp_path):
    env = saferl.envs.make("point_robot")
    model = sb3.PPO("MlpPolicy", env, device="cpu", seed=0)
    model.save(tmp_path / "model.zip")
    assert main([f"policy={tmp_path / 'model.zip'}", "env=point_robot", "episodes=3", f"out={tmp_path}"]) == 0
    (path,) = tmp_path.glob("point_robot/*/*/eval.json")
    env = saferl.envs.make("point_robot", start="feasible")
    obs, _ = env.reset(seed=1)
    total, ended = 0.0, False
    while not ended:
        obs, reward, terminated, truncated, _ = env.step(model.predict(obs, deterministic=True)[0])
        total, ended = total + reward, terminated or truncated
    assert json.loads(path.read_text())["per_episode"]["returns"][1] == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either run=RUN or policy=POLICY env=ID"),
        (["run=a", "policy=b"], "give either run=RUN or policy=POLICY env=ID"),
        (["run=nowhere"], "nowhere does not exist"),
        (["run=a", "env=point_robot"], "env= goes with policy="),
        (["policy=x.zip"], "policy=x.zip needs env=ID"),
        (["policy=x.zip", "env=point_robot"], "x.zip does not exist."),
        (["policy=math", "env=point_robot"], "expected FILE.zip or package.module:function"),
        (["policy=math:sinn", "env=point_robot"], "has no attribute 'sinn'"),
        (["policy=math:pi", "env=point_robot"], "float is not a policy"),
        (["policy=nosuchmodule:f", "env=point_robot"], "No module named 'nosuchmodule'"),
        (["policy=math:sin", "env=point_robbot"], "no environment named 'point_robbot'. Did you mean point_robot"),
        ([f"policy={__name__}:three_wide", "env=point_robot", "episodes=2"], "shape (2, 3)"),
        (["runn=a"], "no key named 'runn'. Did you mean run=?"),
        (["run=a", "episodes=0"], "episodes must be >= 1; got 0."),
        (["run=a", "episodes=many"], "episodes must be a whole number or null; got 'many'."),
        (["run=a", "cost_limit=-1"], "cost_limit must be >= 0; got -1"),
        (["run=a", "vectorization=threads"], "vectorization must be sync or async"),
        (["run=a", "env_kwargs=3"], "env_kwargs must be like"),
        (["run=a", "audit=reachable"], "audit must be reachability or null; got 'reachable'."),
        (["policy=math:sin", "env=point_robot", "audit=reachability"], "audit= goes with run="),
        (["run=a", "-m"], "evaluation takes no -m"),
    ],
)
def test_a_mistake_costs_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("saferl.evaluate: ")
    assert message in line


@pytest.mark.parametrize("missing", ["data.json", "checkpoints"])
def test_a_damaged_run_costs_one_line(missing, two_runs, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(two_runs[0], run)
    (shutil.rmtree if missing == "checkpoints" else (lambda path: path.unlink()))(run / missing)
    assert main([f"run={run}"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert str(run) in line


def test_help_explains_every_key(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out.split("Settings and their defaults")[0]
    for key in (
        "run",
        "policy",
        "env",
        "episodes",
        "seed",
        "cost_limit",
        "env_kwargs",
        "num_envs",
        "audit",
        "device",
        "out",
    ):
        assert any(line.startswith(f"  {key} ") for line in text.splitlines()), key


def test_the_audit_of_a_run_is_in_eval_json_and_drawn(tmp_path, capsys, monkeypatch):
    def hazards(robot, discount):  # quick, and of a known size: h instead of V, which is tested elsewhere
        grid = Grid((-3, -3, 0, 0), (3, 3, 2, 6), (121, 121, 2, 2))
        x, y, _, _ = grid.open_mesh()
        distances = [np.hypot(x - a, y - b) for a, b in HAZARDS]
        return Value(grid, np.broadcast_to(HAZARD_RADIUS - np.minimum(*distances), grid.shape))

    monkeypatch.setattr(PointRobotAudit, "truth", hazards)
    monkeypatch.setattr(PointRobotAudit, "rollouts", 200)
    run = trained(tmp_path, "steps=10", agent=FISOR)
    capsys.readouterr()
    assert main([f"run={run}", "episodes=2", "audit=reachability"]) == 0
    facts = facts_of(run)["audit"]
    uniform, data = facts["samples"]
    assert uniform["overall"]["infeasible"]["rate"] == pytest.approx(2 * np.pi * HAZARD_RADIUS**2 / 36, abs=0.005)
    assert data["overall"]["infeasible"]["total"] == 2_000  # the whole of the small data set
    assert (run / "audit.png").stat().st_size > 10_000
    out = capsys.readouterr().out
    rate = data["overall"]["false_safe"]
    (row,) = [line for line in out.splitlines() if "states of the data" in line]
    assert f"{100 * rate['rate']:.1f} % [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]" in row


def test_a_run_without_a_region_costs_one_line(two_runs, capsys):
    assert main([f"run={two_runs[0]}", "audit=reachability"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "is of bc, which learns no feasible region; agents that do: fisor" in line
