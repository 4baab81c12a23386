"""What the HTML reports share: text that is safe in HTML, and pictures inside the page."""

import base64
import html
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def text(value: object) -> str:
    """``value`` as HTML shows it."""
    return html.escape(str(value))


def inline_svg(figure: "Figure", prefix: str, title: str) -> str:
    """A figure as SVG that takes the page's colours, by day and by night.

    Args:
        figure: black and grey lines take the page's ink.
        prefix: of the picture's ids, which must be the page's own: every picture numbers its parts alike.
        title: read to those who don't see it.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = svg.replace("#000000", "currentColor").replace("#444444", "var(--soft)")
    width = figure.get_size_inches()[0]
    return svg.replace("<svg", f'<svg role="img" aria-label="{text(title)}" style="--wide: {width:.1f}in"', 1)


def inline_png(path: Path, title: str) -> str:
    """A PNG file as an image inside the page."""
    content = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<img alt="{text(title)}" src="data:image/png;base64,{content}">'
