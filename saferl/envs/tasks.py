"""The 38 tasks of DSRL: environment, data file and reference returns in one table.

The table is ``dsrl_tasks.csv`` beside this file. Source: DSRL (Liu et al., 2023, "Datasets and Benchmarks for Offline
Safe Reinforcement Learning"), its published reference returns, file names and cost limits.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import gymnasium

from saferl.envs import bullet, safety_gymnasium_ids
from saferl.envs.errors import MissingPackageError


@dataclass(frozen=True, kw_only=True)
class Task:
    """One DSRL task.

    Attributes:
        env_id: DSRL's id, which names the environment and its data set (``OfflinePointCircle1Gymnasium-v0``).
        name: short name (``PointCircle1``).
        family: ``bullet_safety_gym``, ``safety_gymnasium_navigation``, ``safety_gymnasium_velocity`` or ``metadrive``.
        dataset_file: file name of the data set at DSRL's location.
        n_trajectories: episodes in that file.
        horizon: steps per episode.
        obs_dim: entries of an observation.
        act_dim: entries of an action.
        min_return: least episode return in the data, the 0 of the normalised return.
        max_return: greatest episode return in the data, the 1 of the normalised return.
        max_cost: greatest episode cost in the data.
        cost_limits: limits on the episode cost that DSRL evaluates at.
    """

    env_id: str
    name: str
    family: str
    dataset_file: str
    n_trajectories: int
    horizon: int
    obs_dim: int
    act_dim: int
    min_return: float
    max_return: float
    max_cost: float
    cost_limits: tuple[float, ...]

    @property
    def simulator_id(self) -> str:
        """The id of the same environment at its maker (``SafetyPointCircle1-v0``)."""
        return self.env_id.replace("Offline", "Safety", 1).replace("Gymnasium", "")


def _task(row: dict[str, str]) -> Task:
    return Task(
        env_id=row["env_id"],
        name=row["name"],
        family=row["family"],
        dataset_file=row["dataset_file"],
        n_trajectories=int(row["n_trajectories"]),
        horizon=int(row["horizon"]),
        obs_dim=int(row["obs_dim"]),
        act_dim=int(row["act_dim"]),
        min_return=float(row["min_episode_reward"]),
        max_return=float(row["max_episode_reward"]),
        max_cost=float(row["max_episode_cost"]),
        cost_limits=tuple(float(limit) for limit in row["paper_cost_limits"].split(";")),
    )


def _read_table() -> dict[str, Task]:
    with (Path(__file__).parent / "dsrl_tasks.csv").open(newline="", encoding="utf-8") as file:
        return {row["env_id"]: _task(row) for row in csv.DictReader(file)}


TASKS: dict[str, Task] = _read_table()


def find_task(env_id: str) -> Task | None:
    """The DSRL task with this id; None for an id that is not one of DSRL's."""
    return TASKS.get(env_id)


def refuse_metadrive(task: str, **kwargs: Any) -> NoReturn:
    """Entry point of the MetaDrive ids.

    Raises: MissingPackageError, always: MetaDrive fetches its assets from the network at its first start, so that
    saferl can't make its environments reproducibly.
    """
    raise MissingPackageError(
        f"{task} needs the MetaDrive simulator (package metadrive-simulator and the assets that it downloads at its "
        "first start), which saferl does not run; its data set can be trained on all the same."
    )


def register() -> None:
    """Register the 38 ids of DSRL with gymnasium; no simulator is imported."""
    for task in TASKS.values():
        if task.env_id in gymnasium.registry:
            continue
        if task.family == "metadrive":
            settings: dict[str, Any] = {
                "entry_point": "saferl.envs.tasks:refuse_metadrive",
                "kwargs": {"task": task.env_id},
            }
        elif task.family == "bullet_safety_gym":
            settings = bullet.arguments(task.simulator_id)
        else:
            settings = safety_gymnasium_ids.arguments(task.simulator_id)
        gymnasium.register(task.env_id, **settings)
