"""FISOR: a policy guided by the largest feasible region of offline data. ``config``, then ``agent``."""

from saferl.agents.fisor.agent import FISOR, Draws
from saferl.agents.fisor.config import FISORConfig

__all__ = ["FISOR", "Draws", "FISORConfig"]
