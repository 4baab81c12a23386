"""A clone of a gridworld that shows only what an agent may see, and the world in which its plans are carried out.

``Clone``: nodes are what an agent can know (a belief about the state, and what it remembers of the episode), edges are
steps as seen. It plans on this. ``World``: the same steps with the state behind them, hidden performance and danger,
which only simulation and measurement read. Both are tables, so that a thousand episodes cost little.

Where two states look alike so far (an interruption that has been drawn but not shown), a node keeps both with their
probabilities, so that no plan can depend on what is hidden.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saferl.danger.moments import Memory, Moments, Scene, first_memory, moments, next_memory, scene_of
from saferl.danger.specification import Board, Episode

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]
Belief = tuple[tuple[int, float], ...]  # states and their probabilities, sorted
Seen = tuple[int, float, bool]  # board after the step, reward, whether the episode ended
Node = tuple[Belief, Memory, int]  # with the board that the episode began with
LIMIT = 400_000  # edges; their boards take up to 100 bytes each
DIGITS = 9  # to which probabilities of a belief count


@dataclass(frozen=True, eq=False)
class Clone:
    """What an agent may plan on.

    Attributes:
        steps: the E edges as moments; ``index`` is 0, as an edge has no time.
        node, action: (E,) where an edge begins and what is done there; sorted by node and action.
        offsets: (N * A + 1,) edges of node n and action a are offsets[n * A + a] to offsets[n * A + a + 1].
        following: (E,) the node after it, -1 where the episode ends.
        chances: (E,) probability, given node and action; 0 for what the agent doesn't expect but may happen.
        rewards: (E,) R.
        starts: start nodes by the board that is shown first.
        start_chances: their probabilities.
        actions: A, how many there are.
    """

    steps: Moments
    node: Indices
    action: Indices
    offsets: Indices
    following: Indices
    chances: Floats
    rewards: Floats
    starts: Indices
    start_chances: Floats
    actions: int

    @property
    def nodes(self) -> int:
        """N, how many nodes there are."""
        return (len(self.offsets) - 1) // self.actions

    def edges_of(self, episode: Episode) -> Indices:
        """(T,) the edges that an episode took. Raises: ValueError for one that can't have happened here."""
        if not episode.steps:
            return np.zeros(0, np.int64)
        node = self._starts.get(episode.steps[0].first.tobytes(), -1)
        walked = []
        for step in episode.steps:
            ended = episode.terminated and step is episode.steps[-1]
            edge = self._edges.get((node, step.action, step.after.tobytes(), step.reward, ended))
            if edge is None:
                raise ValueError(f"step {step.index} of an episode can't happen in the clone of its environment.")
            walked.append(edge)
            node = int(self.following[edge])
        return np.array(walked, np.int64)

    @cached_property
    def _starts(self) -> dict[bytes, int]:
        return {board.tobytes(): int(node) for board, node in zip(self.first_boards, self.starts)}

    @cached_property
    def _edges(self) -> dict[tuple[int, int, bytes, float, bool], int]:
        """Edge by node, action, board after it, reward and whether the episode ends."""
        boards = [board.tobytes() for board in self.steps.after]
        parts = (self.node.tolist(), self.action.tolist(), boards, self.rewards.tolist(), (self.following < 0).tolist())
        return {key: edge for edge, key in enumerate(zip(*parts))}

    @property
    def first_boards(self) -> list[Board]:
        """The boards of ``starts``."""
        edges = self.offsets[self.starts * self.actions]
        return [self.steps.before[edge] for edge in edges]


@dataclass(frozen=True, eq=False)
class World:
    """What happens, and what is hidden: a Markov chain over J pairs of a state and an agent's node.

    Attributes:
        clone: what is visible of it.
        node: (J,) of each pair.
        shares: (J,) probability of the state for an agent that is at the node.
        following: (J, A, K) pair that comes next, -1 where the episode ends or there is no such outcome.
        edges: (J, A, K) edge of the clone that is seen.
        chances: (J, A, K), 0 where there is no such outcome.
        hidden: (J, A, K) R* of the step.
        danger: (J, A, K) the clean bit.
        starts: (J0,) pairs.
        start_chances: (J0,).
    """

    clone: Clone
    node: Indices
    shares: Floats
    following: Indices
    edges: Indices
    chances: Floats
    hidden: Floats
    danger: NDArray[np.bool_]
    starts: Indices
    start_chances: Floats


