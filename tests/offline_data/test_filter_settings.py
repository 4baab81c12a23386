"""Filters by name: the published presets, what the settings refuse, and the commands that take them."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from saferl import collect
from saferl.offline_data import DatasetError, load_hdf5
from saferl.offline_data.filters import DENSITY_PRESETS, filtered, filtered_episodes, parse_filters
from tests.offline_data.arrays import CAR, cloud
from tests.training.small import trained

ORACLES = Path(__file__).resolve().parents[3] / "shared" / "oracles" / "dsrl"


def test_the_presets_are_the_published_ones():
    path = ORACLES / "dsrl_density_cfg.csv"
    if not path.exists():
        pytest.skip("the table of published presets is not here")
    with path.open(newline="") as file:
        rows = {row.pop("key"): {key: int(value) for key, value in row.items()} for row in csv.DictReader(file)}
    assert len(rows) == 60
    assert {key: vars(grid) for key, grid in DENSITY_PRESETS.items()} == rows


def test_a_number_finds_the_presets_of_exactly_the_tasks_that_have_one():
    path = ORACLES / "dsrl_tasks.csv"
    if not path.exists():
        pytest.skip("the table of tasks is not here")
    with path.open(newline="") as file:
        variants = {row["env_id"]: row["density_variants"] for row in csv.DictReader(file)}
    found = 0
    for env_id, listed in variants.items():
        for number in (0.25, 0.5, 0.75):
            if str(number) in listed.split(";"):
                grid = parse_filters({"density": number}, env_id).density
                assert grid == DENSITY_PRESETS[f"{env_id}_density{number}"]
                found += 1
            else:
                with pytest.raises(DatasetError, match=f"filters.density={number}: no such preset for {env_id}, "):
                    parse_filters({"density": number}, env_id)
    assert found == 60


def test_the_simulators_id_finds_the_presets_and_the_limit_of_its_task():
    filters = parse_filters({"density": 0.25, "outlier": 0.1}, "SafetyPointCircle1-v0")
    assert filters == parse_filters({"density": 0.25, "outlier": 0.1}, "OfflinePointCircle1Gymnasium-v0")
    assert filters.cost_limit == 20  # published: Safety-Gymnasium is judged at 20, 40 and 80


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"densty": 0.5}, "filters: no filter named 'densty'. Did you mean density? Known: density, inpaint, outlier,"),
        ([0.5], "filters must be a mapping like {density: 0.5, noise: 0.05}; got [0.5]."),
        ({"density": 0.6}, f"filters.density=0.6: no such preset for {CAR}, which has 0.5 and 0.75; give a grid like"),
        ({"density": "OfflineCarCircl-v0_density0.5"}, f"Did you mean {CAR}_density0.5? Known: 60 keys like Offline"),
        ({"density": {"cbin": 3}}, "no key of filters.density named 'cbin'. Did you mean cbins? Known: cbins, rbins,"),
        ({"density": {"cbins": 0}}, "filters.density.cbins must be a whole number >= 1; got 0."),
        ({"density": {"rbins": 2.5}}, "filters.density.rbins must be a whole number >= 1; got 2.5."),
        ({"density": {"max_npb": 2}}, "filters.density.max_npb must be greater than min_npb = 2; got 2."),
        ({"density": True}, "filters.density must be a number, a preset's key or a mapping of a grid; got True."),
        ({"outlier": 10}, "filters.outlier must be a share of the episodes, > 0 and <= 1; got 10."),
        ({"outlier": "many"}, "filters.outlier must be a share of the episodes, > 0 and <= 1; got 'many'."),
        ({"outlier": 0.1, "cost_limit": 0}, "filters.outlier needs filters.cost_limit >= 1; got 0."),
        ({"epsilon": 0}, "filters.epsilon must be > 0 (takes the best safe episodes) or < 0 (the best unsafe ones)"),
        ({"epsilon": 1, "cost_limit": -1}, "filters.epsilon needs filters.cost_limit >= 0; got -1."),
        ({"noise": -0.1}, "filters.noise must be a number > 0; got -0.1."),
        ({"noise": float("nan")}, "filters.noise must be a number > 0; got nan."),
        ({"noise": {"one_std": True}}, "filters.noise.scale has no value; give a number > 0."),
        ({"noise": {"scale": 1, "one_std": 3}}, "filters.noise.one_std must be true or false; got 3."),
        ({"inpaint": [0.2, 0.4, 0.5, 0.8]}, "as [[0.2,0.4,0.5,0.8]]; got 0.2."),
        (
            {"inpaint": [[0.4, 0.2, 0, 1]]},
            "filters.inpaint must be a list of [least cost, greatest cost, least return,",
        ),
        ({"inpaint": [[0, 2, 0, 1]]}, "shares in 0 .. 1, as [[0.2,0.4,0.5,0.8]]; got [0, 2, 0, 1]."),
        ({"inpaint": []}, "filters.inpaint must be a list of"),
        ({"noise": 0.1, "cost_limit": 3}, "filters.cost_limit is used by outlier and epsilon alone; leave it out."),
    ],
)
def test_a_mistake_costs_one_line(spec, message):
    with pytest.raises(DatasetError) as error:
        filtered(cloud(20), spec, seed=0)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_data_of_no_known_environment_need_a_limit_and_a_grid():
    dataset = cloud()
    dataset.metadata.clear()
    with pytest.raises(DatasetError, match=r"filters.outlier needs a cost limit; give filters.cost_limit\.$"):
        filtered(dataset, {"outlier": 0.1}, seed=0)
    with pytest.raises(DatasetError, match=r"no such preset for data without an environment, which has none; give a"):
        filtered(dataset, {"density": 0.5}, seed=0)
    assert filtered(dataset, {"density": f"{CAR}_density0.5", "epsilon": 1, "cost_limit": 6}, seed=0).n_episodes < 400


@pytest.mark.parametrize("spec", [{"density": 0.5}, {"outlier": 0.1}, {"epsilon": 1}])
def test_a_wrong_environment_costs_one_line_with_the_close_match(spec):
    with pytest.raises(DatasetError, match=rf"^no environment named 'OfflineCarCircl-v0'. Did you mean {CAR} or .*\?$"):
        filtered(cloud(), spec, seed=0, env_id="OfflineCarCircl-v0")


def test_the_guides_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    guide = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
    (block,) = (text for text in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if "filtered" in text)
    exec(block, {"data": cloud()})
    assert "outlier(share=0.1, cost_limit=10.0, seed=0)" in load_hdf5(tmp_path / "sparse.hdf5").metadata["filters"]


# ---- by name in the commands


def test_a_training_takes_filters_by_name(tmp_path):
    run = trained(tmp_path, "steps=2", "data.filters={noise:0.05,inpaint:[[0,0,0.5,1]]}", "data.filter_seed=7")
    facts = json.loads((run / "data.json").read_text())
    data = load_hdf5(tmp_path / "small.hdf5")
    expected = filtered(data, {"noise": 0.05, "inpaint": [[0, 0, 0.5, 1]]}, 7, "point_robot")
    assert facts["metadata"] == {**expected.metadata, "sha256": data.sha256()}
    assert (facts["episodes"], facts["transitions"]) == (expected.n_episodes, len(expected))
    assert "noise(scale=0.05, one_std=False, seed=7)" in facts["metadata"]["filters"]


@pytest.mark.parametrize("command", ["train", "collect"])
def test_a_command_refuses_a_wrong_filter_in_one_line_before_it_starts(command, tmp_path, capsys):
    import saferl.train

    main, prefix = {"train": (saferl.train.main, "data."), "collect": (collect.main, "")}[command]
    for setting, message in (
        ("{nois:0.1}", "no filter named 'nois'. Did you mean noise?"),
        ("{density:0.5}", "density="),
    ):
        assert main(["env=point_robot", f"{prefix}filters={setting}", f"out={tmp_path / 'out'}"]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert message in err
    assert list(tmp_path.iterdir()) == []


def test_a_collection_takes_filters_by_name_and_its_card_says_so(tmp_path):
    small = ["env=point_robot", "steps=320", "stages=1", "envs=4", "ppo.rollout=80", "ppo.batch=80", "limits=[null]"]
    small += ["episodes=3", "random_episodes=6", "trajectories=9"]
    assert collect.main([*small, f"out={tmp_path / 'all'}"]) == 0
    spec = {"noise": 0.05, "epsilon": -1, "cost_limit": 3}
    assert collect.main([*small, "filters={noise:0.05,epsilon:-1,cost_limit:3}", f"out={tmp_path / 'some'}"]) == 0
    everything, some = (load_hdf5(tmp_path / name / "dataset.hdf5") for name in ("all", "some"))
    expected, left = filtered_episodes(everything, {**spec, "noise": None}, seed=0)
    np.testing.assert_array_equal(some.actions, expected.actions)
    assert some.n_episodes < everything.n_episodes
    assert not np.array_equal(some.observations, expected.observations)
    cards = [json.loads((tmp_path / name / "data_card.json").read_text()) for name in ("all", "some")]
    assert cards[1]["episode_sources"] == [cards[0]["episode_sources"][number] for number in left]
    assert cards[0]["filters"] is None
    assert cards[1]["filters"] == some.metadata["filters"]
    assert "'filters={cost_limit:3,epsilon:-1,noise:0.05}'" in cards[1]["made_with"]["command"]
    assert f"Filters: {some.metadata['filters']}." in (tmp_path / "some" / "data_card.md").read_text()
