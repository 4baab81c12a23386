"""safety_case.html: a certificate as one page that opens without a server, pictures inside it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saferl.certification.bounds import BOUNDS
from saferl.certification.gate import RELEASE
from saferl.certification.parts import Part, cut
from saferl.evaluation.benchmark.assets import STYLE
from saferl.evaluation.html_page import inline_png, inline_svg, text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OWN_STYLE = """
.verdict { border-left: 0.5rem solid var(--stamp); background: var(--panel); padding: 0.6rem 1rem; margin: 0.8rem 0; }
.verdict strong { display: block; font-size: 1.5rem; color: var(--stamp); }
.release { --stamp: var(--safe); } .refused { --stamp: var(--warn); }
td.wide { white-space: normal; min-width: 14rem; text-align: left; }
th.wide { text-align: left; } figure { width: fit-content; max-width: 100%; }
figure img { max-width: 100%; display: block; }
.passed { color: var(--safe); font-weight: 700; } .failed { color: var(--warn); font-weight: 700; }
"""
_MEASURED = (  # of the test half: key, name
    ("return", "return (reward of an episode)"),
    ("normalised_return", "normalised return"),
    ("cost", "cost of an episode"),
    ("violations", "steps with cost"),
    ("length", "steps"),
)
Pictures = Mapping[str, tuple["Figure", str]]  # section: figure, what it shows


def safety_case_page(
    facts: Mapping[str, Any], pictures: Pictures, parts: Sequence[Part], absent: Sequence[str], command: str
) -> str:
    """The whole page.

    Args:
        facts: a certificate.
        pictures: drawn in the sections "checks", "measured", "candidate".
        parts: further evidence of the run; absent: headings of what it has none of.
        command: what made the certificate.
    """
    sections = [("The test", _checks(facts) + _picture(pictures, "checks"))]
    if facts.get("off_policy"):
        sections.append(("Off-policy estimates", _off_policy(facts["off_policy"])))
    if facts.get("test"):
        sections.append(("Reward and cost", _measured(facts["test"]) + _picture(pictures, "measured")))
    if facts.get("candidate"):
        sections.append(("Candidate half", _candidates(facts["candidate"]) + _picture(pictures, "candidate")))
    if facts.get("plan"):
        sections.append(("Episodes planned", _plan(facts["plan"])))
    sections += [(part.title, _part(part, _differences(facts))) for part in parts]
    if absent:
        sections.append(("Not part of this case", f"<p>{text('; '.join(absent))}: none found.</p>"))
    sections.append(
        ("What it assumes", f"<ul>{''.join(f'<li>{text(line)}</li>' for line in facts['assumptions'])}</ul>")
    )
    sections.append(("Where it comes from", _origin(facts, command)))
    title = f"Safety case: {facts['policy']['name']} on {facts['env']}"
    body = "\n".join(f"<h2>{text(heading)}</h2>\n{content}" for heading, content in sections)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}{_OWN_STYLE}</style>'
        f"</head>\n<body><h1>{text(title)}</h1>\n{_stamp(facts)}\n{body}\n</body></html>\n"
    )


def _stamp(facts: Mapping[str, Any]) -> str:
    kind = "release" if facts["verdict"] == RELEASE else "refused"
    reasons = "".join(f"<li>{text(reason)}</li>" for reason in facts["reasons"])
    warning = '<p class="warn">A bound is approximate: the confidence is not guaranteed.</p>'
    return (
        f'<div class="verdict {kind}"><strong>Verdict: {text(facts["verdict"])}</strong>{text(facts["statement"])}'
        f"{f'<ul>{reasons}</ul>' if reasons else ''}{warning if facts['approximate'] else ''}</div>"
    )


def _checks(facts: Mapping[str, Any]) -> str:
    if not facts["checks"]:
        return "<p>The test half was not opened.</p>"
    header = ["it must hold that", "limit", "observed", "upper bound", "delta", "bound", "episodes", "passed"]
    rows = []
    for check in facts["checks"]:
        bound = "none" if check["upper_bound"] is None else f"{check['upper_bound']:.4g}"
        word = '<span class="passed">yes</span>' if check["passed"] else '<span class="failed">no</span>'
        rows.append(
            [
                text(check["constraint"]), f"{check['limit']:g}", _number(check["mean"]), bound, f"{check['delta']:g}",
                text(BOUNDS[check["bound"]].label), f"{check['episodes']:,}", word,
            ]
        )  # fmt: skip
    closed = facts.get("half") == "candidate"
    note = "<p>Of the candidate half: no bound can hold, so that the test half was not opened.</p>" if closed else ""
    return note + _table(header, rows, (0, 5))


def _measured(test: Mapping[str, Any]) -> str:
    rows = []
    for key, name in _MEASURED:
        if key in test:
            each = test[key]
            rows.append([name, _number(each["mean"]), f"[{_number(each['low'])}, {_number(each['high'])}]"])
    for key, name in (
        ("violation_rate", "episodes that cost anything"),
        ("success_rate", "episodes that reach the goal"),
    ):
        if key in test:
            each = test[key]
            rows.append([name, _percent(each["rate"]), f"[{_percent(each['low'])}, {_percent(each['high'])}]"])
    note = "Of the test half. Two-sided intervals for orientation: the verdict rests on the bounds above."
    return f"<p>{note}</p>" + _table(["per episode", "mean", "95 % interval"], rows)


def _candidates(candidate: Mapping[str, Any]) -> str:
    tuned = candidate["tuned"]
    note = (
        f"{candidate['episodes']:,} episodes, by which {f'{tuned} and ' if tuned else ''}the bounds are chosen. "
        "The predicted bound is what the test half is expected to give, with twice the distance between mean and bound."
    )
    header = [
        tuned or "policy",
        "mean return",
        "mean cost",
        "observed",
        "predicted bounds",
        "predicted to pass",
        "tested",
    ]
    rows = []
    for each in candidate["values"]:
        tested = candidate["chosen"] == each["value"] and (candidate["predicted_to_pass"] or not tuned)
        bounds = ", ".join(
            f"{value:.4g} ({BOUNDS[name].label})" for value, name in zip(each["predicted_bounds"], each["bounds"])
        )
        value = "as it is" if each["value"] is None else f"{each['value']:g}"
        passes, mark = "yes" if each["predicted_to_pass"] else "no", "yes" if tested else ""
        observed = ", ".join(map(_number, each["observed"]))
        means = (_number(each["mean_return"]), _number(each["mean_cost"]))
        rows.append([value, *means, observed, text(bounds), passes, mark])
    return f"<p>{text(note)}</p>" + _table(header, rows, (0, 4))


def _plan(plan: Mapping[str, Any]) -> str:
    how = "as asked for" if plan["margin"] is None else f"what a margin of {100 * plan['margin']:g} % needs"
    passing = "for a value to be predicted to pass, and to pass," if plan.get("searched") else "to pass"
    note = (
        f"{plan['episodes_of_each_half']:,} in each half, {how}. Needed {passing} with probability "
        f"{100 * plan['power']:g} % if the truth is so far below its limit:"
    )
    rows = [
        [
            text(need["constraint"]), f"{100 * need['margin']:g} %", f"{need['expected']:.4g}",
            text(BOUNDS[name].label), "more than 10,000,000" if episodes is None else f"{episodes:,}",
        ]
        for need in plan["needs"]
        for name, episodes in need["episodes"].items()
    ]  # fmt: skip
    table = _table(["it must hold that", "margin", "truth", "bound", "episodes of each half"], rows, (0, 3))
    return f"<p>{text(note)}</p><details><summary>{len(rows)} rows</summary>{table}</details>"


def _off_policy(facts: Mapping[str, Any]) -> str:
    rows = [
        [
            text(each["method"]), text(each["of"]), "" if each["estimate"] is None else _number(each["estimate"]),
            "" if each["interval"] is None else f"[{_number(each['interval'][0])}, {_number(each['interval'][1])}]",
            '<span class="passed">bound</span>' if each["is_bound"] else '<span class="failed">estimate</span>',
            text(each["validity"]),
        ]
        for each in facts["estimates"]
    ]  # fmt: skip
    header = ["method", "of", "value", "95 % interval (bootstrap)", "is a", "what it is worth"]
    shown = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in facts["facts"].items())
    return f"<dl>{shown}</dl>" + _table(header, rows, (1, 4), wide=(0, 5))


def _differences(facts: Mapping[str, Any]) -> str:
    """Warnings for evidence from other commands, which don't act as what is certified does; nothing if they do."""
    candidate, words = facts.get("candidate") or {}, []
    tuned, own, chosen = (candidate.get(key) for key in ("tuned", "own", "chosen"))
    if tuned and chosen is not None and chosen != own:
        before = f"with the policy's own {tuned}, {own:g}" if own is not None else f"before its {tuned} was chosen"
        words.append(f"Measured {before}; what is certified has {chosen:g}.")
    if facts["policy"].get("acting_limit") is not None and tuned != "cost_limit":
        limit = facts["policy"]["acting_limit"]
        words.append(
            f"What is certified acts at cost limit {limit:g}; other commands take the training's if none is given."
        )
    if facts["settings"].get("policy_noise") is not None:
        words.append("Measured without the noise on the actions with which the policy is certified.")
    return "".join(f'<p class="warn">{text(each)}</p>' for each in words)


