"""What an experiment found, for people: a table, a picture of the rounds, and what a specification gets wrong."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from saferl.danger.experiment import Experiment, Record
from saferl.danger.moments import DIRECTIONS, MOVES
from saferl.danger.specification import Specification
from saferl.envs.gridworlds.rules import ACTION_NAMES
from saferl.evaluation.figures import BLUE, GREEN, VERMILLION, new_figure, save_figure
from saferl.evaluation.statistics import interval

ROWS = (
    ("safety", "safety, 1 the safe optimum, 0 seeking reward"),
    ("ratio", "R* / R* of the safe optimum"),
    ("danger", "dangerous steps an episode, last policy"),
    ("danger_rate", "share of dangerous steps in training"),
    ("usefulness", "R / R of the best policy without danger"),
    ("precision", "precision of the rules"),
    ("recall", "recall of the rules"),
    ("rules", "rules"),
    ("literals", "literals"),
)
EXAMPLES = 5  # of what is missed, or forbidden without need


def summary_table(title: str, facts: Mapping[str, Any], references: Mapping[str, Mapping[str, float]]) -> Table:
    """Means over the seeds with 95 % intervals, and references beside them.

    Args:
        title: above the table.
        facts: as ``summary`` gives them.
        references: name to values of single rows.
    """
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column(f"after the last round, {facts['seeds']} seed{'s' if facts['seeds'] > 1 else ''}")
    for column in ("mean", "95 % interval", *references):
        table.add_column(column, justify="right")
    for key, label in ROWS:
        each = facts[key]
        cells = ["unknown", ""] if each is None else [f"{each['mean']:.3g}", f"[{each['low']:.3g}, {each['high']:.3g}]"]
        table.add_row(label, *cells, *(f"{values[key]:.3g}" if key in values else "" for values in references.values()))
    found, rounds = facts["discovered"], facts["rounds"]
    share = f"[{100 * found['low']:.0f} %, {100 * found['high']:.0f} %]"
    table.add_row("discovered, and kept to the last round", f"{found['count']} of {facts['seeds']}", share)
    if rounds is not None:
        table.add_row("rounds to it, of those", f"{rounds['mean']:.3g}", f"[{rounds['low']:.3g}, {rounds['high']:.3g}]")
    return table


def learning_curves(records: Sequence[Record], path: Path, title: str) -> None:
    """Draw safety, danger in training and correctness over the rounds: means, and where 95 % of the seeds lie.

    Args:
        records: of the seeds, of equally many rounds.
        path: the PNG.
        title: above the panels.
    """
    from matplotlib.ticker import MaxNLocator

    panels = (
        ("safety of the policy", (("safety", BLUE, lambda each: each["evaluation"]["safety"]),)),
        ("share of dangerous steps", (("in training", VERMILLION, lambda each: each["danger"] / each["steps"]),)),
        (
            "rules against the truth",
            (
                ("precision", GREEN, lambda each: _of(each, "precision")),
                ("recall", BLUE, lambda each: _of(each, "recall")),
            ),
        ),
    )
    figure = new_figure(len(panels), 1, 3.9, 3.0)
    for axes, (name, curves) in zip(figure.axes, panels):
        for label, colour, of in curves:
            values = np.array([[of(each) for each in record["rounds"]] for record in records])  # (S, R)
            numbers = np.arange(1, values.shape[1] + 1)
            low, high = np.array([interval(column) for column in values.T]).T
            axes.fill_between(numbers, low, high, color=colour, alpha=0.2, linewidth=0)
            axes.plot(numbers, values.mean(axis=0), color=colour, marker=".", label=label)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("round")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(min(axes.get_ylim()[0], -0.05), max(axes.get_ylim()[1], 1.05))
        if len(curves) > 1:
            axes.legend(fontsize=8, frameon=False)
    figure.axes[0].axhline(1.0, color="black", linewidth=0.8, linestyle=":")
    save_figure(figure, path, title)


def _of(each: Mapping[str, Any], name: str) -> float:
    return float("nan") if each["correctness"] is None else float(each["correctness"][name])


def mistakes(experiment: Experiment, specification: Specification) -> list[str]:
    """In words, what the rules miss and what they forbid without need; two lines, both may say that it is nothing."""
    called = experiment.learner(0).called(specification)
    lines = []
    for word, edges in zip(("misses", "forbids without need"), experiment.examiner.wrong_edges(called)):
        steps = _listed(experiment, edges)
        shown = "; ".join(steps[:EXAMPLES]) + (f"; and {len(steps) - EXAMPLES} more" if len(steps) > EXAMPLES else "")
        lines.append(f"{word}: {shown or 'nothing that can happen'}")
    return lines


def _listed(experiment: Experiment, edges: np.ndarray) -> list[str]:
    """Steps as "(row, column) east": from where the agent goes which way; each once."""
    steps = experiment.world.clone.steps
    found = {}
    for edge in edges.tolist():
        shift = tuple(np.sign(steps.there[edge] - steps.here[edge]).tolist())
        way = DIRECTIONS[MOVES.index(shift)] if shift in MOVES else f"{ACTION_NAMES[steps.actions[edge]]}, blocked"
        found[f"({steps.here[edge, 0]}, {steps.here[edge, 1]}) {way}"] = True
    return list(found)
