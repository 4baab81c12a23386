"""The algorithms: one file each, listed here by hand."""

from saferl.agents.agent import Agent, AgentConfig
from saferl.agents.fisor import FISOR, FISORConfig

AGENTS: dict[str, tuple[type, type[Agent]]] = {
    "fisor": (FISORConfig, FISOR),
}

__all__ = ["AGENTS", "FISOR", "Agent", "AgentConfig", "FISORConfig"]
