"""Cards in the store: made once however often they are asked for, due when FSRS says so, graded once a showing."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from itertools import groupby
from typing import Literal, get_args
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from iris.errors import CardError
from iris.store import Store
from iris.study import memory
from iris.study.days import DAY_MS, day_of, end_of
from iris.study.memory import REVIEW, Memory, Review

Source = Literal["quiz", "drill", "chat", "hand"]
SOURCES: tuple[Source, ...] = get_args(Source)

MAX_CHARACTERS = 20_000
"""Of one side of a card."""
AHEAD_MS = 20 * 60_000
"""A card that is being learned is shown this much early when nothing else is due."""

_COLUMNS = "id, course, topic, front, back, source, created, changed, due, state, step, stability, difficulty, reviewed"


@dataclass(frozen=True, slots=True)
class Card:
    """A question and its answer, Markdown with formulas between dollar signs. Times in milliseconds since 1970.

    ``topic`` is a topic's id, or empty. ``changed`` is when the text was last changed.
    """

    id: str
    course: str
    topic: str
    front: str
    back: str
    source: Source
    created: int
    changed: int
    memory: Memory


@dataclass(frozen=True, slots=True)
class Counts:
    """How many cards there are, how many were never reviewed, and how many are due now.

    ``next`` is when the next card that is not due now comes back, None where there is none.
    """

    total: int
    new: int
    due: int
    next: int | None


@dataclass(frozen=True, slots=True)
class TopicRecall:
    """Predicted recall of a topic's reviewed cards: their mean, 0 to 1, and how many they are."""

    recall: float
    cards: int
    stability: float


@dataclass(frozen=True, slots=True, eq=False)
class Reviewed:
    """The reviewed cards of a course in the order of their topics: topics, stabilities in days, last reviews in ms."""

    topics: Sequence[str]
    stability: NDArray[np.float64]
    reviewed: NDArray[np.int64]

    def recall(self, at: int) -> dict[str, TopicRecall]:
        """Predicted recall at a time, by topic."""
        recall = memory.recall(self.stability, self.reviewed, at)
        found, begin = {}, 0
        for topic, group in groupby(self.topics):
            end = begin + sum(1 for _ in group)
            found[topic] = TopicRecall(
                float(recall[begin:end].mean()), end - begin, float(self.stability[begin:end].mean())
            )
            begin = end
        return found


def make(course: str, topic: str, front: str, back: str, source: Source, at: int) -> Card:
    """A new card, due at once. Its id is made of course and text.

    Raises:
        CardError: a side is empty or too long.
    """
    front, back = front.strip(), back.strip()
    for side, text in (("front", front), ("back", back)):
        if not text:
            raise CardError(f"The {side} of the card is empty. Write something on both sides.")
        if len(text) > MAX_CHARACTERS:
            raise CardError(
                f"The {side} of the card has {len(text):,} characters; a card holds at most {MAX_CHARACTERS:,}. "
                "Make several small cards of it: they are also easier to learn."
            )
    mark = hashlib.sha256("\0".join((course, front, back)).encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return Card(mark, course, topic, front, back, source, at, at, Memory(due=at))


def add(store: Store, student: str, cards: Sequence[Card]) -> int:
    """Keep cards; those that are there already stay as they are. Returns how many are new."""
    with store.write() as connection:
        return insert(connection, student, cards)


def insert(connection: sqlite3.Connection, student: str, cards: Sequence[Card]) -> int:
    """``add`` inside a transaction that is under way."""
    before = connection.total_changes
    places = ", ".join("?" * 15)
    connection.executemany(
        f"INSERT OR IGNORE INTO cards (student, {_COLUMNS}) VALUES ({places})",
        [(student, *_values(card)) for card in cards],
    )
    return connection.total_changes - before


def get(store: Store, student: str, card: str) -> Card:
    """The card of that id.

    Raises:
        CardError: the student has none such.
    """
    with store.read() as connection:
        return _get(connection, student, card)


def every(store: Store, student: str, course: str | None = None) -> list[Card]:
    """All cards, or those of one course, the oldest first."""
    with store.read() as connection:
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM cards WHERE student = ? AND (? IS NULL OR course = ?) ORDER BY created, id",
            (student, course, course),
        )
        return [_card(row) for row in rows]


def page(store: Store, student: str, course: str, *, offset: int = 0, limit: int = 20) -> list[Card]:
    """Some cards of a course, the next due first."""
    with store.read() as connection:
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM cards WHERE student = ? AND course = ? ORDER BY due, id LIMIT ? OFFSET ?",
            (student, course, limit, offset),
        )
        return [_card(row) for row in rows]


def due(store: Store, student: str, course: str, at: int, where: ZoneInfo, *, limit: int = 1) -> list[Card]:
    """The cards to review now, most urgent first.

    Cards being learned are due to the minute; cards known for days are due on their day, whatever the hour. A card
    whose last review lies ahead of the clock, which was wrong then or is now, is due: else it might not come back for
    years. When nothing is due, cards being learned come up to 20 minutes early.
    """
    for ahead in (0, AHEAD_MS):
        with store.read() as connection:
            # The ids from the index alone; only what is shown is read in full.
            found = connection.execute(
                f"SELECT id FROM cards INDEXED BY cards_memory WHERE student = ? AND course = ? AND {_DUE} "
                "ORDER BY reviewed IS NULL, due, id LIMIT ?",
                (student, course, *_due(at, where, ahead), limit),
            ).fetchall()
            if found:
                return [_get(connection, student, row["id"]) for row in found]
    return []


