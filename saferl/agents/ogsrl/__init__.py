"""OGSRL: guarded constrained policy optimisation in a learned model."""

from saferl.agents.ogsrl.agent import OGSRL
from saferl.agents.ogsrl.config import OGSRLConfig

__all__ = ["OGSRL", "OGSRLConfig"]