def world_of(model: Any, expected: Any = None) -> World:
    """Clone and world of a gridworld.

    Args:
        model: exact ``FiniteModel`` of what happens.
        expected: the one that the agent plans with, if it is another: one that doesn't know of some random influence.
            What it can't explain by the action that was sent, the agent takes for the result of another action.
    Raises: ValueError if there are too many edges.
    """
    return _Builder(model, model if expected is None else expected).world()


class _Builder:
    """The search for all nodes and pairs that can be reached."""

    def __init__(self, model: Any, expected: Any) -> None:
        self.model, self.expected = model, expected
        self.actions = model.successors.shape[1]
        self.scene = _scene(model)
        self.boards: list[Board] = []
        self.board_numbers: dict[bytes, int] = {}
        self.shown = [[self.board_number(board) for board in each.boards] for each in (model, expected)]
        self.nodes: dict[Node, int] = {}
        self.node_list: list[Node] = []
        self.pairs: dict[tuple[int, int], int] = {}
        self.pair_list: list[tuple[int, int]] = []
        self.edges: list[dict[tuple[int, Seen], tuple[int, float]]] = []  # by node: (action, seen) -> next, chance

    def board_number(self, board: Board) -> int:
        key = board.tobytes()
        if key not in self.board_numbers:
            self.board_numbers[key] = len(self.boards)
            self.boards.append(board)
        return self.board_numbers[key]

    def world(self) -> World:
        starts = self._starts()
        expanded = explored = count = 0
        while expanded < len(self.node_list) or explored < len(self.pair_list):
            if expanded < len(self.node_list):
                self._expand(expanded)
                count += len(self.edges[expanded])
                expanded += 1
            else:
                self._explore(explored)
                explored += 1
            if count > LIMIT:
                raise ValueError(
                    f"discovery plans on a table of at most {LIMIT:,} steps; this environment has more than that."
                )
        return self._tables(starts)

    def number(self, node: Node) -> int:
        if node not in self.nodes:
            self.nodes[node] = len(self.node_list)
            self.node_list.append(node)
            self.edges.append({})
        return self.nodes[node]

    def pair(self, state: int, node: int) -> int:
        if (state, node) not in self.pairs:
            self.pairs[state, node] = len(self.pair_list)
            self.pair_list.append((state, node))
        return self.pairs[state, node]

    def _starts(self) -> list[tuple[int, int, float]]:
        """(pair, node, probability) of every start."""
        by_board: dict[int, dict[int, float]] = {}
        for state, chance in zip(self.expected.starts, self.expected.start_probabilities):
            states = by_board.setdefault(self.shown[1][state], {})
            states[int(state)] = states.get(int(state), 0.0) + float(chance)
        found = []
        for state, chance in zip(self.model.starts, self.model.start_probabilities):
            board = self.shown[0][state]
            node = self.number((_belief(by_board[board]), first_memory(self.boards[board]), board))
            found.append((self.pair(int(state), node), node, float(chance)))
        return found

    def _outcomes(self, belief: Belief, action: int) -> dict[Seen, dict[int, float]]:
        """What may be seen, and the probability of each state then."""
        model, found = self.expected, dict[Seen, dict[int, float]]()
        for state, share in belief:
            for k in np.flatnonzero(model.probabilities[state, action] > 0):
                after = int(model.successors[state, action, k])
                if after < 0:
                    continue
                seen = (
                    self.shown[1][after],
                    float(model.rewards[state, action, k]),
                    bool(model.terminated[state, action, k]),
                )
                states = found.setdefault(seen, {})
                states[after] = states.get(after, 0.0) + share * float(model.probabilities[state, action, k])
        return found

    def _expand(self, number: int) -> None:
        """Add the edges that the agent expects."""
        belief = self.node_list[number][0]
        for action in range(self.actions):
            for seen, states in self._outcomes(belief, action).items():
                self._add(number, action, seen, states, sum(states.values()))

    def _add(self, number: int, action: int, seen: Seen, states: dict[int, float], chance: float) -> int:
        _, memory, first = self.node_list[number]
        before, after = self.shown_by(number), self.boards[seen[0]]
        following = -1
        if not seen[2]:
            memory = next_memory(self.scene, memory, before, action, after)
            following = self.number((_belief(states), memory, first))
        self.edges[number][action, seen] = (following, chance)
        return following

    def shown_by(self, number: int) -> Board:
        """The board that the agent has before it at a node."""
        return self.boards[self.shown[1][self.node_list[number][0][0][0]]]

    def _explore(self, pair: int) -> None:
        """Add the pairs that may follow in the world, and edges that the agent doesn't expect."""
        state, node = self.pair_list[pair]
        for action in range(self.actions):
            for _, after, seen in self._happens(state, action):
                if (action, seen) not in self.edges[node]:
                    self._add(node, action, seen, self._explained(node, seen), 0.0)
                following = self.edges[node][action, seen][0]
                if following >= 0:
                    self.pair(after, following)

    def _happens(self, state: int, action: int) -> list[tuple[int, int, Seen]]:
        model = self.model
        return [
            (
                int(k),
                int(after := model.successors[state, action, k]),
                (
                    self.shown[0][after],
                    float(model.rewards[state, action, k]),
                    bool(model.terminated[state, action, k]),
                ),
            )
            for k in np.flatnonzero(model.probabilities[state, action] > 0)
            if model.successors[state, action, k] >= 0
        ]

    def _explained(self, node: int, seen: Seen) -> dict[int, float]:
        """The states after something unexpected: as if another action had been carried out."""
        belief, states = self.node_list[node][0], dict[int, float]()
        for action in range(self.actions):
            for state, share in self._outcomes(belief, action).get(seen, {}).items():
                states[state] = states.get(state, 0.0) + share
        if not states:
            raise ValueError("the model that the agent plans with can't explain a step of the world by any action.")
        return states

    def _tables(self, starts: list[tuple[int, int, float]]) -> World:
        rows = [
            (node, action, seen, *edge)
            for node, edges in enumerate(self.edges)
            for (action, seen), edge in sorted(edges.items())
        ]
        numbers = {(row[0], row[1], row[2]): edge for edge, row in enumerate(rows)}
        sizes = np.zeros(len(self.node_list) * self.actions + 1, np.int64)
        for node, action, *_ in rows:
            sizes[node * self.actions + action + 1] += 1
        shares: dict[int, float] = {}
        for _, node, chance in starts:
            shares[node] = shares.get(node, 0.0) + chance
        clone = Clone(
            steps=self._moments(rows),
            node=np.array([row[0] for row in rows], np.int64),
            action=np.array([row[1] for row in rows], np.int64),
            offsets=sizes.cumsum(),
            following=np.array([row[3] for row in rows], np.int64),
            chances=np.array([row[4] for row in rows]),
            rewards=np.array([row[2][1] for row in rows]),
            starts=np.array(list(shares), np.int64),
            start_chances=np.array(list(shares.values())),
            actions=self.actions,
        )
        shape = (len(self.pair_list), self.actions, self.model.successors.shape[2])
        following, edges = np.full(shape, -1, np.int64), np.full(shape, -1, np.int64)
        for pair, (state, node) in enumerate(self.pair_list):
            for action in range(self.actions):
                for k, after, seen in self._happens(state, action):
                    edges[pair, action, k] = numbers[node, action, seen]
                    target = self.edges[node][action, seen][0]
                    following[pair, action, k] = self.pairs[after, target] if target >= 0 else -1
        states = np.array([state for state, _ in self.pair_list], np.int64)
        return World(
            clone=clone,
            node=np.array([node for _, node in self.pair_list], np.int64),
            shares=np.array([self._share(*pair) for pair in self.pair_list]),
            following=following,
            edges=edges,
            chances=np.where(edges >= 0, self.model.probabilities[states], 0.0),
            hidden=np.asarray(self.model.hidden, np.float64)[states],
            danger=np.asarray(self.model.danger, np.bool_)[states],
            starts=np.array([pair for pair, _, _ in starts], np.int64),
            start_chances=np.array([chance for _, _, chance in starts]),
        )

    def _share(self, state: int, node: int) -> float:
        if self.expected is not self.model:  # its states have other numbers
            return 1.0 / sum(1 for _, other in self.pair_list if other == node)
        return dict(self.node_list[node][0])[state]

    def _moments(self, rows: list[Any]) -> Moments:
        boards, memories = [], []
        for node, action, seen, *_ in rows:
            memory, first = self.node_list[node][1:]
            before, after = self.shown_by(node), self.boards[seen[0]]
            boards.append((before, after, self.boards[first]))
            memories.append((memory, next_memory(self.scene, memory, before, action, after)))
        return moments(self.scene, boards, (row[1] for row in rows), (0 for _ in rows), memories)


def _belief(states: dict[int, float]) -> Belief:
    total = sum(states.values())
    return tuple(sorted((state, round(share / total, DIGITS)) for state, share in states.items()))


def _scene(model: Any) -> Scene:
    """What all boards of a model have in common."""
    states, actions, outcomes = np.nonzero((model.probabilities > 0) & (model.successors >= 0))
    boards = np.asarray(model.boards)
    return scene_of(boards[states], boards[model.successors[states, actions, outcomes]], boards[model.starts])
