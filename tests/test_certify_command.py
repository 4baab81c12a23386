"""python -m saferl.certify as a user types it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import stable_baselines3 as sb3
from scipy import stats

import saferl.certify
import saferl.envs
from saferl.certification import episodes as episodes_module
from saferl.certify import main
from saferl.evaluation.rollout import rollout
from saferl.training.trained import load_policy
from tests.certification import coins
from tests.certification.coins import ENV
from tests.training.small import FISOR, trained

CAREFUL, BOLD = (f"policy={coins.__name__}:{name}" for name in ("careful", "bold"))
LOOSE = [ENV, "event_rate=0.2", "seed=0"]


def facts_of(folder):
    return json.loads((folder / "certificate.json").read_text())


def out_of(folder):
    return f"out={folder}"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("run"), "steps=20")


def test_a_careful_policy_is_released(tmp_path, capsys):
    assert main([CAREFUL, *LOOSE, out_of(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "verdict: release" in text.splitlines()
    facts = facts_of(tmp_path)
    (check,) = facts["checks"]
    costs = np.array(facts["test"]["per_episode"]["costs"])
    exact = stats.binomtest(int((costs > 0).sum()), len(costs), alternative="less").proportion_ci(0.95, "exact").high
    assert check["upper_bound"] == pytest.approx(exact, rel=1e-9)
    assert facts["verdict"] == "release"
    assert facts["statement"] == "Shown with confidence 95 %: at most 20 % of episodes that cost anything."
    assert coins.rate(0.8) < exact <= 0.2
    page = (tmp_path / "safety_case.html").read_text()
    assert "Verdict: release" in page
    assert f"{exact:.4g}" in page


def test_a_bold_policy_is_refused(tmp_path, capsys):
    assert main([BOLD, *LOOSE, "delta=0.01", out_of(tmp_path)]) == 1
    text = capsys.readouterr().out
    assert "verdict: no solution found" in text.splitlines()
    assert "This says that the evidence is not enough at delta 0.01" in text
    assert "Verdict: no solution found" in (tmp_path / "safety_case.html").read_text()


def test_the_episodes_needed_are_printed_before_they_are_spent(tmp_path, capsys):
    harmless = f"policy={coins.__name__}:nearby"  # a truth of 0, as margin=1 expects
    assert main([harmless, *LOOSE, "margin=1", "plan=true", out_of(tmp_path)]) == 0
    text = capsys.readouterr().out
    # (1 - 0.2)^n <= 0.05 from n = 14 on
    assert "episodes: 14 to choose with, 14 to test with" in text
    (row,) = [line for line in text.splitlines() if " 100 % " in line]
    assert row.split()[-1] == "14"
    assert not list(tmp_path.iterdir())  # nothing was spent
    assert main([harmless, *LOOSE, "margin=1", out_of(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith(text)
    assert len(facts_of(tmp_path)["test"]["per_episode"]["costs"]) == 14


def test_a_test_half_is_used_once(tmp_path, capsys):
    words = [BOLD, *LOOSE, "episodes=40", out_of(tmp_path)]
    assert main(words) == 1
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for again, differs in (([CAREFUL, *words[1:]], "policy"), ([*words, "delta=0.5"], "delta")):
        capsys.readouterr()
        assert main(again) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "is spent (verdict: no solution found" in line
        assert f"(it differs in {differs})" in line
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_the_refusal_advises_gives_episodes_that_were_never_seen(tmp_path, capsys):
    words = [*LOOSE, "episodes=40"]
    main([BOLD, *words, out_of(tmp_path / "first")])
    assert main([CAREFUL, *words, out_of(tmp_path / "first")]) == 2
    assert "out=FOLDER with another seed= or none" in capsys.readouterr().err
    main([CAREFUL, *words, out_of(tmp_path / "advised"), "seed=1"])
    main([CAREFUL, *LOOSE, "episodes=60", out_of(tmp_path / "more")])
    main([BOLD, *words, out_of(tmp_path / "elsewhere")])
    splits = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("*/split.json")}
    for name in ("advised", "more"):
        assert not {*splits[name]["candidate"], *splits[name]["test"]} & {*splits["first"]["test"]}
    assert splits["elsewhere"] == splits["first"]  # a documented command gives what is documented


def test_a_verdict_is_printed_again_where_its_page_was_lost(tmp_path, monkeypatch, capsys):
    def stopped(*arguments):
        raise KeyboardInterrupt

    words = [f"policy={coins.__name__}:with_action", "tune=boldness", "values=[0.5,0.7]", *LOOSE, "episodes=60"]
    assert main([*words, out_of(tmp_path / "whole")]) == 0
    whole = capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(saferl.certify, "safety_case_page", stopped)
        with pytest.raises(SystemExit):
            main([*words, out_of(tmp_path / "cut")])
    assert not (tmp_path / "cut" / "safety_case.html").exists()
    before = facts_of(tmp_path / "cut")
    monkeypatch.setattr(episodes_module, "rollout", stopped)  # nothing is rolled out again
    capsys.readouterr()
    assert main([*words, out_of(tmp_path / "cut")]) == 0
    again = capsys.readouterr().out
    assert "the test half is spent; its verdict of" in again
    assert again[again.index("test half\n") :].replace("/cut/", "/whole/") == whole[whole.index("test half\n") :]
    assert facts_of(tmp_path / "cut") == before
    pages = [(tmp_path / name / "safety_case.html").read_text() for name in ("cut", "whole")]
    assert pages[0].count("<svg") == pages[1].count("<svg") == 3
    assert main([*words, "delta=0.5", out_of(tmp_path / "cut")]) == 2


def test_a_damaged_part_is_found_before_the_test_half_is_opened(run, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "attacks.json").write_text('[{"adversary": "mc"')
    words = [f"policy={copy}", "env=point_robot", "event_rate=0.5", "episodes=20", "seed=0"]
    assert main(words) == 2
    assert "attacks.json: not readable" in capsys.readouterr().err
    assert not (copy / "certify").exists()
    (copy / "attacks.json").unlink()
    assert main(words) in (0, 1)


def test_the_halves_share_no_episode_and_are_recorded(tmp_path):
    assert main([CAREFUL, *LOOSE, "episodes=60", out_of(tmp_path)]) == 0
    split = json.loads((tmp_path / "split.json").read_text())
    facts = facts_of(tmp_path)
    assert facts["test"]["per_episode"]["seeds"] == split["test"]
    (candidate,) = (tmp_path / "candidates").iterdir()
    assert [seed for block in json.loads(candidate.read_text()) for seed in block["seeds"]] == split["candidate"]
    assert not set(split["candidate"]) & set(split["test"])
    assert facts["split"]["sha256"] == split["sha256"]


def test_without_a_seed_the_episodes_are_new_each_time(tmp_path):
    words = [CAREFUL, ENV, "event_rate=0.2", "episodes=20"]
    for name in "ab":
        main([*words, out_of(tmp_path / name)])
    first, second = (json.loads((tmp_path / name / "split.json").read_text())["test"] for name in "ab")
    assert first != second


def test_two_constraints_share_delta_and_the_tightest_bound_is_chosen(tmp_path, capsys):
    words = [f"{ENV}", "env_kwargs={steps:4}", "cost_limit=1", "event_rate=0.3", "episodes=200", "seed=1"]
    assert main([CAREFUL, *words, out_of(tmp_path)]) == 0
    facts = facts_of(tmp_path)
    assert [check["delta"] for check in facts["checks"]] == [0.025, 0.025]
    assert [check["kind"] for check in facts["checks"]] == ["mean", "event"]
    assert facts["checks"][0]["greatest"] == 4  # one a step
    assert facts["checks"][0]["bound"] in ("hoeffding_bentkus", "empirical_bernstein", "hoeffding")
    assert any("share delta: 0.025 each" in line for line in facts["assumptions"])


def test_students_t_is_labelled_approximate(tmp_path, capsys):
    assert main([CAREFUL, *LOOSE, "bound=student_t", "episodes=60", out_of(tmp_path)]) == 0
    assert "Shown with confidence about 95 %" in capsys.readouterr().out
    assert facts_of(tmp_path)["approximate"] is True
    assert "A bound is approximate: the confidence is not guaranteed." in (tmp_path / "safety_case.html").read_text()


def test_the_search_takes_the_greatest_return_that_is_predicted_to_pass(tmp_path, capsys):
    words = [f"policy={coins.__name__}:with_action", "tune=boldness", "values=[0.5,0.75,0.9,1.0]", *LOOSE]
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "guardian.json").write_text("{}")
    assert main([*words, "episodes=200", f"evidence=[{tmp_path / 'guard'}]", out_of(tmp_path)]) == 0
    candidate = facts_of(tmp_path)["candidate"]
    assert candidate["chosen"] == 0.75  # 0.9 costs in 16 % of the episodes: too near to 20 %
    assert [each["predicted_to_pass"] for each in candidate["values"]] == [True, True, False, False]
    assert facts_of(tmp_path)["test"]["return"]["mean"] == pytest.approx(0.75)
    words = "Measured before its boldness was chosen; what is certified has 0.75."
    assert words in (tmp_path / "safety_case.html").read_text()


def test_a_guardians_threshold_is_tuned_by_a_function(tmp_path):
    words = [f"policy={coins.__name__}:guarded", "tune=threshold", "values=[-9.0,0.0]", *LOOSE, "episodes=200"]
    assert main([*words, out_of(tmp_path)]) == 0
    candidate = facts_of(tmp_path)["candidate"]
    assert [each["mean_return"] for each in candidate["values"]] == pytest.approx([1.0, 0.8])  # never, always careful
    assert candidate["chosen"] == 0.0


def test_a_parameter_without_effect_is_refused_before_the_test(tmp_path, capsys):
    words = [f"policy={coins.__name__}:indifferent", "tune=threshold", *LOOSE, "episodes=60", out_of(tmp_path)]
    assert main([*words, "values=[0.1,0.2]"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "tune=threshold has no effect on how the policy acts: 0.1, 0.2 gave the same candidate episodes" in line
    assert not (tmp_path / "claim.json").exists()


def test_a_search_without_a_candidate_leaves_the_test_half_alone(tmp_path, capsys):
    words = [f"policy={coins.__name__}:with_action", "tune=boldness", *LOOSE, "episodes=60", out_of(tmp_path)]
    assert main([*words, "values=[0.95,1.0]"]) == 1
    assert "the test half was not opened" in capsys.readouterr().out
    assert not (tmp_path / "claim.json").exists()
    assert main([*words, "values=[0.7]"]) == 0  # the candidate half may be used again


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(episodes_module, "BLOCK", 10)
    words = [BOLD, *LOOSE, "episodes=80"]
    assert main([*words, out_of(tmp_path / "whole")]) == 1
    real, calls = episodes_module.rollout, []

    def rollout(*arguments, **keywords):
        calls.append(arguments)
        if len(calls) == 7:  # the third block of the test half
            raise KeyboardInterrupt
        return real(*arguments, **keywords)

    monkeypatch.setattr(episodes_module, "rollout", rollout)
    with pytest.raises(SystemExit) as stop:
        main([*words, out_of(tmp_path / "cut")])
    assert stop.value.code == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert not (tmp_path / "cut" / "certificate.json").exists()
    assert main([CAREFUL, *words[1:], out_of(tmp_path / "cut")]) == 2  # another policy may not finish it
    assert main([*words, out_of(tmp_path / "cut")]) == 1
    assert len(calls) == 7 + 2  # the two blocks that were left
    assert facts_of(tmp_path / "cut")["test"] == facts_of(tmp_path / "whole")["test"]


@pytest.mark.slow
def test_a_signal_ends_a_process_with_130_and_no_half_written_file(tmp_path):
    words = [CAREFUL, ENV, "event_rate=0.2", "episodes=200000", out_of(tmp_path)]
    process = subprocess.Popen([sys.executable, "-m", "saferl.certify", *words], stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("candidates/*.json")):
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait() == 130
    assert "the same command goes on" in process.stderr.read()
    json.loads(next(tmp_path.glob("candidates/*.json")).read_text())


def test_a_run_is_certified_in_its_folder_and_shows_its_parts(run, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    guardian = {"curve": [{"eps": 0.1, "cost": 3.25, "return": 1.5}], "data": str(Path.home() / "data.hdf5")}
    (copy / "guardian.json").write_text(json.dumps(guardian))
    main([f"policy={copy}", "env=point_robot", "event_rate=0.5", "episodes=20", "seed=0"])
    facts = facts_of(copy / "certify")
    assert facts["env_kwargs"] == {"start": "feasible"}
    assert facts["policy"]["name"] == "bc, seed 0, 20 updates"
    assert len(facts["policy"]["sha256"]) == 64
    page = (copy / "certify" / "safety_case.html").read_text()
    assert "<h2>Guardian coverage</h2>" in page
    assert "<td>3.25</td>" in page
    assert "<dd>~/data.hdf5</dd>" in page  # pages are passed on
    assert "Measured" not in page
    assert "Attack curve; Reachability audit: none found." in page


def test_the_same_seed_gives_another_policy_other_episodes(tmp_path):
    splits = []
    for name, policy in (("a", CAREFUL), ("b", CAREFUL), ("c", BOLD)):
        main([policy, *LOOSE, "episodes=20", out_of(tmp_path / name)])
        splits.append(json.loads((tmp_path / name / "split.json").read_text()))
    assert splits[0] == splits[1]
    assert not {*splits[0]["candidate"], *splits[0]["test"]} & {*splits[2]["candidate"], *splits[2]["test"]}


def test_evidence_of_another_policy_is_refused_and_what_is_older_than_the_weights_says_so(run, tmp_path, capsys):
    copy, attack = tmp_path / "run", tmp_path / "attack"
    shutil.copytree(run, copy)
    attack.mkdir()
    (attack / "attacks.json").write_text("[]")
    (attack / "attack.yaml").write_text(f"victim: {run}\n")
    words = [f"policy={copy}", "env=point_robot", "event_rate=0.5", "episodes=20", "seed=0"]
    assert main([*words, f"evidence=[{attack}]"]) == 2
    assert f"evidence={attack} is of {run}, not of policy={copy}." in capsys.readouterr().err
    assert main([*words, f"evidence=[{run}]"]) == 2
    assert not (copy / "certify").exists()
    (attack / "attack.yaml").write_text(f"victim: {copy}\n")
    (copy / "guardian.json").write_text("{}")
    os.utime(copy / "guardian.json", (1, 1))
    main([*words, f"evidence=[{attack}]"])
    page = (copy / "certify" / "safety_case.html").read_text()
    assert page.count("It was measured before the last update of the policy.") == 1


def test_a_page_is_drawn_from_an_older_certificate_too(tmp_path):
    words = [f"policy={coins.__name__}:with_action", "tune=boldness", "values=[0.5,0.75]", *LOOSE, "episodes=200"]
    assert main([*words, out_of(tmp_path)]) == 0
    facts = facts_of(tmp_path)
    del facts["plan"]["searched"], facts["policy"]["acting_limit"], facts["candidate"]["own"]
    (tmp_path / "certificate.json").write_text(json.dumps(facts))
    (tmp_path / "safety_case.html").unlink()
    assert main([*words, out_of(tmp_path)]) == 0
    assert (tmp_path / "safety_case.html").exists()


def test_evidence_with_damaged_settings_costs_one_line_and_a_functions_is_shown(tmp_path, capsys):
    (tmp_path / "attack").mkdir()
    (tmp_path / "attack" / "attacks.json").write_text("[]")
    words = [CAREFUL, *LOOSE, "episodes=20", f"evidence=[{tmp_path / 'attack'}]", out_of(tmp_path / "out")]
    for content in ("", "victim: [", "eps: 1"):
        (tmp_path / "attack" / "attack.yaml").write_text(content)
        assert main(words) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "attack.yaml: not the settings of a comparison" in line
    (tmp_path / "attack" / "attack.yaml").write_text("victim: what/the/function/wraps")
    main(words)
    assert "Attack curve" in (tmp_path / "out" / "safety_case.html").read_text()


def test_an_agents_candidates_are_tuned(tmp_path, capsys):
    folder = trained(tmp_path, "steps=5", "agent.guardian=autoencoder", agent=FISOR)
    words = [f"policy={folder}", "env=point_robot", "event_rate=0.99", "episodes=4", "seed=0", "delta=0.5"]
    main([*words, "tune=candidates", "values=[1,3]"])
    path = folder / "certify"
    record = path / "certificate.json" if (path / "certificate.json").exists() else path / "candidates.json"
    values = json.loads(record.read_text())["candidate"]["values"]
    assert [each["value"] for each in values] == [1, 3]
    assert values[0]["mean_return"] != values[1]["mean_return"]
    assert main([*words, "tune=cost_limit", "values=[1,3]", out_of(tmp_path / "x")]) == 2
    assert "fisor takes no cost limit when it acts" in capsys.readouterr().err
    assert main([*words, "tune=candidate", "values=[1,3]", out_of(tmp_path / "x")]) == 2
    assert "Did you mean tune=candidates?" in capsys.readouterr().err
    assert main([*words, "tune=candidates", "values=[0,1]", out_of(tmp_path / "x")]) == 2
    assert "agent.candidates" in capsys.readouterr().err
    assert main([*words, "tune=guardian_alpha", "values=[0.5]", out_of(tmp_path / "x")]) == 2
    assert "values=[0.5]: give two or more of guardian_alpha" in capsys.readouterr().err
    assert main([*words, "tune=guardian_alpha", "values=[0.001,0.5]", out_of(tmp_path / "x")]) == 2
    assert "tune=guardian_alpha has no effect on how the policy acts" in capsys.readouterr().err
    assert not (tmp_path / "x" / "claim.json").exists()


def test_an_sb3_file_is_certified(tmp_path, capsys):
    sb3.PPO("MlpPolicy", saferl.envs.make("point_robot"), device="cpu", seed=0).save(tmp_path / "model.zip")
    code = main([f"policy={tmp_path}/model.zip", "env=point_robot", "event_rate=0.9", "episodes=20", out_of(tmp_path)])
    assert code in (0, 1)
    assert facts_of(tmp_path)["policy"]["sha256_of"] == "the file"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give env=ID"),
        ([ENV], "give policy=RUN, policy=FILE.zip or policy=package.module:function"),
        ([CAREFUL, ENV], "give cost_limit=, on the mean cost of an episode, or event_rate="),
        ([CAREFUL, ENV, "cost_limit=0"], "No number of episodes shows that a mean cost is 0"),
        ([CAREFUL, ENV, "event_rate=1"], "event_rate must be in (0, 1); got 1."),
        ([CAREFUL, *LOOSE, "delta=0"], "delta must be in (0, 1); got 0.0."),
        ([CAREFUL, *LOOSE, "bound=hoefding"], "Did you mean bound=hoeffding?"),
        ([CAREFUL, ENV, "cost_limit=1", "bound=clopper_pearson"], "bound=clopper_pearson is for events (event_rate=)"),
        ([CAREFUL, *LOOSE, "episodes=5"], "an even number >= 4; got 5"),
        ([CAREFUL, *LOOSE, "margin=0"], "margin must be in (0, 1]; got 0"),
        ([CAREFUL, *LOOSE, "tune=boldness"], "tune= and values= go together"),
        ([CAREFUL, *LOOSE, "tune=boldness", "values=[]"], "values must be a list of at least one value"),
        ([CAREFUL, *LOOSE, "tune=boldness", "values=[1]"], "must be a function of boldness that returns a policy"),
        ([CAREFUL, *LOOSE, "behaviour=a:b"], "behaviour= goes with data="),
        ([CAREFUL, *LOOSE, "data=x", "plan=true"], "go with rollouts; data= are recorded episodes"),
        ([CAREFUL, *LOOSE, "data=nowhere"], "data=nowhere is not split yet"),
        ([CAREFUL, *LOOSE, "env_kwargs=3"], "env_kwargs must be like"),
        ([CAREFUL, *LOOSE, "vectorization=threads"], "vectorization must be sync or async"),
        ([CAREFUL, *LOOSE, "num_envs=0"], "num_envs must be >= 1; got 0."),
        ([CAREFUL, *LOOSE, "cost_max=-1"], "cost_max must be > 0; got -1"),
        ([CAREFUL, *LOOSE, "evidence=[nowhere]"], "evidence=nowhere holds nothing that a safety case shows"),
        ([CAREFUL, *LOOSE, "seed=-1"], "seed must be >= 0; got -1"),
        ([CAREFUL, *LOOSE, "polcy=x"], "no key named 'polcy'. Did you mean policy=?"),
        ([CAREFUL, *LOOSE, "-m"], "certify takes no -m"),
        (["policy=nowhere", "env=point_robot", "event_rate=0.1"], "expected FILE.zip or package.module:function"),
        (["policy=x.zip", "env=point_robot", "event_rate=0.1"], "x.zip"),
        (["policy=a:b", "env=point_robbot", "event_rate=0.1"], "Did you mean point_robot"),
        ([CAREFUL, ENV, "event_rate=0.001"], "ask for them by episodes="),
        ([CAREFUL, ENV, "cost_limit=1e-9", "margin=0.1"], "no number of episodes up to ten million shows it"),
    ],
)
def test_a_mistake_costs_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("saferl.certify: ")
    assert message in line
    assert not list(tmp_path.iterdir())


def test_a_run_of_another_size_costs_one_line(run, capsys):
    assert main([f"policy={run}", ENV, "event_rate=0.5"]) == 2
    assert "takes 11 observations and gives 2 actions; the environment has (1,) and (1,)" in capsys.readouterr().err


def test_help_explains_every_key(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    explained, defaults = text.split("Settings and their defaults")
    for key in (line.split(":")[0] for line in defaults.splitlines() if line and not line.startswith(" ")):
        assert any(key in line.replace(",", "").split()[:3] for line in explained.splitlines()), key


def test_a_limit_that_an_agent_takes_when_it_acts_is_tuned(tmp_path, capsys):
    agent = ["agent=caps", "agent.hidden=16", "agent.batch_size=32", "agent.actor_lr=1e-2", "agent.critic_lr=1e-2"]
    folder = trained(tmp_path, "steps=50", "eval_episodes=1", agent=agent)
    words = [f"policy={folder}", "env=point_robot", "env_kwargs={max_episode_steps:40}", "episodes=16", "seed=0"]
    words += ["tune=cost_limit", "values=[0,50]"]
    assert main([*words, "event_rate=0.99", "delta=0.5", out_of(tmp_path / "loose")]) == 0
    facts, split = (json.loads((tmp_path / "loose" / f"{name}.json").read_text()) for name in ("certificate", "split"))
    values = facts["candidate"]["values"]
    for each in values:
        policy = load_policy(folder, cost_limit=each["value"])
        episodes = rollout(policy, "point_robot", split["candidate"], env_kwargs=facts["env_kwargs"])
        assert each["mean_return"] == pytest.approx(episodes.returns.mean())
        assert each["mean_cost"] == pytest.approx(episodes.costs.mean())
    assert [each["value"] for each in values] == [0, 50]
    assert values[0]["mean_return"] != values[1]["mean_return"]
    assert facts["candidate"]["chosen"] == max(values, key=lambda each: each["mean_return"])["value"]
    capsys.readouterr()
    assert main([*words, "event_rate=0.05", out_of(tmp_path / "strict")]) == 1  # which 8 episodes can't show
    assert "the test half was not opened" in capsys.readouterr().out
    unspent = json.loads((tmp_path / "strict" / "candidates.json").read_text())
    assert [(each["value"], each["predicted_to_pass"]) for each in unspent["candidate"]["values"]] == [
        (0, False),
        (50, False),
    ]
