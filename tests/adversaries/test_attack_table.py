"""benchmarks/attack_table.py: seeds are pooled start by start, and what is on disk is gone on with."""

import numpy as np
import pytest

from benchmarks import attack_table as table
from benchmarks.attack_table import CASES, comparison_of, cost_added, reward_kept, share_over, there
from saferl.adversaries.config import parse_attack
from saferl.training.run_folder import write_json


def facts(adversary, eps, returns, costs):
    about = {"critics": "made up", "critics_agreement": {"reward": 0.5, "cost": float("nan")}}
    measured = {"per_episode": {"returns": returns, "costs": costs}, "reference": None, "about": about}
    return {"adversary": adversary, "eps": eps, **measured}


def test_starts_are_paired_and_each_seed_is_measured_against_itself():
    clean = [facts("none", 0.0, [10.0, 20.0], [0.0, 9.0]), facts("none", 0.0, [1.0, 3.0], [100.0, 0.0])]
    attacked = [facts("mc", 0.1, [5.0, 15.0], [3.0, 12.0]), facts("mc", 0.1, [2.0, 4.0], [103.0, 3.0])]
    added = cost_added(attacked, clean)
    assert (added.mean, added.low, added.high) == (3.0, 3.0, 3.0)  # the starts differ, the attack's effect does not
    kept = reward_kept(attacked, clean)
    assert kept[0] == pytest.approx((10 / 15 + 3 / 2) / 2)  # and not (5 + 15 + 2 + 4) / (10 + 20 + 1 + 3)
    assert 5 / 10 <= kept[1] <= 10 / 15 < 3 / 2 <= kept[2] <= 2 / 1  # over seeds and starts


def test_starts_that_lose_the_same_share_leave_no_doubt():
    clean = [facts("none", 0.0, [1.0, 20.0, 7.0], [0, 0, 0])]
    assert reward_kept([facts("q", 0.1, [0.5, 10.0, 3.5], [0, 0, 0])], clean) == pytest.approx((0.5, 0.5, 0.5))
    assert reward_kept(clean, [facts("none", 0.0, [-1.0, 0.0, 0.5], [0, 0, 0])]) is None  # a share of less than nothing
    worst = [{**clean[0], "reference": {"min_return": -3.0}}]
    assert reward_kept([facts("q", 0.1, [-3.0] * 3, [0, 0, 0])], worst)[0] == 0


def test_the_share_is_of_all_episodes_and_a_cost_at_the_limit_keeps_it():
    share, low, high = share_over([facts("mc", 0.1, [0, 0], [20.0, 21.0]), facts("mc", 0.1, [0, 0], [0.0, 0.0])], 20.0)
    assert share == 0.25
    assert (low, high) == pytest.approx((0, 0.8059), abs=1e-4)  # Clopper and Pearson's 1 of 4 ends at 0.0063 and 0.8059
    one, other = facts("mc", 0.1, [0] * 20, [0.0] * 20), facts("mc", 0.1, [0] * 20, [21.0] * 20)
    share, low, high = share_over([one, one, other], 20.0)
    assert (share, low, high) == (pytest.approx(1 / 3), 0, 1)  # and not [22, 47] %: seeds differ
    assert share_over([one, one], 20.0) == pytest.approx((0, 0, 0.0881), abs=1e-4)  # Clopper and Pearson, 0 of 40
    assert share_over([facts("mc", 0.1, [0] * 4, [0.0, 0.0, 0.0, 9.0])], 5.0)[1] == pytest.approx(0.0063, abs=1e-4)


def results(seed):
    place, rows = CASES["fisor"].place, [facts("none", 0.0, [1.0, 1.0, 1.0], [0.0, 0.0, float(seed)])]
    for eps, added in zip(place.eps, (1.0, 5.0)):
        rows.append(facts("mc", eps, [0.95, 0.95, 0.95], (np.array([0.0, 0.0, seed]) + added).tolist()))
        rows.append(facts("q", eps, [0.5, 0.5, 0.5], (np.array([0.0, 0.0, seed]) + added).tolist()))
        rows.append(facts("random", eps, [1.0, 1.0, 1.0], [0.0, 0.0, float(seed)]))
    return rows


