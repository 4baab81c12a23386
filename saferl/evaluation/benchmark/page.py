"""report.html: the benchmark as one page that opens without a server, pictures inside it."""

import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from saferl.evaluation.benchmark.figures import agents_of
from saferl.evaluation.benchmark.published import published_for
from saferl.evaluation.benchmark.results import Failure, Result
from saferl.evaluation.benchmark.tables import LEGEND, MainTable, caption, main_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
:root { --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --back: #ffffff; --panel: #f6f8fa; --safe: #0a7a3d;
  --bad: #b35900; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9aa4ae; --line: #30363d; --back: #0d1117; --panel: #161b22; --safe: #4cc38a;
    --bad: #e2934a; }
}
body { margin: 0 auto; max-width: 1180px; padding: 1.5rem 1rem 4rem; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { margin-top: 2.2rem; font-size: 1.15rem; }
p, li { max-width: 75ch; } .soft { color: var(--soft); }
code, pre { background: var(--panel); font-size: 0.86em; } pre { padding: 0.7rem; overflow-x: auto; }
.box { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; font-size: 0.86rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: 0.3rem 0.6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--back); }
thead th { background: var(--panel); cursor: pointer; } thead th:first-child { background: var(--panel); }
thead th::after { content: " \\2195"; color: var(--soft); font-size: 0.75em; }
.best { font-weight: 700; color: var(--safe); } .unsafe { color: var(--bad); } .mean { background: var(--panel); }
figure { margin: 1rem 0; background: #ffffff; border: 1px solid var(--line); border-radius: 6px; padding: 0.5rem;
  overflow-x: auto; }
