"""python -m saferl.reach as a user types it."""

import json
import re

import numpy as np
import pytest

import saferl.reach
from saferl.reach import main
from saferl.reachability import SYSTEMS, Box, System, Value
from saferl.reachability.problems import PROBLEMS
from tests.reachability.oracles import oracle

QUICK = ["system=dubins_car", "shape=[15,15,12]", "space=upwind1", "time=1"]


def belt():
    """A conveyor of 1 m/s on which one walks at up to 0.5 m/s."""
    return System(
        name="belt", states=("x [m]",), drift=lambda x: (1.0,), control_matrix=((1,),), control=Box(-0.5, 0.5)
    )


def wall(x):
    return x - 1


def steep(x):
    return 1e38 * (3 * x - 1)


def broken(x):
    return np.where(x > 1, np.nan, x)


def not_a_system():
    return 3


def needs_speed(speed):
    return belt()


BELT = [f"system={__name__}:belt", "low=[0]", "high=[2]", "shape=[41]", "horizon=1", f"constraint={__name__}:wall"]


def percentage(text, row):
    (line,) = [line for line in text.splitlines() if row in line]
    return float(re.search(r"([\d.]+)%", line)[1]) / 100


def test_a_ready_problem_is_solved_saved_drawn_and_counted(tmp_path, capsys):
    assert main(["system=double_integrator", "shape=[81,81]", "times=[0.5,1]", f"out={tmp_path}/v"]) == 0
    text = capsys.readouterr().out
    # Stopping within |x| <= 1: the area between the braking parabolas is 16/3 of the box's 20 m m/s.
    assert percentage(text, "safe: V <= 0") == pytest.approx(16 / 3 / 20, abs=0.005)
    assert percentage(text, "looks safe: h <= 0") == pytest.approx(0.5, abs=0.01)
    assert "81 x 81 = 6,561 nodes" in text.splitlines()[0]
    value = Value.load(tmp_path / "v", SYSTEMS["double_integrator"]())
    states = np.array([[0.5, 0.5], [0.5, 1.5], [-0.9, -1.0]])
    exact = np.maximum(np.abs(states[:, 0]), np.abs(states[:, 0] + states[:, 1] * np.abs(states[:, 1]) / 2)) - 1
    np.testing.assert_allclose(value(states), exact, atol=0.03)
    assert value.safe_control(states).shape == (3, 1)
    facts = json.loads((tmp_path / "v" / "reach.json").read_text())
    assert facts["shares"][0]["share"] == value.volume()
    assert facts["settings"]["shape"] == [81, 81]
    assert (tmp_path / "v" / "slices.png").stat().st_size > 10_000


def test_the_discounted_value_is_the_recorded_one(tmp_path, capsys):
    recording = oracle("double_integrator_discounted")
    assert recording.facts["gamma"] == 0.99
    words = ["system=double_integrator", "shape=[101,101]", "method=discounted", "dt=0.05", "tolerance=1e-6"]
    assert main([*words, f"out={tmp_path}/v"]) == 0
    value = Value.load(tmp_path / "v")
    assert np.abs(value.values - recording.recorded).max() < 1e-5
    # What the discount hides, from the recording and the braking parabola.
    x, v = recording.grid.open_mesh()
    unsafe = np.maximum(np.abs(x), np.abs(x + v * np.abs(v) / 2)) > 1
    hidden = np.mean(recording.recorded[unsafe] <= 0)
    assert value.facts["discount_bias"]["hidden"] == pytest.approx(hidden, abs=0.001)
    text = capsys.readouterr().out
    assert percentage(text, "hidden by the discount: of the unsafe  ") == pytest.approx(hidden, abs=0.001)
    looks_safe = np.mean(recording.recorded[unsafe & (np.abs(x) <= 1)] <= 0)
    assert percentage(text, "of the unsafe with h <= 0") == pytest.approx(looks_safe, abs=0.002)
    assert percentage(text, "V <= 0 without the discount") == pytest.approx(1 - unsafe.mean(), abs=0.001)
    assert value.facts["bound"] <= 1e-6


