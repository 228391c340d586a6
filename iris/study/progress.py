"""Mastery of a course's topics, from what is in the store."""

from __future__ import annotations

from iris.store import Store
from iris.study import cards, mastery
from iris.study.cards import Reviewed
from iris.study.mastery import Mastery

LATEST = 50
"""Answers of a topic that are looked at: older ones hardly weigh, and the page must not slow down with them."""


def by_topic(store: Store, student: str, course: str, at: int, reviewed: Reviewed | None = None) -> dict[str, Mastery]:
    """How well each topic is mastered at a time, for those of which anything is known.

    ``reviewed`` are the cards, where they have been read already.
    """
    reviewed = reviewed or cards.reviewed(store, student, course)
    return mastery.estimate(_latest(store, student, course), reviewed.recall(at), at)


def _latest(store: Store, student: str, course: str) -> list[tuple[str, int, float]]:
    """Topic, time and worth of the latest answers of each topic."""
    found: list[tuple[str, int, float]] = []
    topic: str | None = ""
    with store.read() as connection:
        cursor = connection.cursor()
        cursor.row_factory = None
        while topic is not None:
            found += cursor.execute(
                'SELECT topic, at, "right" FROM answers '
                "WHERE student = ? AND course = ? AND topic = ? ORDER BY at DESC LIMIT ?",
                (student, course, topic, LATEST),
            )
            (topic,) = cursor.execute(
                "SELECT min(topic) FROM answers WHERE student = ? AND course = ? AND topic > ?",
                (student, course, topic),
            ).fetchone()
    return found
