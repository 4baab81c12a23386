"""The catalogue: every environment id that ``import saferl`` adds to gymnasium, by string entry point."""

import gymnasium

from saferl.envs import bullet, safety_gymnasium_ids, tasks

# Short name -> id; anything else that make() takes is an id itself.
SHORT_NAMES = {"point_robot": "saferl/PointRobot-v0"}


def register_all() -> None:
    """Register every environment of saferl with gymnasium; no simulator is imported, a second call changes nothing."""
    if "saferl/PointRobot-v0" not in gymnasium.registry:
        gymnasium.register(
            id="saferl/PointRobot-v0",
            entry_point="saferl.envs.point_robot:PointRobot",
            vector_entry_point="saferl.envs.point_robot_batched:BatchedPointRobot",
            max_episode_steps=300,  # 15 s
        )
    safety_gymnasium_ids.register()
    bullet.register()
    tasks.register()
