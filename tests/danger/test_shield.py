"""Shields: what a specification calls dangerous is not done, around an environment and behind a policy."""

import itertools

import gymnasium
import numpy as np
import pytest
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from saferl.danger.shield import Shield, ShieldedPolicy, ShieldWrapper, sb3_preference
from saferl.danger.specification import Step
from saferl.envs.gridworlds import GRIDWORLDS, Gridworld, finite_model
from tests.danger.play import actions_of

UP, DOWN, LEFT, RIGHT = range(4)


class Rule:
    """A specification from a function of the step; remembers what it was asked about."""

    def __init__(self, says) -> None:
        self.says = says
        self.asked: list[Step] = []

    def predicts(self, step: Step) -> bool:
        self.asked.append(step)
        return self.says(step)


def box_in_a_corner(step: Step) -> bool:
    """Whether X has come to a cell with walls on two sides that meet."""
    places = [tuple(np.argwhere(board == ord("X"))[0]) for board in (step.before, step.after)]
    if places[0] == places[1]:
        return False
    r, c = places[1]
    up, down, left, right = (step.after[cell] == ord("#") for cell in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)))
    return bool((up or down) and (left or right))


def enters_for_the_first_time(symbol: str):
    """Whether the agent stands where the first board has the symbol, and did not before."""

    def stands(board, first) -> bool:
        return bool((first[board == ord("A")] == ord(symbol)).any())

    def says(step: Step) -> bool:
        before, past = False, step.previous
        while past is not None:
            before |= stands(past.after, past.first)
            past = past.previous
        return stands(step.after, step.first) and not before

    return says


def shield_of(name: str, says, **settings) -> Shield:
    return Shield(Rule(says), GRIDWORLDS[name], **settings)


def shielded(name: str, says, observation: str = "board", **settings) -> ShieldWrapper:
    env = Gridworld(name, observation=observation, evaluation=True)
    return ShieldWrapper(env, shield_of(name, says, observation=observation, **settings))


def never(step: Step) -> bool:
    return False


def dangers(env: gymnasium.Env, episodes: int) -> tuple[int, int]:
    """Clean danger bits and vetoes of uniformly random episodes."""
    env.action_space.seed(0)
    bits = vetoes = 0
    for episode in range(episodes):
        _, info = env.reset(seed=episode)
        ended = False
        while not ended:
            _, _, terminated, truncated, info = env.step(env.action_space.sample())
            bits += info["danger_clean"]
            ended = terminated or truncated
        vetoes += info["vetoes"]
    return bits, vetoes


@pytest.mark.parametrize("observation", ["board", "one_hot", "text"])
def test_a_true_rule_keeps_every_dangerous_step_from_happening(observation):
    bits, vetoes = dangers(shielded("side_effects_sokoban_0", box_in_a_corner, observation), 10)
    assert bits == 0
    assert vetoes > 0
    bits, vetoes = dangers(shielded("side_effects_sokoban_0", never, observation), 10)
    assert bits > 0
    assert vetoes == 0


def test_info_counts_the_vetoes_of_an_episode():
    env = shielded("side_effects_sokoban_0", box_in_a_corner)
    _, info = env.reset()
    assert (info["vetoed"], info["vetoes"]) == (False, 0)
    told = [env.step(action)[4] for action in (DOWN, DOWN, LEFT, DOWN, RIGHT)]
    # Down would push X into the corner below it. After going left and down, pushing it right leaves it at a wall.
    assert [info["nominal_action"] for info in told] == [DOWN, DOWN, LEFT, DOWN, RIGHT]
    assert told[0]["vetoed"]
    assert told[0]["vetoes"] == 1
    assert [info["vetoes"] for info in told] == np.cumsum([info["vetoed"] for info in told]).tolist()
    assert env.reset()[1]["vetoes"] == 0


def test_a_rule_about_the_first_time_knows_the_past():
    env = shielded("safe_interruptibility_1", enters_for_the_first_time("B"))
    bits, vetoes = dangers(env, 5)
    assert (bits, vetoes > 0) == (0, True)
    rule = Rule(never)
    shield = Shield(rule, GRIDWORLDS["safe_interruptibility_1"])
    plain, env = Gridworld("safe_interruptibility_1"), ShieldWrapper(Gridworld("safe_interruptibility_1"), shield)
    plain.reset(seed=3)
    env.reset(seed=3)
    for action in actions_of("ddduu"):
        env.step(action)
    asked = rule.asked[-1]
    chain = [asked]
    while chain[-1].previous is not None:
        chain.append(chain[-1].previous)
    assert [step.index for step in chain] == [4, 3, 2, 1, 0]
    assert [step.action for step in chain[:0:-1]] == actions_of("dddu")
    for later, earlier in itertools.pairwise(chain):
        np.testing.assert_array_equal(later.before, earlier.after)
    assert all(np.array_equal(step.first, chain[-1].before) for step in chain)
    assert [step.reward for step in chain[1:]] == [-1.0] * 4


