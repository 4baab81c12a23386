"""The catalogue: every environment id that ``import saferl`` adds to gymnasium, by string entry point."""

from typing import Any

import gymnasium

from saferl.envs import bullet, safety_gymnasium_ids, tasks
from saferl.envs.gridworlds import catalogue as gridworlds

MEDICAL = {"icu_sepsis": "saferl/ICUSepsis-v0", "icu_sepsis_discrete": "saferl/ICUSepsisDiscrete-v0"}

# Short name -> id; anything else that make() takes is an id itself.
SHORT_NAMES = {"point_robot": "saferl/PointRobot-v0", "dubins_car": "saferl/DubinsCar-v0", **MEDICAL, **gridworlds.IDS}

# id -> (gymnasium's robot, its arguments, what is forbidden, arguments of the constraint, steps per episode)
MUJOCO_COSTS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any], int]] = {
    "saferl/HalfCheetahSpeed-v0": ("HalfCheetah-v5", {}, "velocity", {"limit": 2.0, "axes": "x"}, 1000),  # m/s
    "saferl/AntContact-v0": ("Ant-v5", {}, "contact", {"limit": 40.0}, 1000),  # N, 4.5 times its weight
    "saferl/InvertedPendulumTrack-v0": (
        "InvertedPendulum-v5",
        {},
        "joint",
        {"ranges": {"slider": (-0.5, 0.5)}},  # m; the rail ends at 1 m
        1000,
    ),
    "saferl/Walker2dUpright-v0": ("Walker2d-v5", {"terminate_when_unhealthy": False}, "unhealthy", {}, 1000),
}


def register_all() -> None:
    """Register every environment of saferl with gymnasium; no simulator is imported, a second call changes nothing."""
    if "saferl/PointRobot-v0" not in gymnasium.registry:
        gymnasium.register(
            id="saferl/PointRobot-v0",
            entry_point="saferl.envs.point_robot:PointRobot",
            vector_entry_point="saferl.envs.point_robot_batched:BatchedPointRobot",
            max_episode_steps=300,  # 15 s
        )
    if "saferl/DubinsCar-v0" not in gymnasium.registry:
        gymnasium.register(
            id="saferl/DubinsCar-v0",
            entry_point="saferl.envs.dubins_car:DubinsCar",
            max_episode_steps=300,  # 15 s
        )
    for name, env_id in MEDICAL.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(
                id=env_id,
                entry_point="saferl.envs.icu_sepsis.environment:ICUSepsis",
                vector_entry_point="saferl.envs.icu_sepsis.batched:BatchedICUSepsis",
                max_episode_steps=500,  # of 4 h
                kwargs={"discrete": name == "icu_sepsis_discrete"},
            )
    for env_id, (base, kwargs, cost, cost_kwargs, steps) in MUJOCO_COSTS.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(
                id=env_id,
                entry_point="saferl.envs.mujoco_cost:make_with_cost",
                max_episode_steps=steps,
                kwargs={"base": base, "cost": cost, "cost_kwargs": cost_kwargs, **kwargs},
            )
    gridworlds.register()
    safety_gymnasium_ids.register()
    bullet.register()
    tasks.register()
