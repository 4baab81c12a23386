"""A specification at work: no action is taken that it calls dangerous, in an environment or behind a trained policy.

    shield = Shield(specification, GRIDWORLDS["side_effects_sokoban_0"])
    env = ShieldWrapper(gymnasium.make("saferl/SideEffectsSokoban0-v0"), shield)
    policy = ShieldedPolicy(PPO.load(...), shield)

The rules of the gridworld say what each action may lead to; the specification judges those steps as if they were made.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from saferl.danger.specification import Board, Step
from saferl.envs.gridworlds.rules import Rules
from saferl.envs.gridworlds.views import View
from saferl.policy import FeedbackPolicy, Policy, as_policy

Preference = Callable[[NDArray[Any]], NDArray[Any]]  # observations (B, ...) -> scores (B, A), higher is better


class Judge(Protocol):
    """What a specification is to a shield."""

    def predicts(self, step: Step) -> bool:
        """Whether it calls the step dangerous."""


class _Outcome(NamedTuple):
    """What an action may lead to."""

    chance: float
    state: bytes
    reward: float


@dataclass(frozen=True, eq=False)
class Past:
    """What a shield remembers of an episode: where it may be, and how it came there.

    Attributes:
        states: of the rules, all that fit what was seen.
        board: (H, W) of the last observation.
        first: (H, W) of the first one.
        last: the step that led here; None at the start.
    """

    states: tuple[bytes, ...]
    board: Board
    first: Board
    last: Step | None

    @property
    def index(self) -> int:
        """Number of the step that comes next."""
        return 0 if self.last is None else self.last.index + 1


class Shield:
    """Which actions a specification allows, one step ahead.

    It knows no more than an agent may see: where several states fit the observations so far (nobody sees whether an
    episode will be interrupted), an action must be allowed in each of them. States are worked out as they are come to,
    so that a gridworld of any size can be shielded.

    Args:
        specification: with ``predicts(step) -> bool``.
        rules: of the gridworld.
        observation: "board", "one_hot" or "text", as the environment or policy has it.
        tolerance: an action passes up to this probability of a step that is called dangerous.
    Raises: ValueError for a gridworld whose outcomes can't be listed, a tolerance outside of [0, 1), or another kind of
        observation.
    """

    def __init__(self, specification: Judge, rules: Rules, observation: str = "board", tolerance: float = 0.0) -> None:
        if not 0 <= tolerance < 1:
            raise ValueError(f"a shield's tolerance must be >= 0 and below 1; got {tolerance}.")
        starts, outcomes = rules.starts(), rules.outcomes()
        if starts is None or outcomes is None:
            raise ValueError(f"{rules.name} can't be shielded: the outcomes of a step are too many to list.")
        self.specification, self.rules, self.tolerance = specification, rules, tolerance
        self.actions = rules.actions
        self._view, self._tables, self._chances = View(rules, observation), rules.plain_tables, outcomes
        self._seen: dict[bytes, tuple[Any, Board]] = {}  # by state: key of the observation, board
        self._known: dict[tuple[bytes, int], list[_Outcome]] = {}
        self._starts = []
        for outcome, _ in starts:
            state = [0] * rules.state_size
            rules.start(self._tables, outcome, state)
            self._starts.append(bytes(state))

    def begun(self, observation: Any) -> Past:
        """The past of an episode that begins with this observation. Raises: ValueError if no episode does."""
        states = tuple(state for state in self._starts if self._shown(state)[0] == _key(observation))
        if not states:
            raise self._unknown("no episode begins with this observation")
        board = self._shown(states[0])[1]
        return Past(states, board, board, None)

    def stepped(self, past: Past, action: int, observation: Any) -> Past:
        """The past after one more step. Raises: ValueError for an observation that the action can't lead to."""
        key = _key(observation)
        reached = {
            outcome.state: outcome.reward
            for state in past.states
            for outcome in self._outcomes(state, action)
            if self._shown(outcome.state)[0] == key
        }
        if not reached:
            raise self._unknown(f"action {action} can't have led to this observation")
        states = tuple(reached)
        board = self._shown(states[0])[1]
        step = Step(past.board, action, board, reached[states[0]], past.index, past.first, past.last)
        return Past(states, board, past.first, step)

    def risks(self, past: Past) -> NDArray[np.float64]:
        """(A,) probability that the next step is called dangerous, in the worst state that fits the observations."""
        risks = [
            [
                sum(outcome.chance for outcome in self._outcomes(state, action) if self._calls(past, action, outcome))
                for action in range(self.actions)
            ]
            for state in past.states
        ]
        return np.max(risks, axis=0)

    def choice(self, past: Past, action: int, scores: NDArray[Any] | None = None) -> int:
        """The action that is taken where ``action`` is asked for.

        The same if it is allowed; else the allowed one of the greatest score. Where none is allowed, those with the
        least probability of danger count as allowed.

        Args:
            past: of the episode.
            action: asked for.
            scores: (A,) of the actions; None: the expected rewards.
        """
        risks = self.risks(past)
        allowed = risks <= max(self.tolerance, float(risks.min())) + 1e-12
        if allowed[action]:
            return action
        if scores is None:
            paid = [
                [sum(each.chance * each.reward for each in self._outcomes(state, other)) for other in range(len(risks))]
                for state in past.states
            ]
            scores = np.mean(paid, axis=0)
        return int(np.where(allowed, scores, -np.inf).argmax())

    def _calls(self, past: Past, action: int, outcome: _Outcome) -> bool:
        after = self._shown(outcome.state)[1]
        step = Step(past.board, action, after, outcome.reward, past.index, past.first, past.last)
        return self.specification.predicts(step)

    def _outcomes(self, state: bytes, action: int) -> list[_Outcome]:
        found = self._known.get((state, action))
        if found is None:
            found = self._known[state, action] = []
            for outcome, chance in self._chances:
                after = list(state)
                reward, _, _, _ = self.rules.step(self._tables, after, action, outcome)
                found.append(_Outcome(chance, bytes(after), float(reward)))
        return found

    def _shown(self, state: bytes) -> tuple[Any, Board]:
        seen = self._seen.get(state)
        if seen is None:
            height, width = self.rules.shape
            cells = [0] * (height * width)
            self.rules.board(self._tables, list(state), cells)
            board = np.array(cells, np.uint8).reshape(height, width)
            seen = self._seen[state] = (_key(self._view.of(bytes(cells))), board)
        return seen

    def _unknown(self, what: str) -> ValueError:
        return ValueError(
            f"the shield of {self.rules.name} is lost, {what}; "
            "gridworld and kind of observation must be those of the environment, and every step be told."
        )


