"""report.html: the benchmark as one page that opens without a server, pictures inside it."""

from collections.abc import Mapping, Sequence

import numpy as np

from saferl.evaluation.benchmark.assets import SCRIPT, STYLE
from saferl.evaluation.benchmark.figures import Picture
from saferl.evaluation.benchmark.published import Published, published_for
from saferl.evaluation.benchmark.results import Failure, Result
from saferl.evaluation.benchmark.statistics import Span
from saferl.evaluation.benchmark.summary import Summary
from saferl.evaluation.benchmark.tables import Cell, MainTable, caption, listed, main_table, protocol, tables
from saferl.evaluation.html_page import inline_svg, text

NOTHING = "&ndash;"  # in a cell
SHORT = {"safe_return": "safe return", "normalised_return": "return", "normalised_cost": "cost"}


def report_page(
    results: Sequence[Result],
    failures: Sequence[Failure],
    title: str,
    command: str,
    everything: Sequence[Summary],
    pictures: Sequence[Picture],
    published: bool,
    extra_facts: Mapping[str, object],
) -> str:
    """The whole page.

    Args:
        results, failures: what there is.
        title: its heading; command: what makes it again.
        everything: the agents over all tasks.
        pictures: what is drawn of the results.
        published: whether published scores are shown beside.
        extra_facts: name to value, listed under the command.
    """
    sections: list[tuple[str, str, str]] = []  # id, heading, content
    if results:
        sections += [
            ("agents", "Agents over all tasks", _summaries(everything)),
            ("tasks", "Return and cost by task", _tables(results)),
            ("pictures", "Pictures", "".join(_picture(each) for each in pictures)),
            ("rows", "Every task, agent and limit", _details(results)),
        ]
    if failures:
        sections.append(("missing", "Missing results", _failures(failures)))
    if results and published:
        sections.append(("published", "Published scores", _published(results)))
    sections.append(("reading", "How to read this", _how_to_read()))
    links = "".join(f'<a href="#{key}">{text(heading)}</a>' for key, heading, _ in sections)
    body = "\n".join(f'<h2 id="{key}">{text(heading)}</h2>\n{content}' for key, heading, content in sections)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
        f"<body>{_head(results, failures, title, command, extra_facts)}<nav>{links}</nav>\n{body}\n"
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def _head(
    results: Sequence[Result], failures: Sequence[Failure], title: str, command: str, facts: Mapping[str, object]
) -> str:
    agents, tasks = len({each.agent for each in results}), len({each.task for each in results})
    state = f"{agents} agent{'s' * (agents != 1)} on {tasks} task{'s' * (tasks != 1)}. {protocol(results)}"
    lines = [f"<h1>{text(title)}</h1>", f"<p>{text(state) if results else 'No run has finished yet.'}</p>"]
    if failures:
        lines.append(f'<p class="warn">Missing results: {len(failures)}, see their <a href="#missing">causes</a>.</p>')
    lines.append(f"<pre>{text(command)}</pre>")
    if facts:
        items = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in facts.items())
        lines.append(f"<dl>{items}</dl>")
    return "\n".join(lines)


