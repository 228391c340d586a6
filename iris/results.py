"""Results of evaluations, as files: what the scripts in evaluation/ write and the Compare tab shows.

A results file is one JSON object. ``format`` is its version; a file of another version is refused, since its numbers
may mean something else. Beside what is here it holds the single values of every item, which only the scripts read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from iris import settings
from iris.errors import ResultsError

FORMAT = 1
KIND = "iris-evaluation"


@dataclass(frozen=True, slots=True)
class Measure:
    """How a measure is shown. ``better`` is 1 where more is better, -1 where less is, 0 where neither is."""

    title: str
    better: int
    percent: bool = False
    digits: int = 3


MEASURES: dict[str, Measure] = {
    "perplexity": Measure("perplexity", -1, digits=2),
    "bits_per_byte": Measure("bits per byte", -1),
    "letter": Measure("accuracy, likeliest letter", 1, percent=True),
    "text": Measure("accuracy, likeliest text", 1, percent=True),
    "generated": Measure("accuracy, letter it writes", 1, percent=True),
    "unparsed": Measure("no letter written", -1, percent=True),
    "bertscore_p": Measure("BERTScore precision", 1),
    "bertscore_r": Measure("BERTScore recall", 1),
    "bertscore_f1": Measure("BERTScore F1", 1),
    "rouge_l": Measure("ROUGE-L", 1),
    "key_facts": Measure("key facts mentioned", 1, percent=True),
    "leaks": Measure("meta-instructions", -1, percent=True),
    "stops": Measure("ends by itself", 1, percent=True),
    "repetition": Measure("repetition", -1, percent=True),
    "length": Measure("words", 0, digits=0),
    "same_token": Measure("same next token", 1, percent=True),
    "judge": Measure("preferred by the judge", 1, percent=True),
    "prefill": Measure("prompt tokens/s", 1, digits=0),
    "decode": Measure("written tokens/s", 1, digits=1),
    "batch": Measure("tokens/s, 8 at once", 1, digits=0),
    "load": Measure("load, s", -1, digits=2),
    "memory": Measure("peak memory, MB", -1, digits=0),
    "size": Measure("size, MB", -1, digits=0),
}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval, over so many items. The interval of what was measured once is the number."""

    value: float
    low: float
    high: float
    items: int = 1


@dataclass(frozen=True, slots=True)
class Row:
    """One model. ``measures`` are by ``task.measure``, what belongs to no task (speed, size) by its bare name."""

    label: str
    model: str
    backend: str
    measures: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class Paired:
    """``second`` minus ``first`` on the same items; ``p`` is corrected for the number of tests in the file."""

    measure: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    items: int


@dataclass(frozen=True, slots=True)
class Results:
    """One evaluation. ``settings`` must be equal for two to be comparable; ``notes`` are for whoever reads them."""

    name: str
    title: str
    date: str
    machine: str
    rows: tuple[Row, ...]
    paired: tuple[Paired, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def measures(self) -> tuple[str, ...]:
        """Every measure that a row has, in the order of first appearance."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.measures))


def measure_of(name: str) -> Measure:
    """How ``task.measure`` is shown; an unknown one by its name."""
    return MEASURES.get(name.rpartition(".")[2], Measure(name, 0))


def shown(name: str, value: float) -> str:
    """The value as it is read: percent, or with the measure's decimals."""
    about = measure_of(name)
    return f"{100 * value:.1f} %" if about.percent else f"{value:,.{about.digits}f}"


def as_json(results: Results) -> dict[str, Any]:
    """What a results file holds."""
    return {"kind": KIND, "format": FORMAT, **asdict(results)}


def read(path: Path) -> Results:
    """A results file.

    Raises:
        ResultsError: it is missing, broken, something else, or of another version.
    """
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ResultsError(f"There is no file {path}.") from error
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} cannot be read: {error}") from error
    if not isinstance(about, dict) or about.get("kind") != KIND:
        raise ResultsError(f"{path} is no results file of an evaluation.")
    if about.get("format") != FORMAT:
        raise ResultsError(
            f"{path} is of version {about.get('format')!r}, and this Iris reads version {FORMAT}. Its numbers may mean "
            "something else: run the evaluation again."
        )
    try:
        return _results(about)
    except (KeyError, TypeError, ValueError) as error:
        raise ResultsError(f"{path} is broken: {error!r} is wrong or missing. Run the evaluation again.") from error


def _results(about: Mapping[str, Any]) -> Results:
    rows = tuple(
        Row(
            str(row["label"]),
            str(row["model"]),
            str(row["backend"]),
            {str(name): _estimate(value) for name, value in row["measures"].items()},
        )
        for row in about["rows"]
    )
    return Results(
        str(about["name"]),
        str(about["title"]),
        str(about["date"]),
        str(about["machine"]),
        rows,
        tuple(Paired(**row) for row in about["paired"]),
        dict(about["settings"]),
        tuple(map(str, about["notes"])),
    )


def _estimate(about: Mapping[str, Any]) -> Estimate:
    found = Estimate(float(about["value"]), float(about["low"]), float(about["high"]), int(about["items"]))
    if not all(map(math.isfinite, (found.value, found.low, found.high))):
        raise ValueError("a value is no number")
    return found


def folders() -> tuple[Path, ...]:
    """Where the page looks for results: those that come with Iris, and the teacher's own in the state folder."""
    return Path(__file__).parent / "assets" / "results", settings.home() / "results"


def stored() -> Iterator[Path]:
    """Every results file that the page can show, by name; a teacher's own hides a supplied one of the same name."""
    found = {path.name: path for folder in folders() for path in sorted(folder.glob("*.json"))}
    yield from (found[name] for name in sorted(found))