class ShieldWrapper(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """A gridworld that replaces actions which the specification calls dangerous.

    ``info`` says what was done: ``nominal_action``, that was asked for; ``vetoed``, whether another was taken instead;
    ``vetoes``, how many so far in the episode. A reset gives False and 0.

    Args:
        env: observed as the shield's ``observation`` says.
        shield: of the same gridworld.
    Raises: ValueError if the environment has other actions than the shield's gridworld, or observations that can't be.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], shield: Shield) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, shield=shield)
        gymnasium.Wrapper.__init__(self, env)
        space = env.action_space
        if not isinstance(space, spaces.Discrete) or space.n != shield.actions:
            raise ValueError(f"the shield's gridworld has {shield.actions} actions; the environment's are {space}.")
        self.shield, self.vetoes = shield, 0
        self._past: Past | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment and the count of vetoes."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._past, self.vetoes = self.shield.begun(observation), 0
        return observation, {**info, "vetoed": False, "vetoes": 0}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step with the action that the shield takes."""
        if self._past is None:
            raise gymnasium.error.ResetNeeded("a shielded environment needs reset() before the first step.")
        nominal = int(action)
        taken = self.shield.choice(self._past, nominal)
        vetoed = taken != nominal
        self.vetoes += vetoed
        observation, reward, terminated, truncated, info = self.env.step(taken if vetoed else action)
        self._past = self.shield.stepped(self._past, taken, observation)
        report = {"nominal_action": nominal, "vetoed": vetoed, "vetoes": self.vetoes}
        return observation, reward, terminated, truncated, {**info, **report}


class ShieldedPolicy:
    """A policy of a gridworld behind a shield.

    It follows B episodes by what ``act`` is given: ``reset(mask)`` must tell it where one begins.

    Args:
        policy: a Policy, an SB3 model or a function of observations, with actions 0 to A - 1.
        shield: its ``observation`` is what the policy sees.
        preference: which allowed action comes next best; None: the one of most expected reward.
    Attributes:
        vetoed: (B,) bool, whether the last call of ``act`` replaced each row's action.
        vetoes: (B,) int, how many actions of each row were replaced since it was reset.
    """

    def __init__(self, policy: Any, shield: Shield, preference: Preference | None = None) -> None:
        self.policy: Policy = as_policy(policy)
        self.shield, self.preference = shield, preference
        self.vetoed, self.vetoes = np.zeros(0, np.bool_), np.zeros(0, np.int64)
        self._pasts: list[Past | None] = []
        self._taken: list[int] = []

    def act(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """Actions (B, 1) for observations (B, ...).

        Raises: ValueError for an observation that the last action can't have led to.
        """
        nominal = np.asarray(self.policy.act(observations)).reshape(len(observations)).astype(np.int64)
        if len(self._pasts) != len(nominal):
            self._pasts, self._taken = [None] * len(nominal), [0] * len(nominal)
            self.vetoes = np.zeros(len(nominal), np.int64)
        scores = None if self.preference is None else np.asarray(self.preference(observations))
        for row, observation in enumerate(observations):
            past = self._pasts[row]
            if past is None:
                now = self.shield.begun(observation)
            else:
                now = self.shield.stepped(past, self._taken[row], observation)
            self._pasts[row] = now
            self._taken[row] = self.shield.choice(now, int(nominal[row]), None if scores is None else scores[row])
        self.vetoed = np.array(self._taken) != nominal
        self.vetoes = self.vetoes + self.vetoed
        return np.array(self._taken, np.float32)[:, None]

    def reset(self, mask: NDArray[np.bool_] | None = None, seed: int | None = None) -> None:
        """Reset the policy, and forget the episodes of the rows where ``mask`` (B,) is true (all if None)."""
        if mask is None or len(mask) != len(self._pasts):
            self._pasts, self._taken, self.vetoes = [], [], np.zeros(0, np.int64)
        else:
            self._pasts = [None if ended else past for ended, past in zip(mask, self._pasts)]
            self.vetoes = np.where(mask, 0, self.vetoes)
        self.policy.reset(mask, seed)

    def observe(self, rewards: NDArray[np.float64], costs: NDArray[np.float64]) -> None:
        """Rewards and costs, (B,) each, of the last step, for a policy that wants to see them."""
        if isinstance(self.policy, FeedbackPolicy):
            self.policy.observe(rewards, costs)


def sb3_preference(model: Any) -> Preference:
    """The scores that a Stable-Baselines3 model gives actions: probabilities of PPO and A2C, Q of DQN.

    Raises: ValueError for a model without discrete actions, or of another kind.
    """
    import torch

    policy = model.policy
    if not isinstance(model.action_space, spaces.Discrete):
        raise ValueError(f"sb3_preference needs discrete actions; got {model.action_space}.")
    if not (hasattr(policy, "get_distribution") or hasattr(policy, "q_net")):
        raise ValueError(f"sb3_preference knows PPO, A2C and DQN; got {type(model).__name__}.")

    def scores(observations: NDArray[Any]) -> NDArray[Any]:
        with torch.no_grad():
            tensors, _ = policy.obs_to_tensor(observations)
            if hasattr(policy, "q_net"):
                return np.asarray(policy.q_net(tensors).cpu())
            return np.asarray(policy.get_distribution(tensors).distribution.probs.cpu())

    return scores


def _key(observation: Any) -> Any:
    return observation if isinstance(observation, str) else np.asarray(observation, np.uint8).tobytes()