def test_without_annealing_no_bias_is_told(tmp_path, capsys):
    words = ["system=double_integrator", "shape=[21,21]", "method=discounted", "discount=0.9", "anneal=false"]
    assert main([*words, f"out={tmp_path}/v"]) == 0
    assert "by the discount" not in capsys.readouterr().out
    assert Value.load(tmp_path / "v").facts["discount"] == 0.9


def test_a_system_of_ones_own_is_solved(tmp_path, capsys):
    assert main([*BELT, f"out={tmp_path}/v"]) == 0
    value = Value.load(tmp_path / "v")
    np.testing.assert_allclose(value([[0.2], [0.7]]), [-0.3, 0.2], atol=1e-5)  # carried 0.5 m in 1 s
    assert "safe: V <= 0" in capsys.readouterr().out


def test_the_printed_line_loads_the_value(tmp_path, capsys):
    assert main([*QUICK, "system_kwargs={speed:2}", f"out={tmp_path}/v"]) == 0
    *_, line = capsys.readouterr().out.strip().splitlines()
    names = {}
    exec(line, names)
    assert names["V"].system.drift_at(*np.zeros((3, 1)))[0] == 2


def test_a_target_and_a_constraint_reach_without_violation(tmp_path, capsys):
    assert main([*QUICK, "target_discs=[[2,0,0.5]]", f"out={tmp_path}/v"]) == 0
    value = Value.load(tmp_path / "v")
    assert value.facts["problem"] == "reach-avoid"
    assert (value.values >= value.grid.evaluate(PROBLEMS["dubins_car"].constraint) - 1e-6).all()
    assert "avoid h > 0, reach 1 disc" in capsys.readouterr().out


def test_a_constraint_can_be_left_out(tmp_path):
    assert main([*QUICK, "constraint=none", "target_discs=[[2,0,0.5]]", f"out={tmp_path}/v"]) == 0
    assert Value.load(tmp_path / "v").facts["problem"] == "reach"


def test_states_are_named_in_axes_at_and_periodic(tmp_path):
    words = ["axes=[y,heading]", "at={x:[-1.5,0]}", "periodic=[heading]", f"out={tmp_path}/v"]
    assert main([*QUICK, *words]) == 0
    assert Value.load(tmp_path / "v").grid.periodic == (2,)


def test_runs_without_out_get_folders_of_their_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(QUICK) == 0
    assert main(QUICK) == 0
    assert len(list(tmp_path.glob("runs/dubins_car/hamilton_jacobi/0-*/value.json"))) == 2


def test_an_empty_target_is_remarked_on(tmp_path, capsys):
    assert main([*QUICK, "constraint=none", "target_discs=[[99,0,0.5]]", f"out={tmp_path}/v"]) == 0
    assert "note: l > 0 at every node" in capsys.readouterr().out


