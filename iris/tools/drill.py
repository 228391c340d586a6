"""Mixed Drill: a timed mini exam over chosen topics, saved while it is taken, handed in by itself at the end."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iris.courses import Course
from iris.errors import DrillError, RequestError
from iris.store import Store
from iris.study import answers, cards, drills
from iris.study.answers import Answered
from iris.study.drills import Drill
from iris.tools import item_cards, quiz, quiz_items, words
from iris.tools.quiz_items import KINDS, Item, Mark

MAX_MINUTES = 180
_UNANSWERED = Mark(0.0, "wrong", "empty")


@dataclass(frozen=True, slots=True)
class Line:
    """One item, what was answered (empty: nothing), and its mark."""

    item: Item
    given: str
    mark: Mark


@dataclass(frozen=True, slots=True)
class TopicScore:
    """What was reached in a topic: the sum of its marks, and how many items it had."""

    topic: str
    right: float
    count: int


@dataclass(frozen=True, slots=True)
class Report:
    """A drill that was handed in: ``score`` from 0 to 1, topics with the weakest first, all items, and new cards.

    ``used`` is the time that was taken, in milliseconds.
    """

    score: float
    topics: tuple[TopicScore, ...]
    lines: tuple[Line, ...]
    cards: int
    used: int


def items(
    course: Course | None,
    topics: Sequence[str],
    count: int,
    kinds: Sequence[str] = KINDS,
    seed: int | None = None,
) -> tuple[Item, ...]:
    """Items for a drill, from the course's bank: the same for the same seed.

    Raises:
        DrillError: nothing can be set from this; the message says why.
        CourseError: there is no such topic.
    """
    try:
        wanted = quiz.checked(course, topics, count, kinds, None)
        assert course is not None, "checked"
        return quiz.complete(course, quiz.prepare(course, wanted, seed=seed), seed=seed).items
    except RequestError as error:
        raise DrillError(str(error)) from error


def begin(
    store: Store,
    student: str,
    course: Course,
    topics: Sequence[str],
    count: int,
    minutes: float,
    kinds: Sequence[str],
    at: int,
) -> Drill:
    """Set a drill and start its clock.

    Raises:
        DrillError: another one is under way, or none can be set from this.
    """
    length = checked_minutes(minutes)
    chosen = items(course, topics, count, kinds, secrets.randbelow(1 << 31))
    return drills.begin(store, student, course.id, [quiz_items.as_dict(item) for item in chosen], length, at)


def checked_minutes(minutes: object) -> int:
    """The length of a drill in milliseconds.

    Raises:
        DrillError: it is no number of minutes that a drill can take.
    """
    if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not math.isfinite(minutes):
        raise DrillError(f"The length must be a number of minutes, not {minutes!r}.")
    if not 1 <= minutes <= MAX_MINUTES:
        raise DrillError(f"A drill takes 1 to {MAX_MINUTES} minutes, not {minutes:g}.")
    return round(minutes * 60_000)


def under_way(store: Store, student: str, course: Course, at: int) -> Drill | None:
    """The drill that is being taken. One whose time is over is handed in now, as it was at its end."""
    drill = drills.under_way(store, student, course.id)
    if drill and drill.ends <= at:
        hand_in(store, student, course, drill.id, at)
        return None
    return drill


def save(store: Store, student: str, drill: str, given: Mapping[str, str], at: int) -> Drill:
    """Keep answers by place, from "0". Raises as ``drills.save``.

    Raises:
        DrillError: an answer is longer than can be marked; the others are kept.
    """
    long = [place for place, text in given.items() if len(text) > quiz_items.MAX_ANSWER]
    kept = drills.save(store, student, drill, {place: given[place] for place in given if place not in long}, at)
    if long:
        raise DrillError(
            f"The answer to question {int(long[0]) + 1} has {len(given[long[0]]):,} characters; at most "
            f"{quiz_items.MAX_ANSWER:,} are marked. Shorten it: it is not saved."
        )
    return kept


def hand_in(store: Store, student: str, course: Course, drill: str, at: int) -> Report:
    """Mark a drill: once, whoever asks. Marks count for mastery, and what went wrong becomes cards.

    Raises:
        DrillError: there is no such drill.
    """
    taken = drills.find(store, student, drill)
    while taken.handed_in is None:
        lines = marked(course, _items(taken), taken.given)  # outside the transaction: others wait to write
        end = max(taken.begun, min(at, taken.ends))
        wrong = [item_cards.of_item(course, line.item, "drill", end) for line in lines if line.mark.verdict != "right"]
        marks = [{"right": m.right, "verdict": m.verdict, "reason": m.reason} for m in (line.mark for line in lines)]
        with store.write() as connection:
            now = drills.find(store, student, drill)
            if now.handed_in is None and now.given == taken.given:
                made = cards.insert(connection, student, wrong)
                for line in lines:
                    if line.given:  # what there was no time for says nothing about the topic
                        answers.record(store, student, _answered(course, line, end))
                drills.close(connection, student, drill, {"marks": marks, "cards": made}, end)
            taken = drills.find(store, student, drill)
    return report(taken)


def marked(course: Course, asked: Sequence[Item], given: Mapping[str, str]) -> list[Line]:
    """Every item with its mark; what was not answered is wrong."""
    lexicon = words.lexicon(course)
    lines = []
    for place, item in enumerate(asked):
        answer = given.get(str(place), "").strip()
        mark = quiz_items.mark(item, answer, lexicon) if answer else _UNANSWERED
        lines.append(Line(item, answer, mark))
    return lines


def report(drill: Drill) -> Report:
    """The report of a drill that was handed in."""
    marks = [Mark(mark["right"], mark["verdict"], mark["reason"]) for mark in drill.report["marks"]]
    lines = [
        Line(item, drill.given.get(str(place), "").strip(), mark)
        for place, (item, mark) in enumerate(zip(_items(drill), marks, strict=True))
    ]
    return summed(lines, cards=drill.report["cards"], used=(drill.handed_in or drill.ends) - drill.begun)


def summed(lines: Sequence[Line], *, cards: int = 0, used: int = 0) -> Report:
    """The report over marked items."""
    topics: dict[str, TopicScore] = {}
    for line in lines:
        before = topics.get(line.item.topic, TopicScore(line.item.topic, 0.0, 0))
        topics[line.item.topic] = TopicScore(before.topic, before.right + line.mark.right, before.count + 1)
    weakest = sorted(topics.values(), key=lambda score: (score.right / score.count, score.topic))
    total = sum(line.mark.right for line in lines) / len(lines) if lines else 0.0
    return Report(total, tuple(weakest), tuple(lines), cards, used)


def shown(item: Item) -> dict[str, Any]:
    """An item as it is asked: without what would give the answer away."""
    return {"topic": item.topic, "kind": item.kind, "question": item.question, "options": list(item.options)} | (
        {"unit": item.unit} if item.unit else {}
    )


def _answered(course: Course, line: Line, at: int) -> Answered:
    item = line.item
    return Answered(course.id, item.topic, item.id, item.kind, line.mark.right, "drill", at)


def _items(drill: Drill) -> list[Item]:
    return [quiz_items.from_dict(row) for row in drill.items]
