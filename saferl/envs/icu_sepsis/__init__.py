"""ICU-Sepsis: treating sepsis in an intensive care unit, a medical MDP with exact answers."""

from saferl.envs.icu_sepsis.environment import ICUSepsis, action_indices
from saferl.envs.icu_sepsis.model import SepsisModel, Value, finite_model
from saferl.envs.icu_sepsis.optimum import Optimum, optimum

__all__ = ["ICUSepsis", "Optimum", "SepsisModel", "Value", "action_indices", "finite_model", "optimum"]
