"""Quizzes that were given: which items a student has met, and the questions of earlier quizzes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from iris import store
from iris.store import Store

REMEMBERED = 200
"""Questions of the latest quizzes that a new one may not ask again in other words."""


@dataclass(frozen=True, slots=True)
class Given:
    """One item of a quiz: its id, topic, kind and question."""

    item: str
    topic: str
    kind: str
    question: str


def save(store_: Store, student: str, course: str, items: Sequence[Given]) -> int:
    """Write a quiz down as it was given; returns its number. There must be a row for the student.

    Raises:
        StoreError: it could not be written.
    """
    with store_.write() as connection:
        number = connection.execute(
            "INSERT INTO quizzes (student, course, at) VALUES (?, ?, ?)", (student, course, store.now())
        ).lastrowid
        connection.executemany(
            "INSERT INTO quiz_items (quiz, place, item, topic, kind, question) VALUES (?, ?, ?, ?, ?, ?)",
            [(number, place, row.item, row.topic, row.kind, row.question) for place, row in enumerate(items)],
        )
    assert number is not None
    return number


def seen(store_: Store, student: str, course: str) -> dict[str, int]:
    """How often each of the course's rows was in a quiz of the student's, by the id before ``/``."""
    counts: dict[str, int] = {}
    with store_.read() as connection:
        for item, number in connection.execute(
            "SELECT item, count(*) FROM quiz_items JOIN quizzes ON quizzes.id = quiz "
            "WHERE student = ? AND course = ? GROUP BY item",
            (student, course),
        ):
            row = item.partition("/")[0]
            counts[row] = counts.get(row, 0) + number
    return counts


def questions(store_: Store, student: str, course: str) -> tuple[str, ...]:
    """The questions of the latest quizzes, the newest first, ``REMEMBERED`` at most."""
    with store_.read() as connection:
        rows = connection.execute(
            "SELECT question FROM quiz_items JOIN quizzes ON quizzes.id = quiz "
            "WHERE student = ? AND course = ? ORDER BY quiz DESC, place LIMIT ?",
            (student, course, REMEMBERED),
        ).fetchall()
    return tuple(row[0] for row in rows)
