"""The ledger: one split for good, one test, no second look."""

import errno
import json
import os

import numpy as np
import pytest

from saferl.certification.ledger import Ledger, digest, split_recorded, split_seeds
from saferl.command_line import UsageError

ORIGIN = {"env": "somewhere", "episodes": 20}
CLAIM = {"policy": "abc", "constraints": [{"limit": 0.1}]}


def ledger_with_split(folder):
    ledger = Ledger(folder / "certify")
    return ledger, ledger.split(ORIGIN, lambda: split_seeds(1, 20, ORIGIN))


def test_the_first_split_stays(tmp_path):
    ledger, first = ledger_with_split(tmp_path)
    again = ledger.split(ORIGIN, lambda: split_seeds(2, 20, ORIGIN))
    assert again == first
    assert again.digest == json.loads(ledger.split_file.read_text())["sha256"]


def test_seeds_are_apart_from_those_that_are_counted_from_zero():
    split = split_seeds(0, 2_000, {})
    assert len(split.candidate) == len(split.test) == 1_000
    assert min(*split.candidate, *split.test) > 10_000
    assert not set(split.candidate) & set(split.test)
    assert np.mean(split.test) == pytest.approx(2**30, rel=0.06)  # uniform over 2^31
    assert split.test == split_seeds(0, 2_000, {}).test != split_seeds(1, 2_000, {}).test


def test_splits_of_one_seed_share_no_episode_unless_they_are_the_same():
    origins = [{"env": env, "episodes": episodes} for env in ("here", "there") for episodes in (122, 358)]
    splits = [split_seeds(0, each["episodes"], each) for each in origins]
    seeds = [seed for split in splits for seed in (*split.candidate, *split.test)]
    assert len(set(seeds)) == len(seeds) == 2 * (122 + 358)
    assert splits == [split_seeds(0, each["episodes"], each) for each in origins]  # on any machine, in any folder


def test_the_recorded_entropy_as_a_seed_gives_the_split_again():
    drawn = split_seeds(2**100, 20, ORIGIN)
    again = split_seeds(int(drawn.origin["entropy"]), 20, {**ORIGIN, "entropy": drawn.origin["entropy"]})
    assert again == drawn


def test_recorded_episodes_are_in_exactly_one_half():
    split = split_recorded(3, 101, {})
    assert sorted([*split.candidate, *split.test]) == list(range(101))
    assert len(split.test) == 51
    assert list(split.test) != list(range(50, 101))


@pytest.mark.parametrize("key", ["test", "candidate", "origin"])
def test_a_changed_split_is_refused(key, tmp_path):
    ledger, _ = ledger_with_split(tmp_path)
    values = json.loads(ledger.split_file.read_text())
    values[key] = {**values[key], "entropy": "9"} if key == "origin" else values[key][::-1]
    ledger.split_file.write_text(json.dumps(values))
    with pytest.raises(UsageError, match=r"split\.json was changed since it was written"):
        ledger.read_split()


def test_a_split_of_something_else_is_refused(tmp_path):
    ledger, _ = ledger_with_split(tmp_path)
    with pytest.raises(UsageError, match="holds a split with episodes=20; got episodes=40"):
        ledger.split({**ORIGIN, "episodes": 40}, lambda: split_seeds(1, 40, {}))


def test_a_test_half_gives_one_verdict(tmp_path):
    ledger, _ = ledger_with_split(tmp_path)
    request = {"policy": "abc", "values": (1, 2)}
    assert ledger.verdict_on(request) is None
    ledger.open_test(CLAIM)
    ledger.close_test({"verdict": "no solution found", "request": request})
    assert ledger.verdict_on(request)["verdict"] == "no solution found"
    for other in ({**request, "policy": "abd"}, {"values": (1, 2)}):
        with pytest.raises(UsageError, match=r"is spent \(verdict: no solution found.*it differs in policy\)") as error:
            ledger.verdict_on(other)
        assert "out=FOLDER with another seed= or none" in str(error.value)


def test_an_interrupted_test_goes_on_with_its_own_claim_only(tmp_path):
    ledger, _ = ledger_with_split(tmp_path)
    ledger.open_test(CLAIM)
    ledger.open_test(CLAIM)
    with pytest.raises(UsageError, match=r"opened for another claim \(it differs in policy\)"):
        ledger.open_test({**CLAIM, "policy": "abd"})
    assert json.loads(ledger.claim_file.read_text()) == CLAIM
    assert [path.name for path in ledger.folder.iterdir() if path.name.startswith(".")] == []


def test_where_there_are_no_hard_links_a_claim_is_not_replaced_either(tmp_path, monkeypatch):
    def no_links(source, target):  # as exFAT says
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), source)

    ledger, _ = ledger_with_split(tmp_path)
    monkeypatch.setattr(os, "link", no_links)
    ledger.open_test(CLAIM)
    ledger.open_test(CLAIM)
    with pytest.raises(UsageError, match=r"opened for another claim \(it differs in policy\)"):
        ledger.open_test({**CLAIM, "policy": "abd"})
    assert json.loads(ledger.claim_file.read_text()) == CLAIM
    assert sorted(path.name for path in ledger.folder.iterdir()) == ["claim.json", "split.json"]


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": (2, 3)}) == digest({"b": [2, 3], "a": 1}) != digest({"a": 1, "b": [3, 2]})
