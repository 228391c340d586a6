"""The notes in the store: a course's, indexed once for each version of their text, and every student's own."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from iris.courses import Course
from iris.errors import NoteError
from iris.notes import Document, Owner, Passage, chunk
from iris.store import Store, now

MAX_NOTES = 200
MAX_CHARACTERS = 30_000_000
"""Of all notes of a student in a course: some twelve thousand pages."""


@dataclass(frozen=True, slots=True)
class OwnNote:
    """A student's note. ``pages`` is 0 where there are none; ``chosen``: answers may lean on it."""

    id: int
    title: str
    kind: str
    pages: int
    empty_pages: int
    characters: int
    chosen: bool
    added_at: int


@dataclass(frozen=True, slots=True)
class Scope:
    """Which notes: those of ``course``, where ``shared``, and those that ``student`` has chosen, where there is one;
    with ``everything`` also those that are not chosen."""

    course: str
    student: str | None = None
    shared: bool = True
    everything: bool = False


def sync(store: Store, course: Course) -> bool:
    """Index the course's notes, if they are not indexed as they are now; returns whether there was something to do."""
    version = _version(course)
    with store.read() as connection:
        if _indexed(connection, course.id) == version:
            return False
    documents = [(note, _rows(Document(note.title, "markdown", (note.text,)))) for note in course.notes]
    with store.write() as connection:
        if _indexed(connection, course.id) == version:
            return False  # another process was faster
        connection.execute("DELETE FROM course_versions WHERE course = ?", (course.id,))
        connection.execute("INSERT INTO course_versions VALUES (?, ?, ?)", (course.id, version, now()))
        for note, rows in documents:
            added = connection.execute(
                "INSERT INTO course_notes (course, topic, title) VALUES (?, ?, ?)", (course.id, note.topic, note.title)
            )
            connection.executemany(
                "INSERT INTO course_passages (note, shelf, number, page, heading, title, body)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(added.lastrowid, shelf(course.id), *row) for row in rows],
            )
    return True


def add(store: Store, student: str, course: str, document: Document) -> int:
    """Keep a document as a note of the student's; returns its id.

    Raises:
        NoteError: the student has it already, or has too many.
    """
    hashed = hashlib.sha256("\f".join(document.pages).encode()).hexdigest()
    characters = sum(map(len, document.pages))
    rows = _rows(document)
    with store.write() as connection:
        twin = connection.execute(
            "SELECT title FROM student_notes WHERE student = ? AND course = ? AND hash = ?", (student, course, hashed)
        ).fetchone()
        if twin:
            raise NoteError(f"{document.title} is among your notes already, as {twin['title']}.")
        count, held = connection.execute(
            "SELECT count(*), coalesce(sum(characters), 0) FROM student_notes WHERE student = ? AND course = ?",
            (student, course),
        ).fetchone()
        if count >= MAX_NOTES or held + characters > MAX_CHARACTERS:
            raise NoteError(
                f"There is no room for {document.title}: you may keep {MAX_NOTES} notes with {MAX_CHARACTERS:,} "
                f"characters, and have {count} with {held:,}. Delete some that you no longer need."
            )
        added = connection.execute(
            "INSERT INTO student_notes (student, course, title, kind, pages, empty_pages, characters, hash, added_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(student, course, document.title, document.kind),
                len(document.pages) if document.kind == "pdf" else 0,
                document.empty_pages if document.kind == "pdf" else 0,
                *(characters, hashed, now()),
            ),
        ).lastrowid
        connection.executemany(
            "INSERT INTO student_passages (note, number, page, heading, title, body) VALUES (?, ?, ?, ?, ?, ?)",
            [(added, *row) for row in rows],
        )
    return added or 0


def own(store: Store, student: str, course: str) -> tuple[OwnNote, ...]:
    """The student's notes in a course, the newest first."""
    with store.read() as connection:
        rows = connection.execute(
            "SELECT id, title, kind, pages, empty_pages, characters, chosen, added_at FROM student_notes"
            " WHERE student = ? AND course = ? ORDER BY added_at DESC, id DESC",
            (student, course),
        ).fetchall()
    return tuple(OwnNote(**{**dict(row), "chosen": bool(row["chosen"])}) for row in rows)


