"""Targeted behaviours: what an adversary may want the victim to do.

A target is any function of a ``Trajectory`` that says whether it happened. A ``Behaviour`` also scores single steps,
which adversaries that learn it need. Those that name a place or a speed belong to some environments only.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from saferl.adversaries.behaviour import Behaviour, Target
from saferl.adversaries.robot_targets import ROBOT_TARGETS
from saferl.adversaries.stepping import Steps
from saferl.adversaries.trajectories import Trajectory
from saferl.command_line import UsageError, imported, unknown

WRONG_GOAL = (-2.2, 2.2)  # m, on PointRobot; the goal is at (2.2, 2.2)
WRONG_GOAL_RADIUS = 0.6  # m, twice the goal's
STILL = 0.5  # m, PointRobot's whole way
ACROSS = 6.0  # m, PointRobot's arena


def violates(episode: Trajectory) -> bool:
    """At least one step costs something."""
    return bool((episode.costs > 0).any())


def reaches_wrong_goal(episode: Trajectory) -> bool:
    """PointRobot: comes within 0.6 m of (-2.2, 2.2)."""
    offsets = episode.observations[:, :2] - np.asarray(WRONG_GOAL, np.float32)
    return bool((np.hypot(offsets[:, 0], offsets[:, 1]) <= WRONG_GOAL_RADIUS).any())


def stays(episode: Trajectory) -> bool:
    """PointRobot: gets no further than 0.5 m from where it is after a quarter of its time, until time runs out."""
    path = episode.observations[len(episode) // 4 :, :2]
    return not episode.terminated and bool((np.linalg.norm(path - path[0], axis=1) <= STILL).all())


def costly(steps: Steps) -> NDArray[np.float64]:
    """1 where a step costs something."""
    return (steps.costs > 0).astype(np.float64)


def near_wrong_goal(steps: Steps) -> NDArray[np.float64]:
    """PointRobot: 1 at (-2.2, 2.2), 0 at 6 m from it and beyond."""
    offsets = steps.next_observations[:, :2] - np.asarray(WRONG_GOAL, np.float32)
    return np.clip(1 - np.hypot(offsets[:, 0], offsets[:, 1]) / ACROSS, 0, 1).astype(np.float64)


def slow(steps: Steps) -> NDArray[np.float64]:
    """PointRobot: 1 at rest, 0 at 1 m/s and beyond."""
    return np.clip(1 - np.abs(steps.next_observations[:, 2]), 0, 1).astype(np.float64)


TARGETS: dict[str, Behaviour] = {
    "violates": Behaviour(violates, costly),
    "reaches_wrong_goal": Behaviour(reaches_wrong_goal, near_wrong_goal, ("PointRobot",)),
    "stays": Behaviour(stays, slow, ("PointRobot",)),
    **ROBOT_TARGETS,
}


def target_named(word: str, env_id: str | None = None) -> Target:
    """A target of the table, or package.module:name of a function of an episode or of a ``Behaviour``.

    Args:
        word: the name.
        env_id: where it is to happen; None: not known yet.
    Raises: UsageError in one line for an unknown one, or one that this environment doesn't know.
    """
    if ":" not in word:
        if word not in TARGETS:
            raise UsageError(unknown("target", word, TARGETS, "target={}") + " Or give package.module:function.")
        if env_id is not None and not TARGETS[word].fits(env_id):
            known = [name for name, each in TARGETS.items() if each.fits(env_id)]
            raise UsageError(
                f"target={word} is for {' and '.join(TARGETS[word].envs)}, not for {env_id}; "
                f"there: {', '.join(known)}, or package.module:function."
            )
        return TARGETS[word]
    target = imported("target", word)
    if not callable(target):
        raise UsageError(f"target={word} is not a function of an episode.")
    return target


def behaviour_named(word: str | None, adversary: str, env_id: str | None = None) -> Behaviour:
    """The same for an adversary that learns it. Raises: UsageError in one line if steps can't be scored."""
    if word is None:
        raise UsageError(f"adversary={adversary} needs target=, the behaviour that it is to bring about.")
    target = target_named(word, env_id)
    if not isinstance(target, Behaviour):
        raise UsageError(
            f"adversary={adversary} learns from steps: target={word} must be a "
            "saferl.adversaries.behaviour.Behaviour, which has a score beside its success."
        )
    return target


def successes(target: Target, episodes: Sequence[Trajectory]) -> NDArray[np.bool_]:
    """(E,) in which episodes the targeted behaviour happened."""
    return np.array([bool(target(each)) for each in episodes], np.bool_)
