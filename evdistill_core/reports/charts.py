"""Small line charts as SVG: nothing but elements and classes, coloured by the page's style."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from evdistill_core.reports.numbers import short

WIDTH, HEIGHT = 420, 190
WIDE = 1000
"""Width of a chart that takes the whole page."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 8, 34
_COLOURS = 6  # classes s0 .. s5 of the style
_DASHES = ("", "dash", "dots")  # lines differ without colour too
_MARKED = 40  # lines with fewer points show each of them

Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: for the key; not shown where a chart has one line.
        x: values, ascending; as many as ``y``.
        y: values; one that is not finite leaves a gap.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Chart:
    """A chart and what a reader should know of it.

    Attributes:
        title: what is shown, with its unit.
        note: one sentence of explanation.
        lines: at least one.
        x_label: below the axis, with its unit.
        is_wide: takes the whole width of the page.
    """

    title: str
    note: str
    lines: Sequence[Line]
    x_label: str
    is_wide: bool = False


def figure(chart: Chart) -> str:
    """Return a chart as an HTML figure: title, explanation, key of several lines, SVG."""
    keys = ""
    if len(chart.lines) > 1:
        items = "".join(
            f'<li><svg class="key" viewBox="0 0 30 12" aria-hidden="true"><line x1="0" y1="6" '
            f'x2="30" y2="6" class="{_class(i)}"/></svg>{html.escape(line.name)}</li>'
            for i, line in enumerate(chart.lines)
        )
        keys = f'<ul class="legend">{items}</ul>'
    wide = ' class="wide"' if chart.is_wide else ""
    return (
        f"<figure{wide}><figcaption><b>{html.escape(chart.title)}</b> {html.escape(chart.note)}"
        f"</figcaption>{keys}{_svg(chart)}</figure>"
    )


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round values inside [low, high], ascending, two to ``most`` of them.

    Args:
        low: finite.
        high: finite, above ``low``.
        most: how many there may be, at least 2.
    """
    rough = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((k * power for k in (1, 2, 2.5, 5, 10) if k * power >= rough * 0.999), 10 * power)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def _svg(chart: Chart) -> str:
    width = WIDE if chart.is_wide else WIDTH
    xs = [x for line in chart.lines for x in line.x]
    ys = [y for line in chart.lines for y in line.y if math.isfinite(y)]
    if not xs or not ys:
        return '<p class="note">No value.</p>'
    x_low, x_high = _span(min(xs), max(xs), at_zero=False)
    y_low, y_high = _span(min(ys), max(ys), at_zero=True)
    plot_w, plot_h = width - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def at_x(value: float) -> float:
        return _LEFT + (value - x_low) / (x_high - x_low) * plot_w

    def at_y(value: float) -> float:
        return _TOP + (y_high - value) / (y_high - y_low) * plot_h

    parts = []
    for tick in ticks(y_low, y_high):
        y = at_y(tick)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{width - _RIGHT}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_tick(tick)}</text>'
        )
    base = HEIGHT - _BOTTOM
    parts.append(f'<line class="axis" x1="{_LEFT}" y1="{base}" x2="{width - _RIGHT}" y2="{base}"/>')
    parts += [
        f'<text x="{at_x(tick):.1f}" y="{base + 14}" text-anchor="middle">{_tick(tick)}</text>'
        for tick in ticks(x_low, x_high, 9 if chart.is_wide else 5)
    ]
    middle = _LEFT + plot_w / 2
    label = html.escape(chart.x_label)
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 5}" text-anchor="middle">{label}</text>')
    for i, line in enumerate(chart.lines):
        runs = _runs(line)
        for run in runs:
            points = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in run)
            if len(run) > 1:
                parts.append(f'<polyline class="{_class(i)}" points="{points}"/>')
        if sum(map(len, runs)) <= _MARKED:
            parts += [
                f'<circle class="s{i % _COLOURS}" cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="2.6">'
                f"<title>{html.escape(line.name)}: {short(y)} at {short(x)}</title></circle>"
                for run in runs
                for x, y in run
            ]
    title = html.escape(chart.title, quote=True)
    return (
        f'<svg class="chart" viewBox="0 0 {width} {HEIGHT}" role="img" aria-label="{title}">'
        + "".join(parts)
        + "</svg>"
    )


def _class(number: int) -> str:
    dash = _DASHES[number // _COLOURS % len(_DASHES)] or _DASHES[number % len(_DASHES)]
    return f"s{number % _COLOURS} {dash}".strip()


def _runs(line: Line) -> list[list[tuple[float, float]]]:
    """Return the stretches of a line between values that are not finite."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(line.x, line.y, strict=True):
        if math.isfinite(y):
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _span(low: float, high: float, *, at_zero: bool) -> tuple[float, float]:
    """Return the ends of an axis; one that can begin at zero without wasting half of it does."""
    if at_zero and 0 < low < 0.5 * high:
        low = 0.0
    if high <= low:
        margin = abs(low) * 0.1 or 1.0
        return low - margin, high + margin
    if not at_zero:
        return low, high
    margin = 0.06 * (high - low)
    return low if low == 0 else low - margin, high + margin


def _tick(value: float) -> str:
    if abs(value) >= 10_000:
        for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(value) >= limit:
                return f"{value / limit:.4g}{unit}"
    return f"{value:.4g}"
