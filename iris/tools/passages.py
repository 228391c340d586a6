"""What tools take evidence from: passages of notes, their sentences, and whether a quotation stands in them.

``of_course`` gives the course's own notes, ``of_student`` also those that a student has added. A tool takes any
function of that kind, ``Evidence``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from iris.courses import Course
from iris.notes import library
from iris.store import Store

OWN = "note:"
"""Begins the name of a student's own note where topics are asked for; what follows is its id."""
MOST = 400
"""Passages of one note of a student's that are looked at: some two hundred pages."""
MIN_QUOTE = 12
"""A shorter quotation, in characters without spaces, proves nothing: it is found anywhere."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a note under one heading. ``topic`` is the topic's id, empty where none is known."""

    topic: str
    title: str
    heading: str
    text: str

    @property
    def source(self) -> str:
        """Where it stands, for the reader."""
        return f"{self.title}, {self.heading}" if self.heading else self.title


Evidence = Callable[[Sequence[str]], Sequence[Passage]]
"""Passages for topics, by their ids."""


def of_course(course: Course) -> Evidence:
    """The passages of the course's own notes, a section each."""

    def passages(topics: Sequence[str]) -> tuple[Passage, ...]:
        return tuple(
            Passage(note.topic, note.title, section.heading, section.text)
            for topic in topics
            if (note := course.note(topic)) is not None
            for section in note.sections
        )

    return passages


def own_notes(store: Store, student: str, course: Course | None) -> dict[str, str]:
    """Titles of the notes that a student has added to a course, by their names among topics."""
    return {f"{OWN}{note.id}": note.title for note in library.own(store, student, course.id)} if course else {}


def of_student(course: Course, store: Store, student: str, own: Mapping[str, str]) -> Evidence:
    """The passages of the course's notes, and of the student's own by the names in ``own``."""
    shared = of_course(course)

    def passages(topics: Sequence[str]) -> tuple[Passage, ...]:
        found = [*shared([topic for topic in topics if topic not in own])]
        named = [topic for topic in topics if topic in own]
        first = library.first_passages(store, student, course.id) if named else {}
        for topic in named:
            if (begin := first.get(int(topic.removeprefix(OWN)))) is not None:
                rows = library.around(store, begin)[:MOST]
                found += [
                    Passage(topic, row.title, row.heading or (f"p. {row.page}" if row.page else ""), row.text)
                    for row in rows
                ]
        return tuple(found)

    return passages


@lru_cache(maxsize=2048)
def sentences(text: str) -> tuple[str, ...]:
    """The sentences of a Markdown text, as they are written; code, tables and displayed formulas are none."""
    return tuple(_sentences(text))


def _sentences(text: str) -> Iterator[str]:
    text = re.sub(r"^ {0,3}(`{3,}|~{3,}).*?^ {0,3}\1\s*$", "", text, flags=re.M | re.S)
    for block in re.split(r"\n\s*\n", text):
        lines = [line for line in block.split("\n") if not line.lstrip().startswith(("|", "#"))]
        for part in re.split(r"\n(?=\s*(?:[-*+]|\d+[.)])\s)", "\n".join(lines)):
            part = re.sub(r"^\s*(?:[-*+]|\d+[.)])\s+", "", part)
            if part.strip() and not re.fullmatch(r"\s*\$\$.*\$\$\s*", part, re.S):
                yield from _split(part)


_END = re.compile(r"(?<=[.!?])[\"'”)]?\s+(?=[\"'“(\[$`*]?[A-ZÅÄÖÜÇĞİŞ0-9$\\(])")
_ABBREVIATED = re.compile(r"(?:\b(?:e\.g|i\.e|cf|vs|etc|approx|Fig|Eq|No|Dr|St|z\.B|t\.ex|bl\.a|d\.h)|\b[A-Z])\.$")


def _split(text: str) -> Iterator[str]:
    start = 0
    for end in _END.finditer(text):
        before = text[start : end.start() + 1].strip()
        # A full stop inside a formula, or behind an abbreviation, ends nothing.
        if text[: end.start()].count("$") % 2 or _ABBREVIATED.search(before.rstrip("\"'”)")):
            continue
        yield text[start : end.end()].strip()
        start = end.end()
    if rest := text[start:].strip():
        yield rest


def found(quotation: str, text: str) -> bool:
    """Whether a quotation stands in a text, whatever its case, spacing and kind of quotation marks and dashes."""
    wanted = _flat(quotation)
    return len(wanted.replace(" ", "")) >= MIN_QUOTE and wanted in _flat(text)


@lru_cache(maxsize=512)
def _flat(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold()
    text = re.sub(r"[‐-―−]", "-", re.sub(r"[“”„«»]", '"', re.sub(r"[‘’‚]", "'", text)))
    return " ".join(text.split()).strip(" \"'")
