"""The benchmark of discovery: cells are kept, and a seed that did not discover is in no mean."""

from dataclasses import replace

from benchmarks.danger_table import experiment, mean_row, records, row
from saferl.danger.experiment import summary
from saferl.danger.noise import parse_noise

NOISE = parse_noise("fp", p=0.2)


def small(told="bits"):
    one = experiment("boat_race", NOISE, told)
    return replace(one, settings=replace(one.settings, rounds=2))


def test_a_cell_is_run_once_and_read_afterwards(tmp_path):
    first = records(small(), 2, tmp_path)
    file = tmp_path / "boat_race-pen-bits" / "fp_p=0.2" / "1.json"
    stamp = file.stat().st_mtime_ns
    assert records(small(), 3, tmp_path)[:2] == first
    assert file.stat().st_mtime_ns == stamp


def test_who_does_not_discover_is_counted_and_not_averaged(tmp_path):
    found = [*records(small(), 1, tmp_path), *records(small("nothing"), 2, tmp_path)]
    facts = summary(found)
    assert facts["discovered"]["count"] == 1
    assert facts["rounds"]["mean"] == found[0]["discovered"] == 1
    line = row("boat_race", NOISE, facts)
    assert "| 1 of 3 | 1; 1 |" in line
    assert mean_row("all", NOISE, ["boat_race"], {("boat_race", str(NOISE)): facts}).endswith("| 1 of 3 | 1 |")
    never = summary(found[1:])
    assert never["rounds"] is None
    assert "| 0 of 2 | - |" in row("boat_race", NOISE, never)
