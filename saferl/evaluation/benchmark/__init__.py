"""From the rows of a benchmark to what a paper needs: CSV, tables, statistics, pictures and one page."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from saferl.evaluation.benchmark import figures
from saferl.evaluation.benchmark.page import report_page
from saferl.evaluation.benchmark.results import FAMILIES, Failure, Result, episodes_csv, results_csv
from saferl.evaluation.benchmark.tables import as_latex, as_markdown

__all__ = ["FAMILIES", "Failure", "Result", "write_results"]


def write_results(
    folder: Path,
    results: Sequence[Result],
    failures: Sequence[Failure],
    title: str,
    command: str,
    published: bool = False,
    extra_facts: Mapping[str, object] | None = None,
) -> list[Path]:
    """Write results.csv, episodes.csv, table.md, table.tex, pictures and report.html into ``folder``.

    Args:
        folder: made if it is not there; each file appears whole.
        results: one for each agent, task, training seed and limit.
        failures: what gave none.
        title: heading of the page.
        command: what makes all of it again.
        published: whether the page shows published scores beside.
        extra_facts: name to value, shown on the page.
    Returns: the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"results.csv": results_csv(results), "episodes.csv": episodes_csv(results)}
    drawn = {}
    scored = [each for each in results if each.normalised_returns is not None]
    if results:
        texts |= {"table.md": as_markdown(results), "table.tex": as_latex(results)}
    if scored:
        baseline = next(
            (name for name in ("bc", *figures.agents_of(scored)) if name in figures.agents_of(scored)), "bc"
        )
        drawn = {
            "Normalised return over cost": ("pareto.png", figures.pareto(scored)),
            "Interquartile means over all tasks, limits and seeds": ("means.png", figures.interquartile_means(scored)),
            "Performance profiles": ("profiles.png", figures.profiles(scored)),
            f"Probability of improvement over {baseline}": ("improvement.png", figures.improvements(scored, baseline)),
        }
    pictures = {name: figure for name, (_, figure) in drawn.items()}
    texts["report.html"] = report_page(results, failures, title, command, pictures, published, extra_facts or {})
    contents = {name: text.encode() for name, text in texts.items()}
    for name, figure in drawn.values():
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=130, format="png")
        contents[name] = buffer.getvalue()
    paths = []
    for name, content in contents.items():
        temporary = folder / f".{name}"
        temporary.write_bytes(content)
        temporary.replace(folder / name)
        paths.append(folder / name)
    return paths