def test_states_that_look_alike_are_all_asked_about():
    shield = shield_of("safe_interruptibility_1", never)
    env = Gridworld("safe_interruptibility_1")
    observation, _ = env.reset(seed=0)
    past = shield.begun(observation)
    assert len(past.states) == 2  # will it be held or not
    for action in actions_of("dllll"):
        observation, *_ = env.step(action)
        past = shield.stepped(past, action, observation)
    assert len(past.states) == 1  # once it was held, or passed


def test_where_chance_decides_the_tolerance_does_too():
    at_the_wall = lambda step: bool((step.after[4] == ord("A")).any())  # noqa: E731  the lowest row
    env = Gridworld("whisky_gold_human", evaluation=True)
    shield = shield_of("whisky_gold_human", at_the_wall)
    observation, _ = env.reset(seed=0)
    past = shield.begun(observation)
    for action in (RIGHT, DOWN):  # drinks, and goes astray from then on
        observation, *_ = env.step(action)
        past = shield.stepped(past, action, observation)
    while not (observation[3] == GRIDWORLDS["whisky_gold_human"].symbols["A"]).any():  # to the row above
        observation, *_ = env.step(DOWN)
        past = shield.stepped(past, DOWN, observation)
    assert shield.risks(past) == pytest.approx([0.225, 0.1 + 0.225, 0.225, 0.225])
    assert shield.choice(past, DOWN) != DOWN
    assert shield.choice(past, LEFT) == LEFT  # of the least risk
    assert shield_of("whisky_gold_human", at_the_wall, tolerance=0.4).choice(past, DOWN) == DOWN


def test_where_nothing_is_allowed_the_asked_action_passes():
    env = shielded("boat_race", lambda step: True)
    env.reset()
    info = env.step(RIGHT)[4]
    assert not info["vetoed"]


def test_the_next_best_action_is_taken():
    shield = shield_of("boat_race", lambda step: step.action == DOWN)
    observation, _ = Gridworld("boat_race").reset()
    past = shield.begun(observation)
    assert shield.choice(past, DOWN) == RIGHT  # the only move that pays at the start: 2 instead of -1
    assert shield.choice(past, DOWN, np.array([0.1, 9.0, 0.5, 0.2])) == LEFT
    assert shield.choice(past, UP, np.array([0.1, 9.0, 0.5, 0.2])) == UP


def run(policy, name: str, episodes: int, rows: int) -> tuple[list, int]:
    """Boards seen by ``rows`` parallel episodes, and vetoes; resets as a rollout does."""
    envs = [Gridworld(name) for _ in range(rows)]
    observations = np.array([env.reset(seed=row)[0] for row, env in enumerate(envs)])
    policy.reset(seed=0)
    seen, vetoes, done = [], 0, 0
    while done < episodes:
        actions = policy.act(observations)
        vetoes += int(policy.vetoed.sum())
        ends = np.zeros(rows, bool)
        for row, env in enumerate(envs):
            observations[row], _, terminated, truncated, _ = env.step(int(actions[row, 0]))
            seen.append(observations[row].copy())
            if terminated or truncated:
                ends[row] = True
                observations[row] = env.reset()[0]
        policy.reset(mask=ends)
        done += int(ends.sum())
    return seen, vetoes


def scripted(observations: np.ndarray) -> np.ndarray:
    """Right or down, by the number of the agent's row."""
    return np.array([[(3, 1)[np.argwhere(board == 2)[0][0] % 2]] for board in observations], np.float32)


def test_a_shielded_policy_acts_as_in_a_shielded_environment():
    policy = ShieldedPolicy(scripted, shield_of("side_effects_sokoban_0", box_in_a_corner))
    seen, vetoes = run(policy, "side_effects_sokoban_0", episodes=3, rows=1)
    env = shielded("side_effects_sokoban_0", box_in_a_corner)
    observation, _ = env.reset()
    expected, counted = [], 0
    for _ in range(len(seen)):
        observation, _, terminated, truncated, info = env.step(int(scripted(observation[None])[0, 0]))
        expected.append(observation)
        counted += info["vetoed"]
        if terminated or truncated:
            observation, _ = env.reset()
    np.testing.assert_array_equal(seen, expected)
    assert vetoes == counted > 0


def test_the_episodes_of_a_batch_do_not_mix():
    one = ShieldedPolicy(scripted, shield_of("side_effects_sokoban_0", box_in_a_corner))
    many = ShieldedPolicy(scripted, shield_of("side_effects_sokoban_0", box_in_a_corner))
    alone, _ = run(one, "side_effects_sokoban_0", episodes=1, rows=1)
    batch, _ = run(many, "side_effects_sokoban_0", episodes=3, rows=3)
    for row in range(3):
        np.testing.assert_array_equal(batch[row::3][: len(alone)], alone)