def choose(store: Store, student: str, course: str, chosen: Iterable[int]) -> None:
    """Let answers lean on these of the student's notes, and on no other."""
    wanted = set(chosen)
    with store.write() as connection:
        rows = connection.execute("SELECT id FROM student_notes WHERE student = ? AND course = ?", (student, course))
        connection.executemany(
            "UPDATE student_notes SET chosen = ? WHERE id = ?", [(row["id"] in wanted, row["id"]) for row in rows]
        )


def delete(store: Store, student: str, note: int) -> str:
    """Delete a note of the student's with its passages; returns its title.

    Raises:
        NoteError: the student has no such note.
    """
    with store.write() as connection:
        row = connection.execute(
            "DELETE FROM student_notes WHERE id = ? AND student = ? RETURNING title", (note, student)
        ).fetchone()
    if row is None:
        raise NoteError("This note is not there any more.")
    return str(row["title"])


def passage(store: Store, owner: Owner, number: int, student: str) -> Passage:
    """The passage of that id, if it is a course's or the student's own.

    Raises:
        NoteError: it is not there, or is another's.
    """
    whose = "" if owner == "course" else "AND n.student = :student"
    with store.read() as connection:
        row = connection.execute(
            f"SELECT p.* FROM {owner}_passages p JOIN {owner}_notes n ON n.id = p.note WHERE p.id = :id {whose}",
            {"id": number, "student": student},
        ).fetchone()
    if row is None:
        raise NoteError("This passage is not there any more: its note was deleted or has changed.")
    return as_passage(owner, row)


def around(store: Store, of: Passage) -> tuple[Passage, ...]:
    """All passages of the same note in their order."""
    with store.read() as connection:
        rows = connection.execute(f"SELECT * FROM {of.owner}_passages WHERE note = ? ORDER BY number", (of.note,))
        return tuple(as_passage(of.owner, row) for row in rows)


def first_passages(store: Store, student: str, course: str) -> dict[int, Passage]:
    """Where each of the student's notes begins, by the note's id."""
    with store.read() as connection:
        rows = connection.execute(
            "SELECT p.* FROM student_passages p JOIN student_notes n ON n.id = p.note"
            " WHERE n.student = ? AND n.course = ? AND p.number = 0",
            (student, course),
        ).fetchall()
    return {row["note"]: as_passage("student", row) for row in rows}


def course_passages(store: Store, course: str) -> dict[str, Passage]:
    """Where each of the course's notes begins, by its topic."""
    with store.read() as connection:
        rows = connection.execute(
            "SELECT p.*, n.topic FROM course_passages p JOIN course_notes n ON n.id = p.note"
            " WHERE n.course = ? AND p.number = 0",
            (course,),
        ).fetchall()
    return {row["topic"]: as_passage("course", row) for row in rows}


def as_passage(owner: Owner, row: sqlite3.Row) -> Passage:
    return Passage(owner, row["id"], row["note"], row["number"], row["title"], row["heading"], row["page"], row["body"])


def shelf(course: str) -> str:
    """The word in the index that stands for a course."""
    return "s" + hashlib.sha256(course.encode()).hexdigest()[:30]


def _rows(document: Document) -> list[tuple[int, int, str, str, str]]:
    """(number, page, heading, title, text) of each passage. Made before the store is written to: it takes a while."""
    paged = document.kind == "pdf"
    return [
        (
            *(number, piece.page + 1 if paged else 0, piece.heading, document.title),
            document.pages[piece.page][piece.start : piece.end],
        )
        for number, piece in enumerate(chunk.pieces(document))
    ]


def _version(course: Course) -> str:
    hashed = hashlib.sha256(f"{chunk.LONGEST}".encode())
    for note in course.notes:
        hashed.update(f"\0{note.topic}\0{note.title}\0{note.text}".encode())
    return hashed.hexdigest()


def _indexed(connection: sqlite3.Connection, course: str) -> str:
    row = connection.execute("SELECT version FROM course_versions WHERE course = ?", (course,)).fetchone()
    return str(row["version"]) if row else ""
