"""The algorithms: one file each, listed here by hand."""

from saferl.agents.agent import Agent, AgentConfig, BatchSource
from saferl.agents.bc import BC, BCConfig
from saferl.agents.bcq_lag import BCQLag, BCQLagConfig
from saferl.agents.bear_lag import BEARLag, BEARLagConfig
from saferl.agents.caps import CAPS, CAPSConfig
from saferl.agents.carl import CARL, CARLConfig
from saferl.agents.ccac import CCAC, CCACConfig
from saferl.agents.cdt import CDT, CDTConfig
from saferl.agents.coptidice import COptiDICE, COptiDICEConfig
from saferl.agents.cpq import CPQ, CPQConfig
from saferl.agents.cql import CQL, CQLConfig
from saferl.agents.fisor import FISOR, FISORConfig
from saferl.agents.iql_lag import IQLLag, IQLLagConfig
from saferl.agents.o3srl import O3SRL, O3SRLConfig
from saferl.agents.ogsrl import OGSRL, OGSRLConfig

AGENTS: dict[str, tuple[type, type[Agent]]] = {
    "fisor": (FISORConfig, FISOR),
    "bc": (BCConfig, BC),
    "bcq_lag": (BCQLagConfig, BCQLag),
    "bear_lag": (BEARLagConfig, BEARLag),
    "cpq": (CPQConfig, CPQ),
    "cdt": (CDTConfig, CDT),
    "coptidice": (COptiDICEConfig, COptiDICE),
    "cql": (CQLConfig, CQL),
    "iql_lag": (IQLLagConfig, IQLLag),
    "caps": (CAPSConfig, CAPS),
    "carl": (CARLConfig, CARL),
    "o3srl": (O3SRLConfig, O3SRL),
    "ccac": (CCACConfig, CCAC),
    "ogsrl": (OGSRLConfig, OGSRL),
}

__all__ = [
    "AGENTS",
    "BC",
    "CAPS",
    "CARL",
    "CCAC",
    "CDT",
    "CPQ",
    "CQL",
    "FISOR",
    "O3SRL",
    "OGSRL",
    "Agent",
    "AgentConfig",
    "BCConfig",
    "BCQLag",
    "BCQLagConfig",
    "BEARLag",
    "BEARLagConfig",
    "BatchSource",
    "CAPSConfig",
    "CARLConfig",
    "CCACConfig",
    "CDTConfig",
    "COptiDICE",
    "COptiDICEConfig",
    "CPQConfig",
    "CQLConfig",
    "FISORConfig",
    "IQLLag",
    "IQLLagConfig",
    "O3SRLConfig",
    "OGSRLConfig",
]
