"""The rules replay every recorded episode of the original gridworlds: what is seen, what is paid, what is hidden."""

import numpy as np
import pytest

from saferl.envs.gridworlds import FAMILIES, GRIDWORLDS, VARIANTS
from saferl.envs.gridworlds.rules import HORIZON, Rules
from tests.oracles.gridworld_recordings import FOLDER, Recording, recording


def replay(rules: Rules, record: Recording) -> dict[str, np.ndarray]:
    """What the rules give for the recorded actions and draws, under the names of the recording."""
    tables, memory, state = rules.plain_tables, [0.0] * rules.memory_size, [0] * rules.state_size
    out = [0] * (rules.shape[0] * rules.shape[1])
    starts, outcomes = record.start_outcomes().tolist(), record.outcomes().tolist()
    boards, states, rows, sums, ends = [], [], [], [], []
    memories, extras = [], []
    for episode in record.episodes():
        memories.append(list(memory))
        rules.start(tables, rules.recall(memory, starts[episode.number]), state)
        rules.board(tables, state, out)
        boards.append(bytes(out))
        states.append(bytes(state))
        extras.append(rules.side_information(tables, state))
        total = 0.0
        terminated = False
        for action, outcome in zip(episode.actions, outcomes[episode.steps]):
            assert not terminated
            carried_out = rules.carried_out(tables, state, action, outcome)
            reward, hidden, danger, terminated = rules.step(tables, state, action, outcome)
            rules.board(tables, state, out)
            boards.append(bytes(out))
            states.append(bytes(state))
            extras.append(rules.side_information(tables, state))
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
        "states": np.frombuffer(b"".join(states), np.uint8).reshape(-1, rules.state_size).astype(int),
        "memories": np.array(memories),
        "extras": np.array(extras),
        "boards": np.frombuffer(b"".join(boards), np.uint8).reshape(-1, *rules.shape),
        "term_reason": np.array([reason for reason, _ in ends]),
        "length": np.array([length for _, length in ends]),
    }


@pytest.fixture(scope="module")
def replayed():
    """(recording, what the rules give) by name, replayed once."""
    known: dict[str, tuple[Recording, dict[str, np.ndarray]]] = {}

    def of(name: str) -> tuple[Recording, dict[str, np.ndarray]]:
        if name not in known:
            record = recording(name)
            known[name] = record, replay(GRIDWORLDS[name], record)
        return known[name]

    return of


def cells(positions: np.ndarray, rules: Rules) -> np.ndarray:
    """Cells of (..., 2) rows and columns."""
    return positions[..., 0].astype(int) * rules.shape[1] + positions[..., 1]


@pytest.mark.parametrize("name", GRIDWORLDS)
def test_every_recorded_step_is_repeated(name, replayed):
    rules = GRIDWORLDS[name]
    record, found = replayed(name)
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


@pytest.mark.parametrize("name", GRIDWORLDS)
def test_agent_is_where_it_was_even_where_it_is_hidden(name, replayed):
    record, found = replayed(name)
    np.testing.assert_array_equal(found["states"][:, 0], cells(record["agent_pos"], GRIDWORLDS[name]))


@pytest.mark.parametrize(
    ("name", "first"),
    [
        *[(name, 1) for name in GRIDWORLDS if name.startswith("conveyor_belt")],
        *[(name, 2) for name in GRIDWORLDS if name.startswith("side_effects_sokoban")],
        *[(name, 3) for name in GRIDWORLDS if name.startswith("rocks_diamonds")],
    ],
)
def test_objects_are_where_they_were(name, first, replayed):
    record, found = replayed(name)
    positions = cells(record["obj_pos"], GRIDWORLDS[name])
    np.testing.assert_array_equal(found["states"][:, first : first + positions.shape[1]], positions)


@pytest.mark.parametrize("name", ["rocks_diamonds_0", "rocks_diamonds_1"])
def test_switches_stand_as_they_stood(name, replayed):
    record, found = replayed(name)
    np.testing.assert_array_equal(found["states"][:, 1:3], record["x_switch"])


def test_distance_to_the_water_is_what_the_agent_was_told(replayed):
    record, found = replayed("island_navigation")
    assert [extra["safety"] for extra in found["extras"]] == record["x_safety"].tolist()


@pytest.mark.parametrize("name", [name for name in GRIDWORLDS if name.startswith("friend_foe")])
def test_bandits_learn_over_the_episodes_and_fill_the_box_that_they_filled(name, replayed):
    record, found = replayed(name)
    bandit = record["x_bandit"].astype(int)
    left_minus_right = found["memories"][np.arange(len(bandit)), bandit]
    expected = record["x_policy_before"][:, 0] - record["x_policy_before"][:, 1]
    np.testing.assert_allclose(left_minus_right, expected, rtol=0, atol=1e-9)
    starts = [episode.frames.start for episode in record.episodes()]
    np.testing.assert_array_equal(found["states"][starts, 2], record["x_box"])
    last = [episode.frames.stop - 1 for episode in record.episodes()]
    np.testing.assert_array_equal(found["states"][last, 3] - 1, record["x_choice"])


def test_all_recordings_are_replayed():
    if not FOLDER.exists():
        pytest.skip("reference data is not beside the repository")
    recorded = {path.stem: path for path in FOLDER.glob("*.npz")}
    assert set(recorded) == set(GRIDWORLDS)
    for name, (family, kwargs) in VARIANTS.items():
        rules = FAMILIES[family](**recording(name).meta["kwargs"])
        assert rules.symbols == GRIDWORLDS[name].symbols
        assert rules.start_chances == GRIDWORLDS[name].start_chances
        values = recording(name).meta["value_mapping"]
        if values == "ord(char)":
            assert all(ord(character) == value for character, value in rules.symbols.items())
        else:
            assert rules.symbols == values, kwargs
