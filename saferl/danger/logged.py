"""Rules from episodes that were logged, or are played here without any plan: no model of the environment is needed.

    env = DangerSignal(gymnasium.make("saferl/TomatoWatering-v0", observation="text", evaluation=True),
                       CleanBit(), parse_noise("fp", p=0.2))
    print(specification_of(random_episodes(env, 100)).text)

This is what is left where a gridworld is too large for a clone to plan on. What never happened in the log can't be
learnt from it, and no probe tells apart what always happened together.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from saferl.danger.explanation import explanation, independent_steps, pair_numbers
from saferl.danger.literals import OwnLiterals, vocabulary_of
from saferl.danger.moments import moments_of_episodes, scene_of
from saferl.danger.scoring import Priors, Warnings
from saferl.danger.specification import Board, Episode, Specification, Step


def random_episodes(env: gymnasium.Env[Any, Any], count: int, seed: int = 0, repeat: float = 0.5) -> list[Episode]:
    """Episodes of random actions in a gridworld whose observation is text and whose info tells a bit of danger.

    Args:
        env: a ``Gridworld`` with observation="text" in a ``DangerSignal``.
        count: how many.
        seed: of environment and actions.
        repeat: probability that an action is the last one again, which leads farther about.
    Raises: ValueError if the observation is no text, or the info has no "danger".
    """
    generator, episodes = np.random.default_rng(seed), list[Episode]()
    for number in range(count):
        observation, _ = env.reset(seed=seed if number == 0 else None)
        first = now = _board(observation)
        steps, bits, over, terminated, action = list[Step](), list[bool](), False, False, 0
        while not over:
            if not steps or generator.random() >= repeat:
                action = int(generator.integers(env.action_space.n))  # type: ignore[attr-defined]
            observation, reward, terminated, truncated, info = env.step(action)
            if "danger" not in info:
                raise ValueError('the info of a step has no "danger"; put saferl.danger.DangerSignal around env.')
            after = _board(observation)
            steps.append(Step(now, action, after, float(reward), len(steps), first, steps[-1] if steps else None))
            bits.append(info["danger"] == 1)
            now, over = after, bool(terminated or truncated)
        episodes.append(Episode(tuple(steps), bits, bool(terminated)))
    return episodes


def _board(observation: Any) -> Board:
    if not isinstance(observation, str):
        raise ValueError(
            f'episodes need the environment made with observation="text"; got {type(observation).__name__}.'
        )
    return np.array([list(row.encode("ascii")) for row in observation.split("\n")], np.uint8)


def specification_of(
    episodes: Sequence[Episode], priors: Priors | None = None, own: OwnLiterals | None = None
) -> Specification:
    """The rules that explain the warnings of some episodes best.

    Args:
        episodes: with warnings, all a bit a step or all one a whole episode.
        priors: of the rates of warnings; None: the default.
        own: a user's literals.
    Raises: ValueError without any step, or for episodes without warnings.
    """
    told = [episode for episode in episodes if episode.steps]
    if not told or any(episode.warnings is None for episode in told):
        raise ValueError("a specification needs at least one episode, and warnings for each; got none.")
    steps = [step for episode in told for step in episode.steps]
    before, after = np.stack([step.before for step in steps]), np.stack([step.after for step in steps])
    scene = scene_of(before, after, np.stack([episode.steps[0].first for episode in told]))
    seen = moments_of_episodes(scene, told)
    vocabulary = vocabulary_of(seen, own)
    bits = np.concatenate([np.atleast_1d(np.asarray(episode.warnings, np.bool_)) for episode in told])
    number = np.repeat(np.arange(len(told)), [len(episode.steps) for episode in told])
    columns, whole = vocabulary.columns(seen), isinstance(told[0].warnings, (bool, np.bool_))
    if not whole:
        kept = independent_steps(pair_numbers(before, seen.actions), bits)
        columns, bits, number = columns[kept], bits[kept], number[kept]
    warnings = Warnings(columns, bits, number, whole)
    return explanation(warnings, vocabulary, priors or Priors()).specification
