"""Published scores of the field's methods, each with the table it comes from."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# Names of our agents in the papers' tables. A preset that is a method's small version is compared with the method.
ALGORITHMS = {
    "bc": "BC", "bc_safe": "BC-Safe", "bcq_lag": "BCQ-Lag", "bear_lag": "BEAR-Lag", "cpq": "CPQ",
    "caps": "CAPS-IQL-2h", "coptidice": "COptiDICE", "cdt": "CDT", "cdt_small": "CDT", "fisor": "FISOR",
    "fisor_small": "FISOR", "ccac": "CCAC",
}  # fmt: skip


@dataclass(frozen=True)
class Published:
    """One published score."""

    source: str
    protocol: str
    env: str
    algorithm: str
    limits: str
    normalised_return: float
    normalised_cost: float


@cache
def published_scores() -> tuple[Published, ...]:
    """All of them, as their tables print them."""
    with (Path(__file__).parent / "published_results.csv").open(encoding="utf-8", newline="") as file:
        return tuple(
            Published(
                row["source"], row["protocol"], row["env_id"], row["algorithm"], row["cost_limits"],
                float(row["norm_reward"]), float(row["norm_cost"]),
            )
            for row in csv.DictReader(file)
        )  # fmt: skip


def published_for(agent: str, env: str) -> list[Published]:
    """What papers print for an agent's method on an environment; empty where nothing is known."""
    algorithm = ALGORITHMS.get(agent)
    return [each for each in published_scores() if each.env == env and each.algorithm == algorithm]
