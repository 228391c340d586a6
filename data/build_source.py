"""First-stage data: a large set of conversations, cleaned, sampled, split by group, and kept clear of the courses."""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from data import build_course, corpus, files, manifest, parallel, sources, splits, text
from data.corpus import Likeness
from data.files import DataError
from data.manifest import Outcome
from data.sources import SOURCES, Report
from data.splits import Item
from iris.courses import Course


def build(
    name: str,
    root: Path,
    *,
    path: str | None,
    sample: int | None,
    courses: Sequence[Course],
    seed: int,
    fresh: bool,
    keep_instructions: bool = False,
    processes: int | None = None,
) -> Outcome:
    """Write the splits of a source to ``root/<name>``.

    ``name`` is a row of ``SOURCES`` or a Hub id; ``path`` a local file or folder to read instead. ``sample`` rows are
    drawn by a hash of each row, so the draw does not depend on the order, and stays when rows are added.

    Raises:
        DataError: the rows cannot be read, or none is left, or the folder cannot be written.
    """
    known = SOURCES.get(name)
    label = name.rsplit("/", 1)[-1].lower()
    target = path or (known and known.hub + (f":{known.config}" if known.config else ""))
    if known and known.format == "text":
        raise DataError(
            f"{name} is plain text without questions: it is for measuring perplexity, not for these splits."
        )
    if known and not target:
        raise DataError(f"{name} is not on the Hub: name a local file with --path.")
    if not target and "/" not in name:
        raise DataError(f"{name!r} is no source; known are {', '.join(SOURCES)}, or a Hub id. For a file add --path.")
    if not re.fullmatch(r"\w[\w.-]*", label):
        raise DataError(
            f"--source {name}: the build's folder would be called {label!r}. Use letters, digits and hyphens."
        )
    report, hits = Report(), Counter[str]()
    folder = root / label
    before = manifest.earlier(folder, kind="source", seed=seed, fresh=fresh)
    with files.Writer(folder) as writer, tempfile.TemporaryFile(dir=folder) as spool:
        rows = sources.read(
            target or name, format=known.format if known and not path else "", source=label, report=report
        )
        ids = _spool(
            corpus.cleaned(parallel.progress(rows, label), keep_instructions=keep_instructions, processes=processes),
            spool,
            hits,
        )
        if not ids:
            raise DataError(f"{target}:1: no row is left after cleaning.")
        chosen = _draw(ids, sample, seed)
        own = corpus.likeness_of_lines(_chosen(spool, chosen), processes=processes)
        items = [Item(name) for name, keep in zip(ids, chosen, strict=True) if keep]

        plans = [build_course.plan(course, root, seed=seed, fresh=False, stages={}) for course in courses]
        whole = Likeness()
        for likeness in (own, *(made.likeness for made in plans)):
            whole.extend(likeness)
        labels = whole.labels()
        held, taught = _of_courses(labels[len(items) :].tolist(), plans)
        result = splits.assign(
            items,
            labels[: len(items)].tolist(),
            seed=seed,
            before=before,
            left_out=[label for found in held.values() for label in found],
            training=taught,
        )
        manifest.prove_separate(np.concatenate(own.keys), result.parts)
        for line, group, part in zip(_chosen(spool, chosen), result.groups, result.parts, strict=True):
            if part:
                writer.write(f"{part}.jsonl", _row(line, group))
        dropped = {
            course: [item.id for item, label in zip(items, labels.tolist(), strict=False) if label in found]
            for course, found in held.items()
        }
        about = manifest.finish(
            writer,
            kind="source",
            name=label,
            seed=seed,
            items=items,
            result=result,
            hits=hits,
            rows={
                "read": report.rows,
                "malformed": report.malformed,
                "after_cleaning": len(ids),
                "sampled": len(items),
                "contaminated": sum(part == "" for part in result.parts),
            },
            more={
                "title": name,
                "licence": known.licence if known else "",
                "language": "en",
                "inputs": report.inputs,
                "malformed_rows": report.problems,
                "instructions_kept": keep_instructions,
                "checked_against": [
                    {
                        "course": made.course.id,
                        "held_out": made.held_out,
                        "dropped": len(dropped[made.course.id]),
                        "ids": manifest.listed(dropped[made.course.id]),
                    }
                    for made in plans
                ],
            },
        )
    return Outcome(folder, about, tuple(_warnings(report, about, sample, plans)))


def _spool(batches: Iterator[corpus.Cleaned], spool: BinaryIO, hits: Counter[str]) -> list[str]:
    """Write clean rows, repetitions left out, to a temporary file; returns their ids."""
    ids: list[str] = []
    seen: set[int] = set()
    for batch in batches:
        hits += batch.hits
        for name, key, line in zip(batch.ids, batch.keys, batch.lines, strict=True):
            if key in seen:
                hits["dropped: exact repetition"] += 1
                continue
            seen.add(key)
            ids.append(name)
            spool.write(line)
    return ids


def _draw(ids: Sequence[str], sample: int | None, seed: int) -> list[bool]:
    """Which rows are in the sample: those of the smallest hashes."""
    if sample is None or sample >= len(ids):
        return [True] * len(ids)
    drawn = np.array([text.fraction("sample", str(seed), name) for name in ids])
    chosen = np.zeros(len(ids), bool)
    chosen[np.argsort(drawn, kind="stable")[:sample]] = True
    return [bool(value) for value in chosen]


def _chosen(spool: BinaryIO, chosen: Sequence[bool]) -> Iterator[bytes]:
    spool.seek(0)
    return (line for line, keep in zip(spool, chosen, strict=True) if keep)


def _row(line: bytes, group: str) -> dict[str, Any]:
    value = json.loads(line)
    return {
        "id": value["id"],
        "source": value["source"],
        "kind": "chat",
        "topic": value["topic"],
        "group": group,
        "prompt": value["prompt"],
        "completion": value["completion"],
    }


def _of_courses(labels: list[int], plans: Sequence[build_course.Plan]) -> tuple[dict[str, set[int]], set[int]]:
    """Labels of groups that a course holds rows out of, by course, and of those that a course trains on."""
    held: dict[str, set[int]] = {made.course.id: set() for made in plans}
    taught: set[int] = set()
    rows = ((made.course.id, part) for made in plans for part in made.result.parts)
    for label, (course, part) in zip(labels, rows, strict=True):
        if part == "train":
            taught.add(label)
        elif part:
            held[course].add(label)
    return held, taught


def _warnings(
    report: Report, about: Mapping[str, Any], sample: int | None, plans: Sequence[build_course.Plan]
) -> Iterator[str]:
    if report.malformed:
        yield f"{report.malformed:,} malformed rows were left out. The first: {report.problems[0]}"
    if sample and about["rows"]["sampled"] < sample:
        yield f"{sample:,} rows were asked for, but only {about['rows']['sampled']:,} are there after cleaning."
    if not plans:
        yield "There is no course to check against: nothing keeps these rows out of a course's test split."
    largest = about["groups"]["largest"]["rows"]
    if largest > 0.05 * max(1, about["rows"]["sampled"]):
        yield f"{largest:,} rows are one group of near-duplicates; the shares of the splits suffer from it."
