"""The benchmark's main table, as Markdown and LaTeX, and the grouping of results that tables and pictures share."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from saferl.evaluation.benchmark.results import FAMILIES, Result

LEGEND = (
    "Normalised return / normalised cost, means over seeds and limits; safe is a cost of at most 1. "
    "Bold: the best safe return of the task; unsafe cells are marked."
)


@dataclass(frozen=True)
class Cell:
    """An agent on a task: means over seeds and limits (every run weighs the same)."""

    normalised_return: float
    normalised_cost: float
    safe_share: float  # of the runs, those that keep their limit
    runs: int

    @property
    def safe(self) -> bool:
        """Whether the mean normalised cost is at most 1."""
        return self.normalised_cost <= 1

    def __str__(self) -> str:
        return f"{self.normalised_return:.2f} / {self.normalised_cost:.2f}"


def cell_of(results: Iterable[Result]) -> Cell | None:
    """The cell of these results, None if there are none."""
    chosen = list(results)
    if not chosen:
        return None
    return Cell(
        float(np.mean([each.normalised_return for each in chosen])),
        float(np.mean([each.normalised_cost for each in chosen])),
        float(np.mean([each.safe for each in chosen])),
        len(chosen),
    )


def mean_cell(cells: Sequence[Cell]) -> Cell | None:
    """Mean of tasks' cells, each task weighing the same."""
    if not cells:
        return None
    gain, cost, share = np.mean(
        [(c.normalised_return, c.normalised_cost, c.safe_share) for c in cells], axis=0
    ).tolist()
    return Cell(gain, cost, share, sum(each.runs for each in cells))


@dataclass(frozen=True)
class MainTable:
    """Agents by tasks, tasks in the order of their families, each family followed by its mean."""

    agents: tuple[str, ...]
    columns: tuple[str, ...]  # tasks and means
    cells: dict[tuple[str, str], Cell]  # (agent, column)
    means: frozenset[str]  # columns that are means

    def best(self, column: str) -> str | None:
        """The agent with the greatest return among the safe ones; None if none is safe."""
        safe = {
            agent: cell.normalised_return
            for agent in self.agents
            if (cell := self.cells.get((agent, column))) and cell.safe
        }
        return max(safe, key=lambda agent: safe[agent]) if safe else None


def main_table(results: Sequence[Result]) -> MainTable:
    """The table over all results."""
    agents = tuple(dict.fromkeys(each.agent for each in results))
    columns: list[str] = []
    cells: dict[tuple[str, str], Cell] = {}
    means: set[str] = set()
    for family, title in FAMILIES.items():
        tasks = list(dict.fromkeys(each.task for each in results if each.family == family))
        for agent in agents:
            found: list[Cell] = []
            for task in tasks:
                cell = cell_of(each for each in results if (each.agent, each.task) == (agent, task))
                if cell is not None:
                    cells[agent, task] = cell
                    found.append(cell)
            mean = mean_cell(found)
            if (
                len(tasks) > 1 and mean is not None and len(found) == len(tasks)
            ):  # a mean of other tasks compares nothing
                cells[agent, f"{title} mean"] = mean
        columns += tasks
        if len(tasks) > 1:
            columns.append(f"{title} mean")
            means.add(f"{title} mean")
    return MainTable(agents, tuple(columns), cells, frozenset(means))


def caption(results: Sequence[Result]) -> str:
    """What the table averages over."""
    seeds = sorted({each.seed for each in results})
    episodes = sorted({len(each.returns) for each in results})
    limits = sorted({each.limit for each in results})
    steps = sorted({each.steps for each in results})
    return (
        f"{len(seeds)} training seed{'s' * (len(seeds) > 1)}, {_listed(episodes)} episodes each, "
        f"cost limits {_listed(limits)}, {_listed(steps)} updates. {LEGEND}"
    )


def _listed(values: Sequence[float]) -> str:
    return " / ".join(f"{value:g}" for value in values)


def as_markdown(results: Sequence[Result]) -> str:
    """The table in Markdown; the longer side goes down."""
    table = main_table(results)

    def text(agent: str, column: str) -> str:
        cell = table.cells.get((agent, column))
        if cell is None:
            return "-"
        if table.best(column) == agent:
            return f"**{cell}**"
        return str(cell) if cell.safe else f"{cell} ✗"

    lines = _grid(table, text)
    rows = ["| " + " | ".join(line) + " |" for line in lines]
    rule = "|" + "---|" * len(lines[0])
    return "\n".join([rows[0], rule, *rows[1:]]) + f"\n\n{caption(results)} ✗: unsafe.\n"


def as_latex(results: Sequence[Result]) -> str:
    """The table for LaTeX, with booktabs and xcolor; unsafe cells are grey."""
    table = main_table(results)

    def text(agent: str, column: str) -> str:
        cell = table.cells.get((agent, column))
        if cell is None:
            return "--"
        if table.best(column) == agent:
            return rf"\textbf{{{cell}}}"
        return str(cell) if cell.safe else rf"\textcolor{{gray}}{{{cell}}}"

    lines = [[each.replace("_", r"\_") for each in line] for line in _grid(table, text)]
    body = [" & ".join(line) + r" \\" for line in lines]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs,xcolor}",
            r"\begin{table}\centering",
            rf"\caption{{{caption(results)} Grey: unsafe.}}",
            rf"\begin{{tabular}}{{l{'r' * (len(lines[0]) - 1)}}}",
            r"\toprule",
            body[0],
            r"\midrule",
            *body[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _grid(table: MainTable, text: Callable[[str, str], str]) -> list[list[str]]:
    """Header and rows; agents go down where there are more of them than tasks."""
    if len(table.agents) > len(table.columns):
        header = ["agent", *table.columns]
        return [header, *([agent, *(text(agent, column) for column in table.columns)] for agent in table.agents)]
    header = ["task", *table.agents]
    return [header, *([column, *(text(agent, column) for agent in table.agents)] for column in table.columns)]
