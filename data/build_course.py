"""The rows of a course in train, validation and test, and the held-out part of its multiple-choice bank."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data import corpus, files, manifest, splits
from data.corpus import Likeness
from data.course_rows import LETTERS, Example, course_rows, options
from data.manifest import Outcome
from data.splits import BANK_FILE, Item, Splits
from iris import courses
from iris.courses import Course
from iris.errors import CourseError


@dataclass(frozen=True, slots=True)
class Plan:
    """The rows of a course, which part each is in, and what tells their likeness to others."""

    course: Course
    rows: list[Example]
    items: list[Item]
    likeness: Likeness
    result: Splits
    hits: Counter[str]
    dropped: dict[str, list[str]]
    """Ids of rows left out because the test split of a first-stage build has the like, by the build's name."""
    held_out: str
    """A fingerprint of the rows that no other stage may train on."""


def find(name: str, folder: Path | None) -> Course:
    """The course of that id or path; ``folder`` holds course folders, or is one.

    Raises:
        CourseError: there is none, or it is broken.
    """
    for path in (Path(name), *((folder / name, folder) if folder else ())):
        if (path / "course.toml").is_file():
            course = courses.load(path)
            if path != folder or course.id == name:
                return course
    if folder:
        raise CourseError(f"There is no course {name!r} in {folder}.")
    return courses.find(name)


def all_courses(folder: Path | None) -> list[Course]:
    """All courses in ``folder`` (which may be one itself), or where Iris looks for courses.

    Raises:
        CourseError: one of them is broken.
    """
    if folder is None:
        return [courses.find(name) for name in sorted(courses.available())]
    if (folder / "course.toml").is_file():
        return [courses.load(folder)]
    return [courses.load(path.parent) for path in sorted(folder.glob("*/course.toml"))]


def plan(course: Course, root: Path, *, seed: int, fresh: bool, stages: Mapping[str, Mapping[str, Any]]) -> Plan:
    """Decide the part of every row.

    ``stages`` are manifests of first-stage builds in ``root``: a row that is like one in their test splits must not be
    trained on, and is left out unless it is a test row itself.
    """
    hits: Counter[str] = Counter()
    rows = course_rows(course, hits)
    if not rows:
        raise CourseError(
            f"{course.folder}: the course has no notes, questions or multiple-choice items to build from."
        )
    items = [Item(row.id, row.kind, row.topic) for row in rows]
    own = corpus.likeness([(row.asked, row.completion) for row in rows])
    whole, owner = Likeness(), []
    whole.extend(own)
    for name, about in stages.items():
        tests = [row for part, row in manifest.split_rows(root / name, about) if part == "test"]
        whole.extend(corpus.likeness_of_rows(tests))
        owner += [name] * len(tests)
    labels = whole.labels(containment=True)
    before = manifest.earlier(root / course.id, kind="course", seed=seed, fresh=fresh)
    result = splits.assign(items, labels[: len(rows)].tolist(), seed=seed, before=before)
    parts = list(result.parts)
    held_out = manifest.fingerprint(
        (row.prompt, row.completion) for row, part in zip(rows, parts, strict=True) if part != "train"
    )
    dropped: dict[str, list[str]] = {}
    touched = dict(zip(labels[len(rows) :].tolist(), owner, strict=True))
    for number, label in enumerate(labels[: len(rows)].tolist()):
        if label in touched and parts[number] != "test":
            parts[number] = ""
            dropped.setdefault(touched[label], []).append(rows[number].id)
    return Plan(course, rows, items, own, replace(result, parts=parts), hits, dropped, held_out)


def build(course: Course, root: Path, *, seed: int, fresh: bool) -> Outcome:
    """Write the splits of a course to ``root/<course id>``.

    Raises:
        DataError: an earlier build there is damaged, or the folder cannot be written.
    """
    stages = manifest.stages(root, course.id)
    made = plan(course, root, seed=seed, fresh=fresh, stages=stages)
    manifest.prove_separate(np.concatenate(made.likeness.keys), made.result.parts)
    folder = root / course.id
    with files.Writer(folder) as writer:
        for name, value in _lines(made):
            writer.write(f"{name}.jsonl", value)
        about = manifest.finish(
            writer,
            kind="course",
            name=course.id,
            seed=seed,
            items=made.items,
            result=made.result,
            hits=made.hits,
            rows={
                "questions": len(course.questions),
                "note_sections": sum(len(note.sections) for note in course.notes),
                "multiple_choice": len(course.bank),
                "contaminated": sum(map(len, made.dropped.values())),
            },
            more={
                "title": course.title,
                "licence": course.licence,
                "language": course.language,
                "inputs": _inputs(course),
                "held_out": made.held_out,
                "checked_against": [
                    {
                        "build": name,
                        "dropped": len(made.dropped.get(name, ())),
                        "ids": manifest.listed(made.dropped.get(name, ())),
                    }
                    for name in stages
                ],
            },
        )
    return Outcome(folder, about, tuple(_warnings(course, made, stages, about)))


def _lines(made: Plan) -> Iterator[tuple[str, dict[str, Any]]]:
    bank = {item.id: item for item in made.course.bank}
    for row, group, part in zip(made.rows, made.result.groups, made.result.parts, strict=True):
        if not part:
            continue
        value: dict[str, Any] = {
            "id": row.id,
            "source": made.course.id,
            "kind": row.kind,
            "topic": row.topic,
            "group": group,
            "prompt": [{"role": "user", "content": row.prompt}],
            "completion": [{"role": "assistant", "content": row.completion}],
        }
        if row.kind == "mcq" and part == "test":
            item = bank[row.id]
            choices = options(item)
            value |= {
                "difficulty": item.difficulty,
                "question": item.question,
                "options": choices,
                "answer": LETTERS[choices.index(item.answer)],
                "explanation": item.explanation,
            }
            part = BANK_FILE
        yield part, value


def _inputs(course: Course) -> list[dict[str, Any]]:
    paths = [course.folder / "course.toml"]
    for pattern in ("notes/*.md", "qa/*.jsonl", "mcq/*.jsonl"):
        paths += sorted(course.folder.glob(pattern))
    return [
        {"path": path.relative_to(course.folder).as_posix(), "bytes": path.stat().st_size, "sha256": files.sha256(path)}
        for path in paths
    ]


def _warnings(course: Course, made: Plan, stages: Mapping[str, Any], about: Mapping[str, Any]) -> Iterator[str]:
    yield from course.warnings
    for name, ids in made.dropped.items():
        yield (
            f"{len(ids)} rows of the course are like test rows of {name} and were left out. Build {name} again: it "
            "then keeps the like out of its own test split, and after that this course is whole again."
        )
    for name, stage in stages.items():
        checked = {entry["course"]: entry["held_out"] for entry in stage.get("checked_against", ())}
        if checked.get(course.id) != about["held_out"]:
            yield f"{name} was not checked against these test rows: build it again before training on it."
    if not any(part == "test" for part in made.result.parts):
        yield "There is no test row: the course is too small, or everything in it is alike."
