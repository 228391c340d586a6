"""Compare result files of evaluations: one table, the paired differences, and a Pareto plot of quality, size and speed.

    python evaluation/report.py outputs/evaluation/*/results.json
    python evaluation/report.py A/results.json B/results.json --quality mcq.letter --out outputs/evaluation/all

Files whose settings or items differ are put in one table, too, but what differs is said above it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluation.errors import RunError
from evaluation.summary import Values
from iris import results as stored
from iris.errors import IrisError, ResultsError
from iris.results import Paired, Results, Row, measure_of, shown

SIGNIFICANT = 0.05
SPEEDS = ("size", "load", "prefill", "decode", "batch", "memory")
QUALITIES = ("mcq.letter", "course.bits_per_byte", "course.bertscore_f1", "domain.key_facts", "general.key_facts")
"""What the Pareto plot shows unless told: the first of these that the results have."""


def write(folder: Path, results: Results, values: Mapping[str, Values] | None = None) -> None:
    """results.json, report.md and plots into ``folder``, each beside its place first and then renamed.

    Raises:
        RunError: the folder cannot be written.
    """
    from evaluation import plots

    about = stored.as_json(results) | ({"values": _rounded(values)} if values else {})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pictures = plots.draw(folder, results, quality_of(results))
        _replace(folder / "report.md", markdown(results, pictures))
        # Last: where it is, the others are complete.
        _replace(folder / "results.json", json.dumps(about, ensure_ascii=False, indent=1) + "\n")
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror or error}.") from error


def _replace(path: Path, text: str) -> None:
    beside = path.with_name(f"{path.name}.partial")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def _rounded(values: Mapping[str, Values]) -> dict[str, Any]:
    return {
        label: {
            name: {item: [round(number, 5) for number in columns] for item, columns in items.items()}
            for name, items in measures.items()
        }
        for label, measures in values.items()
    }


def markdown(results: Results, pictures: Iterable[str] = ()) -> str:
    """The whole report."""
    lines = [f"# {results.title}", "", f"{results.machine}, {results.date}.", ""]
    lines += [f"- {key}: {_setting(value)}" for key, value in results.settings.items()]
    lines += [f"- {note}" for note in results.notes]
    lines += ["- Brackets: 95 % bootstrap interval over items; of speeds, the lowest and highest of all rounds.", ""]
    for name, measures in groups(results).items():
        lines += [f"## {name}", "", table(results.rows, measures), ""]
    lines += ["## Differences on the same items", "", differences(results.paired), ""]
    lines += [f"![{Path(picture).stem}]({picture})" for picture in pictures]
    return "\n".join(lines).rstrip() + "\n"


def _setting(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_setting(one)}" for key, one in value.items())
    return str(value[0]) if isinstance(value, list | tuple) and value else str(value)


def groups(results: Results) -> dict[str, list[str]]:
    """The measures by task; speed and size last."""
    found: dict[str, list[str]] = {}
    for name in results.measures:
        task, _, bare = name.rpartition(".")
        if task:
            found.setdefault(task, []).append(name)
        elif bare in SPEEDS:
            continue
    speeds = [name for name in SPEEDS if name in results.measures]
    return found | ({"size and speed": speeds} if speeds else {})


def table(rows: Sequence[Row], measures: Sequence[str], *, whole_names: bool = False) -> str:
    """A Markdown table: a model a line, a measure a column, arrows to where better is."""
    arrows = {1: " ↑", -1: " ↓", 0: ""}
    titles = [_title(name, whole_names) + arrows[measure_of(name).better] for name in measures]
    lines = [f"| model | {' | '.join(titles)} |", f"|---|{'---:|' * len(measures)}"]
    for row in rows:
        cells = [_cell(row, name) for name in measures]
        lines.append(f"| {row.label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _title(name: str, whole: bool) -> str:
    task = name.rpartition(".")[0]
    return f"{task}: {measure_of(name).title}" if whole and task else measure_of(name).title


def _cell(row: Row, name: str) -> str:
    found = row.measures.get(name)
    if found is None:
        return "–"
    value = shown(name, found.value)
    if found.items == 1 or found.low == found.high:
        return value
    low, high = (shown(name, end).removesuffix(" %") for end in (found.low, found.high))
    return f"{value} [{low}, {high}]"


def differences(paired: Sequence[Paired]) -> str:
    """What differs beyond chance, in words; then all tests in a table."""
    if not paired:
        return "There is only one model, or the models share no items."
    lines = ["| measure | model | against | difference | p (Holm) | |", "|---|---|---|---:|---:|---|"]
    for one in paired:
        low, high = (shown(one.measure, end).removesuffix(" %") for end in (one.low, one.high))
        lines.append(
            f"| {_title(one.measure, True)} | {one.second} | {one.first} | {shown(one.measure, one.difference)} "
            f"[{low}, {high}] | {one.p:.3f} | {verdict(one)} |"
        )
    return "\n".join(lines)


def verdict(one: Paired) -> str:
    """Better, worse, or nothing shown."""
    if one.p >= SIGNIFICANT:
        return "no difference shown"
    return "**better**" if one.difference * measure_of(one.measure).better > 0 else "**worse**"


def quality_of(results: Results, wanted: str = "") -> str:
    """The measure of quality for the Pareto plot, or empty where there is none.

    Raises:
        ResultsError: the wanted one is in no row.
    """
    if wanted and wanted not in results.measures:
        raise ResultsError(f"No result has {wanted!r}. There are: {', '.join(results.measures)}.")
    return wanted or next((name for name in QUALITIES if name in results.measures), "")


def merged(paths: Sequence[Path]) -> Results:
    """All rows of several files as one result, with notes on what makes them hard to compare.

    Raises:
        ResultsError: a file is missing, broken, or of another version.
    """
    found = [(path, stored.read(path)) for path in paths]
    first = found[0][1]
    labels = [row.label for _, one in found for row in one.rows]
    rows: list[Row] = []
    paired: list[Paired] = []
    notes: list[str] = []
    for path, one in found:
        names = {
            row.label: f"{row.label} ({one.name})" if labels.count(row.label) > 1 else row.label for row in one.rows
        }
        rows += [replace(row, label=names[row.label]) for row in one.rows]
        paired += [
            replace(pair, first=names.get(pair.first, pair.first), second=names.get(pair.second, pair.second))
            for pair in one.paired
        ]
        if one.machine != first.machine:
            notes.append(f"{path.parent.name} was measured on {one.machine}: do not compare its speeds.")
        for key in sorted({*one.settings, *first.settings} - {"items"}):
            if one.settings.get(key) != first.settings.get(key):
                notes.append(
                    f"{path.parent.name} has {key} {one.settings.get(key)}, {first.name} {first.settings.get(key)}."
                )
        items, others = one.settings.get("items", {}), first.settings.get("items", {})
        differing = [name for name in items if name in others and items[name] != others[name]]
        if differing:
            notes.append(f"{path.parent.name} has other items in {', '.join(differing)}: do not compare those.")
    return Results("comparison", "Comparison", first.date, first.machine, tuple(rows), tuple(paired), {}, tuple(notes))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the process's exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("files", nargs="+", type=Path, help="results.json files, or folders with one")
    parser.add_argument("--quality", default="", help="the measure on the Pareto plot, such as mcq.letter")
    parser.add_argument("--out", type=Path, default=Path("outputs/evaluation/comparison"))
    options = parser.parse_args(arguments)
    try:
        paths = [path / "results.json" if path.is_dir() else path for path in options.files]
        results = merged(paths)
        quality = quality_of(results, options.quality)
        from evaluation import plots

        options.out.mkdir(parents=True, exist_ok=True)
        picture = plots.pareto(options.out, results, quality)
        text = markdown(results, [picture] if picture else [])
        _replace(options.out / "report.md", text)
        print(text)
        print(f"{options.out / 'report.md'} written.", file=sys.stderr)
    except IrisError as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"report: {options.out} cannot be written: {error.strerror or error}.", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
