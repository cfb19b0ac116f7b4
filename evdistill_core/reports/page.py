"""One template for every report: headline, scores, verdict, next commands, tables, curves, origin.

A page is one file: style and pictures are inside, nothing comes from the network and nothing runs.
Every text is escaped, because class names, paths and commands come from files and users.
"""

from __future__ import annotations

import base64
import html
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.drawing.colours import Bgr, Image
from evdistill_core.foundation.files import write_text_atomic
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.reports.charts import Chart, figure
from evdistill_core.reports.numbers import NONE, percent, short
from evdistill_core.reports.origin import Origin, origin_rows
from evdistill_core.reports.style import CSS

PAGE = "report.html"
"""Name of the page in a folder of results."""
_DASH = "&ndash;"  # of cells without a value
_CONFUSION_INK = (0, 114, 178)
_MAX_WIDTH_PX = 1600  # of a picture that is made smaller: the page shows no more
_PHOTO_CHARACTERS = 80_000  # a small picture that is larger as PNG is a photograph, or noise
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

_log = logging.getLogger(__name__)
Mood = Literal["plain", "good", "warn"]


@dataclass(frozen=True)
class ClassCell:
    """A cell with a class: its colour and its name."""

    name: str
    color_rgb: tuple[int, int, int]


@dataclass(frozen=True)
class BarCell:
    """A cell with a share, 0..1, as percent above a bar; a dash for None and NaN."""

    value: float | None


Cell = str | int | float | None | ClassCell | BarCell


