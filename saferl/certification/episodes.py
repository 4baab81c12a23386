"""Episodes of a test, rolled out a block at a time, kept on disk, and gone on with after an interruption."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saferl.evaluation.rollout import Episodes, rollout
from saferl.policy import Policy
from saferl.training.run_folder import read_json, write_json

BLOCK = 64  # episodes of one rollout: what an interruption can cost at most
_COLUMNS = {"seeds": np.int64, "returns": np.float64, "costs": np.float64, "violations": np.int64, "lengths": np.int64}


def rolled_out(
    policy: Policy,
    env_id: str,
    seeds: Sequence[int],
    *,
    keep: Path | None = None,
    num_envs: int | None = None,
    vectorization: str = "sync",
    env_kwargs: dict[str, Any] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Episodes:
    """One whole episode for each seed, as ``rollout`` does it for each block of 64.

    A block depends on nothing but its seeds, so that a test that was interrupted ends with the episodes of one that
    was not.

    Args:
        policy, env_id, num_envs, vectorization, env_kwargs: as of ``rollout``.
        seeds: at least one.
        keep: file of the episodes that are done, read first and written behind each block; None keeps none.
        progress: called with the number of episodes done.
    """
    done = _kept(keep, seeds) if keep is not None else []
    count = sum(map(len, done))
    progress(count)
    while count < len(seeds):
        block = seeds[count : count + BLOCK]
        part = rollout(
            policy, env_id, block, num_envs=num_envs, vectorization=vectorization, env_kwargs=env_kwargs or {}
        )
        done.append(part)
        count += len(part)
        if keep is not None:
            write_json(keep, [episode_facts(each) for each in done])
        progress(count)
    return joined(done)


def episode_facts(episodes: Episodes) -> dict[str, Any]:
    """Plain values for JSON."""
    facts: dict[str, Any] = {name: getattr(episodes, name).tolist() for name in _COLUMNS}
    return {**facts, "successes": None if episodes.successes is None else episodes.successes.tolist()}


def episodes_of(facts: dict[str, Any]) -> Episodes:
    """The opposite of ``episode_facts``."""
    columns: dict[str, Any] = {name: np.asarray(facts[name], dtype) for name, dtype in _COLUMNS.items()}
    successes = facts.get("successes")
    return Episodes(**columns, successes=None if successes is None else np.asarray(successes, np.bool_))


def joined(parts: Sequence[Episodes]) -> Episodes:
    """All episodes of several parts; successes only where every part has them."""
    columns: dict[str, Any] = {name: np.concatenate([getattr(each, name) for each in parts]) for name in _COLUMNS}
    successes = [each.successes for each in parts if each.successes is not None]
    return Episodes(**columns, successes=np.concatenate(successes) if len(successes) == len(parts) else None)


def _kept(path: Path, seeds: Sequence[int]) -> list[Episodes]:
    """The blocks in a file, up to the first whose seeds are not these."""
    if not path.exists():
        return []
    parts, count = [], 0
    for facts in read_json(path):
        part = episodes_of(facts)
        if part.seeds.tolist() != list(seeds[count : count + BLOCK]):
            break
        parts.append(part)
        count += len(part)
    return parts
