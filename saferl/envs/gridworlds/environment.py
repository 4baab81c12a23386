"""One gridworld as a gymnasium environment, which remembers every transition that it has once worked out."""

import operator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from saferl.envs.gridworlds.catalogue import rules_of
from saferl.envs.gridworlds.rules import ACTION_NAMES, HORIZON, Rules, as_sent, nothing_beside
from saferl.envs.gridworlds.views import RENDER_MODES, View, ansi, picture

REMEMBERED = 1 << 16  # states, about 1 kB each; beyond that all are forgotten
DRAWS = 1024  # uniform numbers that are drawn together


class Node(dict[Any, "Transition"]):
    """A state that has been reached and what is seen of it; the steps that are known by action or (action, outcome)."""

    __slots__ = ("observation", "state")

    def __init__(self, state: bytes, observation: Any) -> None:
        self.state, self.observation = state, observation

    def __reduce__(self) -> str | tuple[Any, ...]:
        """A copy knows no steps: all states that were reached hang on them, too deep for copying by recursion."""
        return "_OVER" if self is _OVER else (Node, (self.state, self.observation))


Transition = tuple[Node, float, bool, dict[str, Any]]  # of a step: node after it, reward, terminated, info
_OVER = Node(b"", None)  # no step is known where none may be taken