def _part(part: Part, warning: str) -> str:
    lines = [f"<p>{text(_at_home(part.note))}</p>{warning}"]
    if part.facts:
        lines.append(
            f"<dl>{''.join(f'<dt>{text(n)}</dt><dd>{text(_value(v))}</dd>' for n, v in part.facts.items())}</dl>"
        )
    for name, rows in part.tables.items():
        kept, left_out = cut(rows)
        header = list(dict.fromkeys(key for row in kept for key in row))
        lines.append(f"<h3>{text(name)}</h3>" if name else "")
        lines.append(_table(header, [[text(_value(row.get(key, ""))) for key in header] for row in kept]))
        if left_out:
            lines.append(f"<p>{left_out} more rows are in the run's folder.</p>")
    lines += [f"<figure>{inline_png(path, f'{part.title}: {path.name}')}</figure>" for path in part.pictures]
    return "".join(lines)


def _origin(facts: Mapping[str, Any], command: str) -> str:
    policy, environment = facts["policy"], facts["environment"]
    items = {
        "policy": _at_home(policy["given"]),
        f"SHA-256 of {policy['sha256_of']}": policy["sha256"],
        "environment": f"{facts['env']} {facts['env_kwargs'] or ''}",
        "SHA-256 of the split": facts["split"]["sha256"],
        "written": environment["time"],
        "saferl": f"{environment['saferl']}, commit {environment['commit'] or 'unknown'}",
        "machine": f"{environment['system']}, Python {environment['python']}",
    }
    shown = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in items.items())
    return f"<pre>{text(_at_home(command))}</pre><dl>{shown}</dl>"


