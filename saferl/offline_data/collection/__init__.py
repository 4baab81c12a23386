"""Collection of DSRL-style data with real policies: PPO under PID-controlled cost limits, noisy and random ones.

Imported by ``python -m saferl.collect`` only, since it needs Stable-Baselines3.
"""

from saferl.offline_data.collection.config import CollectConfig, PPOConfig
from saferl.offline_data.collection.loop import Progress, collect_stages
from saferl.offline_data.collection.pid import CostLimit, PIDConfig, PIDMultiplier
from saferl.offline_data.collection.policies import KeptActor, RandomPolicy
from saferl.offline_data.collection.ppo_lagrangian import PPOLagrangian
from saferl.offline_data.collection.store import thinned
from saferl.offline_data.collection.writing import Written, collect

__all__ = [
    "CollectConfig",
    "CostLimit",
    "KeptActor",
    "PIDConfig",
    "PIDMultiplier",
    "PPOConfig",
    "PPOLagrangian",
    "Progress",
    "RandomPolicy",
    "Written",
    "collect",
    "collect_stages",
    "thinned",
]
