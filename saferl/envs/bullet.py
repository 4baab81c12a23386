"""Bullet-Safety-Gym's eight DSRL tasks on a current gymnasium."""

from typing import Any

import gymnasium

# id of the maker -> steps per episode
BULLET_IDS = {
    "SafetyBallRun-v0": 100,
    "SafetyCarRun-v0": 200,
    "SafetyDroneRun-v0": 200,
    "SafetyAntRun-v0": 200,
    "SafetyBallCircle-v0": 200,
    "SafetyCarCircle-v0": 300,
    "SafetyDroneCircle-v0": 300,
    "SafetyAntCircle-v0": 500,
}


def arguments(task_id: str) -> dict[str, Any]:
    """What ``gymnasium.register`` needs to make the Bullet task ``task_id``, its id apart."""
    return {
        "entry_point": "saferl.envs.bullet:BulletSafety",
        "max_episode_steps": BULLET_IDS[task_id],
        "kwargs": {"task_id": task_id},
    }


def register() -> None:
    """Register the tasks as ``saferl/SafetyCarCircle-v0``: their plain ids look like Safety-Gymnasium's."""
    for task_id in BULLET_IDS:
        if f"saferl/{task_id}" not in gymnasium.registry:
            gymnasium.register(f"saferl/{task_id}", **arguments(task_id))
