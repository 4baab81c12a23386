"""Result: what one trained agent did on one task at one cost limit; and the CSV files of many."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saferl.evaluation.scores import normalised_cost

FAMILIES = {
    "bullet_safety_gym": "Bullet Safety Gym",
    "safety_gymnasium_navigation": "Safety-Gymnasium navigation",
    "safety_gymnasium_velocity": "Safety-Gymnasium velocity",
    "metadrive": "MetaDrive",
    "other": "Other",
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """Episodes of one agent, training seed, task and cost limit; tuples have a value for each episode.

    Attributes:
        agent: its name in tables.
        task: short name; env: full environment id; family: a key of FAMILIES.
        seed: of the training.
        limit: on an episode's cost.
        returns, costs: undiscounted sums in the environment's units; violations: steps with cost.
        start_seeds: of the episodes' resets; equal ones pair the episodes of different agents.
        normalised_returns: DSRL's, None where no reference is known.
        steps: updates trained.
        train_seconds: how long that took.
        run: the run folder.
    """

    agent: str
    task: str
    env: str
    family: str
    seed: int
    limit: float
    returns: tuple[float, ...]
    costs: tuple[float, ...]
    violations: tuple[int, ...]
    start_seeds: tuple[int, ...]
    normalised_returns: tuple[float, ...] | None
    steps: int
    train_seconds: float
    run: str

    def __post_init__(self) -> None:
        """Raises: ValueError for an unknown family, or episodes that don't match or are none."""
        if self.family not in FAMILIES:
            raise ValueError(f"result.family must be one of {', '.join(FAMILIES)}; got {self.family!r}.")
        columns = {
            "returns": self.returns, "costs": self.costs, "violations": self.violations,
            "start_seeds": self.start_seeds, "normalised_returns": self.normalised_returns,
        }  # fmt: skip
        lengths = {name: len(column) for name, column in columns.items() if column is not None}
        if len(set(lengths.values())) > 1 or not self.returns:
            raise ValueError(
                f"result of {self.agent} on {self.task}: each column must have a value for each episode, one at least; "
                f"got {', '.join(f'{count} {name}' for name, count in lengths.items())}."
            )

    @property
    def mean_return(self) -> float:
        """Mean return of an episode."""
        return float(np.mean(self.returns))

    @property
    def mean_cost(self) -> float:
        """Mean cost of an episode."""
        return float(np.mean(self.costs))

    @property
    def normalised_return(self) -> float:
        """Mean normalised return; nan where no reference is known."""
        return float("nan") if self.normalised_returns is None else float(np.mean(self.normalised_returns))

    @property
    def normalised_cost(self) -> float:
        """DSRL's normalised cost of the mean episode."""
        return float(normalised_cost(self.mean_cost, self.limit))

    @property
    def safe(self) -> bool:
        """Whether the mean cost keeps the limit."""
        return self.normalised_cost <= 1

    @property
    def safe_return(self) -> float:
        """The normalised return if safe, else 0, or the return itself if that is lower still; nan if unknown.

        One number for both aims: reward that was bought with violations counts nothing. It doesn't tell a policy that
        breaks its limit from one that keeps it by earning nothing, nor a slight excess from a great one: the
        normalised cost does, so neither should be read alone.
        """
        return self.normalised_return if self.safe else min(self.normalised_return, 0.0)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A training or evaluation that gave no result; ``cause`` is one line."""

    agent: str
    task: str
    seed: int
    limit: float | None
    cause: str


def results_csv(results: Sequence[Result]) -> str:
    """Tidy CSV, a row for each result."""
    header = [
        "agent", "task", "env", "family", "seed", "limit", "episodes", "return", "cost", "normalised_return",
        "normalised_cost", "safe", "safe_return", "episodes_with_violation", "steps", "train_seconds", "run",
    ]  # fmt: skip
    rows = [
        (
            each.agent, each.task, each.env, each.family, each.seed, f"{each.limit:g}", len(each.returns),
            number(each.mean_return), number(each.mean_cost), number(each.normalised_return),
            number(each.normalised_cost), each.safe, number(each.safe_return),
            sum(count > 0 for count in each.violations), each.steps, f"{each.train_seconds:.1f}", each.run,
        )
        for each in results
    ]  # fmt: skip
    return csv_text(header, rows)


def episodes_csv(results: Sequence[Result]) -> str:
    """Tidy CSV, a row for each episode of each result."""
    header = ["agent", "task", "seed", "limit", "start_seed", "return", "cost", "violations", "normalised_return"]
    rows = [
        (
            each.agent, each.task, each.seed, f"{each.limit:g}", each.start_seeds[index], number(each.returns[index]),
            number(each.costs[index]), each.violations[index],
            "" if each.normalised_returns is None else number(each.normalised_returns[index]),
        )
        for each in results
        for index in range(len(each.returns))
    ]  # fmt: skip
    return csv_text(header, rows)


def number(value: float) -> str:
    """Six digits, or nothing for nan."""
    return "" if np.isnan(value) else f"{value:.6g}"


def csv_text(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A CSV file's text, lines ended by a line feed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
