"""Style and script of report.html, which holds both so that it opens without a server."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --back: #ffffff; --panel: #f6f8fa;
  --safe: #0a7a3d; --faint: #737d87; --warn: #a04a00; --link: #0960b8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9aa4ae; --line: #30363d; --back: #0d1117; --panel: #161b22; --safe: #4cc38a;
    --faint: #7f8a95; --warn: #e2934a; --link: #6cb2ff; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 1.2rem 1rem 4rem; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0.4rem 0; } h2 { margin: 2.4rem 0 0.6rem; font-size: 1.2rem; }
h3 { margin: 1.6rem 0 0.4rem; font-size: 1rem; }
p, li { max-width: 80ch; } a { color: var(--link); } .soft { color: var(--soft); } .warn { color: var(--warn); }
nav { font-size: 0.9rem; } nav a { margin-right: 1rem; white-space: nowrap; display: inline-block; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: 0.7rem; font-size: 0.86em;
  white-space: pre-wrap; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.1rem 1rem; font-size: 0.9rem; margin: 0.6rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.box { overflow: auto; max-height: 46rem; border: 1px solid var(--line); border-radius: 6px; margin: 0.5rem 0 1rem;
  width: fit-content; max-width: 100%; }
table { border-collapse: separate; border-spacing: 0; font-size: 0.86rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.26rem 0.6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line);
  background: var(--back); }
tbody tr:last-child td { border-bottom: 0; }
th.text, td.text { text-align: left; } td.cause { white-space: normal; min-width: 22rem; max-width: 60rem;
  overflow-wrap: anywhere; }
thead th { background: var(--panel); } thead { position: sticky; top: 0; z-index: 2; }
tr > :first-child { position: sticky; left: 0; z-index: 1; }
th.family { text-align: center; border-left: 1px solid var(--line); color: var(--soft); font-weight: 600; }
td.mean, th.mean { background: var(--panel); }
th button { all: unset; cursor: pointer; font-weight: 600; } th button:focus-visible { outline: 2px solid var(--link); }
th button::after { content: "\\2195"; color: var(--faint); padding-left: 0.25em; font-size: 0.85em; }
th[aria-sort=descending] button::after { content: "\\2193"; color: var(--ink); }
th[aria-sort=ascending] button::after { content: "\\2191"; color: var(--ink); }
.best { font-weight: 700; color: var(--safe); } .unsafe { color: var(--faint); }
summary { cursor: pointer; margin: 0.5rem 0; }
figure { margin: 0.4rem 0 1rem; border: 1px solid var(--line); border-radius: 6px; padding: 0.5rem; overflow-x: auto; }
figure svg { display: block; max-width: 100%; height: auto; min-width: min(var(--wide), 40rem); color: var(--ink);
  fill: currentColor; }
@media (max-width: 600px) { dl { grid-template-columns: 1fr; } dt { margin-top: 0.3rem; }
  table { font-size: 0.8rem; } th, td { padding: 0.24rem 0.4rem; } }
@media print { .box { max-height: none; } thead { position: static; } }
"""

# A click sorts a table's rows by the column, a second one the other way round; empty cells stay last.
SCRIPT = """
for (const button of document.querySelectorAll('th button')) button.addEventListener('click', () => {
  const head = button.parentElement, table = head.closest('table'), body = table.tBodies[0];
  const down = head.getAttribute('aria-sort') !== 'descending';
  for (const each of table.querySelectorAll('th[aria-sort]')) each.removeAttribute('aria-sort');
  head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
  const key = row => { const cell = row.cells[head.cellIndex]; return cell.dataset.sort ?? cell.textContent.trim(); };
  const order = (a, b) => { const x = key(a), y = key(b);
    if (x === '' || y === '') return (x === '') - (y === '');
    const difference = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
    return down ? -difference : difference; };
  [...body.rows].sort(order).forEach(row => body.append(row));
});
"""