figure svg { max-width: 100%; height: auto; } figcaption { color: #57606a; font-size: 0.86rem; }
"""

_SCRIPT = """
for (const head of document.querySelectorAll('thead th')) head.addEventListener('click', () => {
  const table = head.closest('table'), body = table.tBodies[0], column = head.cellIndex;
  const down = head.dataset.down !== '1'; head.dataset.down = down ? '1' : '0';
  const key = row => { const cell = row.cells[column]; return cell.dataset.sort ?? cell.textContent; };
  const number = text => text.trim() !== '' && !isNaN(text);
  [...body.rows].sort((a, b) => { const x = key(a), y = key(b);
    const order = number(x) && number(y) ? x - y : String(x).localeCompare(String(y));
    return down ? -order : order; }).forEach(row => body.append(row));
});
"""


def report_page(
    results: Sequence[Result],
    failures: Sequence[Failure],
    title: str,
    command: str,
    figures: Mapping[str, "Figure"],
    published: bool,
    extra_facts: Mapping[str, object],
) -> str:
    """The whole page.

    Args:
        results, failures: what there is.
        title: its heading; command: what makes it again.
        figures: caption to picture.
        published: whether published scores are shown.
        extra_facts: name to value, listed under the command.
    """
    parts = [f"<h1>{_text(title)}</h1>", f"<pre>{_text(command)}</pre>"]
    if extra_facts:
        parts.append("<ul>" + "".join(f"<li>{_text(k)}: {_text(v)}</li>" for k, v in extra_facts.items()) + "</ul>")
    if results:
        parts += ["<h2>Return and cost</h2>", f"<p>{_text(caption(results))}</p>", _main(main_table(results))]
        parts += [_figure(name, figure) for name, figure in figures.items()]
        parts += ["<h2>Every task and limit</h2>", _details(results)]
        if published:
            parts.append(_published(results))
    else:
        parts.append("<p>No run has finished yet.</p>")
    if failures:
        parts += ["<h2>Failed</h2>", _failures(failures)]
    parts.append(_how_to_read())
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body>{body}<script>{_SCRIPT}</script></body></html>\n"
    )


def _text(value: object) -> str:
    return html.escape(str(value))


def _table(header: Sequence[str], rows: Sequence[str]) -> str:
    heads = "".join(f"<th>{_text(each)}</th>" for each in header)
    return f'<div class="box"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _main(table: MainTable) -> str:
    rows = []
    for agent in table.agents:
        cells = []
        for column in table.columns:
            cell = table.cells.get((agent, column))
            if cell is None:
                cells.append('<td class="soft" data-sort="-9">-</td>')
                continue
            kinds = ["best"] if table.best(column) == agent else [] if cell.safe else ["unsafe"]
            kinds += ["mean"] if column in table.means else []
            tip = f"{cell.runs} runs, {100 * cell.safe_share:.0f} % of them safe"
            cells.append(
                f'<td class="{" ".join(kinds)}" data-sort="{cell.normalised_return:.4f}" title="{tip}">{cell}</td>'
            )
        rows.append(f"<tr><td>{_text(agent)}</td>{''.join(cells)}</tr>")
    return _table(["agent", *table.columns], rows)


def _details(results: Sequence[Result]) -> str:
    rows = []
    keys = dict.fromkeys((each.task, each.agent, each.limit) for each in results)
    for task, agent, limit in keys:
        runs = [each for each in results if (each.task, each.agent, each.limit) == (task, agent, limit)]
        gains, costs = [each.normalised_return for each in runs], [each.normalised_cost for each in runs]
        safe = np.mean(costs) <= 1
        cells = [
            f"<td>{_text(task)}</td><td>{_text(agent)}</td><td>{limit:g}</td><td>{len(runs)}</td>",
            f"<td>{np.mean([each.mean_return for each in runs]):.1f}</td>",
            f"<td>{np.mean(gains):.3f}</td><td>{min(gains):.3f} to {max(gains):.3f}</td>",
            f"<td>{np.mean([each.mean_cost for each in runs]):.1f}</td>",
            f'<td class="{"" if safe else "unsafe"}">{np.mean(costs):.2f}</td>',
            f"<td>{min(costs):.2f} to {max(costs):.2f}</td><td>{sum(each.safe for each in runs)}</td>",
            f"<td>{np.mean([each.train_seconds for each in runs]):.0f}</td>",
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    header = "task,agent,limit,seeds,return,normalised,over seeds,cost,cost / limit,over seeds,safe seeds,training s"
    return _table(header.split(","), rows)


def _published(results: Sequence[Result]) -> str:
    rows = []
    for task, env in dict.fromkeys((each.task, each.env) for each in results):
        for agent in agents_of(results):
            for each in published_for(agent, env):
                rows.append(
                    f"<tr><td>{_text(task)}</td><td>{_text(each.algorithm)}</td>"
                    f"<td>{each.normalised_return:.2f} / {each.normalised_cost:.2f}</td>"
                    f"<td>{_text(each.limits.replace(';', ' / '))}</td><td>{_text(each.source)}</td></tr>"
                )
    note = (
        "Published by others, on other data, longer trainings and, where the limits differ, another yardstick: "
        "an orientation, not a comparison."
    )
    if not rows:
        return "<h2>Published scores</h2><p>None is known for these agents and tasks.</p>"
    return f"<h2>Published scores</h2><p>{note}</p>" + _table(
        ["task", "algorithm", "published return / cost", "limits", "source"], rows
    )


def _failures(failures: Sequence[Failure]) -> str:
    rows = [
        f"<tr><td>{_text(each.agent)}</td><td>{_text(each.task)}</td><td>{each.seed}</td>"
        f"<td>{'' if each.limit is None else f'{each.limit:g}'}</td>"
        f'<td style="text-align:left;white-space:normal">{_text(each.cause)}</td></tr>'
        for each in failures
    ]
    return _table(["agent", "task", "seed", "limit", "cause"], rows)


def _how_to_read() -> str:
    return f"""<h2>How to read this</h2><ul>
<li>{_text(LEGEND)}</li>
<li>Normalised return: 0 and 1 are the least and greatest episode of the task's reference data.</li>
<li>Normalised cost: the mean undiscounted cost of an episode over the limit; (cost + 1) for the limit 0.</li>
<li>Safe return: the normalised return of a run that keeps its limit; 0 (or its own return if lower) for one that
doesn't. It is what intervals and probabilities of improvement are about.</li>
<li>Grey bars are 95 % bootstrap intervals over training seeds, drawn within each task and limit. A few seeds can't
show all there is: they are too short rather than too long.</li></ul>"""


def _figure(name: str, figure: "Figure") -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # Ids must be the page's own: every picture numbers its parts alike.
    prefix = re.sub(r"\W+", "-", name.lower())[:40]
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    return f"<figure>{svg}<figcaption>{_text(name)}</figcaption></figure>"
