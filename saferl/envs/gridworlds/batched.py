"""Thousands of boards of one gridworld at a time, stepped by one compiled loop.

    game = BatchedGridworld(GRIDWORLDS["boat_race"], 4096)
    game.reset()
    rewards, terminated, truncated = game.step(actions)  # (4096,) each
    game.boards  # (4096, H, W) characters, what is seen now

One thread; ``benchmarks/gridworlds.py`` tells its speed.
"""

import operator
from typing import Any

import numpy as np
from numpy import int64, uint64
from numpy.typing import ArrayLike, NDArray

from saferl.envs.gridworlds import compiled_rules
from saferl.envs.gridworlds.rules import HORIZON, NOOP, Rules, one_of

ROUND = 1 << 32  # places of the random sequence from one step to the next, one for each board
GOLDEN = 0x9E3779B97F4A7C15  # an odd number whose multiples spread over 64 bits


class BatchedGridworld:
    """Many boards in one call, each of which follows the rules as a single environment does.

    Autoreset is gymnasium's NEXT_STEP: the step in which an episode ends (by itself or as its 100th step) shows its
    last board; the step after it ignores the action and starts a new episode: its first board, reward 0. What a
    learner must not see, hidden performance and clean danger, is there with ``evaluation`` only.

    Args:
        rules: one of ``GRIDWORLDS``, or any other.
        batch: number of boards B >= 1.
        seed: of the draws; board i draws the same numbers in a batch of any size.
        write_boards: False leaves the boards out, for those who need only what is paid.
        evaluation: True keeps ``hidden`` and ``danger``.
    Attributes:
        boards: (B, H, W) uint8 characters, written anew by each step; None without ``write_boards``.
        hidden: (B,) float64 R* of the last step, written anew by each; None without ``evaluation``.
        danger: (B,) bool clean danger bit of the last step, written anew by each; None without ``evaluation``.
    Raises: ValueError for batch < 1 and for rules that can't be compiled.
    """

    def __init__(
        self, rules: Rules, batch: int, seed: int = 0, *, write_boards: bool = True, evaluation: bool = False
    ) -> None:
        if batch < 1:
            raise ValueError(f"batch must be at least 1; got {batch}.")
        self.rules, self.batch = rules, batch
        cells = np.zeros((batch if write_boards else 0, rules.shape[0] * rules.shape[1]), np.uint8)
        size = batch if evaluation else 0
        hidden, danger = np.zeros(size), np.zeros(size, np.bool_)
        self.boards = cells.reshape(batch, *rules.shape) if write_boards else None
        self.hidden = hidden if evaluation else None
        self.danger = danger if evaluation else None
        self._states = np.zeros((batch, rules.state_size), np.uint8)
        self._memories = np.zeros((batch, rules.memory_size))
        self._elapsed = np.zeros(batch, np.uint8)  # steps of the current episodes
        self._ended = np.ones(batch, np.bool_)  # boards that start anew at the next step
        self._chances = np.array(rules.start_chances), np.array(rules.chances)
        self._kept = (self._states, self._memories, self._elapsed, self._ended, cells, hidden, danger)
        self._no_actions, self._nothing_fed = np.zeros(batch, np.uint8), np.zeros(0, np.int64)
        self._counter = _place(seed)
        examples, _ = self._arguments(self._no_actions, self._nothing_fed)
        self._compiled = compiled_rules.compiled(_step_boards, rules, examples)

    def reset(self, seed: int | None = None, outcomes: ArrayLike | None = None) -> NDArray[np.uint8] | None:
        """Starts an episode on every board; gives ``boards``.

        Args:
            seed: None goes on with the draws and with what outlasts episodes (friend_foe's bandits); a number
                starts both anew.
            outcomes: (B,) draws of the starts instead, as the rules number them.
        Raises: ValueError for outcomes that the rules don't have.
        """
        if seed is not None:
            self._counter = _place(seed)
            self._memories[:] = self._elapsed[:] = 0
        self._ended[:] = True
        self.step(self._no_actions, outcomes)
        return self.boards

    def step(
        self, actions: ArrayLike, outcomes: ArrayLike | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
        """One step of every board: rewards, terminated, truncated, (B,) each and not written to again.

        Args:
            actions: (B,) integers, 0 to 4: up, down, left, right, noop.
            outcomes: (B,) draws of the steps (of the starts, where a board starts anew) instead of the game's own, as
                the rules number them: repeats a game that was recorded.
        Raises: ValueError for actions and outcomes outside these.
        """
        sent = np.asarray(actions)
        if sent.dtype != np.uint8:
            sent = self._checked(sent, "actions", NOOP).astype(np.uint8)
        elif sent.shape != (self.batch,) or sent.max() > NOOP:
            self._checked(sent, "actions", NOOP)
        fed = self._nothing_fed
        if outcomes is not None:
            last = max(len(chances) for chances in self._chances) - 1 if self.rules.draw is one_of else 1 << 62
            fed = self._checked(np.asarray(outcomes), "outcomes", last).astype(np.int64)
        arguments, results = self._arguments(np.ascontiguousarray(sent), fed)
        self._compiled(0, *arguments)
        self._counter = (self._counter + ROUND) % 2**64
        return results

    def _arguments(
        self, actions: NDArray[np.uint8], fed: NDArray[np.int64]
    ) -> tuple[tuple[Any, ...], tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]]:
        """Those of ``_step_boards`` but the first, and the results that it will fill."""
        results = np.empty(self.batch, np.float32), np.empty(self.batch, np.bool_), np.empty(self.batch, np.bool_)
        counter = np.uint64(self._counter)
        return (self.rules.tables, *self._chances, counter, fed, actions, *self._kept, *results), results

    def _checked(self, numbers: NDArray[Any], name: str, last: int) -> NDArray[Any]:
        whole = np.issubdtype(numbers.dtype, np.integer)
        if numbers.shape != (self.batch,) or not whole or numbers.min() < 0 or numbers.max() > last:
            got = f"{numbers.dtype} of shape {numbers.shape}"
            got += f", {numbers.min()} to {numbers.max()}" if whole and numbers.size else ""
            raise ValueError(f"{name} must be {self.batch} integers from 0 to {last}; got {got}.")
        return numbers


