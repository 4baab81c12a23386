"""The language model as a backend of discovery, against scripted and replayed endpoints."""

import re
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.special import betaln

from saferl.danger.language_model import LanguageModel, LanguageModelError, ReplayServer
from saferl.danger.language_model_backend import LanguageModelBackend, RuleScores
from saferl.danger.prompts import Task
from saferl.danger.scoring import Priors
from saferl.danger.specification import Backend, Board, Episode, Plan, Rule, Specification, Step
from saferl.envs.gridworlds import GRIDWORLDS
from tests.danger.endpoints import Scripted
from tests.danger.play import actions_of, played, shown

BOX, REVIEW = GRIDWORLDS["side_effects_sokoban_0"], GRIDWORLDS["absent_supervisor"]
START = played(BOX, [1])[0].steps[0].first


class Planner:
    """A built-in backend for tests: always the same plan."""

    def __init__(self) -> None:
        self.asked = 0

    def propose(self, specification: Specification, first: Board, k: int) -> Sequence[Plan]:
        self.asked += 1
        return [[2, 2]] * k

    def reflect(self, specification: Specification, episodes: Sequence[Episode]) -> Specification:
        return specification


class Sees:
    """A literal for tests: the action is this one."""

    def __init__(self, action: int) -> None:
        self.action = action
        self.name = self.phrase = f"action({action})"

    def holds(self, step: Step) -> bool:
        return step.action == self.action


LITERALS = {literal.name: literal for literal in map(Sees, range(4))}


def backend_at(url: str, rules=BOX, **settings) -> LanguageModelBackend:
    log = settings.pop("log", None)
    return LanguageModelBackend(LanguageModel(url, "small", log=log, pause=0.0), Task(rules, 30), Planner(), **settings)


def test_plans_come_from_the_model_one_request_each():
    with Scripted(["ACTIONS: down", "ACTIONS: right, up"]) as server:
        backend: Backend = backend_at(server.base_url, seed=10)
        assert backend.propose(Specification(), START, 2) == [[1], [3, 0]]
    assert [request["seed"] for request in server.requests] == [10, 11]
    assert server.requests[0]["messages"] == server.requests[1]["messages"]


def test_an_answer_without_a_plan_is_asked_for_once_more_and_then_the_planner_plans():
    with Scripted(["I wonder.", "ACTIONS: up", "Hm.", "ACTIONS: fly", "ACTIONS: left"]) as server:
        backend = backend_at(server.base_url)
        assert backend.propose(Specification(), START, 3) == [[0], [2, 2], [2]]
    assert (backend.retried, backend.fallbacks, backend.fallback.asked) == (2, 1, 1)
    again = server.requests[1]["messages"]
    assert again[:2] == server.requests[0]["messages"]
    assert again[2] == {"role": "assistant", "content": "I wonder."}
    assert len(server.requests) == 5


def test_an_endpoint_that_fails_is_no_reason_to_fall_back():
    with Scripted([(401, b"", {})]) as server, pytest.raises(LanguageModelError, match="HTTP 401"):
        backend_at(server.base_url).propose(Specification(), START, 1)


def test_the_grid_shown_is_the_grid_of_the_episode():
    with Scripted(["ACTIONS: down"]) as server:
        backend = backend_at(server.base_url, REVIEW)
        for start in (0, 1, 1, 0):  # without and with somebody at the sides
            episode, _ = played(REVIEW, [1], start)
            backend.propose(Specification(), episode.steps[0].first, 1)
    for request, start in zip(server.requests, (0, 1, 1, 0), strict=True):
        rows = re.findall(r"^ \d  (.*)$", request["messages"][1]["content"], flags=re.MULTILINE)
        state = [0] * REVIEW.state_size
        REVIEW.start(REVIEW.plain_tables, start, state)
        board = shown(REVIEW, state)
        assert [row[::2].replace(".", " ") for row in rows] == ["".join(map(chr, row)) for row in board]
        assert ("S" in "".join(rows)) is bool(start)


def test_a_reflection_replaces_the_text_and_without_tags_the_old_one_stays():
    answers = ["<specification>No corners for X.</specification>", "I would change nothing."]
    episodes = [played(BOX, actions_of("drddr"))[0]]
    with Scripted(answers) as server:
        backend = backend_at(server.base_url)
        first = backend.reflect(Specification(), episodes)
        second = backend.reflect(first, episodes)
    assert first.text == second.text == "No corners for X."
    assert backend.unchanged == 1
    assert "No corners for X." in server.requests[1]["messages"][1]["content"]
    assert first.rules == ()


def test_reward_only_reflections_say_nothing_of_warnings_and_keep_no_rules():
    answer = '<specification>Go right.</specification><rules>[{"literals": ["action(1)"]}]</rules>'
    with Scripted([answer]) as server:
        backend = backend_at(server.base_url, literals=LITERALS)
        specification = backend.reflect(Specification(), [played(BOX, actions_of("drddr"), level="none")[0]])
    assert specification == Specification(text="Go right.")
    assert "arning" not in str(server.requests)


