"""The learner file, with what only the tools know about its contents."""

from __future__ import annotations

from iris.store import Store, now
from iris.study import drills, learner, plans
from iris.study.learner import Imported
from iris.tools import drill, quiz_items


def save(store: Store, student: str) -> str:
    """All that is the student's, as a learner file."""
    return learner.dump(store, student, now())


def load(store: Store, student: str, text: str | bytes) -> Imported:
    """Merge a learner file into what the student has; see ``learner.load``.

    Raises:
        LearnerFileError: nothing was imported; the message says why.
    """
    return learner.load(store, student, text, checks=(_plans, _drills))


def _plans(store: Store, student: str) -> None:
    for course in plans.courses(store, student):
        plans.load(store, student, course)


def _drills(store: Store, student: str) -> None:
    for taken in drills.every(store, student):
        for row in taken.items:
            quiz_items.from_dict(row)
        if taken.handed_in is not None:
            drill.report(taken)