class ReportPage:
    """Collects what a report says and writes one page.

    Args:
        kind: of report, such as "Training".
        title: what the report is about.
        lead: one sentence: what was done, when, with what.
    """

    def __init__(self, kind: str, title: str, lead: str) -> None:
        self._kind, self._title, self._lead = kind, title, lead
        self._verdicts: list[str] = []
        self._scores: list[str] = []
        self._next: list[str] = []
        self._blocks: list[str] = []
        self._origin: list[str] = []

    def verdict(self, text: str, mood: Mood = "plain", *, head: str = "") -> None:
        """Add a sentence that stands out below the headline."""
        above = f"<b>{html.escape(head)}</b>" if head else ""
        self._verdicts.append(f'<div class="verdict {mood}">{above}{html.escape(text)}</div>')

    def score(self, name: str, value: str, more: str = "") -> None:
        """Add a number to the headline.

        Args:
            name: of the number.
            value: with its unit.
            more: what a reader must know to read it right.
        """
        below = f'<span class="more">{html.escape(more)}</span>' if more else ""
        self._scores.append(
            f'<li><span class="name">{html.escape(name)}</span>'
            f'<span class="value">{html.escape(value)}</span>{below}</li>'
        )

    def next_step(self, text: str, command: str) -> None:
        """Add a command to go on with."""
        self._next.append(f"<li>{html.escape(text)}<pre>{html.escape(command)}</pre></li>")

    def heading(self, text: str, note: str = "") -> None:
        """Begin a section."""
        self._blocks.append(f"<h2>{html.escape(text)}</h2>" + _note(note))

    def subheading(self, text: str, note: str = "") -> None:
        """Begin a part of a section."""
        self._blocks.append(f"<h3>{html.escape(text)}</h3>" + _note(note))

    def paragraph(self, text: str) -> None:
        """Add a paragraph."""
        self._blocks.append(f"<p>{html.escape(text)}</p>")

    def legend(
        self, classes: ClassTable | None, more: Sequence[tuple[str, Bgr]] = (), note: str = ""
    ) -> None:
        """Add the colours of classes and what else the pictures show.

        Args:
            classes: in the order of their ids; None: none are shown.
            more: names and BGR colours beside them (``drawing.overlay.EVENT_COLOURS``).
            note: one sentence below.
        """
        rows = [] if classes is None else [(c.name, c.color_rgb) for c in classes.classes]
        rows += [(name, (red, green, blue)) for name, (blue, green, red) in more]
        items = "".join(f"<li>{_swatch(color)}{html.escape(name)}</li>" for name, color in rows)
        self._blocks.append(f'<ul class="legend">{items}</ul>' + _note(note))

    def table(
        self,
        head: Sequence[str],
        rows: Sequence[Sequence[Cell]],
        *,
        caption: str = "",
        totals: int = 0,
        text_columns: Sequence[int] = (),
    ) -> None:
        """Add a table.

        Args:
            head: a name for each column, with its unit.
            rows: as many cells each; integers get thousands separators, floats three digits.
            caption: above the table.
            totals: so many last rows are sums or means and stand out.
            text_columns: columns that hold sentences, aligned left.
        """
        texts = set(text_columns)
        cells = "".join(
            f"<th{_text_class(i in texts)} scope='col'>{html.escape(name)}</th>"
            for i, name in enumerate(head)
        )
        body = "".join(
            f"<tr{_total_class(i >= len(rows) - totals)}>"
            + "".join(_cell(cell, is_text=k in texts) for k, cell in enumerate(row))
            + "</tr>"
            for i, row in enumerate(rows)
        )
        self._blocks.append(
            f'{_note(caption)}<div class="scroll"><table><thead><tr>{cells}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )

    def confusion(
        self, counts: npt.NDArray[np.int64], classes: ClassTable, *, unit: str = "pixels"
    ) -> None:
        """Add the confusion of true classes (rows) and predicted ones, in percent of each row.

        Args:
            counts: (K, K + 1), the last column "no label".
            classes: K of them.
            unit: of what is counted.
        """
        total = counts.sum(1, keepdims=True)
        shares = counts / np.maximum(total, 1)
        names = [*classes.names, "no label"] if counts[:, -1].any() else list(classes.names)
        head = "".join(f"<th scope='col'>{html.escape(n)}</th>" for n in ["true class", *names])
        rows = []
        for k, info in enumerate(classes.classes):
            label = ClassCell(info.name, info.color_rgb)
            cells = "".join(_shade(float(s)) if total[k, 0] else _shade(None) for s in
                            shares[k, : len(names)])  # fmt: skip
            rows.append(f"<tr>{_cell(label)}{cells}<td>{int(total[k, 0]):,}</td></tr>")
        caption = "Rows: true class. Columns: predicted class, % of the row. Last column: " + unit
        self._blocks.append(
            f'{_note(caption)}<div class="scroll"><table class="confusion">'
            f"<thead><tr>{head}<th scope='col'>{html.escape(unit)}</th></tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table></div>"
        )

    def charts(self, charts: Sequence[Chart]) -> None:
        """Add charts beside each other."""
        if charts:
            self._blocks.append('<div class="charts">' + "".join(map(figure, charts)) + "</div>")

    def panels(
        self, heads: Sequence[str], rows: Sequence[Sequence[Image]], caption: str = ""
    ) -> None:
        """Add a grid of small pictures with a head above each column.

        Args:
            heads: of the columns; empty: the pictures follow each other and wrap.
            rows: RGB pictures, (H, W, 3) uint8, as many a row as there are heads.
            caption: above the grid.
        """
        if not rows:
            return
        alt = html.escape(caption, quote=True)
        if not heads:
            pictures = "".join(_image(p, alt) for row in rows for p in row)
            self._blocks.append(_note(caption) + f'<div class="flow">{pictures}</div>')
            return
        cells = "".join(f'<div class="head">{html.escape(h)}</div>' for h in heads)
        cells += "".join(
            _image(picture, f"{html.escape(head, quote=True)}, row {i}")
            for i, row in enumerate(rows, 1)
            for head, picture in zip(heads, row, strict=True)
        )
        style = f"grid-template-columns: repeat({len(heads)}, minmax(0, 1fr))"
        if len(heads) * rows[0][0].shape[1] < 500:
            style += f"; max-width: {len(heads) * 15}rem"
        self._blocks.append(
            _note(caption) + f'<figure class="panels" style="{style}">{cells}</figure>'
        )

    def picture(self, image: Image, caption: str) -> None:
        """Add one large picture, (H, W, 3) uint8 BGR, as a compressed copy."""
        height, width = image.shape[:2]
        if width > _MAX_WIDTH_PX:
            size = (_MAX_WIDTH_PX, max(1, round(height * _MAX_WIDTH_PX / width)))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        data = _encoded(image, ".webp", [cv2.IMWRITE_WEBP_QUALITY, 85])
        alt = html.escape(caption, quote=True)
        self._blocks.append(
            f'<figure class="picture"><img src="data:image/webp;base64,{data}" alt="{alt}">'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )

    def links(self, files: Mapping[str, str]) -> None:
        """Add links to files beside the page: path from its folder to what it is."""
        items = "".join(
            f'<li><a href="{html.escape(quote(path), quote=True)}"><code>{html.escape(path)}'
            f"</code></a> {html.escape(text)}</li>"
            for path, text in files.items()
        )
        self._blocks.append(f"<ul>{items}</ul>")

    def details(self, summary: str, text: str) -> None:
        """Add preformatted text that is opened when wanted."""
        self._blocks.append(
            f"<details><summary>{html.escape(summary)}</summary>"
            f"<pre>{html.escape(text)}</pre></details>"
        )

    def origin(self, origin: Origin, more: Mapping[str, str] | None = None) -> None:
        """Say at the end what made this report.

        Args:
            origin: command, time, machine and version.
            more: further rows by name.
        """
        rows = {**(more or {}), **origin_rows(origin)}
        self._origin = [
            f"<tr><td>{html.escape(name)}</td><td>"
            + (f"<code>{html.escape(text)}</code>" if name == "Command" else html.escape(text))
            + "</td></tr>"
            for name, text in rows.items()
        ]

    def html(self) -> str:
        """Return the page."""
        title = html.escape(f"{self._kind}: {self._title}")
        parts = [
            f'<header><p class="kind">{html.escape(self._kind)}</p>'
            f"<h1>{html.escape(self._title)}</h1>"
            f'<p class="lead">{html.escape(self._lead)}</p></header>',
            *self._verdicts,
        ]
        if self._scores:
            parts.append(f'<ul class="scores">{"".join(self._scores)}</ul>')
        if self._next:
            parts.append(f'<h2>Next</h2><ul class="next">{"".join(self._next)}</ul>')
        parts += self._blocks
        if self._origin:
            parts.append(
                f'<h2>How this was made</h2><table class="origin">{"".join(self._origin)}</table>'
            )
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
            f"<title>{title}</title><style>{CSS}</style></head>\n<body>\n"
            + "\n".join(parts)
            + "\n<footer>Made by evdistill. This page is one file and needs no network.</footer>"
            + "\n</body></html>\n"
        )

    def write(self, path: Path) -> Path | None:
        """Write the page in one step.

        A report is the last thing of a command whose work is done: where it cannot be written, a
        warning tells why, and the command goes on.

        Returns:
            The page; None where it could not be written.
        """
        try:
            write_text_atomic(path, self.html())
        except OSError as error:
            _log.warning("the report %s cannot be written: %s", path, error.strerror or error)
            return None
        return path