def counts(store: Store, student: str, course: str, at: int, where: ZoneInfo) -> Counts:
    """How many cards there are, and how many wait."""
    with store.read() as connection:
        total, new, due, later = connection.execute(
            "SELECT count(*), coalesce(sum(reviewed IS NULL), 0), coalesce(sum(now), 0), "
            "min(CASE WHEN NOT now THEN due END) FROM "
            f"(SELECT due, reviewed, coalesce({_DUE}, 0) AS now FROM cards WHERE student = ? AND course = ?)",
            (*_due(at, where), student, course),
        ).fetchone()
    return Counts(total, new, due, later)


def grade(
    store: Store,
    student: str,
    card: str,
    rating: int,
    at: int,
    *,
    seen: int | None,
    duration: int | None = None,
    fuzz: bool = True,
) -> Card:
    """Note an answer to a card and when it comes back.

    ``seen`` is the card's ``memory.reviewed`` when it was shown: a second press on a grade changes nothing.

    Raises:
        CardError: there is no such card or grade.
    """
    if rating not in (1, 2, 3, 4):
        raise CardError(f"There is no grade {rating!r}: 1 is again, 2 hard, 3 good, 4 easy.")
    with store.write() as connection:
        now = _get(connection, student, card)
        if now.memory.reviewed != seen:
            return now
        taken = {row["at"] for row in connection.execute(_AT, (student, card, at, at + 1000))}
        at = next(at + more for more in range(1001) if at + more not in taken)
        after = replace(now, memory=memory.after(now.memory, rating, at, fuzz=fuzz))
        connection.execute(
            "INSERT INTO reviews (student, card, at, rating, duration) VALUES (?, ?, ?, ?, ?)",
            (student, card, at, rating, None if duration is None else max(0, min(duration, DAY_MS))),
        )
        remember(connection, student, card, after.memory)
        return after


def edit(store: Store, student: str, card: str, *, front: str, back: str, topic: str, at: int) -> Card:
    """Change a card's text; its id and what is known of its memory stay.

    Raises:
        CardError: there is no such card, or a side is empty or too long.
    """
    with store.write() as connection:
        now = _get(connection, student, card)
        fresh = make(now.course, topic, front, back, now.source, at)
        after = replace(now, front=fresh.front, back=fresh.back, topic=topic, changed=max(at, now.changed + 1))
        connection.execute(
            "UPDATE cards SET front = ?, back = ?, topic = ?, changed = ? WHERE student = ? AND id = ?",
            (after.front, after.back, topic, after.changed, student, card),
        )
        return after


def delete(store: Store, student: str, card: str) -> None:
    """Delete a card and its reviews; nothing happens where there is none."""
    with store.write() as connection:
        connection.execute("DELETE FROM cards WHERE student = ? AND id = ?", (student, card))


def remember(connection: sqlite3.Connection, student: str, card: str, now: Memory) -> None:
    """Write what is known of a card's memory, inside a transaction that is under way."""
    connection.execute(
        "UPDATE cards SET due = ?, state = ?, step = ?, stability = ?, difficulty = ?, reviewed = ? "
        "WHERE student = ? AND id = ?",
        (*astuple(now), student, card),
    )


def reviews(store: Store, student: str, card: str) -> list[Review]:
    """All answers to a card, the oldest first."""
    with store.read() as connection:
        rows = connection.execute(
            "SELECT at, rating, duration FROM reviews WHERE student = ? AND card = ? ORDER BY at", (student, card)
        )
        return [Review(*row) for row in rows]


def recall_by_topic(store: Store, student: str, course: str, at: int) -> dict[str, TopicRecall]:
    """Predicted recall at a time (milliseconds since 1970) by topic, over the cards that were reviewed at all."""
    return reviewed(store, student, course).recall(at)


def reviewed(store: Store, student: str, course: str) -> Reviewed:
    """What is known of all cards of a course that were reviewed."""
    with store.read() as connection:
        cursor = connection.cursor()
        cursor.row_factory = None  # thousands of rows: plain tuples take half the time
        rows = cursor.execute(
            "SELECT topic, stability, reviewed FROM cards "
            "WHERE student = ? AND course = ? AND reviewed IS NOT NULL ORDER BY topic",
            (student, course),
        ).fetchall()
    topics, stability, times = zip(*rows, strict=True) if rows else ((), (), ())
    return Reviewed(topics, np.array(stability, dtype=np.float64), np.array(times, dtype=np.int64))


_DUE = "(due <= ? OR (state = ? AND due < ?) OR reviewed > ?)"
_AT = "SELECT at FROM reviews WHERE student = ? AND card = ? AND at BETWEEN ? AND ?"


def _due(at: int, where: ZoneInfo, ahead: int = 0) -> tuple[int, ...]:
    return (at + ahead, REVIEW, end_of(day_of(at, where), where), at + DAY_MS)


def _get(connection: sqlite3.Connection, student: str, card: str) -> Card:
    row = connection.execute(f"SELECT {_COLUMNS} FROM cards WHERE student = ? AND id = ?", (student, card)).fetchone()
    if row is None:
        raise CardError("This card is not there any more. It may have been deleted in another window.")
    return _card(row)


def _card(row: sqlite3.Row) -> Card:
    name, course, topic, front, back, source, created, changed, *memory = tuple(row)
    return Card(name, course, topic, front, back, source, created, changed, Memory(*memory))


def _values(card: Card) -> tuple[object, ...]:
    return (*astuple(card)[:8], *astuple(card.memory))
