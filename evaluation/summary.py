"""From records to numbers: every measure of every item, its mean with an interval, and paired differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data.text import words
from evaluation import intervals, metrics
from evaluation.intervals import Statistic
from evaluation.likeness import Likeness
from evaluation.records import Key, Records
from evaluation.tasks import Item, Task
from iris.results import Estimate, Paired, measure_of

Values = dict[str, dict[str, tuple[float, ...]]]
"""``task.measure`` -> item -> columns of the measure's statistic."""

STATISTICS: dict[str, Statistic] = {"perplexity": intervals.perplexity_of, "bits_per_byte": intervals.bits_of}
UNPAIRED = {"perplexity", "bertscore_p", "bertscore_r", "unparsed", "length", "same_token"}
"""Not tested: others say the same (perplexity is bits per byte on another scale), or they are neither good nor bad."""

Likenesses = Mapping[tuple[str, str], Likeness]
"""Rescaled BERTScore by task and item."""


def values_of(tasks: Sequence[Task], found: Mapping[Key, Mapping[str, Any]], likenesses: Likenesses) -> Values:
    """Every measure of every item that has a record."""
    values: Values = {}
    for task in tasks:
        for item in task.items:
            for name, columns in _of_item(task, item, found, likenesses):
                values.setdefault(f"{task.name}.{name}", {})[item.id] = columns
    return values


def _of_item(
    task: Task, item: Item, found: Mapping[Key, Mapping[str, Any]], likenesses: Likenesses
) -> Iterator[tuple[str, tuple[float, ...]]]:
    reference = found.get((task.name, item.id, "reference"))
    if reference:
        columns = (float(reference["logprob"]), float(reference["tokens"]), float(reference["bytes"]))
        yield "perplexity", columns
        yield "bits_per_byte", columns
    options = found.get((task.name, item.id, "options"))
    if options:
        yield "letter", (float(metrics.best_option(options["letters"]) == item.right),)
        yield "text", (float(metrics.best_option(options["texts"], options["sizes"]) == item.right),)
    answer = found.get((task.name, item.id, "answer"))
    if not answer:
        return
    text = str(answer["answer"])
    if task.kind == "choice":
        chosen = metrics.letter(text, len(item.options))
        yield "generated", (float(chosen == item.right),)
        yield "unparsed", (float(chosen is None),)
        return
    likeness = likenesses.get((task.name, item.id))
    if likeness:
        yield "bertscore_f1", (likeness.f1,)
        yield "bertscore_p", (likeness.precision,)
        yield "bertscore_r", (likeness.recall,)
    if item.reference:
        yield "rouge_l", (metrics.rouge_l(text, item.reference),)
    if item.facts:
        yield "key_facts", (metrics.key_facts(text, item.facts),)
    yield "leaks", (metrics.leaks(text),)
    yield "stops", (float(answer["stopped"]),)
    yield "repetition", (metrics.repetition(text),)
    yield "length", (float(len(words(text))),)


def estimates(values: Values) -> dict[str, Estimate]:
    """Every measure with its interval."""
    return {name: intervals.estimate(list(items.values()), _statistic(name)) for name, items in values.items()}


def compare(labels: Sequence[str], values: Mapping[str, Values]) -> tuple[Paired, ...]:
    """Every model against the first on the items that both have; p-values corrected over all of these tests (Holm)."""
    found: list[Paired] = []
    first = labels[0]
    for second in labels[1:]:
        for name, base in values[first].items():
            other = values[second].get(name, {})
            both = [item for item in base if item in other]
            if not both or name.rpartition(".")[2] in UNPAIRED or not measure_of(name).better:
                continue
            seen = intervals.paired([base[item] for item in both], [other[item] for item in both], _statistic(name))
            found.append(Paired(name, first, second, seen.value, seen.low, seen.high, seen.p, seen.items))
    corrected = intervals.holm([one.p for one in found])
    return tuple(
        Paired(one.measure, one.first, one.second, one.difference, one.low, one.high, p, one.items)
        for one, p in zip(found, corrected, strict=True)
    )


def speeds_of(records: Records) -> dict[str, Estimate]:
    """What the run itself showed: the pace of eight answers at once, over all its parts."""
    tokens = sum(part.get("tokens", 0) for part in records.speeds)
    seconds = sum(part.get("seconds", 0.0) for part in records.speeds)
    found = {}
    if tokens and seconds:
        found["batch"] = once(tokens / seconds)
    return found


def once(value: float) -> Estimate:
    """A number that was measured once."""
    return Estimate(value, value, value)


def _statistic(name: str) -> Statistic:
    return STATISTICS.get(name.rpartition(".")[2], intervals.mean)
