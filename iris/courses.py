"""A course: chapters, topics, notes, questions with answers and a multiple-choice bank, read from a folder.

    data/courses/<id>/
      course.toml            id, title, [[chapters]], [[topics]] with prerequisites
      notes/<topic id>.md    "# Title", then "## Section" after "## Section"
      qa/*.jsonl             {"id", "topic", "kind", "question", "answer"} a line
      mcq/*.jsonl            {"id", "topic", "difficulty", "question", "answer", "distractors": [3], "explanation"}

A broken file is an error that names file and line. A part that is missing altogether (no mcq/, no qa/, no note for a
topic) leaves a usable course and is said in ``Course.warnings``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from iris import settings
from iris.errors import CourseError

Difficulty = Literal["easy", "medium", "hard"]

DIFFICULTIES: tuple[Difficulty, ...] = get_args(Difficulty)
KINDS = ("definition", "why", "mechanism", "worked_number", "comparison", "mistake", "when_not_to", "design")
DISTRACTORS = 3


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a course file. ``line`` counts from 1."""

    file: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


@dataclass(frozen=True, slots=True)
class Chapter:
    """A part of the course; its topics are ``Course.topics_of(chapter.id)``."""

    id: str
    title: str


@dataclass(frozen=True, slots=True)
class Topic:
    """What a student can be asked about. ``prerequisites`` are ids of topics to learn first."""

    id: str
    title: str
    chapter: str
    prerequisites: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a note under one ``##`` heading; ``line`` is the heading's line in the file."""

    heading: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Note:
    """The text of one topic. ``text`` is the whole file, ``sections`` its parts after the title."""

    topic: str
    title: str
    path: Path
    text: str
    sections: tuple[Section, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """A question and its model answer; ``kind`` is one of ``KINDS``."""

    id: str
    topic: str
    kind: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class MultipleChoice:
    """A question with one right option and three wrong ones, and why."""

    id: str
    topic: str
    difficulty: Difficulty
    question: str
    answer: str
    distractors: tuple[str, ...]
    explanation: str


@dataclass(frozen=True)
class Course:
    """A whole course, checked: ids are unique and every reference points somewhere. ``warnings`` say what it lacks."""

    id: str
    title: str
    folder: Path
    chapters: tuple[Chapter, ...]
    topics: tuple[Topic, ...]
    notes: tuple[Note, ...]
    questions: tuple[Question, ...]
    bank: tuple[MultipleChoice, ...]
    description: str = ""
    language: str = "en"
    licence: str = ""
    warnings: tuple[str, ...] = ()

    @cached_property
    def _topics(self) -> dict[str, Topic]:
        return {topic.id: topic for topic in self.topics}

    @cached_property
    def _notes(self) -> dict[str, Note]:
        return {note.topic: note for note in self.notes}

    def topic(self, topic_id: str) -> Topic:
        """The topic of that id.

        Raises:
            CourseError: there is none; the message lists the closest ids.
        """
        try:
            return self._topics[topic_id]
        except KeyError:
            close = closest(topic_id, self._topics)
            raise CourseError(f"The course {self.id} has no topic {topic_id!r}.{close}") from None

    def note(self, topic_id: str) -> Note | None:
        """The note of a topic, or None where the course has none."""
        return self._notes.get(topic_id)

    def topics_of(self, chapter_id: str) -> tuple[Topic, ...]:
        return tuple(topic for topic in self.topics if topic.chapter == chapter_id)

    def questions_of(self, topic_id: str) -> tuple[Question, ...]:
        return tuple(question for question in self.questions if question.topic == topic_id)

    def bank_of(self, topic_id: str) -> tuple[MultipleChoice, ...]:
        return tuple(item for item in self.bank if item.topic == topic_id)

    @cached_property
    def study_order(self) -> tuple[Topic, ...]:
        """All topics, each after its prerequisites, otherwise in the order of course.toml."""
        order: dict[str, Topic] = {}
        # A stack instead of recursion: a chain of a thousand prerequisites must not end in RecursionError.
        stack = [(topic, False) for topic in reversed(self.topics)]
        while stack:
            topic, ready = stack.pop()
            if topic.id in order:
                continue
            if ready:
                order[topic.id] = topic
            else:
                stack.append((topic, True))
                stack.extend((self._topics[name], False) for name in reversed(topic.prerequisites) if name not in order)
        return tuple(order.values())


def folders() -> tuple[Path, ...]:
    """Where courses are looked for: the teacher's own in the state folder, then those that come with Iris."""
    return settings.home() / "courses", Path(__file__).resolve().parent.parent / "data" / "courses"


def available() -> dict[str, Path]:
    """Folders of all courses by id (the folder's name); a teacher's course hides a supplied one of the same id."""
    return {
        file.parent.name: file.parent for folder in reversed(folders()) for file in sorted(folder.glob("*/course.toml"))
    }


def find(course_id: str) -> Course:
    """Load a course by its id, which is the name of its folder.

    Raises:
        CourseError: there is no such course, or it is broken.
    """
    known = available()
    if course_id not in known:
        listed = f"Known are: {', '.join(sorted(known))}." if known else "There is none."
        raise CourseError(f"There is no course {course_id!r} in {' or '.join(map(str, folders()))}. {listed}")
    course = load(known[course_id])
    if course.id != course_id:
        raise CourseError(
            f"{known[course_id] / 'course.toml'}:1: id is {course.id!r}, but the folder is called {course_id!r}: "
            "give both the same name."
        )
    return course


def load(folder: str | Path) -> Course:
    """Read and check the course in ``folder``.

    Raises:
        CourseError: a file is missing or broken. The message is the first problem, with file and line, and how many
            more there are; ``problems(folder)`` lists all.
    """
    course, found = _read(folder)
    if course is None or found:
        raise CourseError(f"{found[0]}" + (f" (and {len(found) - 1} more)" if len(found) > 1 else ""))
    return course


def problems(folder: str | Path) -> tuple[Problem, ...]:
    """Everything that is wrong with the course in ``folder``, empty if it can be loaded."""
    return _read(folder)[1]


def _read(folder: str | Path) -> tuple[Course | None, tuple[Problem, ...]]:
    from iris.course_folder import Reader  # here, because it needs the dataclasses above

    reader = Reader(Path(folder))
    return reader.read(), tuple(reader.problems)


def sections(text: str) -> Iterator[Section]:
    """The ``##`` sections of a Markdown note. A ``##`` inside a fenced code block is text, not a heading."""
    heading, start, body, fence = "", 0, [""], ""
    for number, line in enumerate(text.split("\n"), 1):
        mark = re.match(r" {0,3}(`{3,}|~{3,})", line)
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]
        if not fence and line.startswith("## "):
            if heading:
                yield Section(heading, "\n".join(body).strip(), start)
            heading, start, body = line[3:].strip(" #"), number, []
        else:
            body.append(line)
    if heading:
        yield Section(heading, "\n".join(body).strip(), start)


def closest(name: str, names: Iterable[str]) -> str:
    """`` Did you mean …?`` with the names most like a mistyped one, or nothing."""
    close = difflib.get_close_matches(name, list(names), 3)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
