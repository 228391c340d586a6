"""The files of a course folder: read, checked line by line, and everything that is wrong with them collected."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from iris.courses import (
    DIFFICULTIES,
    DISTRACTORS,
    KINDS,
    Chapter,
    Course,
    MultipleChoice,
    Note,
    Problem,
    Question,
    Topic,
    closest,
    sections,
)

MAX_NOTE = 1 << 20  # bytes of one note: a megabyte of text is a book, not a note
MAX_FILE = 64 << 20  # bytes of course.toml or of one JSONL file

# Fields of a row that are texts, and the values allowed where they are limited.
QA: dict[str, tuple[str, ...]] = {"id": (), "topic": (), "kind": KINDS, "question": (), "answer": ()}
MCQ: dict[str, tuple[str, ...]] = {
    "id": (), "topic": (), "difficulty": DIFFICULTIES, "question": (), "answer": (), "explanation": (),
}  # fmt: skip

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_ID_RULE = "an id is 1 to 64 small letters, digits and hyphens, and does not begin with a hyphen"
# What is left of \theta, \nabla or \frac when a backslash was not doubled in JSON.
_BROKEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]|\t(?=heta|imes|ext|anh|au\b|o\b)|\n(?=abla|eq\b|u\b)")


class Reader:
    """Reads one folder; ``problems`` collects what is wrong with it instead of stopping at the first one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[Problem] = []
        self._first: dict[str, str] = {}  # where each id of a question or item was first seen

    def read(self) -> Course | None:
        """The course, or None where not even course.toml can be read. Not to be used if ``problems`` is not empty."""
        path = self.folder / "course.toml"
        text = self._text(path, MAX_FILE)
        if text is None:
            return None
        try:
            top = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            line = re.search(r"at line (\d+)", str(error))
            self._bad(path, int(line[1]) if line else text.count("\n") + 1, f"this is not valid TOML: {error}.")
            return None
        self._fields(path, 1, top, ("title",), ("id", "description", "language", "licence"), ("chapters", "topics"))
        about = {name: value for name, value in top.items() if isinstance(value, str)}
        about = {"id": self.folder.resolve().name, "title": "", **about}
        if "id" in top and not _ID.fullmatch(about["id"]):
            self._bad(path, 1, f"{about['id']!r} is no id: {_ID_RULE}.")
        chapters = [Chapter(row["id"], row["title"]) for row, _ in self._tables(path, text, top, "chapters")]
        topics = self._topics(path, text, top, {chapter.id for chapter in chapters})
        known = {topic.id for topic in topics}
        notes = self._notes(known)
        questions = [Question(**row) for row in self._rows("qa", QA, (), known)]
        bank = [
            MultipleChoice(**{**row, "distractors": tuple(row["distractors"])})
            for row in self._rows("mcq", MCQ, ("distractors",), known)
        ]
        if self.problems:
            return None
        return Course(
            id=about["id"],
            title=about["title"],
            folder=self.folder,
            chapters=tuple(chapters),
            topics=tuple(topics),
            notes=tuple(notes),
            questions=tuple(questions),
            bank=tuple(bank),
            description=about.get("description", ""),
            language=about.get("language", "en"),
            licence=about.get("licence", ""),
            warnings=tuple(_lacks(topics, notes, questions, bank)),
        )

    def _topics(self, path: Path, text: str, top: Mapping[str, Any], chapters: set[str]) -> list[Topic]:
        topics, lines = [], {}
        for row, line in self._tables(path, text, top, "topics", ("chapter",), ("prerequisites",)):
            before = row.get("prerequisites", [])
            if not isinstance(before, list) or not all(isinstance(name, str) for name in before):
                self._bad(path, line, 'prerequisites must be a list of topic ids, such as ["linear-regression"].')
                before = []
            if row["chapter"] not in chapters:
                self._bad(path, line, f"topic {row['id']!r} is in chapter {row['chapter']!r}, which does not exist.")
            topics.append(Topic(row["id"], row["title"], row["chapter"], tuple(before)))
            lines[row["id"]] = line
        for topic in topics:
            for name in topic.prerequisites:
                if name not in lines:
                    close = closest(name, lines)
                    self._bad(path, lines[topic.id], f"{topic.id!r} requires {name!r}, which is no topic.{close}")
        circle = _circle(topics)
        if circle:
            self._bad(path, lines[circle[0]], f"prerequisites go in a circle: {' -> '.join(circle)}.")
        return topics

    def _tables(
        self,
        path: Path,
        text: str,
        top: Mapping[str, Any],
        name: str,
        more: Sequence[str] = (),
        others: Sequence[str] = (),
    ) -> Iterator[tuple[dict[str, Any], int]]:
        """The well-formed ``[[name]]`` tables, each with the line it begins on; the others become problems."""
        header = re.compile(rf"\s*\[\[\s*{name}\s*\]\]")
        lines = [number for number, line in enumerate(text.split("\n"), 1) if header.match(line)]
        rows = top.get(name)
        if not isinstance(rows, list) or not rows:
            self._bad(path, 1, f"there are no [[{name}]].")
            return
        seen: dict[str, int] = {}
        for number, row in enumerate(rows):
            line = lines[number] if number < len(lines) else 1
            if not self._fields(path, line, row, ("id", "title", *more), (), others):
                continue
            if not _ID.fullmatch(row["id"]):
                self._bad(path, line, f"{row['id']!r} is no id: {_ID_RULE}.")
            elif row["id"] in seen:
                first = seen[row["id"]]
                self._bad(path, line, f"duplicate {name[:-1]} id {row['id']!r}: line {first} has it already.")
            else:
                seen[row["id"]] = line
                yield row, line

    def _notes(self, topics: set[str]) -> list[Note]:
        notes = []
        for path in sorted((self.folder / "notes").glob("*.md")):
            if path.stem not in topics:
                self._bad(path, 1, f"there is no topic {path.stem!r} in course.toml.{closest(path.stem, topics)}")
                continue
            text = self._text(path, MAX_NOTE)
            if text is None:
                continue
            title = re.match(r"\s*# +(\S.*)", text)
            if title:
                notes.append(Note(path.stem, title[1].strip(" #"), path, text, tuple(sections(text))))
            else:
                self._bad(path, 1, 'a note must begin with its title: "# Title".')
        return notes

    def _rows(
        self, kind: str, texts: Mapping[str, tuple[str, ...]], others: Sequence[str], topics: set[str]
    ) -> Iterator[dict[str, Any]]:
        """The well-formed rows of all files in the folder ``kind``; the others become problems."""
        for path in sorted((self.folder / kind).glob("*.jsonl")):
            for line, source in enumerate((self._text(path, MAX_FILE) or "").split("\n"), 1):
                if not source.strip():
                    continue
                try:
                    row = json.loads(source)
                except (ValueError, RecursionError) as error:
                    self._bad(path, line, f"this is not valid JSON: {error}.")
                    continue
                if not self._fields(path, line, row, tuple(texts), (), others):
                    continue
                if self._row(path, line, row, texts, topics):
                    yield row

    def _row(
        self, path: Path, line: int, row: dict[str, Any], texts: Mapping[str, tuple[str, ...]], topics: set[str]
    ) -> bool:
        count = len(self.problems)
        for name, allowed in texts.items():
            if allowed and row[name] not in allowed:
                self._bad(path, line, f"{name} {row[name]!r} must be one of {', '.join(allowed)}.")
        if row["topic"] not in topics:
            close = closest(row["topic"], topics)
            self._bad(path, line, f"there is no topic {row['topic']!r} in course.toml.{close}")
        if row["id"] in self._first:
            self._bad(path, line, f"duplicate id {row['id']!r}: {self._first[row['id']]} has it already.")
        self._first.setdefault(row["id"], f"{path.name}:{line}")
        wrong = row.get("distractors", [])
        if texts is MCQ and not _is_texts(wrong, DISTRACTORS):
            self._bad(path, line, f"distractors must be a list of {DISTRACTORS} texts.")
            wrong = []
        options = [option.strip().casefold() for option in (row["answer"], *wrong)]
        if len(set(options)) < len(options):
            self._bad(path, line, "the right answer and the distractors must be four different texts.")
        if any(_BROKEN.search(text) for text in (*(row[name] for name in texts), *wrong)):
            self._bad(path, line, "a control character in the text: was a backslash of LaTeX not doubled in JSON?")
        return len(self.problems) == count

    def _fields(
        self, path: Path, line: int, row: object, needed: Sequence[str], texts: Sequence[str], others: Sequence[str]
    ) -> bool:
        """Check that ``row`` has the ``needed`` texts, perhaps some more ``texts`` and ``others``, and nothing else."""
        count = len(self.problems)
        if not isinstance(row, dict):
            self._bad(path, line, f"a row must have named fields ({', '.join(needed)}), not be a {type(row).__name__}.")
            return False
        for name in needed:
            if name not in row:
                self._bad(path, line, f"{name} is missing.")
        for name, value in row.items():
            if name in needed or name in texts:
                if not isinstance(value, str):
                    self._bad(path, line, f"{name} must be a text, not {value!r:.40}.")
                elif name in needed and not value.strip():
                    self._bad(path, line, f"{name} is empty.")
            elif name not in others:
                known = ", ".join((*needed, *texts, *others))
                self._bad(path, line, f"unknown field {name!r}; known are {known}.")
        return len(self.problems) == count

    def _text(self, path: Path, limit: int) -> str | None:
        """The text of a file with \n line ends, or None and a problem."""
        try:
            size = path.stat().st_size
            if size > limit:
                self._bad(path, 1, f"{size / 1e6:.1f} MB is too large; at most {limit / 1e6:.1f} MB are read.")
                return None
            data = path.read_bytes()
        except OSError as error:
            self._bad(path, 1, f"cannot be read ({error.strerror or error}).")
            return None
        try:
            text = data.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            self._bad(path, line, f"byte 0x{data[error.start]:02x} is not UTF-8. Save the file as UTF-8.")
            return None
        if not text.strip():
            self._bad(path, 1, "the file is empty.")
            return None
        return text

    def _bad(self, path: Path, line: int, message: str) -> None:
        self.problems.append(Problem(path, line, message))


