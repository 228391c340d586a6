"""Pictures of results: every measure with its interval, and quality against size and speed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iris.results import Results, Row, measure_of, shown

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's, which the colour-blind can tell apart."""

SPEEDS = ("decode", "batch")


def draw(folder: Path, results: Results, quality: str) -> list[str]:
    """All plots of a result as PNG; their file names."""
    names = [name for name in results.measures if "." in name and measure_of(name).better]
    made = [_intervals(folder / "intervals.png", results, names)] if names else []
    picture = pareto(folder, results, quality)
    return [*made, *([picture] if picture else [])]


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _intervals(path: Path, results: Results, names: Sequence[str]) -> str:
    """A small panel for each measure, the models below each other, so that intervals can be compared by eye."""
    pyplot = _pyplot()
    columns = min(4, len(names))
    lines = -(-len(names) // columns)
    height = 0.9 + 0.28 * len(results.rows)
    figure, axes = pyplot.subplots(lines, columns, figsize=(3.4 * columns, height * lines), squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    for number, name in enumerate(names):
        axis = axes.flat[number]
        scale = 100 if measure_of(name).percent else 1
        for place, row in enumerate(results.rows):
            found = row.measures.get(name)
            if found is None:
                continue
            colour = COLOURS[place % len(COLOURS)]
            axis.plot([scale * found.low, scale * found.high], [place, place], color=colour, linewidth=2)
            axis.plot(scale * found.value, place, "o", color=colour)
        axis.set_yticks(range(len(results.rows)), [row.label for row in results.rows] if number % columns == 0 else [])
        axis.set_ylim(len(results.rows) - 0.5, -0.5)
        if scale == 100:
            axis.set_xlim(-3, 103)
        arrow = "→ better" if measure_of(name).better > 0 else "← better"
        unit = " (%)" if measure_of(name).percent else ""
        axis.set_title(f"{name.rpartition('.')[0]}: {measure_of(name).title}{unit}\n{arrow}", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(axis="x", alpha=0.3)
    return _save(pyplot, figure, path)


def pareto(folder: Path, results: Results, quality: str) -> str:
    """Quality against speed; the area of a point is the model's size, a line joins what nothing beats in both.

    Empty where the results have no quality or no speed.
    """
    pace = next((name for name in SPEEDS if any(name in row.measures for row in results.rows)), "")
    rows = [row for row in results.rows if quality in row.measures and pace in row.measures]
    if not quality or not rows:
        return ""
    pyplot = _pyplot()
    figure, axis = pyplot.subplots(figsize=(7, 4.5))
    scale = 100 if measure_of(quality).percent else 1
    largest = max((row.measures["size"].value for row in rows if "size" in row.measures), default=1.0) or 1.0
    for place, row in enumerate(rows):
        x, y = row.measures[pace].value, scale * row.measures[quality].value
        size = row.measures["size"].value if "size" in row.measures else largest
        colour = COLOURS[place % len(COLOURS)]
        axis.errorbar(
            x,
            y,
            yerr=[
                [max(0.0, y - scale * row.measures[quality].low)],
                [max(0.0, scale * row.measures[quality].high - y)],
            ],
            color=colour,
            alpha=0.5,
        )
        axis.scatter(x, y, s=40 + 260 * size / largest, color=colour, alpha=0.8)
        axis.annotate(
            f"{row.label}, {shown('size', size)} MB", (x, y), xytext=(8, 6), textcoords="offset points", fontsize=8
        )
    front = pareto_front(rows, pace, quality)
    axis.plot(
        [row.measures[pace].value for row in front],
        [scale * row.measures[quality].value for row in front],
        "--",
        color="grey",
        linewidth=1,
        zorder=0,
    )
    if measure_of(quality).better < 0:
        axis.invert_yaxis()
    axis.set_xlabel(measure_of(pace).title)
    task = quality.rpartition(".")[0]
    axis.set_ylabel(f"{task}: {measure_of(quality).title}{' (%)' if measure_of(quality).percent else ''}")
    axis.set_title("Up and right is better; the area is the size", fontsize=9)
    axis.grid(alpha=0.3)
    axis.margins(0.2)
    return _save(pyplot, figure, folder / "pareto.png")


def pareto_front(rows: Sequence[Row], pace: str, quality: str) -> list[Row]:
    """The rows that no other beats in both speed and quality, the slowest first."""
    sign = measure_of(quality).better
    best: list[Row] = []
    for row in sorted(rows, key=lambda row: (-row.measures[pace].value, -sign * row.measures[quality].value)):
        if not best or sign * row.measures[quality].value > sign * best[-1].measures[quality].value:
            best.append(row)
    return best[::-1]


def _save(pyplot: Any, figure: Any, path: Path) -> str:
    beside = path.with_name(f"{path.stem}.partial.png")
    figure.tight_layout()
    figure.savefig(beside, dpi=110)
    pyplot.close(figure)
    beside.replace(path)
    return path.name
