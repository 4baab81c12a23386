"""The algorithms: one file each, listed here by hand."""

from saferl.agents.agent import Agent, AgentConfig

AGENTS: dict[str, tuple[type, type[Agent]]] = {}

__all__ = ["AGENTS", "Agent", "AgentConfig"]
