"""What a benchmark runs on: tasks by name, family or suite, each with the cost limits of a protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import saferl.envs
from saferl.command_line import UsageError, unknown
from saferl.envs.registration import SHORT_NAMES
from saferl.envs.tasks import TASKS, Task
from saferl.evaluation.scores import cost_limits

SUITES: dict[str, tuple[str, ...]] = {"dsrl": tuple(TASKS)}

# A name that stands for all tasks whose family begins with the second word.
FAMILIES = {
    "bullet": "bullet_safety_gym",
    "safety_gymnasium": "safety_gymnasium",
    "navigation": "safety_gymnasium_navigation",
    "velocity": "safety_gymnasium_velocity",
    "metadrive": "metadrive",
}


@dataclass(frozen=True)
class LimitProtocol:
    """Limits on an episode's cost; None takes those that DSRL judges a task at, 0 on PointRobot, elsewhere 10."""

    safety_gymnasium: tuple[float, ...] | None
    others: tuple[float, ...] | None


# DSRL (Liu et al., 2023): 20, 40, 80 on Safety-Gymnasium, else 10, 20, 40. FISOR (Zheng et al., 2024): 10, else 5.
PROTOCOLS = {
    "dsrl": LimitProtocol(None, None),
    "fisor": LimitProtocol((10.0,), (5.0,)),
    "hard": LimitProtocol((0.0,), (0.0,)),
}


@dataclass(frozen=True)
class BenchmarkTask:
    """One row of the tables."""

    name: str  # DSRL's short name, or the id without its module
    env: str  # the id to make the environment by
    family: str  # one of DSRL's; "other" for an environment of somebody else's
    limits: tuple[float, ...]  # of an episode's cost, at which policies are judged
    data: str | None  # where the user says that the data lie


def chosen_tasks(
    words: Sequence[str], protocol: str, limits: tuple[float, ...] | None, data: Mapping[str, str | None]
) -> list[BenchmarkTask]:
    """The tasks that words name, in their order, no doubles.

    Args:
        words: DSRL's short names (PointCircle1), its ids, families (bullet), or ids of any environment.
        protocol: key of PROTOCOLS.
        limits: replace the protocol's.
        data: paths by task, named as in ``words``.
    Raises: UsageError for a word that names nothing, or data of a task that is not among them.
    """
    chosen = {saferl.envs.full_id(env): (name, env) for word in words for name, env in _named(word)}
    paths: dict[str, str | None] = {}
    for word, path in data.items():
        for _, env in _named(word):
            if saferl.envs.full_id(env) not in chosen:
                raise UsageError(unknown("task of this benchmark (data)", word, [name for name, _ in chosen.values()]))
            paths[saferl.envs.full_id(env)] = path
    return [
        BenchmarkTask(name, env, _family(full_id), limits or _limits(full_id, PROTOCOLS[protocol]), paths.get(full_id))
        for full_id, (name, env) in chosen.items()
    ]


def _named(word: str) -> list[tuple[str, str]]:
    """(name, env) of each task that a word stands for."""
    if word in FAMILIES or word in FAMILIES.values():
        prefix = FAMILIES.get(word, word)
        return [(task.name, task.env_id) for task in TASKS.values() if task.family.startswith(prefix)]
    by_name: dict[str, Task] = {task.name: task for task in TASKS.values()} | dict(TASKS)
    if word in by_name:
        return [(by_name[word].name, by_name[word].env_id)]
    try:
        saferl.envs.full_id(word)
    except ValueError as error:
        names = [task.name for task in TASKS.values()] + [*FAMILIES, *SHORT_NAMES]
        message = unknown("task", word, names, "tasks=[{}]")
        raise UsageError(message if "Did you mean" in message else f"{message} {error}") from error
    return [(word.rpartition(":")[2], word)]


def _family(env: str) -> str:
    return TASKS[env].family if env in TASKS else "other"


def _limits(env: str, protocol: LimitProtocol) -> tuple[float, ...]:
    limits = protocol.safety_gymnasium if _family(env).startswith("safety_gymnasium") else protocol.others
    return cost_limits(env) if limits is None else limits
