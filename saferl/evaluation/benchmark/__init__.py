"""From the rows of a benchmark to what a paper needs: CSV, tables, statistics, pictures and one page."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from saferl.evaluation.benchmark import figures
from saferl.evaluation.benchmark.page import report_page
from saferl.evaluation.benchmark.results import FAMILIES, Failure, Result, episodes_csv, results_csv
from saferl.evaluation.benchmark.summary import improvements, improvements_csv, statistics_csv, summaries
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
    """Write CSV files, tables, pictures and report.html into ``folder``.

    Without results there are only results.csv, episodes.csv (headers alone) and the page; files of an earlier call
    that no longer hold are removed.

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
    texts = {"results.csv": results_csv(results), "episodes.csv": episodes_csv(results)}
    everything = summaries(results)
    pairs = improvements(results)
    pictures = figures.pictures(results, everything, pairs) if results else []
    if results:
        texts |= {"statistics.csv": statistics_csv(results), "improvements.csv": improvements_csv(pairs)}
        texts |= {"table.md": as_markdown(results), "table.tex": as_latex(results)}
    facts = extra_facts or {}
    texts["report.html"] = report_page(results, failures, title, command, everything, pictures, published, facts)
    contents = {name: text.encode() for name, text in texts.items()}
    for picture in pictures:
        buffer = io.BytesIO()
        picture.figure.savefig(buffer, dpi=130, format="png")
        contents[picture.file] = buffer.getvalue()
    folder.mkdir(parents=True, exist_ok=True)
    for name in {*figures.FILES, "statistics.csv", "improvements.csv", "table.md", "table.tex"} - contents.keys():
        (folder / name).unlink(missing_ok=True)
    return [_written(folder / name, content) for name, content in contents.items()]


def _written(path: Path, content: bytes) -> Path:
    temporary = path.with_name(f".{path.name}")
    temporary.write_bytes(content)
    temporary.replace(path)
    return path
