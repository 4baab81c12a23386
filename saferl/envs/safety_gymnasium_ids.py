"""The catalogue of Safety-Gymnasium ids; registering them imports no simulator.

Every task has three names that make the same environment: ``saferl/SafetyPointGoal1-v0``, Safety-Gymnasium's own
``SafetyPointGoal1-v0``, and ``SafetyPointGoal1Gymnasium-v0``, which DSRL's file names use.
"""

from typing import Any

import gymnasium

ROBOTS = ("Point", "Car", "Doggo", "Racecar", "Ant")

# task -> (levels, steps per episode)
NAVIGATION_TASKS: dict[str, tuple[tuple[int, ...], int]] = {
    "Goal": ((0, 1, 2), 1000),
    "Button": ((0, 1, 2), 1000),
    "Push": ((0, 1, 2), 1000),
    "Circle": ((0, 1, 2), 500),
    "Run": ((0,), 500),
    "Race": ((0, 1, 2), 500),
}

VELOCITY_ROBOTS = ("HalfCheetah", "Hopper", "Swimmer", "Walker2d", "Ant", "Humanoid")
VELOCITY_VERSIONS = (0, 1)
VELOCITY_STEPS = 1000

NAVIGATION_ENTRY_POINT = "saferl.envs.safety_gymnasium:SafetyNavigation"
VELOCITY_ENTRY_POINT = "saferl.envs.safety_gymnasium:SafetyVelocity"


def navigation_ids() -> dict[str, int]:
    """Map each navigation id (``SafetyPointGoal1-v0``) to its steps per episode."""
    return {
        f"Safety{robot}{task}{level}-v0": steps
        for task, (levels, steps) in NAVIGATION_TASKS.items()
        for level in levels
        for robot in ROBOTS
    }


def velocity_ids() -> dict[str, int]:
    """Map each velocity id (``SafetyAntVelocity-v1``) to its steps per episode."""
    return {
        f"Safety{robot}Velocity-v{version}": VELOCITY_STEPS
        for robot in VELOCITY_ROBOTS
        for version in VELOCITY_VERSIONS
    }


def arguments(task_id: str) -> dict[str, Any]:
    """What ``gymnasium.register`` needs to make the Safety-Gymnasium task ``task_id``, its id apart."""
    for entry_point, ids in ((NAVIGATION_ENTRY_POINT, navigation_ids()), (VELOCITY_ENTRY_POINT, velocity_ids())):
        if task_id in ids:
            return {
                "entry_point": entry_point,
                "max_episode_steps": ids[task_id],
                "kwargs": {"task_id": task_id},
            }
    raise ValueError(f"no Safety-Gymnasium task is named {task_id!r}.")


def register() -> None:
    """Register every task under its three names; names that exist already stay as they are."""
    for task_id in [*navigation_ids(), *velocity_ids()]:
        name, version = task_id.split("-")
        settings = arguments(task_id)
        for env_id in (f"saferl/{task_id}", task_id, f"{name}Gymnasium-{version}"):
            if env_id not in gymnasium.registry:
                gymnasium.register(env_id, **settings)
