"""Mastery of a course's topics, from what is in the store."""

from __future__ import annotations

from iris.store import Store
from iris.study import cards, mastery
from iris.study.answers import Answered
from iris.study.mastery import Mastery

LATEST = 50
"""Answers of a topic that are looked at: older ones hardly weigh, and the page must not slow down with them."""


def by_topic(store: Store, student: str, course: str, at: int) -> dict[str, Mastery]:
    """How well each topic is mastered at a time, for those of which anything is known."""
    return mastery.estimate(latest(store, student, course), cards.recall_by_topic(store, student, course, at), at)


def latest(store: Store, student: str, course: str) -> list[Answered]:
    """The latest answers of each topic."""
    found: list[Answered] = []
    topic: str | None = ""
    with store.read() as connection:
        while topic is not None:
            rows = connection.execute(
                'SELECT course, topic, item, kind, "right", source, at FROM answers '
                "WHERE student = ? AND course = ? AND topic = ? ORDER BY at DESC LIMIT ?",
                (student, course, topic, LATEST),
            )
            found += [Answered(**dict(row)) for row in rows]
            (topic,) = connection.execute(
                "SELECT min(topic) FROM answers WHERE student = ? AND course = ? AND topic > ?",
                (student, course, topic),
            ).fetchone()
    return found
