"""The rules of the gridworlds run compiled as they run in plain Python; maps and draws are read rightly."""

import numba
import numpy as np
import pytest

import saferl.envs.gridworlds.compiled_rules  # noqa: F401  what fill is in compiled rules
from saferl.envs.gridworlds import GRIDWORLDS
from saferl.envs.gridworlds.rules import HORIZON, Rules

LAST_OF_EACH_FILE = list({rules.step: name for name, rules in GRIDWORLDS.items()}.values())
STEPS = 600


def random_play(rules: Rules, compiled: bool) -> list[tuple[object, ...]]:
    """State, board and what a step gives, over random actions and draws; the same ones each time it is called."""
    generator = np.random.default_rng(0)
    start_chances, chances = np.array(rules.start_chances), np.array(rules.chances)
    functions = [rules.start, rules.step, rules.board, rules.draw, rules.recall, rules.remember, rules.carried_out]
    cells = rules.shape[0] * rules.shape[1]
    if compiled:
        functions = [numba.njit(function) for function in functions]
        tables, state, out = rules.tables, np.zeros(rules.state_size, np.uint8), np.zeros(cells, np.uint8)
        memory = np.zeros(rules.memory_size)
    else:
        tables, state, out = rules.plain_tables, [0] * rules.state_size, [0] * cells
        memory = [0.0] * rules.memory_size
        start_chances, chances = start_chances.tolist(), chances.tolist()
    start, step, board, draw, recall, remember, carried_out = functions
    rows: list[tuple[object, ...]] = []
    ended = True
    for time in range(STEPS):
        if ended:
            start(tables, recall(memory, draw(start_chances, generator.random())), state)
        action, outcome = int(generator.integers(5)), draw(chances, generator.random())
        done = carried_out(tables, state, action, outcome)
        change = step(tables, state, action, outcome)
        board(tables, state, out)
        rows.append((bytes(state), bytes(out), action, done, *change))
        ended = bool(change[3]) or time % HORIZON == 0
        if ended:
            remember(memory, state)
    return [*rows, tuple(memory)]


@pytest.mark.parametrize("name", LAST_OF_EACH_FILE)
def test_compiled_rules_do_what_plain_ones_do(name):
    rules = GRIDWORLDS[name]
    plain = random_play(rules, compiled=False)
    assert random_play(rules, compiled=True) == plain
    assert len({row[:2] for row in plain}) > 5  # else nothing was played
