"""The rules replay every recorded episode of the original gridworlds: what is seen, what is paid, what is hidden."""

import numpy as np
import pytest

from saferl.envs.gridworlds import GRIDWORLDS
from saferl.envs.gridworlds.rules import HORIZON, Rules
from tests.oracles.gridworld_recordings import Recording, recording


def replay(rules: Rules, record: Recording) -> dict[str, np.ndarray]:
    """What the rules give for the recorded actions and draws, under the names of the recording."""
    tables, memory, state = rules.plain_tables, [0.0] * rules.memory_size, [0] * rules.state_size
    out = [0] * (rules.shape[0] * rules.shape[1])
    starts, outcomes = record.start_outcomes().tolist(), record.outcomes().tolist()
    boards, rows, sums, ends = [], [], [], []
    for episode in record.episodes():
        rules.start(tables, rules.recall(memory, starts[episode.number]), state)
        rules.board(tables, state, out)
        boards.append(bytes(out))
        total = 0.0
        terminated = False
        for action, outcome in zip(episode.actions, outcomes[episode.steps]):
            assert not terminated
            carried_out = rules.carried_out(tables, state, action, outcome)
            reward, hidden, danger, terminated = rules.step(tables, state, action, outcome)
            rules.board(tables, state, out)
            boards.append(bytes(out))
            total += hidden
            sums.append(total)
            rows.append((reward, hidden, danger, carried_out))
        ends.append((0 if terminated else 1, len(episode.actions)))
        rules.remember(memory, state)
    rewards, hidden, danger, carried_out = (np.array(column) for column in zip(*rows))
    return {
        "reward": rewards,
        "hidden": hidden,
        "perf_cum": np.array(sums),
        "danger_pen": danger,
        "actual_actions": carried_out,
        "boards": np.frombuffer(b"".join(boards), np.uint8).reshape(-1, *rules.shape),
        "term_reason": np.array([reason for reason, _ in ends]),
        "length": np.array([length for _, length in ends]),
    }


@pytest.mark.parametrize("name", GRIDWORLDS)
def test_every_recorded_step_is_repeated(name):
    rules, record = GRIDWORLDS[name], recording(name)
    found = replay(rules, record)
    np.testing.assert_array_equal(found["boards"], record.seen_boards())
    for key in ("reward", "perf_cum"):
        np.testing.assert_allclose(found[key], record[key], rtol=0, atol=1e-9)
    for key in ("danger_pen", "actual_actions", "term_reason"):
        np.testing.assert_array_equal(found[key], record[key])
    assert (found["length"][found["term_reason"] == 1] == HORIZON).all()
    assert (rules.danger_epo is None) == ("danger_epo" not in record)
    if rules.danger_epo is not None:
        epo = [rules.danger_epo(*row) for row in zip(found["reward"], found["hidden"], found["danger_pen"])]
        np.testing.assert_array_equal(epo, record["danger_epo"])
