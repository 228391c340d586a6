"""Mastery of a course's topics, from what is in the store."""

from __future__ import annotations

from iris.store import Store
from iris.study import cards, mastery
from iris.study.mastery import Mastery


def by_topic(store: Store, student: str, course: str, at: int) -> dict[str, Mastery]:
    """How well each topic is mastered at a time, for those of which anything is known."""
    return mastery.estimate((), cards.recall_by_topic(store, student, course, at), at)