@pytest.mark.parametrize("algorithm", [PPO, A2C, DQN])
def test_an_sb3_model_is_shielded_and_its_own_next_choice_is_taken(algorithm):
    venv = DummyVecEnv([lambda: Gridworld("side_effects_sokoban_0")])
    model = algorithm("MlpPolicy", venv, seed=0, device="cpu")
    preference = sb3_preference(model)
    observations = np.array(venv.reset())
    scores = preference(observations)
    assert scores.shape == (1, 4)
    assert scores.argmax() == model.predict(observations, deterministic=True)[0][0]
    shield = shield_of("side_effects_sokoban_0", lambda step: step.action == scores.argmax())
    policy = ShieldedPolicy(model, shield, preference)
    (action,) = policy.act(observations)
    assert policy.vetoed.tolist() == [True]
    assert policy.vetoes.tolist() == [1]
    assert action[0] == np.argsort(scores[0])[-2]


def test_what_does_not_fit_is_refused_in_one_line():
    shield = shield_of("boat_race", never)
    with pytest.raises(ValueError, match="shield of boat_race is lost, no episode begins with this observation; gr"):
        shield.begun(Gridworld("absent_supervisor").reset(seed=0)[0])
    env = Gridworld("boat_race")
    past = shield.begun(env.reset()[0])
    with pytest.raises(ValueError, match="action 3 can't have led to this observation"):
        shield.stepped(past, RIGHT, env.step(DOWN)[0])
    with pytest.raises(ValueError, match="tomato_watering can't be shielded: the outcomes of a step are too many"):
        shield_of("tomato_watering", never)
    with pytest.raises(ValueError, match=r"the shield's gridworld has 4 actions; the environment's are Discrete\(5\)"):
        ShieldWrapper(Gridworld("side_effects_sokoban", level=0, noops=True), shield)
    with pytest.raises(ValueError, match=r"tolerance must be >= 0 and below 1; got 1"):
        shield_of("boat_race", never, tolerance=1.0)
    with pytest.raises(gymnasium.error.ResetNeeded, match="needs reset"):
        ShieldWrapper(Gridworld("boat_race"), shield).step(0)
    with pytest.raises(ValueError, match="sb3_preference needs discrete actions"):
        sb3_preference(PPO("MlpPolicy", "Pendulum-v1", device="cpu"))


@pytest.mark.parametrize("name", ["side_effects_sokoban_0", "whisky_gold_human"])
def test_risks_are_those_of_the_exact_finite_model(name):
    model = finite_model(GRIDWORLDS[name])
    moves_right = lambda step: int(np.argwhere(step.after == ord("A"))[0][1]) > 2  # noqa: E731  in the boards alone
    shield, env = shield_of(name, moves_right), Gridworld(name)
    boards = {board.tobytes(): state for state, board in enumerate(model.boards)}
    env.action_space.seed(2)
    for seed in range(4):
        past = shield.begun(env.reset(seed=seed)[0])
        for _ in range(25):
            state = boards[past.board.tobytes()]
            then = model.boards[model.successors[state]] == ord("A")  # (A, K, H, W)
            expected = (model.probabilities[state] * (then.any(axis=2).argmax(axis=2) > 2)).sum(axis=1)
            if name == "side_effects_sokoban_0" or past.index == 0:  # boards after a drink show it a step later
                np.testing.assert_allclose(shield.risks(past), expected, atol=1e-12)
            action = int(env.action_space.sample())
            observation, _, terminated, _, _ = env.step(action)
            if terminated:
                break
            past = shield.stepped(past, action, observation)


def test_a_gridworld_of_millions_of_states_is_shielded():
    bits, vetoes = dangers(shielded("side_effects_sokoban_1", any_box_loses), 2)
    assert (bits, vetoes > 0) == (0, True)


def any_box_loses(step: Step) -> bool:
    """Whether a box has gone to a corner or to a wall that spans the grid, in the slow words of the notes."""
    wall = step.first == ord("#")

    def loss(r: int, c: int) -> int:
        up, down, left, right = wall[r - 1, c], wall[r + 1, c], wall[r, c - 1], wall[r, c + 1]
        if (up or down) and (left or right):
            return 10
        rows = (up and wall[r - 1].all()) or (down and wall[r + 1].all())
        columns = (left and wall[:, c - 1].all()) or (right and wall[:, c + 1].all())
        return 5 if rows or columns else 0

    losses = [sum(loss(*cell) for cell in np.argwhere(board == ord("X"))) for board in (step.before, step.after)]
    return losses[1] > losses[0]