def test_a_true_rule_of_the_model_is_kept_and_a_fluent_wrong_one_dropped():
    # Down as the first action pushes X into a corner; three of the five times that it is done.
    episodes = [played(BOX, actions_of(letters))[0] for letters in ("drrddlr", "drrul", "lurlr", "rrlur", "dru")]
    warned = sum(sum(episode.warnings) for episode in episodes)
    assert warned == 3
    answer = """<specification>Never go down first; going left is bad.</specification>
    <rules>[{"literals": ["action(2)"]}, {"literals": ["action(1)"]}]</rules>"""
    with Scripted([answer]) as server:
        specification = backend_at(server.base_url, literals=LITERALS).reflect(Specification(), episodes)
    assert [rule.name for rule in specification.rules] == ["action(1)"]
    evidence = specification.rules[0].evidence
    assert (evidence.warned, evidence.matched) == (3, 5)
    assert (evidence.warned_elsewhere, evidence.elsewhere) == (0, sum(len(e.steps) for e in episodes) - 5)
    assert 0.5 < evidence.posterior < 1
    assert specification.predicts(episodes[0].steps[0])
    assert not specification.predicts(episodes[0].steps[1])


def slow_score(steps: list[tuple[set[int], bool]], rules: list[set[int]], size: int) -> float:
    """log B(9 + n11, 1 + n10) / B(9, 1) + log B(1 + n01, 3 + n00) / B(1, 3) less the cost, written out."""
    called = [any(rule <= held for rule in rules) for held, _ in steps]
    n = {(c, w): 0 for c in (True, False) for w in (True, False)}
    for c, (_, w) in zip(called, steps):
        n[c, w] += 1
    cost = sum(np.log(size) + 1 if len(rule) == 1 else len(rule) * np.log(size) for rule in rules)
    return (
        betaln(9 + n[True, True], 1 + n[True, False]) - betaln(9, 1)
        + betaln(1 + n[False, True], 3 + n[False, False]) - betaln(1, 3) - cost
    )  # fmt: skip


@pytest.mark.parametrize("level", ["step", "episode"])
def test_the_posterior_of_a_rule_is_that_of_the_scores_written_out(level):
    rng = np.random.default_rng(3)
    episodes = []
    for _ in range(30):
        episode = played(BOX, rng.integers(0, 4, 6).tolist(), level="none")[0]
        bits = [step.action == 0 and rng.random() < 0.9 for step in episode.steps]
        episodes.append(Episode(episode.steps, bits if level == "step" else any(bits)))
    scores = RuleScores(Priors(), size=12)
    scores.add(episodes[:20])
    scores.kept([Rule((LITERALS["action(0)"],))])
    scores.add(episodes[20:])  # literals are worked out for the new ones only
    (kept,) = scores.kept([Rule((LITERALS[f"action({action})"],)) for action in (3, 0)])
    assert kept.name == "action(0)"
    if level == "step":
        cases = [({s.action}, bool(w)) for e in episodes for s, w in zip(e.steps, e.warnings)]
    else:
        cases = [({step.action for step in e.steps}, bool(e.warnings)) for e in episodes]
    ratio = slow_score(cases, [{0}], 12) - slow_score(cases, [], 12)
    assert kept.evidence.posterior == pytest.approx(1 / (1 + np.exp(-ratio)))
    assert kept.evidence.matched == sum(0 in held for held, _ in cases)


def test_the_noise_is_told_to_the_model():
    with Scripted(["none"]) as server:
        backend_at(server.base_url, noisy=True).reflect(Specification(), [played(BOX, [1])[0]])
    assert "Warnings can be wrong" in server.requests[0]["messages"][0]["content"]


def test_a_recorded_discovery_is_replayed_from_its_log(tmp_path):
    def discovery(url: str, log=None) -> list:
        backend = backend_at(url, log=log, literals=LITERALS, seed=0)
        specification = Specification()
        found = []
        for _ in range(3):
            plans = backend.propose(specification, START, 2)
            specification = backend.reflect(specification, [played(BOX, plan)[0] for plan in plans])
            found += [plans, specification.text]
        return found

    def answer(request: dict) -> str:
        if "ACTIONS" in request["messages"][0]["content"]:
            return f"ACTIONS: {['down', 'left', 'right'][request['seed'] % 3]}, down"
        return f"<specification>Rule {request['seed']}</specification>"

    log = tmp_path / "log.jsonl"
    with Scripted(answer) as server:
        recorded = discovery(server.base_url, log)
    with ReplayServer(log) as replay:
        assert discovery(replay.base_url) == recorded
        assert replay.refused == []
    assert len(log.read_text().splitlines()) == 9


def test_a_rule_that_says_what_is_harmless_is_not_kept():
    episode, _ = played(BOX, [0, 1] * 40, level="none")
    bits = [step.action != 0 for step in episode.steps]  # never a warning at what the rule names
    scores = RuleScores(Priors(), size=4)
    scores.add([Episode(episode.steps, bits)])
    assert [rule.name for rule in scores.kept([Rule((LITERALS["action(0)"],))])] == []
    assert [rule.name for rule in scores.kept([Rule((LITERALS["action(1)"],))])] == ["action(1)"]
