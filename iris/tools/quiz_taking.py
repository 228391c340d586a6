"""A quiz as a student takes it: one item after the other, marks, the score, and the wrong ones again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from iris.courses import Course
from iris.store import Store, now
from iris.study import answers, cards, quizzes
from iris.study.answers import Answered
from iris.study.quizzes import Given
from iris.tools import item_cards, passages, quiz_items, words
from iris.tools.quiz import Past
from iris.tools.quiz_items import Item, Mark


@dataclass(frozen=True, slots=True)
class Taken:
    """One item of a quiz under way: what was answered, and its mark; both empty before."""

    item: Item
    given: str = ""
    mark: Mark | None = None


@dataclass(frozen=True, slots=True)
class Taking:
    """A quiz under way. ``place`` counts from 0 and is the number of items at the end; ``round`` from 1."""

    course: str
    taken: tuple[Taken, ...]
    place: int = 0
    round: int = 1

    @property
    def over(self) -> bool:
        return self.place >= len(self.taken)

    @property
    def now(self) -> Taken:
        """The item before the student."""
        return self.taken[self.place]

    @property
    def points(self) -> float:
        """What the answers are worth together; an item each."""
        return sum(row.mark.right for row in self.taken if row.mark)

    @property
    def wrong(self) -> tuple[Item, ...]:
        """The items not answered right, those not answered included."""
        return tuple(row.item for row in self.taken if row.mark is None or row.mark.verdict != "right")


def begin(course: Course, items: Sequence[Item]) -> Taking:
    """The quiz before its first item."""
    return Taking(course.id, tuple(map(Taken, items)))


def answer(taking: Taking, given: str, course: Course) -> Taking:
    """Mark an answer to the item before the student; one that has its mark already keeps it.

    Raises:
        RequestError: nothing was answered, or far too much.
    """
    if taking.over or taking.now.mark is not None:
        return taking
    mark = quiz_items.mark(taking.now.item, given, words.lexicon(course))
    taken = list(taking.taken)
    taken[taking.place] = replace(taking.now, given=given.strip(), mark=mark)
    return replace(taking, taken=tuple(taken))


def forward(taking: Taking) -> Taking:
    """Go on to the next item, or to the end."""
    return replace(taking, place=min(taking.place + 1, len(taking.taken)))


def again(taking: Taking) -> Taking:
    """A new round of the items that were not answered right, or of all if none was wrong."""
    items = taking.wrong or tuple(row.item for row in taking.taken)
    return Taking(taking.course, tuple(map(Taken, items)), round=taking.round + 1)


def past(store: Store, student: str, course: Course) -> Past:
    """What the student has met in earlier quizzes."""
    return Past(quizzes.seen(store, student, course.id), quizzes.questions(store, student, course.id))


def keep_quiz(store: Store, student: str, course: Course, items: Sequence[Item]) -> None:
    """Write down that a quiz was given.

    Raises:
        StoreError: it could not be written.
    """
    rows = [Given(item.id, item.topic, item.kind, item.question) for item in items]
    quizzes.save(store, student, course.id, rows)


def keep_answer(store: Store, student: str, course: Course, taken: Taken) -> None:
    """Write a marked answer down; an item that was not answered right becomes a card.

    One about a note of the student's own is about no topic of the course, and is not kept.

    Raises:
        StoreError: it could not be written.
    """
    item = taken.item
    if taken.mark is None or item.topic.startswith(passages.OWN):
        return
    with store.write() as connection:
        answers.record(store, student, Answered(course.id, item.topic, item.id, item.kind, taken.mark.right, "quiz"))
        if taken.mark.verdict != "right":
            cards.insert(connection, student, [item_cards.of_item(course, item, "quiz", now())])
