"""A specification at work: no action is taken that it calls dangerous, in an environment or behind a trained policy.

    shield = Shield(specification, finite_model(rules), rules)
    env = ShieldWrapper(gymnasium.make("saferl/SideEffectsSokoban0-v0"), shield)
    policy = ShieldedPolicy(PPO.load(...), shield)

A one-step model says what each action may lead to; the specification judges those steps as it judges real ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

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


class StepModel(Protocol):
    """A finite model, as ``saferl.envs.gridworlds.finite_model`` gives it; K outcomes of an action, -1 for none."""

    boards: NDArray[np.uint8]  # (S, H, W)
    successors: NDArray[np.integer[Any]]  # (S, A, K)
    probabilities: NDArray[np.floating[Any]]  # (S, A, K)
    rewards: NDArray[np.floating[Any]]  # (S, A, K)


@dataclass(frozen=True, eq=False)
class Past:
    """What a shield remembers of an episode: where it is, and how it came there."""

    states: tuple[int, ...]  # of the model, all that look like the last observation
    first: Board
    last: Step | None  # the step that led here

    @property
    def index(self) -> int:
        """Number of the step that comes next."""
        return 0 if self.last is None else self.last.index + 1


class Shield:
    """Which actions a specification allows, by a one-step model.

    Where several states of the model look alike, an action must be allowed in each of them.

    Args:
        specification: with ``predicts(step) -> bool``.
        model: of the gridworld.
        rules: of the same gridworld.
        observation: "board", "one_hot" or "text", as the environment or policy has it.
        tolerance: an action passes up to this probability of a step that is called dangerous.
    Raises: ValueError for a tolerance outside of [0, 1), or another kind of observation.
    """

    def __init__(
        self, specification: Judge, model: StepModel, rules: Rules, observation: str = "board", tolerance: float = 0.0
    ) -> None:
        if not 0 <= tolerance < 1:
            raise ValueError(f"a shield's tolerance must be >= 0 and below 1; got {tolerance}.")
        self.specification, self.model, self.tolerance = specification, model, tolerance
        self.name, self.actions = rules.name, model.successors.shape[1]
        view = View(rules, observation)
        self._states: dict[Any, list[int]] = {}
        for state, board in enumerate(model.boards):
            self._states.setdefault(_key(view.of(board.tobytes())), []).append(state)

    def begun(self, observation: Any) -> Past:
        """The past of an episode that begins with this observation. Raises: ValueError if the model doesn't know it."""
        states = self._looking_like(observation)
        return Past(states, self.model.boards[states[0]], None)

    def stepped(self, past: Past, action: int, observation: Any) -> Past:
        """The past after one more step. Raises: ValueError for an observation that the model doesn't know."""
        after = self._looking_like(observation)
        reached = {
            int(then): (state, k)
            for state in past.states
            for k, then in enumerate(self.model.successors[state, action])
            if int(then) in after
        }
        states = tuple(reached) or after  # the model may have left out how the environment came there
        state, k = reached.get(states[0], (past.states[0], 0))
        board = self.model.boards[states[0]]
        reward = float(self.model.rewards[state, action, k])
        before = self.model.boards[state]
        return Past(states, past.first, Step(before, action, board, reward, past.index, past.first, past.last))

    def risks(self, past: Past) -> NDArray[np.float64]:
        """(A,) probability that the next step is called dangerous, of the worst state that looks like this one."""
        risks = np.zeros((len(past.states), self.actions))
        for row, state in enumerate(past.states):
            for action in range(self.actions):
                risks[row, action] = sum(
                    float(self.model.probabilities[state, action, k])
                    for k, then in enumerate(self.model.successors[state, action])
                    if then >= 0 and self._calls(past, state, action, k)
                )
        return risks.max(axis=0)

    def _calls(self, past: Past, state: int, action: int, k: int) -> bool:
        after = self.model.boards[self.model.successors[state, action, k]]
        reward = float(self.model.rewards[state, action, k])
        step = Step(self.model.boards[state], action, after, reward, past.index, past.first, past.last)
        return self.specification.predicts(step)

    def choice(self, past: Past, action: int, scores: NDArray[Any] | None = None) -> int:
        """The action that is taken where ``action`` is asked for.

        The same if it is allowed; else the allowed one of the greatest score; where none is allowed, of those with the
        least probability of danger the one asked for, if it is among them, or that of the greatest score.

        Args:
            past: of the episode.
            action: asked for.
            scores: (A,) of the actions; None: the expected rewards of the model.
        """
        risks = self.risks(past)
        allowed = risks <= max(self.tolerance, float(risks.min())) + 1e-12
        if allowed[action]:
            return action
        if scores is None:
            scores = (self.model.rewards * self.model.probabilities)[list(past.states)].sum(axis=2).mean(axis=0)
        return int(np.where(allowed, scores, -np.inf).argmax())

    def _looking_like(self, observation: Any) -> tuple[int, ...]:
        states = self._states.get(_key(observation))
        if states is None:
            raise ValueError(
                f"the shield's model of {self.name} knows no state that looks like this observation; "
                "model, gridworld and kind of observation must be those of the environment."
            )
        return tuple(states)


class ShieldWrapper(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """A gridworld that replaces actions which the specification calls dangerous.

    ``info`` says what was done: ``nominal_action``, that was asked for; ``vetoed``, whether another was taken instead;
    ``vetoes``, how many so far in the episode. A reset gives False and 0.

    Args:
        env: observed as the shield's ``observation`` says.
        shield: of the same gridworld.
    Raises: ValueError if the environment has other actions than the shield's model, or an observation that it doesn't
        know.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], shield: Shield) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, shield=shield)
        gymnasium.Wrapper.__init__(self, env)
        space = env.action_space
        if not isinstance(space, spaces.Discrete) or space.n != shield.actions:
            raise ValueError(f"the shield's model has {shield.actions} actions; the environment's are {space}.")
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
        preference: which allowed action comes next best; None: the one that the model expects most reward of.
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

        Raises: ValueError for an observation that the shield's model doesn't know.
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
