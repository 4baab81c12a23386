"""A gridworld as an exact finite Markov decision process, found by search over the states that can be reached.

    model = finite_model(GRIDWORLDS["side_effects_sokoban_0"])
    model.boards[model.starts]  # (1, 6, 6) characters of the first board
    model.successors  # (60, 4, 1) states

What follows from a model without learning is in ``finite_play``.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy import int64, uint64
from numpy.typing import NDArray

from saferl.envs.gridworlds import compiled_rules
from saferl.envs.gridworlds.rules import Rules

Floats = NDArray[np.float64]
LONGEST_STATE = 7  # bytes; the eighth of a state's number says whether the episode is over
TERMINAL = np.uint64(1 << 63)
MOST_BYTES = 2 << 30  # that a model may take
FIRST_STATES = 1 << 12  # for which there is room when the search begins


@dataclass(frozen=True, eq=False)
class FiniteModel:
    """S states, A actions and K outcomes of a step; time is not a part of a state.

    Attributes:
        rules: whose model it is.
        states: (S, state_size) uint8, reached from a start in some number of steps.
        starts: (S0,) states in which an episode may begin.
        start_probabilities: (S0,).
        chances: (K,) of the outcomes.
        successors: (S, A, K) int32, -1 for terminal states.
        rewards, hidden: (S, A, K) visible reward R and hidden performance R* of a step, 0 for terminal states.
        danger, terminated: (S, A, K) bool clean danger bit of a step, and whether it ends the episode.
        terminal: (S,) bool, where an episode has ended by itself.
    """

    rules: Rules
    states: NDArray[np.uint8]
    starts: NDArray[np.int64]
    start_probabilities: Floats
    chances: Floats
    successors: NDArray[np.int32]
    rewards: Floats
    hidden: Floats
    danger: NDArray[np.bool_]
    terminated: NDArray[np.bool_]
    terminal: NDArray[np.bool_]

    @cached_property
    def probabilities(self) -> Floats:
        """(S, A, K) of the successors, 0 for terminal states."""
        return (self.successors >= 0) * self.chances

    @cached_property
    def boards(self) -> NDArray[np.uint8]:
        """(S, H, W) characters seen in each state."""
        boards = np.empty((len(self.states), *self.rules.shape), np.uint8)
        arguments = self.rules.tables, np.ascontiguousarray(self.states), boards.reshape(len(boards), -1)
        compiled_rules.compiled(_draw_boards, self.rules, arguments)(0, *arguments)
        return boards


def finite_model(rules: Rules, most_bytes: int = MOST_BYTES) -> FiniteModel:
    """The model, by breadth-first search from the starts.

    Entries of a state that may change places (``Rules.alike``: boxes) are in ascending order in it. The bandits of
    friend_foe are as in the first episode of an environment.

    Args:
        rules: one of ``GRIDWORLDS``, or any other whose outcomes can be listed.
        most_bytes: that the model may take, boards and probabilities included; a search for more stops.
    Raises: ValueError in one line for outcomes that can't be listed, a state of more than 7 bytes, or too many states.
    """
    starts, outcomes = rules.starts(), rules.outcomes()
    if starts is None or outcomes is None:
        raise ValueError(f"{rules.name} has no finite model: the outcomes of a step are too many to list.")
    if rules.state_size > LONGEST_STATE:
        raise ValueError(
            f"{rules.name} has no finite model: its state has {rules.state_size} bytes; at most {LONGEST_STATE}."
        )
    width = rules.actions * len(outcomes)  # entries of a row of tables
    bytes_each = 8 + 30 * width + rules.shape[0] * rules.shape[1]
    begins = [_key(rules, outcome) for outcome, _ in starts]
    keys, slots, counts = _room(np.unique(begins), FIRST_STATES)
    fixed = rules.tables, rules.actions, np.array([outcome for outcome, _ in outcomes]), *rules.alike
    scratch, nowhere = np.zeros(rules.state_size, np.uint8), _tables((0, 0, 0))
    explore = compiled_rules.compiled(_explore, rules, (*fixed, scratch, keys, slots, counts, *nowhere))
    most = most_bytes // bytes_each
    while counts[0] < counts[1]:
        explore(0, *fixed, scratch, keys, slots, counts, *nowhere)
        if counts[1] > most:
            raise ValueError(
                f"{rules.name} has more than {most:,} reachable states, {bytes_each} bytes each in a model, which is"
                f" above most_bytes = {most_bytes:,}; give a greater one."
            )
        if counts[0] < counts[1]:
            keys, slots, counts = _room(keys[: counts[1]], 2 * len(keys), counts[0])
    states = int(counts[1])
    counts[0] = 0
    tables = _tables((states, rules.actions, len(outcomes)))
    explore(0, *fixed, scratch, keys, slots, counts, *tables)
    first, which = np.unique(begins, return_inverse=True)  # the first states are the starts, sorted
    return FiniteModel(
        rules,
        keys[:states].view(np.uint8).reshape(states, 8)[:, : rules.state_size],
        np.arange(len(first)),
        np.bincount(which, [chance for _, chance in starts]).astype(np.float64),
        np.array([chance for _, chance in outcomes]),
        *tables,
        (keys[:states] & TERMINAL) != 0,
    )


def _key(rules: Rules, outcome: int) -> np.uint64:
    """The number of the state in which an episode starts."""
    state = bytearray(rules.state_size)
    rules.start(rules.plain_tables, outcome, state)
    first, last = rules.alike
    state[first:last] = sorted(state[first:last])
    return np.uint64(int.from_bytes(state, "little"))


def _tables(shape: tuple[int, int, int]) -> tuple[Any, Any, Any, Any, Any]:
    """Successors, rewards, hidden performance, danger, terminated."""
    return np.full(shape, -1, np.int32), np.zeros(shape), np.zeros(shape), np.zeros(shape, bool), np.zeros(shape, bool)


def _room(
    known: NDArray[np.uint64], size: int, explored: int = 0
) -> tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int64]]:
    """Numbers of ``size`` states, some known; slots, by which they are found; how many are explored, and known."""
    keys = np.empty(size, np.uint64)
    keys[: len(known)] = known
    slots = np.full(4 * size, -1, np.int32)
    _enter(keys, slots, len(known))
    return keys, slots, np.array([explored, len(known)])


@compiled_rules.inlined
def _slot(key, keys, slots):
    """The slot that holds a key, or the empty one where it belongs; as many slots as a power of 2, never all taken."""
    mask = slots.size - 1
    mixed = (key ^ (key >> uint64(32))) * uint64(0x9E3779B97F4A7C15)
    slot = int64(mixed >> uint64(32)) & mask
    while slots[slot] >= 0 and keys[slots[slot]] != key:
        slot = (slot + 1) & mask
    return slot


@compiled_rules.loop
def _enter(keys, slots, count):
    for i in range(count):
        slots[_slot(keys[i], keys, slots)] = i


@compiled_rules.loop
def _explore(
    digest, rule_tables, actions, outcomes, alike_first, alike_last, state, keys, slots, counts, successors, rewards,
    hidden, danger, terminated,
):  # fmt: skip
    """Take every step from every state that is not explored, while there is room for what may be found.

    The tables are filled if they are not empty; then all states must be known.
    """
    filling = successors.size > 0
    while counts[0] < counts[1] and (filling or counts[1] + actions * outcomes.size <= keys.size):
        origin = counts[0]
        counts[0] += 1
        if keys[origin] & TERMINAL:
            continue
        for action in range(actions):
            for k in range(outcomes.size):
                for j in range(state.size):
                    state[j] = (keys[origin] >> uint64(8 * j)) & uint64(255)
                reward, performance, bit, over = compiled_rules.step(digest, rule_tables, state, action, outcomes[k])
                _sort(state, alike_first, alike_last)
                key = TERMINAL if over else uint64(0)
                for j in range(state.size):
                    key |= uint64(state[j]) << uint64(8 * j)
                slot = _slot(key, keys, slots)
                if slots[slot] < 0:
                    slots[slot] = counts[1]
                    keys[counts[1]] = key
                    counts[1] += 1
                if filling:
                    successors[origin, action, k] = slots[slot]
                    rewards[origin, action, k], hidden[origin, action, k] = reward, performance
                    danger[origin, action, k], terminated[origin, action, k] = bit, over


@compiled_rules.inlined
def _sort(state, first, last):
    for i in range(first + 1, last):
        for j in range(i, first, -1):
            if state[j] < state[j - 1]:
                state[j], state[j - 1] = state[j - 1], state[j]


@compiled_rules.loop
def _draw_boards(digest, rule_tables, states, boards):
    for i in range(len(states)):
        compiled_rules.board(digest, rule_tables, states[i], boards[i])
