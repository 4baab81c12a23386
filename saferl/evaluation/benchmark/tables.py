"""The benchmark's tables: agents by tasks, averaged over cost limits and for each limit, as Markdown and LaTeX."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from saferl.evaluation.benchmark.results import FAMILIES, Result

LEGEND = (
    "Normalised return / normalised cost, means over training seeds and cost limits. "
    "Safe: a normalised cost of at most 1. Bold: the greatest return among the safe ones."
)


@dataclass(frozen=True)
class Cell:
    """An agent on a task: means over cost limits of the means over seeds.

    Attributes:
        mean_return: in the environment's units; nan in a mean over tasks.
        normalised_return: nan where no reference is known.
        normalised_cost: the mean of C / L.
        safe_share: of the results, those that keep their limit.
        results: how many there are.
        whole: false where a seed or limit is missing that another agent has.
    """

    mean_return: float
    normalised_return: float
    normalised_cost: float
    safe_share: float
    results: int
    whole: bool

    @property
    def safe(self) -> bool:
        """Whether the mean normalised cost is at most 1."""
        return self.normalised_cost <= 1

    @property
    def gain(self) -> float:
        """What agents are ranked by: the normalised return, or the return where no reference is known."""
        return self.mean_return if np.isnan(self.normalised_return) else self.normalised_return

    def __str__(self) -> str:
        gain = f"{self.gain:.4g}" if np.isnan(self.normalised_return) else f"{self.gain:.2f}"
        return f"{gain} / {self.normalised_cost:.2f}" + ("" if self.whole else "†")


@dataclass(frozen=True)
class Column:
    """A task, or the mean over a family's tasks."""

    name: str  # unique in a table
    family: str  # key of FAMILIES
    is_mean: bool = False


@dataclass(frozen=True)
class MainTable:
    """Agents by tasks, tasks in the order of their families, each family followed by its mean if it has several."""

    agents: tuple[str, ...]
    columns: tuple[Column, ...]
    cells: dict[tuple[str, str], Cell]  # (agent, name of the column)

    def best(self, column: str) -> str | None:
        """The agent with the greatest return among those that are safe and miss no result; None if there is none."""
        safe = {
            agent: cell.gain
            for agent in self.agents
            if (cell := self.cells.get((agent, column))) and cell.safe and cell.whole and np.isfinite(cell.gain)
        }
        return max(safe, key=lambda agent: safe[agent]) if safe else None

    def families(self) -> list[tuple[str, list[Column]]]:
        """Title and columns of each family."""
        found = [(FAMILIES[key], [each for each in self.columns if each.family == key]) for key in FAMILIES]
        return [(title, columns) for title, columns in found if columns]


def main_table(results: Sequence[Result]) -> MainTable:
    """The table over all results."""
    grouped: dict[tuple[str, str], list[Result]] = {}
    tasks: dict[str, str] = {}
    expected: dict[str, set[tuple[int, float]]] = {}
    for each in results:
        grouped.setdefault((each.agent, each.task), []).append(each)
        tasks[each.task] = each.family
        expected.setdefault(each.task, set()).add((each.seed, each.limit))
    cells = {(agent, task): _cell(own, len(expected[task])) for (agent, task), own in grouped.items()}
    agents = tuple(dict.fromkeys(each.agent for each in results))
    columns: list[Column] = []
    for family, title in FAMILIES.items():
        names = [task for task, of in tasks.items() if of == family]
        columns += [Column(name, family) for name in names]
        means = {}
        for agent in agents:
            found = [cells[agent, name] for name in names if (agent, name) in cells]
            # A mean over other tasks, or over returns in other units, compares nothing.
            if len(found) == len(names) > 1 and not any(np.isnan(each.normalised_return) for each in found):
                means[agent, f"{title} mean"] = _mean_cell(found)
        if means:
            columns.append(Column(f"{title} mean", family, is_mean=True))
            cells |= means
    return MainTable(agents, tuple(columns), cells)


def _cell(results: Sequence[Result], expected: int) -> Cell:
    limits = [[each for each in results if each.limit == limit] for limit in {each.limit for each in results}]
    means = [[(r.mean_return, r.normalised_return, r.normalised_cost, r.safe) for r in at_limit] for at_limit in limits]
    gain, normalised, cost, share = np.mean([np.mean(rows, axis=0) for rows in means], axis=0).tolist()
    return Cell(gain, normalised, cost, share, len(results), len(results) == expected)


def _mean_cell(cells: Sequence[Cell]) -> Cell:
    """Mean of tasks' cells, each task weighing the same."""
    rows = [(each.normalised_return, each.normalised_cost, each.safe_share) for each in cells]
    gain, cost, share = np.mean(rows, axis=0).tolist()
    return Cell(float("nan"), gain, cost, share, sum(each.results for each in cells), all(each.whole for each in cells))


def tables(results: Sequence[Result]) -> list[tuple[str, list[Result]]]:
    """Title and results of each table: over all limits, then for each limit if there are several."""
    limits = sorted({each.limit for each in results})
    if len(limits) == 1:
        return [(f"Cost limit {limits[0]:g}", list(results))]
    alone = [(f"Cost limit {limit:g}", [each for each in results if each.limit == limit]) for limit in limits]
    return [("Mean over cost limits", list(results)), *alone]


