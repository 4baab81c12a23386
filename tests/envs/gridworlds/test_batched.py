"""BatchedGridworld repeats the recordings, draws what the originals draw, and shows no more than it should."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from saferl.envs.gridworlds import GRIDWORLDS
from saferl.envs.gridworlds.batched import BatchedGridworld
from saferl.envs.gridworlds.rules import HORIZON, UP
from tests.oracles.gridworld_recordings import FOLDER, Recording, recording

CHUNKS = 20  # boards that share the recorded episodes of a gridworld without memory


def by_frame(record: Recording, steps: np.ndarray, starts: np.ndarray | float = 0) -> np.ndarray:
    """(F,) a value of each frame: of the step that it follows, or of the start."""
    begins = np.zeros(len(record["boards"]), bool)
    begins[[episode.frames.start for episode in record.episodes()]] = True
    values = np.zeros(len(begins), np.asarray(steps).dtype)
    values[~begins], values[begins] = steps, starts
    return values


def chunks_of(record: Recording, count: int) -> list[np.ndarray]:
    """Frames of ``count`` runs of episodes, one after the other in each."""
    first = [episode.frames.start for episode in record.episodes()]
    return np.split(np.arange(len(record["boards"])), [first[len(first) * i // count] for i in range(1, count)])


@pytest.mark.parametrize("name", GRIDWORLDS)
def test_every_recorded_step_is_repeated(name):
    rules, record = GRIDWORLDS[name], recording(name)
    last = [episode.steps.stop - 1 for episode in record.episodes()]
    over, late = np.zeros((2, len(record["actions"])), bool)
    over[last], late[last] = record["term_reason"] == 0, record["term_reason"] == 1
    sums = record["perf_cum"].copy()  # the hidden performance of a step is what the sum gains
    for episode in record.episodes():
        sums[episode.steps] = np.diff(sums[episode.steps], prepend=0)
    actions = by_frame(record, record["actions"])
    outcomes = by_frame(record, record.outcomes(), record.start_outcomes())
    expected = [by_frame(record, values) for values in (record["reward"], over, late, sums, record["danger_pen"])]
    boards = record.seen_boards()

    chunks = chunks_of(record, 1 if rules.memory_size else CHUNKS)
    game = BatchedGridworld(rules, len(chunks), evaluation=True)
    found = [np.zeros(len(boards)) for _ in expected]
    seen = np.zeros_like(boards)
    for turn in range(max(len(frames) for frames in chunks)):
        busy = np.array([turn < len(frames) for frames in chunks])
        here = np.array([frames[min(turn, len(frames) - 1)] for frames in chunks])
        results = *game.step(actions[here], outcomes[here]), game.hidden, game.danger
        for values, result in zip(found, results, strict=True):
            values[here[busy]] = result[busy]
        seen[here[busy]] = game.boards[busy]
    np.testing.assert_array_equal(seen, boards)
    for values, wanted in zip(found, expected):
        np.testing.assert_allclose(values, wanted, rtol=1e-6, atol=1e-9)


def shows(boards: np.ndarray, character: str) -> np.ndarray:
    """(B,) whether a character is on a board."""
    return (boards == ord(character)).any(axis=(1, 2))


STARTS = {  # gridworld -> what a first board shows of the draw, one function for each outcome, and where that is exact
    "absent_supervisor": ("P(supervisor)", [lambda boards: shows(boards, "S")]),
    "friend_foe_random": ("P(bandit)", [lambda boards, letter=letter: shows(boards, letter) for letter in "FNB"]),
}


@pytest.mark.parametrize("name", STARTS)
def test_starts_are_drawn_with_the_chances_of_the_original(name):
    if not (FOLDER / "distributions.json").exists():
        pytest.skip("the reference data are not beside the repository")
    key, observations = STARTS[name]
    exact = np.atleast_1d(json.loads((FOLDER / "distributions.json").read_text())[name][key]["exact"])
    boards = BatchedGridworld(GRIDWORLDS[name], 20_000, seed=3).reset()
    for chance, observe in zip(exact, observations, strict=True):
        assert stats.binomtest(int(observe(boards).sum()), len(boards), chance).pvalue > 1e-3


def test_half_of_the_agents_on_the_interruption_are_held():
    game = BatchedGridworld(GRIDWORLDS["safe_interruptibility_1"], 20_000)
    game.reset()
    for action in (1, 2, 2, 2):  # down, onto I, off it
        game.step(np.full(game.batch, action))
    assert stats.binomtest(int((~shows(game.boards, "I")).sum()), game.batch, 0.5).pvalue > 1e-3


def test_a_neutral_bandit_fills_the_left_box_in_six_episodes_of_ten():
    game = BatchedGridworld(GRIDWORLDS["friend_foe_neutral"], 20_000)
    game.reset()
    for action in (UP, UP, 2):  # towards the left box
        game.step(np.full(game.batch, action))
    rewards, terminated, _ = game.step(np.full(game.batch, UP))
    assert terminated.all()
    assert stats.binomtest(int((rewards > 0).sum()), game.batch, 0.6).pvalue > 1e-3


def test_a_drunk_agent_moves_at_random_in_nine_steps_of_ten():
    game = BatchedGridworld(GRIDWORLDS["whisky_gold_human"], 40_000)
    game.reset()
    game.step(np.full(game.batch, 3))  # right, onto the whisky
    game.step(np.full(game.batch, 3))
    columns = (game.boards == ord("A")).reshape(game.batch, -1).argmax(axis=1)
    counts = np.unique_counts(columns).counts  # by cell: up (a wall: stays), left, right, down
    assert stats.chisquare(counts, game.batch * np.array([0.225, 0.225, 0.325, 0.225])).pvalue > 1e-3


def test_tomatoes_dry_each_for_itself():
    game = BatchedGridworld(GRIDWORLDS["tomato_crmdp"], 40_000, seed=1)
    wet = [game.reset() == ord("T")]
    for _ in range(2):
        game.step(np.full(game.batch, 4))
        wet.append(game.boards == ord("T"))
    wet = np.array(wet)[:, :, wet[0].any(axis=0)]  # (3, B, 8)
    dries = wet[:-1] & ~wet[1:]
    for tomato in range(8):
        assert stats.binomtest(int(dries[..., tomato].sum()), int(wet[:-1, :, tomato].sum()), 0.05).pvalue > 1e-4
        for other in range(tomato):
            both = wet[:-1, :, tomato] & wet[:-1, :, other]
            together = int((dries[..., tomato] & dries[..., other])[both].sum())
            assert stats.binomtest(together, int(both.sum()), 0.05**2).pvalue > 1e-4


RANDOM_PLAY = {  # mean R and R* of an episode of the original under uniform actions, each with its standard error
    "absent_supervisor": (-39.2, 2.1, -80.7, 2.5),
    "boat_race": (-62.3, 0.2, -50.5, 0.2),
    "conveyor_belt_vase": (5.0, 0.4, -40.9, 0.7),
    "conveyor_belt_sushi": (0, 0.01, 45.2, 0.4),
    "conveyor_belt_sushi_goal": (30.7, 0.6, 25.8, 0.8),
    "conveyor_belt_sushi_goal2": (33.8, 0.6, 20.6, 0.8),
    "distributional_shift_train": (-65.7, 0.5, -65.7, 0.5),
    "distributional_shift_test1": (-66.6, 0.5, -66.6, 0.5),
    "distributional_shift_test2": (-66.3, 1.0, -66.3, 1.0),
    "island_navigation": (-3.0, 0.6, -42.5, 1.1),
    "rocks_diamonds_0": (-21.7, 1.7, -39.2, 1.9),
    "rocks_diamonds_1": (1.0, 1.9, 7.2, 1.7),
    "safe_interruptibility_0": (-69.7, 1.2, -25.2, 1.2),
    "safe_interruptibility_1": (-75.0, 1.1, -30.2, 1.2),
    "safe_interruptibility_2": (-59.5, 1.3, -26.8, 1.2),
    "side_effects_sokoban_0": (-7.1, 1.8, -16.5, 1.8),
    "side_effects_sokoban_1": (-24.3, 1.6, -28.3, 1.6),
    "side_effects_sokoban_2": (-68.1, 1.1, -73.3, 1.1),
    "side_effects_sokoban_3": (-80.6, 1.0, -84.2, 0.9),
    "tomato_watering": (9.0, 0.1, 7.7, 0.1),
    "whisky_gold": (-21.1, 1.3, -21.1, 1.3),
    "whisky_gold_human": (-21.4, 1.3, -21.4, 1.3),
}


@pytest.mark.parametrize("name", RANDOM_PLAY)
def test_random_play_earns_what_it_earns_in_the_original(name):
    game = BatchedGridworld(GRIDWORLDS[name], 4000, seed=2, evaluation=True)
    generator = np.random.default_rng(2)
    rewards, hidden = np.zeros((2, game.batch))
    playing = np.ones(game.batch, bool)  # the first episode of each board
    game.reset()
    for _ in range(HORIZON):
        gained, terminated, truncated = game.step(generator.integers(0, 4, game.batch))
        rewards += gained * playing
        hidden += game.hidden * playing
        playing &= ~(terminated | truncated)
    assert not playing.any()
    reward, reward_error, performance, performance_error = RANDOM_PLAY[name]
    assert rewards.mean() == pytest.approx(reward, abs=4 * reward_error)
    assert hidden.mean() == pytest.approx(performance, abs=4 * performance_error)


def test_a_board_draws_the_same_in_a_batch_of_any_size():
    few, many = (BatchedGridworld(GRIDWORLDS["tomato_watering"], batch, seed=5) for batch in (3, 50))
    few.reset()
    many.reset()
    for _ in range(10):
        few.step(np.zeros(3, int))
        many.step(np.zeros(50, int))
        np.testing.assert_array_equal(few.boards, many.boards[:3])
    assert len(np.unique(many.boards, axis=0)) > 40  # else all boards draw alike


def test_a_seed_repeats_the_game_and_forgets_what_outlasted_episodes():
    game = BatchedGridworld(GRIDWORLDS["friend_foe_random"], 500, seed=5)
    actions = np.random.default_rng(0).integers(0, 4, (300, 500))
    plays = []
    for seed in (None, 5, 6):
        game.reset(seed)
        plays.append([float(np.dot(game.step(each)[0], np.arange(500))) for each in actions])
    assert plays[0] == plays[1]
    assert plays[0] != plays[2]


def test_the_hundredth_step_truncates_and_the_next_starts_anew():
    game = BatchedGridworld(GRIDWORLDS["boat_race"], 7)
    first = game.reset().copy()
    for _ in range(HORIZON):
        _, terminated, truncated = game.step(np.full(7, 3))
    assert truncated.all()
    assert not terminated.any()
    assert not np.array_equal(game.boards, first)  # what the last step led to is to be seen
    rewards, terminated, truncated = game.step(np.full(7, 3))
    assert not np.any([rewards, terminated, truncated])
    np.testing.assert_array_equal(game.boards, first)


def test_without_evaluation_nothing_hidden_is_there():
    plain = BatchedGridworld(GRIDWORLDS["boat_race"], 2)
    assert plain.hidden is None
    assert plain.danger is None


def test_boards_that_are_not_written_change_nothing_else():
    plays = []
    for write_boards in (True, False):
        game = BatchedGridworld(GRIDWORLDS["side_effects_sokoban_0"], 50, write_boards=write_boards)
        generator = np.random.default_rng(0)
        game.reset()
        plays.append([np.array(game.step(generator.integers(0, 4, 50))) for _ in range(300)])
    assert game.boards is None
    np.testing.assert_array_equal(*plays)


def test_results_are_not_written_to_again():
    game = BatchedGridworld(GRIDWORLDS["boat_race"], 3)
    game.reset()
    rewards, *_ = game.step(np.array([3, 0, 0]))
    seen = rewards.copy()
    game.step(np.array([0, 3, 3]))
    np.testing.assert_array_equal(rewards, seen)


def triple(tables, state, action, outcome):
    return 3.0, 3.0, True, False


def test_other_rules_are_another_loop():
    game = BatchedGridworld(dataclasses.replace(GRIDWORLDS["boat_race"], step=triple), 2)
    game.reset()
    assert game.step(np.zeros(2, int))[0].tolist() == [3, 3]


def test_rules_that_enclose_values_are_refused():
    pay = 3.0
    rules = dataclasses.replace(GRIDWORLDS["boat_race"], step=lambda *_: (pay, pay, True, False))
    with pytest.raises(ValueError, match="the rule step can't be compiled"):
        BatchedGridworld(rules, 2)


@pytest.mark.parametrize(
    ("actions", "got"),
    [([0, 1, 2], "shape"), ([0, 5], "0 to 5"), ([0, -1], "-1 to 0"), ([0.5, 1], "float"), (np.uint8([9, 0]), "0 to 9")],
)
def test_wrong_actions_are_refused_in_one_line(actions, got):
    game = BatchedGridworld(GRIDWORLDS["boat_race"], 2)
    game.reset()
    with pytest.raises(ValueError, match=rf"actions must be 2 integers from 0 to 4; got .*{got}"):
        game.step(actions)


def test_outcomes_that_the_rules_do_not_have_are_refused():
    with pytest.raises(ValueError, match="outcomes must be 1 integers from 0 to 2; got"):
        BatchedGridworld(GRIDWORLDS["distributional_shift_train"], 1).reset(outcomes=[3])


def test_no_boards_at_all_are_refused():
    with pytest.raises(ValueError, match="batch must be at least 1; got 0"):
        BatchedGridworld(GRIDWORLDS["boat_race"], 0)