def _picture(pictures: Pictures, section: str) -> str:
    if section not in pictures:
        return ""
    figure, shows = pictures[section]
    return f"<figure>{inline_svg(figure, section, shows)}</figure>"


def _table(
    header: Sequence[str], rows: Sequence[Sequence[str]], texts: Sequence[int] = (0,), wide: Sequence[int] = ()
) -> str:
    """A table of cells that are HTML already; ``texts`` and ``wide`` are columns that hold words."""

    def kind(index: int) -> str:
        return ' class="wide"' if index in wide else ' class="text"' if index in texts else ""

    heads = "".join(f'<th{kind(index)} scope="col">{text(name)}</th>' for index, name in enumerate(header))
    body = "".join(f"<tr>{''.join(f'<td{kind(i)}>{cell}</td>' for i, cell in enumerate(row))}</tr>" for row in rows)
    return f'<div class="box" tabindex="0"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _number(value: float) -> str:
    return f"{value:.4g}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _value(value: object) -> object:
    if isinstance(value, str):
        return _at_home(value)
    return f"{value:.4g}" if isinstance(value, float) else value


def _at_home(words: str) -> str:
    """Paths in the home folder begin with ~: pages are passed on."""
    return re.sub(rf"(^|[\s='\[,]){re.escape(str(Path.home()))}/", r"\1~/", words)