def protocol(results: Sequence[Result]) -> str:
    """How the results came about: seeds, episodes, limits, updates."""
    seeds = len({each.seed for each in results})
    starts = {each.start_seeds for each in results}
    families: dict[tuple[float, ...], list[str]] = {}
    for family, title in FAMILIES.items():
        if limits := {each.limit for each in results if each.family == family}:
            families.setdefault(tuple(sorted(limits)), []).append(title)
    limits_of = "; ".join(
        listed(limits) + (f" ({', '.join(titles)})" if len(families) > 1 else "") for limits, titles in families.items()
    )
    episodes = listed({len(each.returns) for each in results})
    several = len({each.limit for each in results}) > 1
    return (
        f"{seeds} training seed{'s' * (seeds > 1)}; {episodes} episodes for each seed and limit"
        f"{', from the same start seeds for all agents' if len(starts) == 1 else ''}; "
        f"cost limit{'s' * several} {limits_of}; {listed({each.steps for each in results})} updates."
    )


def caption(results: Sequence[Result], unsafe: str) -> str:
    """What a table holds and what its marks mean; ``unsafe`` is how it marks unsafe cells."""
    table = main_table(results)
    text = f"{protocol(results)} {LEGEND} {unsafe}: unsafe."
    if any(not cell.whole for cell in table.cells.values()):
        text += " †: mean of what there is, runs are missing; not ranked."
    if raw := [each for each in table.columns if _is_raw(table, each)]:
        text += f" The return is not normalised on {', '.join(each.name for each in raw)}."
    return text


def listed(values: Collection[float]) -> str:
    """Numbers in order, with commas at the thousands."""
    return ", ".join(f"{value:,.0f}" if value == int(value) else f"{value:g}" for value in sorted(values))


def _is_raw(table: MainTable, column: Column) -> bool:
    cells = [table.cells[agent, column.name] for agent in table.agents if (agent, column.name) in table.cells]
    return not column.is_mean and any(np.isnan(each.normalised_return) for each in cells)


def as_markdown(results: Sequence[Result]) -> str:
    """All tables in Markdown; tasks go down, unless agents are more."""
    parts = []
    agents_down = _agents_go_down(results)
    for title, chosen in tables(results):
        table = main_table(chosen)

        def text(agent: str, column: str, table: MainTable = table) -> str:
            cell = table.cells.get((agent, column))
            if cell is None:
                return "-"
            return f"**{cell}**" if table.best(column) == agent else str(cell) if cell.safe else f"{cell} ✗"

        lines = [
            [each.replace("|", r"\|") for each in line] for line in _grid(table, agents_down, text, "**{}**".format)
        ]
        rows = ["| " + " | ".join(line + [""] * (len(lines[0]) - len(line))) + " |" for line in lines]
        parts.append(f"### {title}\n\n" + "\n".join([rows[0], "|---|" + "---:|" * (len(lines[0]) - 1), *rows[1:]]))
    return "\n\n".join([*parts, caption(results, "✗")]) + "\n"


def as_latex(results: Sequence[Result]) -> str:
    """All tables for LaTeX, with booktabs, xcolor and adjustbox; unsafe cells are grey."""
    parts = [r"% needs \usepackage{booktabs,xcolor,adjustbox}"]
    agents_down = _agents_go_down(results)
    for title, chosen in tables(results):
        table = main_table(chosen)

        def text(agent: str, column: str, table: MainTable = table) -> str:
            cell = table.cells.get((agent, column))
            if cell is None:
                return "--"
            body = str(cell).replace("†", r"$^\dagger$").replace("-", "$-$")
            if table.best(column) == agent:
                return rf"\textbf{{{body}}}"
            return body if cell.safe else rf"\textcolor{{gray}}{{{body}}}"

        span = len(table.agents) + 1

        def heading(title: str, span: int = span) -> str:
            return rf"\multicolumn{{{span}}}{{l}}{{\emph{{{title}}}}}"

        lines = _grid(table, agents_down, text, heading, latex_text)
        words = latex_text(f"{title}. {caption(chosen, 'Grey')}")
        parts += [
            r"\begin{table}\centering",
            rf"\caption{{{words}}}",
            r"\begin{adjustbox}{max width=\linewidth}",
            rf"\begin{{tabular}}{{l{'r' * (len(lines[0]) - 1)}}}",
            r"\toprule",
            " & ".join(lines[0]) + r" \\",
            r"\midrule",
            *(" & ".join(line) + r" \\" for line in lines[1:]),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{adjustbox}",
            r"\end{table}",
            "",
        ]
    return "\n".join(parts)


def latex_text(text: str) -> str:
    """Plain text as LaTeX sets it."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "†": r"$^\dagger$"}
    return re.sub(r"[\\~^†&%$#_{}]", lambda match: special.get(match[0], "\\" + match[0]), text)


def _agents_go_down(results: Sequence[Result]) -> bool:
    """Whether there are more agents than tasks."""
    return len({each.agent for each in results}) > len({each.task for each in results})


def _grid(
    table: MainTable,
    agents_down: bool,
    text: Callable[[str, str], str],
    heading: Callable[[str], str],
    plain: Callable[[str], str] = str,
) -> list[list[str]]:
    """Header and rows.

    Args:
        table: of the values; agents_down: else tasks go down, below a row with their family's title.
        text: a cell, by agent and column's name; heading: how a family's title is set; plain: how names are set.
    """
    if agents_down:
        header = ["agent", *(plain(each.name) for each in table.columns)]
        return [header, *([plain(a), *(text(a, each.name) for each in table.columns)] for a in table.agents)]
    families = table.families()
    lines = [["task", *(plain(agent) for agent in table.agents)]]
    for title, columns in families:
        if len(families) > 1:
            lines.append([heading(plain(title))])
        lines += [[plain(each.name), *(text(agent, each.name) for agent in table.agents)] for each in columns]
    return lines