def _table(
    header: Sequence[str], rows: Sequence[str], texts: Sequence[int] = (0,), above: str = "", means: Sequence[str] = ()
) -> str:
    """A sortable table in a box of its own.

    Args:
        header: names of the columns; rows: their HTML.
        texts: places of the columns that hold text.
        above: a row of HTML above the header.
        means: columns that are means.
    """
    heads = ""
    for index, name in enumerate(header):
        kind = "text" if index in texts else "mean" if name in means else ""
        shown = "mean" if name in means else name
        heads += f'<th class="{kind}" scope="col"><button>{text(shown)}</button></th>'
    return (
        f'<div class="box" tabindex="0"><table><thead>{above}<tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _summaries(everything: Sequence[Summary]) -> str:
    scores = [score for score in SHORT if any(score in each.iqms for each in everything)]
    most = max(each.runs.get("normalised_cost", 0) for each in everything)
    rows = []
    for each in everything:
        tasks, runs = each.tasks.get("normalised_cost", 0), each.runs.get("normalised_cost", 0)
        cells = [
            f'<td class="text">{text(each.agent)}</td>',
            f'<td class="{"warn" if tasks < each.all_tasks else ""}">{tasks} of {each.all_tasks}</td>',
            f'<td class="{"warn" if runs < most else ""}">{runs}</td>',
            f'<td data-sort="{each.safe_share}">{100 * each.safe_share:.0f} %</td>',
            *(_span(each.iqms.get(score)) for score in scores),
            *(_mean(each.means.get(score)) for score in scores),
            f'<td data-sort="{each.seconds}">{each.seconds:,.0f}</td>',
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    names = [SHORT[score] for score in scores]
    header = ["agent", "tasks", "runs", "safe", *names, *names, "seconds"]
    above = (
        f'<tr><th></th><th colspan="3"></th><th class="family" colspan="{len(scores)}">interquartile mean</th>'
        f'<th class="family" colspan="{len(scores)}">mean over tasks</th><th class="family">training</th></tr>'
    )
    note = (
        "A run is a training seed on a task, averaged over cost limits. Safe: share of seeds, tasks and limits whose "
        "mean cost keeps the limit. Return and cost are normalised; the safe return is the normalised return where "
        "the limit is kept and 0, or the return if lower, where it is not. In brackets: 95 % stratified bootstrap "
        "intervals over seeds; none with one seed."
    )
    if any(each.runs.get("normalised_cost", 0) < most for each in everything):
        note += (
            " An agent that lacks tasks or runs is averaged over those it has: don't compare it with the others here."
        )
    return f"<p>{text(note)}</p>" + _table(header, rows, above=above)


def _span(span: Span | None) -> str:
    if span is None:
        return "<td></td>"
    ends = "" if np.isnan(span.low) else f' <span class="soft">[{span.low:.2f}, {span.high:.2f}]</span>'
    return f'<td data-sort="{span.value:.6g}">{span.value:.2f}{ends}</td>'


def _mean(span: Span | None) -> str:
    return "<td></td>" if span is None else f"<td>{span.value:.2f}</td>"


def _tables(results: Sequence[Result]) -> str:
    (title, chosen), *others = tables(results)
    words = f"{caption(results, 'Grey')} Sorting by a task puts safe agents above unsafe ones."
    parts = [f"<p>{text(words)}</p>", f"<h3>{text(title)}</h3>", _main(main_table(chosen))]
    parts += [f"<details><summary>{text(name)}</summary>{_main(main_table(here))}</details>" for name, here in others]
    return "".join(parts)


def _main(table: MainTable) -> str:
    rows = []
    for agent in table.agents:
        cells = [_cell(table, agent, each.name, each.is_mean) for each in table.columns]
        rows.append(f'<tr><td class="text">{text(agent)}</td>{"".join(cells)}</tr>')
    spans = "".join(
        f'<th class="family" colspan="{len(columns)}">{text(title)}</th>' for title, columns in table.families()
    )
    names = [each.name for each in table.columns]
    means = [each.name for each in table.columns if each.is_mean]
    return _table(["agent", *names], rows, above=f"<tr><th></th>{spans}</tr>", means=means)


def _cell(table: MainTable, agent: str, column: str, is_mean: bool) -> str:
    cell: Cell | None = table.cells.get((agent, column))
    kinds = ["mean"] if is_mean else []
    if cell is None:
        return f'<td class="{" ".join([*kinds, "soft"])}" data-sort="">{NOTHING}</td>'
    kinds += ["best"] if table.best(column) == agent else [] if cell.safe else ["unsafe"]
    rank = cell.gain + (1e6 if cell.safe else 0)  # safe ones come first
    tip = f"{cell.results} results, {100 * cell.safe_share:.0f} % of them safe"
    return f'<td class="{" ".join(kinds)}" data-sort="{rank:.6f}" title="{tip}">{cell}</td>'


def _details(results: Sequence[Result]) -> str:
    groups: dict[tuple[str, str, float], list[Result]] = {}
    for each in results:
        groups.setdefault((each.task, each.agent, each.limit), []).append(each)
    rows = []
    for (task, agent, limit), runs in groups.items():
        gains, costs = [each.normalised_return for each in runs], [each.normalised_cost for each in runs]
        broken = np.mean([np.mean(np.array(each.violations) > 0) for each in runs])
        unsafe = "" if np.mean(costs) <= 1 else ' class="unsafe"'
        cells = [
            f'<td class="text">{text(task)}</td><td class="text">{text(agent)}</td><td>{limit:g}</td>',
            f"<td>{len(runs)}</td><td{unsafe}>{sum(each.safe for each in runs)}</td>",
            f"<td>{np.mean([each.mean_return for each in runs]):.1f}</td>",
            _ranged(gains),
            f"<td>{np.mean([each.mean_cost for each in runs]):.1f}</td>",
            _ranged(costs),
            f"<td>{100 * broken:.0f} %</td><td>{np.mean([each.train_seconds for each in runs]):,.0f}</td>",
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    header = (
        "task,agent,limit,seeds,safe seeds,return,normalised return,cost,normalised cost,episodes with cost,training s"
    )
    note = "Means over training seeds; in brackets the lowest and the highest seed."
    return (
        f"<p>{note}</p><details><summary>{len(rows)} rows</summary>{_table(header.split(','), rows, (0, 1))}</details>"
    )


def _ranged(values: Sequence[float]) -> str:
    if np.isnan(values).any():
        return f'<td data-sort="">{NOTHING}</td>'
    mean, extent = float(np.mean(values)), f" [{min(values):.2f}, {max(values):.2f}]" if len(values) > 1 else ""
    return f'<td data-sort="{mean:.6g}">{mean:.2f}<span class="soft">{extent}</span></td>'


def _published(results: Sequence[Result]) -> str:
    table = main_table(results)
    sources: dict[tuple[str, str], int] = {}
    rows = []
    for task, env in dict.fromkeys((each.task, each.env) for each in results):
        limits = {each.limit for each in results if each.task == task}
        for agent in table.agents:
            for each in published_for(agent, env):
                number = sources.setdefault((each.source, each.protocol), len(sources) + 1)
                rows.append(_published_row(task, agent, table.cells.get((agent, task)), limits, each, number))
    if not rows:
        return "<p>None is known for these agents and tasks.</p>"
    note = (
        "Numbers in italics were published by others: trained on DSRL's data sets, by their code, for their number of "
        "updates, and at other cost limits where the limits are marked. An orientation, not a comparison. Both are "
        "normalised return / normalised cost."
    )
    header = ["task", "agent", "published as", "this benchmark", "limits", "published", "limits", "source"]
    listing = "".join(
        f'<li id="source-{number}">{text(source)}: {text(how)}.</li>' for (source, how), number in sources.items()
    )
    return f"<p>{note}</p>{_table(header, rows, (0, 1, 2))}<ol>{listing}</ol>"


def _published_row(
    task: str, agent: str, cell: Cell | None, limits: set[float], published: Published, source: int
) -> str:
    other = "" if set(published.limits) == limits else ' class="warn"'
    own = f'<td data-sort="">{NOTHING}</td>' if cell is None else f'<td data-sort="{cell.gain:.6g}">{cell}</td>'
    return (
        f'<tr><td class="text">{text(task)}</td><td class="text">{text(agent)}</td>'
        f'<td class="text">{text(published.algorithm)}</td>{own}<td>{listed(limits)}</td>'
        f'<td data-sort="{published.normalised_return}"><i>{published}</i></td>'
        f'<td{other}>{listed(published.limits)}</td><td><a href="#source-{source}">[{source}]</a></td></tr>'
    )


def _failures(failures: Sequence[Failure]) -> str:
    rows = [
        f'<tr><td class="text">{text(each.agent)}</td><td class="text">{text(each.task)}</td><td>{each.seed}</td>'
        f"<td>{'' if each.limit is None else f'{each.limit:g}'}</td>"
        f'<td class="text cause">{text(each.cause)}</td></tr>'
        for each in failures
    ]
    return _table(["agent", "task", "seed", "limit", "cause"], rows, (0, 1, 4))


def _how_to_read() -> str:
    return """<ul>
<li><b>Protocol.</b> An agent is trained from a task's data alone, once for each training seed, and once more for each
cost limit if the limit enters its training. The policy then acts in the environment; every result is the mean of its
episodes. Episodes with equal start seeds (episodes.csv) can be paired between agents.</li>
<li><b>Normalised return.</b> 0 and 1 are the least and the greatest return of an episode in the task's reference data:
DSRL's published ones, or those of the data trained on.</li>
<li><b>Normalised cost.</b> The mean undiscounted cost of an episode over the limit, C / L; for the limit 0 it is C + 1.
At most 1 is safe: the limit holds on average, single episodes may exceed it.</li>
<li><b>Safe return.</b> The normalised return of a result that keeps its limit; 0, or its own return if that is lower,
for one that doesn't. One number for both aims; it doesn't tell slight from great excess, so look at the cost too.</li>
<li><b>Averages.</b> Tables average over seeds and cost limits as DSRL's do (Liu et al., 2023). A mean over limits can
hide a limit that is not kept: the tables of single limits show it.</li>
<li><b>Intervals.</b> Interquartile means, profiles and probabilities of improvement are those of Agarwal et al. (2021).
Bootstrap samples draw training seeds within each task. A few seeds can't show all there is: intervals from three are
too short rather than too long, and one seed has none.</li>
<li><b>Files beside this page.</b> results.csv (a row per seed, task, agent, limit), episodes.csv, statistics.csv,
improvements.csv, table.md, table.tex and the pictures as PNG.</li></ul>"""


def _picture(each: Picture) -> str:
    svg = inline_svg(each.figure, each.file.removesuffix(".png"), each.title)
    return f"<h3>{text(each.title)}</h3><p>{text(each.note)}</p><figure>{svg}</figure>"
