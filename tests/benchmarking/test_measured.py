"""benchmarks/measured.py: what was packed comes back, and what was measured anew stays."""

from benchmarks import measured
from benchmarks.sepsis_table import OUT, Training
from saferl.training.run_folder import read_json, write_json


def test_results_come_back_where_their_benchmark_looks_for_them(tmp_path):
    kept, first, second = tmp_path / "kept", tmp_path / "first", tmp_path / "second"
    training = Training("bcq_lag, guarded", 0.5, 1)
    path = first / training.results[0]
    path.parent.mkdir(parents=True)
    write_json(path, {"cpu_s": 1.5, "limits": {"0.5": {"survival": 0.8}}})
    comparison = first / "results/attack_table/ppo/env/attack-a/0-20260101-000000/attacks.json"
    comparison.parent.mkdir(parents=True)
    run = {"returns": [1.0], "costs": [2.0], "lengths": [3]}
    facts = {"adversary": "mc", "eps": 0.1, "reference": None, "about": {"critics": "own"}}
    write_json(comparison, [{**facts, "per_episode": run, "shown": [[0, 1]]}])
    assert [each.name for each in measured.pack(first, kept)] == ["attack_table.json", "sepsis_table.json"]
    anew = second / OUT / "bc/limit-none-seed0/exact.json"
    anew.parent.mkdir(parents=True)
    write_json(anew, {"cpu_s": 2.0})
    measured.pack(second, kept)  # adds to what is kept
    assert len(measured.unpack(second, kept)) == 2
    assert measured.unpack(second, kept) == []
    assert read_json(second / training.results[0]) == read_json(path)
    (short,) = read_json(second / comparison.relative_to(first))
    assert short == {**facts, "per_episode": {"returns": [1.0], "costs": [2.0]}}
    write_json(anew, {"cpu_s": 3.0})
    assert measured.unpack(second, kept) == []
    assert read_json(anew) == {"cpu_s": 3.0}
