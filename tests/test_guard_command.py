"""python -m saferl.guard as a user types it."""

import json

import numpy as np
import pytest

from saferl.certification.parts import parts_of
from saferl.guard import main, split_episodes, visited_share
from saferl.guardians import GuardedPolicy, RecordedBehaviour, fit_guardian, load_guardian
from saferl.guardians.guardian import GuardianConfig
from saferl.offline_data.hdf5 import load_hdf5
from saferl.offline_data.point_robot import generate
from saferl.policy import CallablePolicy
from saferl.training.run_folder import open_run
from tests.training.small import trained

QUICK = ["kind=knn", "alpha=0.1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("guard"), "steps=20", "eval_episodes=1")


def test_coverage_of_held_out_episodes_is_reported_and_saved(run, tmp_path, capsys):
    data = run.parents[3] / "small.hdf5"
    assert main([f"data={data}", *QUICK, "held_out=0.25", f"out={tmp_path}/g"]) == 0
    text = capsys.readouterr().out
    facts = json.loads((tmp_path / "g" / "guardian.json").read_text())
    guardian = load_guardian(tmp_path / "g" / "guardian")
    _, held = split_episodes(load_hdf5(data), 0.25, 0)
    share = guardian.supported(held.observations, held.actions).mean()
    (row,) = [each for each in facts["coverage"] if each["name"] == "held-out data"]
    assert row["share"] == pytest.approx(share)
    assert row["low"] < share < row["high"]
    assert f"{100 * share:.2f} %" in text
    assert facts["threshold"] == guardian.threshold
    assert facts["episodes_for_twice_alpha"] == 150  # ln 20 / (2 * 0.1^2) = 149.8
    outside = ~guardian.supported(held.observations, held.actions)
    shares = [each.mean() for each in np.split(outside, np.cumsum(held.episode_lengths)[:-1])]
    bound = np.mean(shares) + np.sqrt(np.log(20) / (2 * held.n_episodes))  # rows of an episode are not independent
    assert facts["outside_at_most"] == pytest.approx(min(1, bound))
    assert facts["visited"] == []
    assert (tmp_path / "g" / "guardian.png").stat().st_size > 1000


def test_a_run_is_rolled_out_with_and_without_fallback(run, capsys):
    assert main([f"run={run}", "kind=knn", "alpha=0.9", "episodes=3"]) == 0  # most of the data outside: some pair is
    assert "with fallback" in capsys.readouterr().out
    facts = json.loads((run / "guardian.json").read_text())
    alone, guarded = facts["visited"]
    assert alone["fallback_share"] == 0
    assert 0 < guarded["fallback_share"] < 1
    parts, _ = parts_of(open_run(run))
    (part,) = [each for each in parts if each.title == "Guardian coverage"]
    assert part.facts["kind"] == "knn"
    assert [row["policy"] for row in part.tables["visited"]] == ["policy", "with fallback"]
    assert "settings kind" not in part.facts
    assert json.loads((run / "guardian" / "command.json").read_text())["settings"]["kind"] == "knn"
    assert [picture.name for picture in part.pictures] == ["guardian.png"]


def test_visited_pairs_are_counted_step_by_step():
    data = generate(n=3_000, seed=0)
    low, high = data.actions.min(0), data.actions.max(0)
    careful = data.actions[:, 0] < low[0] + 0.75 * (high[0] - low[0])  # pretend that nobody pushed harder
    guardian = fit_guardian(data.observations[careful], data.actions[careful], GuardianConfig(kind="knn", alpha=0.01))
    hard = CallablePolicy(lambda observations: np.repeat(high[None], len(observations), axis=0))
    behaviour = RecordedBehaviour(data.observations[careful], data.actions[careful])
    alone = visited_share(hard, guardian, "point_robot", 2)
    guarded = visited_share(GuardedPolicy(hard, guardian, behaviour), guardian, "point_robot", 2)
    assert alone["share"] > 0.5
    assert guarded["share"] < 0.5 * alone["share"]
    assert guarded["fallback_share"] > 0.1
    assert alone["episodes_outside"] == 1.0


def test_whole_episodes_are_held_out():
    data = generate(n=2_000, seed=0)
    seen, held = split_episodes(data, 0.3, seed=1)
    assert held.n_episodes == round(0.3 * data.n_episodes)
    assert seen.n_episodes + held.n_episodes == data.n_episodes
    rows = {row.tobytes() for row in seen.observations}
    assert not any(row.tobytes() in rows for row in held.observations)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give env=ID, data=PATH or run=RUN"),
        (["env=point_robot", "kind=svm"], "guardian.kind must be one of kde, knn"),
        (["env=point_robot", "alpha=2"], "guardian.alpha must be in (0, 1)"),
        (["env=point_robot", "held_out=0"], "held_out must be in (0, 1)"),
        (["run=nowhere"], "nowhere does not exist"),
        (["env=point_robot", "knid=knn"], "knid"),
    ],
)
def test_mistakes_are_one_line_and_code_2(words, message, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_help_is_the_manual(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    for word in ("kind", "density_ratio", "fallback", "guardian.png"):
        assert word in text
