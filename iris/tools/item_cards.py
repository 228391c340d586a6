"""Cards made of what a student meets: a quiz or drill item that went wrong, an answer in Study Chat."""

from __future__ import annotations

from iris.courses import Course
from iris.study import cards
from iris.study.cards import Card, Source
from iris.tools.quiz_items import Item

_SPOKEN = {"true": "True", "false": "False"}


def of_item(course: Course, item: Item, source: Source, at: int) -> Card:
    """The item's question with its options on the front, its answer and explanation on the back.

    Options stand in alphabetical order, so that the same item makes the same card however it was shuffled.
    """
    options = "\n".join(f"- {option}" for option in sorted(item.options)) if item.kind == "choice" else ""
    answer = _SPOKEN.get(item.answer, item.answer) if item.kind == "true_false" else item.answer
    front = "\n\n".join(filter(None, [item.question, options]))
    back = "\n\n".join(filter(None, [f"**{answer}**" if item.kind != "short" else answer, item.explanation]))
    return cards.make(course.id, item.topic, front[: cards.MAX_CHARACTERS], back[: cards.MAX_CHARACTERS], source, at)


def of_chat(course: str, question: str, answer: str, at: int) -> Card:
    """The question on the front, the answer on the back.

    Raises:
        CardError: one of them is empty or too long.
    """
    return cards.make(course, "", question, answer, "chat", at)