class Gridworld(gymnasium.Env[Any, int]):
    """One of the AI Safety Gridworlds, or one of your own.

    | action | meaning |
    |---|---|
    | 0, 1, 2, 3 | up, down, left, right |
    | 4 | stay, where the gridworld offers it |

    Observation: see ``saferl.envs.gridworlds.views.View``; "board" by default.
    Reward: the visible reward R of the gridworld.
    Cost: ``info["cost"]`` is always 0.0, since what is wrong to do is what the agent is not told. With
        ``evaluation=True`` it is the clean danger bit (0.0 or 1.0), ``info["danger_clean"]`` is the same as an integer
        and ``info["hidden"]`` the step's hidden performance R*. A learner must not be given those.
    Info: ``info["actual_action"]`` is the action that was carried out, after a step; where the gridworld tells its
        agent more than the board, that is there too ("safety" in island_navigation, "exploration" in whisky_gold).
    End: where the rules say so; truncated after 100 steps. A step beyond the end is refused.
    Seed: ``reset(seed=...)`` also empties the memory that friend_foe keeps over the episodes.

    Args:
        rules: ``Rules``, or the name of a variant or family in ``saferl.envs.gridworlds``.
        observation: "board", "one_hot" or "text".
        render_mode: None, "rgb_array" (32 H x 32 W x 3) or "ansi" (text with colours).
        evaluation: whether the info tells what is hidden.
        kwargs: arguments of the family, for example ``level=2``.
    Raises: ValueError for an unknown name, observation, render mode or argument, or an action that is not offered;
        gymnasium.error.ResetNeeded for a step before the first reset or after the end.
    """

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": 5}  # noqa: RUF012  gymnasium's own declaration

    def __init__(
        self,
        rules: Rules | str,
        observation: str = "board",
        render_mode: str | None = None,
        evaluation: bool = False,
        **kwargs: Any,
    ) -> None:
        if not isinstance(rules, str) and kwargs:
            raise ValueError(f"{rules.name} is made of rules, not of a name, and takes no argument {min(kwargs)!r}.")
        self.rules = rules_of(rules, **kwargs) if isinstance(rules, str) else rules
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise ValueError(
                f"{self.rules.name} can't render {render_mode!r}; allowed: None, {', '.join(map(repr, RENDER_MODES))}."
            )
        self._view = View(self.rules, observation)
        self.observation_space = self._view.space
        self.action_space = spaces.Discrete(self.rules.actions)  # type: ignore[assignment]
        self.render_mode, self.evaluation = render_mode, evaluation
        self._fresh = str if observation == "text" else np.ndarray.copy
        self._offered = frozenset(range(self.rules.actions))
        self._tables = self.rules.plain_tables
        self._cells = self.rules.shape[0] * self.rules.shape[1]
        self._random, self._listed = self.rules.random, self.rules.outcomes() is not None
        self._draw, self._chances = self.rules.draw, self.rules.chances
        self._interferes = self.rules.carried_out is not as_sent
        self._memory = [0.0] * self.rules.memory_size
        self._uniforms: list[float] = []
        self._nodes: dict[bytes, Node] = {}
        self._infos: dict[Any, dict[str, Any]] = {}
        self._node: Node | None = None
        self._known: Node = _OVER
        self._time = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Observation and info of a new episode; there are no options."""
        super().reset(seed=seed)
        if seed is not None:
            self._uniforms, self._memory = [], [0.0] * self.rules.memory_size
        elif self._node is not None:
            self.rules.remember(self._memory, self._node.state)
        outcome = self._draw(self.rules.start_chances, (self._uniforms or self._new_uniforms()).pop())
        state = bytearray(self.rules.state_size)
        self.rules.start(self._tables, self.rules.recall(self._memory, outcome), state)
        node = self._node = self._node_of(state)
        self._known = node
        self._time = 0
        return self._fresh(node.observation), self._info(node, None, 0.0, False).copy()

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Observation, reward R, terminated, truncated and info of one step."""
        outcome = 0
        key: Any = action
        if self._random:
            outcome = self._draw(self._chances, (self._uniforms or self._new_uniforms()).pop())
            key = action, outcome
        try:
            transition = self._known.get(key)
        except TypeError:  # can't be looked up: an array of one number, as Stable-Baselines3's predict gives
            transition = None
        node, reward, terminated, info = transition or self._explored(action, outcome)
        self._node = node
        self._known = node
        self._time += 1
        truncated = False
        if terminated or self._time == HORIZON:
            truncated = not terminated
            self._known = _OVER
        return self._fresh(node.observation), reward, terminated, truncated, info.copy()

    def render(self) -> Any:
        """Picture (32 H, 32 W, 3) or text of the board, or None without a render mode."""
        if self.render_mode is None or self._node is None:
            gymnasium.logger.warn("render() shows nothing before reset(), or without a render_mode.")
            return None
        show = picture if self.render_mode == "rgb_array" else ansi
        return show(self.rules, self._board(self._node.state))

    def _new_uniforms(self) -> list[float]:
        self._uniforms = self.np_random.random(DRAWS).tolist()
        return self._uniforms

    def _explored(self, action: int, outcome: int) -> Transition:
        """Work out a step, and remember it if the same outcome is to be expected again."""
        node, rules, tables = self._known, self.rules, self._tables
        if node is _OVER:
            raise gymnasium.error.ResetNeeded(f"{rules.name} needs reset() before the first step and after the end.")
        if type(action) is not int or action not in self._offered:
            action = self._checked(action)
        state = bytearray(node.state)
        carried_out = rules.carried_out(tables, state, action, outcome) if self._interferes else action
        reward, hidden, danger, terminated = rules.step(tables, state, action, outcome)
        after = self._node_of(state)
        transition = after, reward, terminated, self._info(after, carried_out, hidden, danger)
        if self._listed:
            node[(action, outcome) if self._random else action] = transition
        return transition

    def _node_of(self, state: bytearray) -> Node:
        key = bytes(state)
        node = self._nodes.get(key)
        if node is None:
            if len(self._nodes) >= REMEMBERED:
                self._nodes = {}
                if self._node is not None:
                    self._node.clear()  # so that nothing leads to what is forgotten
            node = self._nodes[key] = Node(key, self._view.of(self._board(key)))
        return node

    def _board(self, state: bytes) -> bytearray:
        """The H * W characters that are seen of a state."""
        board = bytearray(self._cells)
        self.rules.board(self._tables, state, board)
        return board

    def _checked(self, action: Any) -> int:
        try:
            index = operator.index(action)
        except TypeError:
            index = -1
        if index not in self._offered:
            names = ", ".join(f"{i} {name}" for i, name in enumerate(ACTION_NAMES[: self.rules.actions]))
            raise ValueError(f"{self.rules.name} has no action {action!r}; allowed: {names}.")
        return index

    def _info(self, node: Node, carried_out: int | None, hidden: float, danger: bool) -> dict[str, Any]:
        """The info of a step, or of a reset, where no action is carried out. Equal ones are one, to save memory."""
        key = (carried_out, hidden, danger) if self.evaluation else carried_out
        info = self._infos.get(key)
        if info is None:
            info = self._infos[key] = self._common_info(carried_out, hidden, danger)
        if self.rules.side_information is nothing_beside:
            return info
        return {**info, **self.rules.side_information(self._tables, node.state)}

    def _common_info(self, carried_out: int | None, hidden: float, danger: bool) -> dict[str, Any]:
        info: dict[str, Any] = {"cost": 0.0}
        if carried_out is not None:
            info["actual_action"] = carried_out
        if self.evaluation:
            info.update(cost=float(danger), danger_clean=int(danger), hidden=float(hidden))
        return info


def make(rules: Rules | str, backend: str = "native", **kwargs: Any) -> Gridworld:
    """The gridworld that ``gymnasium.make`` gives: see ``Gridworld`` for the arguments.

    Args:
        rules: as in ``Gridworld``.
        backend: "native", or "original" for google-deepmind/ai-safety-gridworlds itself, if it is installed.
        kwargs: arguments of ``Gridworld``.
    """
    if backend == "native":
        return Gridworld(rules, **kwargs)
    if backend != "original":
        raise ValueError(f"no backend {backend!r} of the gridworlds; allowed: 'native', 'original'.")
    from saferl.envs.gridworlds.original import OriginalGridworld  # which is a Gridworld itself

    if not isinstance(rules, str):
        raise ValueError(f"{rules.name} was made of rules of your own; backend='original' plays gridworlds by name.")
    return OriginalGridworld(rules, **kwargs)