def _is_texts(value: object, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(text, str) and text.strip() != "" for text in value)
    )


def _circle(topics: Sequence[Topic]) -> list[str]:
    """Ids of topics that require each other in a circle, the first repeated at the end; empty if there is none."""
    left = {topic.id: topic for topic in topics}
    while free := [name for name, topic in left.items() if not any(need in left for need in topic.prerequisites)]:
        for name in free:
            del left[name]
    if not left:
        return []
    walk = [next(iter(left))]  # every topic left requires another one that is left, so a walk comes back to itself
    while walk.count(walk[-1]) < 2:
        walk.append(next(need for need in left[walk[-1]].prerequisites if need in left))
    return walk[walk.index(walk[-1]) :]


def _lacks(
    topics: Sequence[Topic], notes: Sequence[Note], questions: Sequence[Question], bank: Sequence[MultipleChoice]
) -> Iterator[str]:
    if not questions:
        yield "The course has no questions with answers (qa/): there is little to train on, and no test questions."
    if not bank:
        yield "The course has no multiple-choice bank (mcq/): the quiz asks the model to write its own questions."
    for what, having in (
        ("note", {note.topic for note in notes}),
        ("question", {question.topic for question in questions}),
        ("multiple-choice item", {item.topic for item in bank}),
    ):
        without = [topic.id for topic in topics if topic.id not in having]
        if without and (having or what == "note"):
            shown = ", ".join(without[:5]) + (", …" if len(without) > 5 else "")
            yield f"{len(without)} of {len(topics)} topics have no {what}: {shown}."
    answers: dict[str, str] = {}
    for question in questions:
        first = answers.setdefault(question.answer.strip().casefold(), question.id)
        if first != question.id:
            yield f"{question.id} has the same answer as {first}: each question should have an answer of its own."
