"""Report pages: plain HTML and PNG files beside it, nothing from the network."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from evdistill_core.foundation.files import write_text_atomic

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em;
  color: #1b1f24; background: #fff; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { padding: 0.3em 0.8em; border-bottom: 1px solid #d8dee4; text-align: right; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; border: 1px solid #d8dee4; }
pre { background: #f6f8fa; padding: 1em; overflow-x: auto; }
figcaption, .note { color: #57606a; }
"""


class ReportPage:
    """Collects blocks and writes one page.

    Args:
        title: heading of the page.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._blocks: list[str] = []

    def heading(self, text: str) -> None:
        """Add a heading."""
        self._blocks.append(f"<h2>{html.escape(text)}</h2>")

    def paragraph(self, text: str) -> None:
        """Add a paragraph."""
        self._blocks.append(f"<p>{html.escape(text)}</p>")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Add a table; floats are shown with three decimals."""
        cells = "".join(f"<th>{html.escape(h)}</th>" for h in head)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(show(c))}</td>" for c in row) + "</tr>"
            for row in rows
        )
        self._blocks.append(f"<table><tr>{cells}</tr>{body}</table>")

    def picture(self, file_name: str, caption: str) -> None:
        """Add a picture that lies beside the page."""
        name, text = html.escape(file_name, quote=True), html.escape(caption)
        self._blocks.append(
            f'<figure><img src="{name}" alt="{html.escape(caption, quote=True)}">'
            f"<figcaption>{text}</figcaption></figure>"
        )

    def code(self, text: str) -> None:
        """Add a block of preformatted text."""
        self._blocks.append(f"<pre>{html.escape(text)}</pre>")

    def write(self, path: Path) -> None:
        """Write the page in one step."""
        title = html.escape(self._title)
        write_text_atomic(
            path,
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f"<style>{_STYLE}</style></head>\n<body><h1>{title}</h1>\n"
            + "\n".join(self._blocks)
            + "\n</body></html>\n",
        )


def show(value: object) -> str:
    """Return a table cell's text: floats with three decimals, missing values as a dash."""
    if value is None or (isinstance(value, float) and value != value):  # noqa: PLR0124 - NaN
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
