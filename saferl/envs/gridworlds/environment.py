"""One gridworld as a gymnasium environment, which remembers every transition that it has once worked out."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from saferl.envs.gridworlds.catalogue import rules_of
from saferl.envs.gridworlds.rules import ACTION_NAMES, HORIZON, Rules
from saferl.envs.gridworlds.views import RENDER_MODES, View, ansi, picture

REMEMBERED = 1 << 15  # states, about 1 kB each; beyond that all are forgotten
DRAWS = 1024  # uniform numbers that are drawn together

Observation = NDArray[np.uint8] | str


class _Node:
    """A state that has been reached, what is seen of it, and what is known of its steps."""

    __slots__ = ("board", "known", "observation", "state")

    def __init__(self, state: bytes, board: bytes, observation: Any) -> None:
        self.state, self.board, self.observation = state, board, observation
        # action, or (action, outcome) -> node after it, reward, terminated, info
        self.known: dict[Any, tuple[_Node, float, bool, dict[str, Any]]] = {}


_OVER: dict[Any, Any] = {}  # what is known where no step may be taken


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
        self._random, self._listed = self.rules.random, self.rules.outcomes() is not None
        self._memory = [0.0] * self.rules.memory_size
        self._draws: list[float] = []
        self._nodes: dict[bytes, _Node] = {}
        self._infos: dict[Any, dict[str, Any]] = {}
        self._node: _Node | None = None
        self._known = _OVER
        self._time = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Observation and info of a new episode; there are no options."""
        super().reset(seed=seed)
        if seed is not None:
            self._draws, self._memory = [], [0.0] * self.rules.memory_size
        elif self._node is not None:
            self.rules.remember(self._memory, self._node.state)
        outcome = self.rules.draw(self.rules.start_chances, self._uniform())
        state = bytearray(self.rules.state_size)
        self.rules.start(self._tables, self.rules.recall(self._memory, outcome), state)
        node = self._node = self._nodes.get(bytes(state)) or self._new_node(state)
        self._known = node.known
        self._time = 0
        return self._fresh(node.observation), self._info(node, 0.0, False, None).copy()

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Observation, reward R, terminated, truncated and info of one step."""
        if self._random:
            key = (action, self.rules.draw(self.rules.chances, self._uniform()))
            transition = self._known.get(key)
            if transition is None:
                transition = self._explored(*key)
        else:
            transition = self._known.get(action)
            if transition is None:
                transition = self._explored(action, 0)
        node, reward, terminated, info = transition
        self._node = node
        self._known = node.known
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
        return show(self.rules, self._node.board)

    def _uniform(self) -> float:
        if not self._draws:
            self._draws = self.np_random.random(DRAWS).tolist()
        return self._draws.pop()

    def _explored(self, action: int, outcome: int) -> tuple[_Node, float, bool, dict[str, Any]]:
        """Work out a step, and remember it if the same outcome is to be expected again."""
        node, rules, tables = self._node, self.rules, self._tables
        if node is None or self._known is _OVER:
            raise gymnasium.error.ResetNeeded(f"{rules.name} needs reset() before the first step and after the end.")
        if action not in self._offered:
            names = ", ".join(f"{i} {name}" for i, name in enumerate(ACTION_NAMES[: rules.actions]))
            raise ValueError(f"{rules.name} has no action {action!r}; allowed: {names}.")
        action, state = int(action), bytearray(node.state)
        carried_out = rules.carried_out(tables, state, action, outcome)
        reward, hidden, danger, terminated = rules.step(tables, state, action, outcome)
        after = self._nodes.get(bytes(state)) or self._new_node(state)
        info = self._info(after, hidden, danger, carried_out)
        transition = after, reward, terminated, info
        if self._listed:
            node.known[(action, outcome) if self._random else action] = transition
        return transition

    def _new_node(self, state: bytearray) -> _Node:
        if len(self._nodes) >= REMEMBERED:
            self._nodes = {}
            if self._node is not None:
                self._node.known.clear()  # so that nothing leads to what is forgotten
        board = bytearray(self.rules.shape[0] * self.rules.shape[1])
        self.rules.board(self._tables, state, board)
        key, seen = bytes(state), bytes(board)
        node = self._nodes[key] = _Node(key, seen, self._view.of(seen))
        return node

    def _info(self, node: _Node, hidden: float, danger: bool, carried_out: int | None) -> dict[str, Any]:
        """The info of a step, or of a reset, which carries no action out; equal ones are one object, to save memory."""
        key = (carried_out, hidden, danger) if self.evaluation else carried_out
        if key not in self._infos:
            info: dict[str, Any] = {"cost": 0.0}
            if carried_out is not None:
                info["actual_action"] = carried_out
            if self.evaluation:
                info.update(cost=float(danger), danger_clean=int(danger), hidden=float(hidden))
            self._infos[key] = info
        info = self._infos[key]
        beside = self.rules.side_information(self._tables, node.state)
        return {**info, **beside} if beside else info


def make(rules: Rules | str, backend: str = "native", **kwargs: Any) -> Gridworld:
    """The gridworld that ``gymnasium.make`` gives: see ``Gridworld`` for the arguments.

    Args:
        rules: as in ``Gridworld``.
        backend: "native", or "original" for google-deepmind/ai-safety-gridworlds itself, if it is installed.
        kwargs: arguments of ``Gridworld``.
    """
    if backend == "native":
        return Gridworld(rules, **kwargs)
    raise ValueError(f"no backend {backend!r} of the gridworlds; allowed: 'native', 'original'.")