def test_ctrl_c_leaves_nothing_behind(tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(saferl.reach.hamilton_jacobi, "snapshots", interrupted)
    with pytest.raises(SystemExit) as stop:
        main([*QUICK, f"out={tmp_path}/v"])
    assert stop.value.code == 130
    assert not (tmp_path / "v").exists()
    assert "stopped; nothing was saved" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give system=NAME; known: double_integrator"),
        (["system=dubin_car"], "no system named 'dubin_car'. Did you mean system=dubins_car?"),
        (["system=nosuchmodule:f"], "No module named 'nosuchmodule'"),
        (["system=math:sinn"], "has no attribute 'sinn'"),
        (["system=math:pi"], "float is not a function"),
        ([f"system={__name__}:not_a_system"], "must return a saferl.reachability.System; got int"),
        ([f"system={__name__}:needs_speed"], "missing 1 required positional argument: 'speed'"),
        ([f"system={__name__}:belt"], "has no ready problem; give low=, high=, shape=, horizon=, constraint="),
        ([f"system={__name__}:belt", "method=discounted", "low=[0]"], "give high=, shape=, constraint="),
        ([*BELT, f"constraint={__name__}:nope"], "has no attribute 'nope'"),
        ([*BELT, "constraint=math:hypot"], "constraint must be a function of x [m] on arrays that broadcast"),
        ([*BELT, f"constraint={__name__}:broken"], "constraint is nan at state [1.05"),
        ([*BELT, f"constraint={__name__}:steep"], "not finite"),
        ([*BELT, "discs=[[0,0,1]]"], "give constraint= or discs=, not both"),
        ([*BELT[:-1], "discs=[[0,0,1]]"], "discs need two states"),
        (["system=dubins_car", "system_kwargs={sped:2}"], "takes no sped. Did you mean speed?"),
        (["system=dubins_car", "system_kwargs=2"], "system_kwargs must be like {speed:2}"),
        (["system=dubins_car", "shape=[20000,20000,20000]"], "GiB are available"),
        (["system=dubins_car", "shape=[11,11]"], "one entry per state"),
        (["system=dubins_car", "low=[0]", "high=[1]", "shape=[9]", "periodic=[]"], "has 3 states"),
        (["system=dubins_car", "shape=[5.5,5,5]"], "shape must be a list of whole numbers"),
        (["system=dubins_car", "low=3"], "low must be a list of numbers"),
        (["system=dubins_car", "discs=[0,0,1]"], "discs must be a list of discs"),
        (["system=dubins_car", "discs=[[0,0]]"], "a disc is [x, y, radius]"),
        (["system=dubins_car", "constraint=none"], "give constraint"),
        (["system=dubins_car", "space=weno6"], "Did you mean space=weno5?"),
        (["system=dubins_car", "time=4"], "time must be 1, 2 or 3; got 4."),
        (["system=dubins_car", "cfl=2"], "cfl must be in (0, 1]; got 2"),
        (["system=dubins_car", "kind=tub"], "Did you mean kind=tube?"),
        (["system=dubins_car", "horizon=-1"], "horizon must be > 0; got -1"),
        (["system=dubins_car", "times=[3]"], "times must rise between 0 and the horizon, 2 s"),
        (["system=dubins_car", "tolerance=-1"], "tolerance must be >= 0"),
        (["system=dubins_car", "discount=0.9"], "discount= goes with method=discounted"),
        (["system=dubins_car", "method=discounted", "space=weno5"], "space= goes with method=hamilton_jacobi"),
        (["system=dubins_car", "method=discounted", "discount=1.1"], "discount must be in [0, 1]"),
        (["system=dubins_car", "method=discounted", "dt=-1"], "dt must be positive"),
        (["system=dubins_car", "method=discounted", "tolerance=0"], "tolerance must be > 0"),
        (["system=dubins_car", "method=discounted", "controls=1"], "controls must be >= 2"),
        (["system=dubins_car", "method=discount"], "Did you mean method=discounted?"),
        (["system=dubins_car", "dtype=float16"], "no dtype named 'float16'"),
        (["system=dubins_car", "axes=[x]"], "two of the 3 axes"),
        (["system=dubins_car", "axes=x"], "axes must be a list"),
        (["system=dubins_car", "axes=[x,heding]"], "no state named 'heding'. Did you mean heading?"),
        (["system=dubins_car", "at={heading:north}"], "at: heading must be a number or a list of numbers"),
        (["system=dubins_car", "at={x:0}"], "axis 0 is drawn"),
        (["sistem=dubins_car"], "no key named 'sistem'. Did you mean system=?"),
        (["system=dubins_car", "-m"], "reach takes no -m"),
        ([*QUICK, "out=file/v"], "give another folder"),
        ([*QUICK, "out=taken"], "out=taken already holds a value"),
    ],
)
def test_a_mistake_costs_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "value.json").touch()
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("saferl.reach: ")
    assert message in line
    assert not list(tmp_path.glob("runs/*/*/*"))


def test_help_explains_every_key_and_lists_every_system(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text, _, settings = capsys.readouterr().out.partition("Settings and their defaults")
    keys = [line.partition(":")[0] for line in settings.splitlines() if line.strip()]
    assert len(keys) > 25
    for key in [*keys, *SYSTEMS]:
        assert re.search(rf"(^  |, |; |How: ){key}\b", text, re.MULTILINE), key
