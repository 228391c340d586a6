"""Evaluation results as plots in HTML and SVG: every measure with its interval, and quality against speed."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

from iris.results import Results, Row, measure_of, shown

PLOTTED = 1000.0
"""Width of the drawing area of the scatter plot, in its own units."""

Title = Callable[[str], str]
"""``task.measure`` -> how it is called in the reader's language."""


def intervals(results: Results, names: Sequence[str], title: Title) -> str:
    """A block for each measure: the models below each other on one scale, each value with its interval."""
    blocks = []
    for name in names:
        rows = [row for row in results.rows if name in row.measures]
        low, high = _scale(name, rows)
        lines = "".join(_line(name, row, low, high) for row in rows)
        blocks.append(f'<section class="iris-measure"><h4>{html.escape(title(name))}</h4><dl>{lines}</dl></section>')
    return f'<div class="iris-measures">{"".join(blocks)}</div>' if blocks else ""


def _scale(name: str, rows: Sequence[Row]) -> tuple[float, float]:
    """What the track spans: 0 to 100 % of shares, else a little more than all intervals."""
    if measure_of(name).percent:
        return 0.0, 1.0
    low = min(row.measures[name].low for row in rows)
    high = max(row.measures[name].high for row in rows)
    room = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
    return low - room, high + room


def _line(name: str, row: Row, low: float, high: float) -> str:
    found = row.measures[name]

    def at(value: float) -> float:
        return min(100.0, max(0.0, 100 * (value - low) / (high - low)))

    between = shown(name, found.value)
    if found.low != found.high:
        between += f" [{shown(name, found.low)}, {shown(name, found.high)}]"
    return (
        f"<dt>{html.escape(row.label)}</dt><dd>"
        f'<span class="iris-track" aria-hidden="true">'
        f'<i style="left:{at(found.low):.1f}%;width:{at(found.high) - at(found.low):.1f}%"></i>'
        f'<b style="left:{at(found.value):.1f}%"></b></span>'
        f"<span>{html.escape(between)}</span></dd>"
    )


def scatter(results: Results, quality: str, pace: str, title: Title) -> str:
    """Quality against speed, up and right better; empty where fewer than two models have both."""
    rows = [row for row in results.rows if quality in row.measures and pace in row.measures]
    if len(rows) < 2:
        return ""
    xs = _spread([row.measures[pace].value for row in rows])
    ys = _spread([measure_of(quality).better * row.measures[quality].value for row in rows])
    points = []
    for row, x, y in zip(rows, xs, ys, strict=True):
        left, top = 60 + x * (PLOTTED - 260), 300 - y * 240
        said = f"{row.label}: {shown(quality, row.measures[quality].value)}, {shown(pace, row.measures[pace].value)}"
        points.append(
            f'<circle cx="{left:.0f}" cy="{top:.0f}" r="9"><title>{html.escape(said)}</title></circle>'
            f'<text x="{left + 16:.0f}" y="{top + 6:.0f}">{html.escape(row.label)}</text>'
        )
    described = html.escape(f"{title(quality)} / {title(pace)}")
    return (
        f'<figure class="iris-scatter"><svg viewBox="0 0 {PLOTTED:.0f} 360" role="img" aria-label="{described}">'
        f'<path d="M40 20V330H{PLOTTED - 20:.0f}" fill="none"/>{"".join(points)}'
        f'<text x="{PLOTTED - 20:.0f}" y="354" text-anchor="end">{html.escape(title(pace))} →</text>'
        f'<text x="48" y="24">↑ {html.escape(title(quality))}</text></svg></figure>'
    )


def _spread(values: Sequence[float]) -> list[float]:
    """Each value between 0 and 1."""
    low, high = min(values), max(values)
    return [(value - low) / (high - low) if high > low else 0.5 for value in values]