def _note(text: str) -> str:
    return f'<p class="note">{html.escape(text)}</p>' if text else ""


def _swatch(color_rgb: tuple[int, int, int]) -> str:
    red, green, blue = (int(c) for c in color_rgb)
    return f'<span class="swatch" style="background:rgb({red},{green},{blue})"></span>'


def _text_class(is_text: bool) -> str:
    return ' class="text"' if is_text else ""


def _total_class(is_total: bool) -> str:
    return ' class="total"' if is_total else ""


def _cell(cell: Cell, *, is_text: bool = False) -> str:
    if isinstance(cell, ClassCell):
        return f"<td>{_swatch(cell.color_rgb)}{html.escape(cell.name)}</td>"
    if isinstance(cell, BarCell):
        return _bar(cell.value)
    text = cell_text(cell)
    return f"<td{_text_class(is_text)}>{_DASH if text == NONE else html.escape(text)}</td>"


def cell_text(cell: str | float | None) -> str:
    """Return what a plain cell shows."""
    if cell is None:
        return NONE
    if isinstance(cell, str):
        return cell
    return f"{cell:,}" if isinstance(cell, int) else short(cell)


def _bar(value: float | None) -> str:
    text = percent(value)
    if text == NONE or value is None:
        return f'<td class="bar">{_DASH}</td>'
    width = 100 * min(1.0, max(0.0, value))
    return (
        f'<td class="bar">{text}<svg viewBox="0 0 100 4" preserveAspectRatio="none" '
        f'aria-hidden="true"><rect class="rest" width="100" height="4"/>'
        f'<rect width="{width:.1f}" height="4"/></svg></td>'
    )


def _shade(share: float | None) -> str:
    """Return a cell of a confusion, the darker the larger its share."""
    if share is None:
        return f"<td>{_DASH}</td>"
    red, green, blue = _CONFUSION_INK
    ink = f"rgba({red},{green},{blue},{0.7 * share:.2f})"
    return f'<td style="background:{ink}">{percent(share)}</td>'


def _image(picture_rgb: Image, alt: str) -> str:
    image = np.ascontiguousarray(picture_rgb[..., ::-1])
    kind, data = "png", _encoded(image, ".png", [])
    if len(data) > _PHOTO_CHARACTERS:
        kind, data = "webp", _encoded(image, ".webp", [cv2.IMWRITE_WEBP_QUALITY, 90])
    return f'<img src="data:image/{kind};base64,{data}" alt="{alt}">'


def _encoded(image_bgr: Image, suffix: str, options: Sequence[int]) -> str:
    _, data = cv2.imencode(suffix, image_bgr, list(options))
    return base64.b64encode(data.tobytes()).decode("ascii")
