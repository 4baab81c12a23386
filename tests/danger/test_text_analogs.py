"""Text analogs: each is isomorphic to its gridworld, and its pages tell what the boards tell."""

import numpy as np
import pytest

from saferl.danger.text_analogs import ANALOGS
from saferl.envs.gridworlds import GRIDWORLDS
from saferl.envs.gridworlds.batched import BatchedGridworld
from saferl.envs.gridworlds.rules import Rules

# Reachable states of the originals that are not terminal, as the design notes count them: those of the runs that are
# not held and of those that are; without and with the supervisor.
COUNTS = {
    "text_side_effects": 54,
    "text_off_switch": 28 + 20,
    "text_absent_supervisor": 2 * 11,
    "text_boat_race": 8,
    "text_whisky_gold": 34,
}


def begun(rules: Rules, outcome: int) -> tuple[int, ...]:
    state = [0] * rules.state_size
    rules.start(rules.plain_tables, outcome, state)
    return tuple(state)


def stepped(rules: Rules, state: tuple[int, ...], action: int, outcome: int):
    after = list(state)
    change = rules.step(rules.plain_tables, after, action, outcome)
    return tuple(after), tuple(map(float, change))


def shown(rules: Rules, state: tuple[int, ...]) -> str:
    out = [0] * (rules.shape[0] * rules.shape[1])
    rules.board(rules.plain_tables, list(state), out)
    text = "".join(map(chr, out))
    return "\n".join(text[i : i + rules.shape[1]] for i in range(0, len(text), rules.shape[1]))


def pairs(name: str) -> tuple[dict[tuple[int, ...], tuple[int, ...]], int]:
    """State of the gridworld -> state of the analog, and how many are not terminal.

    Found by walking both together; R, R*, D and the end of each step are compared on the way.
    """
    left, right = GRIDWORLDS[ANALOGS[name].original], ANALOGS[name].rules
    assert left.starts() == right.starts()
    assert [outcome for outcome, _ in left.outcomes()] == [outcome for outcome, _ in right.outcomes()]
    assert [chance for _, chance in left.outcomes()] == pytest.approx([chance for _, chance in right.outcomes()])
    found: dict = {}
    waiting, walked = [], 0

    def meet(grid, text):
        if grid not in found:
            found[grid] = text
            waiting.append((grid, text))
        assert found[grid] == text

    for outcome, _ in left.starts():
        meet(begun(left, outcome), begun(right, outcome))
    while waiting:
        grid, text = waiting.pop()
        walked += 1
        for action in range(4):
            for outcome, _ in left.outcomes():
                next_grid, change = stepped(left, grid, action, outcome)
                next_text, told = stepped(right, text, action, outcome)
                assert change == told, (grid, shown(right, text), action)
                if change[3]:  # a terminal state has no successors, but is one of them all the same
                    found.setdefault(next_grid, next_text)
                    assert found[next_grid] == next_text
                else:
                    meet(next_grid, next_text)
    return found, walked


@pytest.mark.parametrize("name", ANALOGS)
def test_states_rewards_hidden_performance_and_danger_are_those_of_the_gridworld(name):
    found, walked = pairs(name)
    assert len(set(found.values())) == len(found)  # one to one
    assert walked == COUNTS[name]


@pytest.mark.parametrize("name", ANALOGS)
def test_pages_tell_apart_exactly_what_the_boards_tell_apart(name):
    left, right = GRIDWORLDS[ANALOGS[name].original], ANALOGS[name].rules
    boards: dict = {}
    for grid, text in pairs(name)[0].items():
        assert boards.setdefault(shown(left, grid), shown(right, text)) == shown(right, text)
    assert len(set(boards.values())) == len(boards)


def test_a_page_says_in_words_where_things_are():
    rules = ANALOGS["text_side_effects"].rules
    assert shown(rules, begun(rules, 0)).split("\n") == ["At host: source   ", "ledger at: relay  "]
    rules = ANALOGS["text_absent_supervisor"].rules
    lines = [line.rstrip() for line in shown(rules, begun(rules, 1)).split("\n")]
    assert lines == ["At desk: draft", "inspector in the office: yes"]
    assert shown(ANALOGS["text_off_switch"].rules, begun(ANALOGS["text_off_switch"].rules, 0)) == shown(
        ANALOGS["text_off_switch"].rules, begun(ANALOGS["text_off_switch"].rules, 1)
    )  # whether a run will stop can't be seen


@pytest.mark.parametrize("name", ANALOGS)
def test_a_page_has_one_capital_a(name):
    for state in pairs(name)[0].values():
        assert shown(ANALOGS[name].rules, state).count("A") == 1


@pytest.mark.parametrize("name", ANALOGS)
def test_the_story_names_every_link_and_every_verb(name):
    analog = ANALOGS[name]
    words = analog.story.replace(";", " ").replace(".", " ").replace('"', " ").split()
    pages = {shown(analog.rules, state) for state in pairs(name)[0].values()}
    places = {page.split("\n")[0].split(": ")[1].strip() for page in pages}
    assert places <= set(words)
    assert set(analog.actions) <= set(words)
    assert len(set(analog.actions)) == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ANALOGS)
def test_a_compiled_batch_of_a_job_does_what_its_plain_rules_do(name):
    rules = ANALOGS[name].rules
    rng = np.random.default_rng(0)
    batch = BatchedGridworld(rules, 3, evaluation=True)
    starts = [outcome for outcome, _ in rules.starts()]
    begins = [starts[i % len(starts)] for i in range(3)]
    boards = batch.reset(outcomes=begins)
    states = [begun(rules, outcome) for outcome in begins]
    running = [True] * 3
    for _ in range(25):
        assert [page(board) for board, runs in zip(boards, running) if runs] == [
            shown(rules, state) for state, runs in zip(states, running) if runs
        ]
        actions, outcomes = rng.integers(0, 4, 3), rng.integers(0, len(rules.chances), 3)
        rewards, terminated, _ = batch.step(actions, outcomes if rules.random else None)
        for i in np.flatnonzero(running):
            states[i], change = stepped(rules, states[i], int(actions[i]), int(outcomes[i]))
            assert change == (rewards[i], batch.hidden[i], batch.danger[i], terminated[i])
            running[i] = not terminated[i]


def page(board: np.ndarray) -> str:
    return "\n".join("".join(map(chr, row)) for row in board.tolist())
