"""Published scores of the field's methods, each with the table it comes from."""

import csv
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# Names of our agents in the papers' tables. A preset that is a method's small version is compared with the method.
ALGORITHMS = {
    "bc": "BC", "bc_safe": "BC-Safe", "bcq_lag": "BCQ-Lag", "bear_lag": "BEAR-Lag", "cpq": "CPQ",
    "caps": "CAPS-IQL-2h", "coptidice": "COptiDICE", "cdt": "CDT", "cdt_small": "CDT", "fisor": "FISOR",
    "fisor_small": "FISOR", "ccac": "CCAC", "trebi": "TREBI",
}  # fmt: skip


@dataclass(frozen=True)
class Published:
    """One published score, a mean over cost limits, seeds and episodes."""

    source: str  # paper and table
    protocol: str
    env: str  # DSRL's id
    algorithm: str
    limits: tuple[float, ...]  # on an episode's cost, that the score averages over
    normalised_return: float
    normalised_cost: float

    def __str__(self) -> str:
        return f"{self.normalised_return:.2f} / {self.normalised_cost:.2f}"


@cache
def published_scores() -> tuple[Published, ...]:
    """All of them, as their tables print them."""
    with (Path(__file__).parent / "published_results.csv").open(encoding="utf-8", newline="") as file:
        return tuple(
            Published(
                row["source"], row["protocol"], row["env_id"], row["algorithm"],
                tuple(float(limit) for limit in row["cost_limits"].split(";")),
                float(row["norm_reward"]), float(row["norm_cost"]),
            )
            for row in csv.DictReader(file)
        )  # fmt: skip


def published(env: str, algorithm: str) -> list[Published]:
    """What papers print for an algorithm (their name of it) on an environment; empty where nothing is known."""
    return [each for each in published_scores() if (each.env, each.algorithm) == (env, algorithm)]


def published_for(agent: str, env: str) -> list[Published]:
    """The same for one of our agents; of a name with settings, ``cpq (actor_lr=1e-3)``, the first word counts."""
    words = re.findall(r"\w+", agent)
    algorithm = ALGORITHMS.get(words[0]) if words else None
    return [] if algorithm is None else published(env, algorithm)