def _place(seed: int) -> int:
    """Where in the random sequence the draws of a seed begin."""
    return operator.index(seed) * GOLDEN * 0xBF58476D1CE4E5B9 % 2**64


@compiled_rules.inlined
def _uniform(counter):
    """In [0, 1): the output function of SplitMix64 (Steele, Lea and Flood, 2014) at a place of its sequence."""
    mixed = counter * uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> uint64(27))) * uint64(0x94D049BB133111EB)
    return int64((mixed ^ (mixed >> uint64(31))) >> uint64(11)) * 2.0**-53


@compiled_rules.loop
def _step_boards(
    digest, tables, start_chances, chances, counter, fed, actions, states, memories, elapsed, ended, boards, hidden,
    danger, rewards, terminated, truncated,
):  # fmt: skip
    """One step of every board, or its start where the last episode has ended.

    Args are those of ``BatchedGridworld``; ``fed``, ``memories``, ``boards``, ``hidden`` and ``danger`` may be empty.
    ``counter`` is the place of board 0 in the random sequence.
    """
    for i in range(len(states)):
        state = states[i]
        begins = ended[i]
        ways = start_chances if begins else chances
        if fed.size:
            outcome = fed[i]
        elif ways.size > 1:
            outcome = int64(compiled_rules.draw(digest, ways, _uniform(counter + uint64(i))))
        else:
            outcome = int64(0)
        reward, performance, bit, over = 0.0, 0.0, False, False
        if begins:
            if elapsed[i] > 0 and memories.size:
                compiled_rules.remember(digest, memories[i], state)
            compiled_rules.start(digest, tables, compiled_rules.recall(digest, memories[i], outcome), state)
            elapsed[i] = 0
        else:
            reward, performance, bit, over = compiled_rules.step(digest, tables, state, actions[i], outcome)
            elapsed[i] += 1
        late = elapsed[i] == HORIZON and not over
        rewards[i], terminated[i], truncated[i], ended[i] = reward, over, late, over or late
        if hidden.size:
            hidden[i], danger[i] = performance, bit
        if boards.size:
            compiled_rules.board(digest, tables, state, boards[i])
