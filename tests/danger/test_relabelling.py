"""Danger bits as the costs of a data set: the filter, the commands that take it, and FISOR that trains from it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser

from saferl import collect
from saferl.agents import FISOR, FISORConfig
from saferl.danger.noise import Noise
from saferl.danger.oracles import MarginAbove
from saferl.danger.relabelling import DangerLabels, danger_costs, relabelled
from saferl.offline_data import DatasetError, filtered, load_hdf5, save_hdf5
from saferl.offline_data.filter_settings import parse_filters
from saferl.offline_data.point_robot import generate
from saferl.reachability import Grid, Value
from tests.offline_data.arrays import toy
from tests.training.small import trained

BITS = {"danger": {"oracle": "margin", "margin": 0.1, "noise": "fp", "p": 0.1}}
BITS_WORDS = "{danger:{oracle:margin,margin:0.1,noise:fp,p:0.1}}"


@pytest.fixture(scope="module")
def data():
    return generate(n=4_000, seed=0)


def test_the_costs_are_the_noisy_bits_of_seed_episode_and_step(data):
    noise = Noise("both", 0.2, 0.3)
    costs = danger_costs(data, MarginAbove(-0.1), noise, seed=6)
    episode, step = 0, 0
    for row in range(len(data)):  # slow plain rewrite
        true = bool(data.margins[row] > np.float32(-0.1))
        assert costs[row] == noise.bit(true, seed=6, episode=episode, step=step)
        ended = data.terminals[row] or data.timeouts[row]
        episode, step = (episode + 1, 0) if ended else (episode, step + 1)


def test_only_costs_and_margins_change(data):
    new = relabelled(data, MarginAbove(), Noise("fn", 0.0, 0.5), seed=0)
    assert new.margins is None
    for key in new.arrays().keys() - {"costs"}:
        np.testing.assert_array_equal(new.arrays()[key], data.arrays()[key])
    assert (new.costs <= data.costs).all()
    assert 0.4 < new.costs.sum() / data.costs.sum() < 0.6


def test_an_episode_bit_is_the_cost_of_the_last_step():
    dataset = toy((3, 1, 4))  # costs 1 0 0 | 1 | 0 0 1 0
    assert danger_costs(dataset, lambda step: step.info["cost"] > 0, Noise("episode"), 0).tolist() == [
        0, 0, 1, 1, 0, 0, 0, 1,
    ]  # fmt: skip


def test_the_filter_is_the_function_and_the_file_says_what_was_done(data, tmp_path):
    new = filtered(data, BITS, seed=3)
    np.testing.assert_array_equal(new.costs, danger_costs(data, MarginAbove(-0.1), Noise("fp", 0.1), seed=3))
    save_hdf5(new, tmp_path / "bits.hdf5")
    back = load_hdf5(tmp_path / "bits.hdf5")
    assert back.margins is None
    assert back.metadata["filters"] == (
        "danger(oracle=margin, margin=0.1, value=None, noise=fp, p=0.1, q=None, seed=3): "
        f"{int(new.costs.sum())} of 4000 steps warned"
    )


def test_a_saved_value_labels_the_steps_that_leave_its_region(data, tmp_path):
    nodes = np.linspace(-4, 4, 9)  # V = x - 0.5, exact between the nodes because it is linear
    grid = Grid((-4.0, -4.0, -2.0, -np.pi), (4.0, 4.0, 3.0, np.pi), (9, 4, 4, 4), (3,))
    Value(grid, np.broadcast_to(nodes[:, None, None, None] - 0.5, grid.shape).copy()).save(tmp_path / "value")
    spec = {"danger": {"oracle": "region", "value": str(tmp_path / "value")}}
    x, x_next = data.observations[:, 0], data.next_observations[:, 0]
    expected = (x <= 0.5) & (x_next > 0.5)
    assert expected.any()
    np.testing.assert_array_equal(filtered(data, spec, seed=0).costs > 0, expected)


@pytest.mark.parametrize(
    ("danger", "message"),
    [
        (0.1, "filters.danger must be a mapping like {oracle: cost, noise: fp, p: 0.1}; got 0.1."),
        ({"oracel": "cost"}, "no key of filters.danger named 'oracel'. Did you mean oracle? Known: oracle, margin,"),
        ({"oracle": "costs"}, "filters.danger.oracle must be cost, margin, region; got 'costs'."),
        ({"margin": 0.1}, "filters.danger.margin is used by oracle=margin alone; got oracle=cost."),
        ({"oracle": "margin", "margin": "x"}, "filters.danger.margin must be a finite number; got 'x'."),
        ({"noise": "fp"}, "filters.danger: noise=fp needs p, a probability, as p=0.1."),
        ({"noise": "fp", "p": 2}, "filters.danger: noise: p must be a probability, 0 to 1; got 2."),
        ({"oracle": "region"}, "goes with oracle=region and with no other; got oracle=region, value=None."),
        ({"value": "runs/reach"}, "goes with oracle=region and with no other; got oracle=cost, value=runs/reach."),
        ({"oracle": "region", "value": "nowhere"}, "filters.danger: nowhere holds no value (value.json is missing)."),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(data, danger, message):
    with pytest.raises(DatasetError, match=re.escape(message)) as error:
        filtered(data, {"danger": danger}, seed=0)
    assert "\n" not in str(error.value)


def test_a_region_of_an_unknown_environment_is_refused(data, tmp_path):
    grid = Grid((0.0,), (1.0,), (4,))
    Value(grid, np.zeros(4)).save(tmp_path)
    with pytest.raises(DatasetError, match=r"oracle=region knows the states of point_robot.*; got dubins_car"):
        filtered(data, {"danger": {"oracle": "region", "value": str(tmp_path)}}, seed=0, env_id="dubins_car")


def test_fisor_takes_h_from_the_bits(data):
    bits = filtered(data, BITS, seed=7)
    config = FISORConfig(hidden=16, blocks=1, critic_hidden=16, batch_size=64, critic_batch_size=32, candidates=2)
    torch.manual_seed(0)
    agent = FISOR(config, data.obs_dim, data.act_dim, "cpu")
    sampler, seen = agent.sampler(bits, 0), set()
    for _ in range(3):
        batch = sampler.sample()
        h = agent.margins(batch)
        assert h.tolist() == [25.0 if cost else -1.0 for cost in batch.costs.tolist()]  # the labels of the paper
        assert all(torch.isfinite(value) for value in agent.update(batch).values())
        seen |= set(h.tolist())
    assert seen == {25.0, -1.0}


def test_a_training_takes_bits_of_an_existing_file(tmp_path):
    run = trained(tmp_path, f"data.filters={BITS_WORDS}", "data.filter_seed=7", "steps=20")
    facts = json.loads((run / "data.json").read_text())
    expected = danger_costs(generate(n=2_000, seed=0), MarginAbove(-0.1), Noise("fp", 0.1), seed=7)
    assert sum(facts["costs"]) == expected.sum()
    assert "danger(oracle=margin, margin=0.1" in facts["metadata"]["filters"]


def test_a_collection_ends_with_bits_for_costs(tmp_path):
    words = [
        "env=point_robot", f"out={tmp_path / 'bits'}", "limits=[null]", "steps=600", "stages=1", "envs=2",
        "ppo.rollout=300", "episodes=1", "random_episodes=4",
        "filters={danger:{oracle:margin,margin:0.3,noise:both,p:0.1,q:0.1}}",
    ]  # fmt: skip
    assert collect.main(words) == 0
    dataset = load_hdf5(tmp_path / "bits" / "dataset.hdf5")
    assert dataset.margins is None
    assert set(np.unique(dataset.costs)) == {0, 1}
    assert "danger(oracle=margin, margin=0.3" in (tmp_path / "bits" / "data_card.md").read_text()


@pytest.mark.parametrize("page", ["datasets.md", "collecting.md"])
def test_the_settings_that_the_guides_show_are_read(page):
    text = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
    shown = re.findall(r"filters=(\{danger:.*?\}\})'", text)
    assert shown
    for words in shown:
        (override,) = OverridesParser.create().parse_overrides([f"filters={words}"])
        noisy = {"noise": "fp", "p": 0.1} if "noise" in words else {}
        assert parse_filters(override.value()).danger == DangerLabels(oracle="margin", margin=0.1, **noisy)
