"""The algorithms: one file each, listed here by hand."""

from saferl.agents.agent import Agent, AgentConfig, BatchSource
from saferl.agents.bc import BC, BCConfig
from saferl.agents.carl import CARL, CARLConfig
from saferl.agents.ccac import CCAC, CCACConfig
from saferl.agents.coptidice import COptiDICE, COptiDICEConfig
from saferl.agents.cql import CQL, CQLConfig
from saferl.agents.fisor import FISOR, FISORConfig
from saferl.agents.o3srl import O3SRL, O3SRLConfig

AGENTS: dict[str, tuple[type, type[Agent]]] = {
    "fisor": (FISORConfig, FISOR),
    "bc": (BCConfig, BC),
    "coptidice": (COptiDICEConfig, COptiDICE),
    "cql": (CQLConfig, CQL),
    "carl": (CARLConfig, CARL),
    "o3srl": (O3SRLConfig, O3SRL),
    "ccac": (CCACConfig, CCAC),
}

__all__ = [
    "AGENTS",
    "BC",
    "CARL",
    "CCAC",
    "CQL",
    "FISOR",
    "O3SRL",
    "Agent",
    "AgentConfig",
    "BCConfig",
    "BatchSource",
    "CARLConfig",
    "CCACConfig",
    "COptiDICE",
    "COptiDICEConfig",
    "CQLConfig",
    "FISORConfig",
    "O3SRLConfig",
]
