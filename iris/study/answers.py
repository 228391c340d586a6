"""Marked answers: what a student was asked, in a quiz, a drill or a review, and what the answer was worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from iris import store
from iris.store import Store

Source = Literal["quiz", "drill", "review"]


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer.

    Attributes:
        course, topic, item: their ids; what stands before ``/`` in an item's id names the course's own row.
        kind: of the item, ``choice``, ``true_false``, ``short`` or ``numeric``; ``card`` in a review.
        right: what the answer was worth, 0 to 1.
        source: where it was asked.
        at: milliseconds since 1970, UTC; 0 becomes the time of recording.
    """

    course: str
    topic: str
    item: str
    kind: str
    right: float
    source: Source = "quiz"
    at: int = 0


def record(store_: Store, student: str, answered: Answered) -> None:
    """Write an answer down. There must be a row for the student (``Store.student``).

    Raises:
        StoreError: it could not be written.
    """
    right = min(1.0, max(0.0, answered.right))
    with store_.write() as connection:
        connection.execute(
            'INSERT INTO answers (student, at, course, item, topic, kind, "right", source) VALUES (?,?,?,?,?,?,?,?)',
            (
                *(student, answered.at or store.now(), answered.course, answered.item, answered.topic),
                *(answered.kind, right, answered.source),
            ),
        )


def listed(store_: Store, student: str, course: str, *, since: int = 0) -> tuple[Answered, ...]:
    """A student's answers in a course from a time on, the oldest first."""
    with store_.read() as connection:
        rows = connection.execute(
            'SELECT course, topic, item, kind, "right", source, at FROM answers '
            "WHERE student = ? AND course = ? AND at >= ? ORDER BY at, id",
            (student, course, since),
        ).fetchall()
    return tuple(Answered(**dict(row)) for row in rows)