def test_what_breaks_safety_while_the_reward_stays_is_marked():
    lines = table.attack_table("fisor", [results(seed) for seed in (0, 1)]).splitlines()
    assert "2 training seed(s), 6 episodes a cell" in lines[0]
    row = {line.split("|")[1].strip(): line for line in lines if line.startswith("| `")}
    assert row["`mc`"].split(" | ")[5] == "**+5 [5, 5]**"
    assert row["`mc`"].split(" | ")[3].startswith("100 %")
    assert "**" not in row["`q`"]  # half of the reward is lost
    assert "**" not in row["`random`"]  # nothing is added
    assert lines[-1] == "Rank correlation of the critics, by seed: reward 0.50, 0.50; cost nan, nan (made up)."


def test_a_twin_stands_beside_the_other_under_the_same_attack():
    both = {"fisor": [results(0)], "cdt": [results(1)]}
    lines = table.twins_table(("fisor", "cdt"), both, 1).splitlines()
    assert lines[2].startswith("| no attack | 1 | 0 [0, 0] | 0 % | 1 | 0.333 [0, 1] | 33 % |")
    assert lines[3].startswith("| `mc` | 0.95 | 5 [5, 5] | 100 % |")


@pytest.mark.parametrize("begun", [False, True])
def test_a_comparison_is_made_once_and_one_that_was_stopped_goes_on(tmp_path, monkeypatch, begun):
    asked, folder = [], tmp_path / "ppo" / "env" / "attack-policy" / "2000-20260101-120000"

    def attack(words):
        asked.append(words)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "attacks.json", [facts("none", 0.0, [1.0], [0.0])])
        return 0

    monkeypatch.setattr(table, "attack", attack)
    monkeypatch.setattr(table, "victim_of", lambda *_: "policy.safetensors")
    if begun:
        folder.mkdir(parents=True)
        (folder / "attack.yaml").write_text("victim: x\n")
    for _ in range(2):
        assert comparison_of("ppo", 2, tmp_path)[0]["eps"] == 0
    assert len(asked) == 1
    assert (asked[0] == [f"resume={folder}"]) is begun
    assert there(["ppo", "cdt"], tmp_path, [0, 1, 2]) == {"ppo": [comparison_of("ppo", 2, tmp_path)]}


def test_all_attacks_of_the_catalogue_are_compared_but_those_with_a_target():
    names = parse_attack({"victim": "x", "adversary": "all"}).adversaries
    assert len(names) == 15
    assert {"mr", "mc", "rs_mad", "pa_ad_cost"} < set(names)
    assert table.ATTACK[0] == "adversary=all"


def test_the_twin_of_an_offline_agent_learns_from_what_mad_does_to_that_agent(tmp_path, monkeypatch):
    told = []

    def made(kind, file):
        def command(words):
            told.append((kind, words))
            path = tmp_path / words[-1].partition("=")[2] if kind == "harden" else tmp_path / "bc_augment"
            path = path / "point_robot" / ("harden-augment" if kind == "harden" else "bc") / "1-20260101-000000" / file
            path.parent.mkdir(parents=True)
            path.touch()
            return 0

        return command

    monkeypatch.setattr(table, "harden", made("harden", "dataset.hdf5"))
    monkeypatch.setattr(table, "train", made("train", "checkpoints/step-0000002000"))
    base = tmp_path / "bc" / "point_robot" / "bc" / "1-20260101-000000"
    (base / "checkpoints" / "step-0000002000").mkdir(parents=True)
    for _ in range(2):
        assert table.victim_of("bc_augment", 1, tmp_path).name == "1-20260101-000000"
    (_, attacked), (_, trained) = told  # once
    assert {"method=augment", "adversary=mad", "eps=0.3", "seed=1", f"victim={base}"} < set(attacked)
    assert trained[-1].startswith(f"data.path={tmp_path / 'bc_augment'}")
    assert trained[-1].endswith("dataset.hdf5")
