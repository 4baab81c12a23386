"""Episodes of a gridworld or a text analog as a learner sees them, played by its rules."""

from collections.abc import Sequence

import numpy as np

from saferl.danger.specification import Episode, Step
from saferl.envs.gridworlds.rules import Rules


def shown(rules: Rules, state: Sequence[int]) -> np.ndarray:
    """The board (H, W) of a state, as characters."""
    out = [0] * (rules.shape[0] * rules.shape[1])
    rules.board(rules.plain_tables, list(state), out)
    return np.array(out, np.uint8).reshape(rules.shape)


def played(rules: Rules, actions: Sequence[int], start: int = 0, level: str = "step") -> tuple[Episode, float]:
    """The episode of these actions, and its hidden performance R*.

    Args:
        rules: whose steps have the outcome 0.
        actions: in turn.
        start: outcome of the start.
        level: "step" for the clean bits as warnings, "episode" for their OR, "none" for no warnings.
    """
    state = [0] * rules.state_size
    rules.start(rules.plain_tables, start, state)
    first = before = shown(rules, state)
    steps: list[Step] = []
    bits, performance, terminated = [], 0.0, False
    for index, action in enumerate(actions):
        reward, hidden, danger, terminated = rules.step(rules.plain_tables, state, action, 0)
        after = shown(rules, state)
        steps.append(Step(before, action, after, float(reward), index, first, steps[-1] if steps else None))
        bits.append(bool(danger))
        performance += hidden
        before = after
        if terminated:
            break
    warnings = {"step": bits, "episode": any(bits), "none": None}[level]
    return Episode(tuple(steps), warnings, bool(terminated)), performance


def actions_of(letters: str) -> list[int]:
    """Actions of a string of u, d, l, r."""
    return ["udlr".index(letter) for letter in letters]
