"""The algorithms: one file each, listed here by hand."""

from saferl.agents.agent import Agent, AgentConfig, BatchSource
from saferl.agents.bc import BC, BCConfig
from saferl.agents.coptidice import COptiDICE, COptiDICEConfig
from saferl.agents.fisor import FISOR, FISORConfig

AGENTS: dict[str, tuple[type, type[Agent]]] = {
    "fisor": (FISORConfig, FISOR),
    "bc": (BCConfig, BC),
    "coptidice": (COptiDICEConfig, COptiDICE),
}

__all__ = [
    "AGENTS",
    "BC",
    "FISOR",
    "Agent",
    "AgentConfig",
    "BCConfig",
    "BatchSource",
    "COptiDICE",
    "COptiDICEConfig",
    "FISORConfig",
]
