"""Mini exams in the store: begun, saved answer by answer, handed in once."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iris.errors import DrillError
from iris.store import Store, now

GRACE_MS = 5_000
"""What was answered in time and arrives this much later still counts: networks are slow."""


@dataclass(frozen=True, slots=True)
class Drill:
    """A mini exam. Times in milliseconds since 1970.

    ``items`` are as they were set, with the right answers; ``given`` the answers by the item's place, from "0".
    ``report`` is empty until it is handed in.
    """

    id: str
    course: str
    begun: int
    ends: int
    handed_in: int | None
    items: tuple[Mapping[str, Any], ...]
    given: Mapping[str, str]
    report: Mapping[str, Any]

    def left(self, at: int) -> int:
        """Milliseconds that are left, never more than there were at the beginning."""
        return max(0, min(self.ends - self.begun, self.ends - at))


class Clock:
    """The time, in milliseconds since 1970, which does not jump when the computer's clock is set."""

    def __init__(self) -> None:
        self._offset = now() - _elapsed()

    def now(self) -> int:
        return self._offset + _elapsed()


def begin(store: Store, student: str, course: str, items: Sequence[Mapping[str, Any]], length: int, at: int) -> Drill:
    """Begin a drill of ``length`` milliseconds.

    Raises:
        DrillError: another one is under way.
    """
    with store.write() as connection:
        if _open(connection, student, course):
            raise DrillError("A drill is under way already. Finish it, or hand it in, before you begin another.")
        name = secrets.token_hex(8)
        connection.execute(
            "INSERT INTO drills (student, id, course, begun, ends, handed_in, changed, items, given, report) "
            "VALUES (?, ?, ?, ?, ?, NULL, ?, ?, '{}', '{}')",
            (student, name, course, at, at + length, at, json.dumps(list(items))),
        )
        return _get(connection, student, name)


def under_way(store: Store, student: str, course: str) -> Drill | None:
    """The drill that was begun and not handed in, also when its time is over."""
    with store.read() as connection:
        return _open(connection, student, course)


def latest(store: Store, student: str, course: str) -> Drill | None:
    """The drill that was handed in last."""
    with store.read() as connection:
        row = connection.execute(
            "SELECT * FROM drills WHERE student = ? AND course = ? AND handed_in IS NOT NULL "
            "ORDER BY begun DESC LIMIT 1",
            (student, course),
        ).fetchone()
    return _drill(row) if row else None


def every(store: Store, student: str) -> list[Drill]:
    """All drills of a student, the oldest first."""
    with store.read() as connection:
        rows = connection.execute("SELECT * FROM drills WHERE student = ? ORDER BY begun, id", (student,))
        return [_drill(row) for row in rows]


def find(store: Store, student: str, drill: str) -> Drill:
    """The drill of that id.

    Raises:
        DrillError: the student has none such.
    """
    with store.read() as connection:
        return _get(connection, student, drill)


def save(store: Store, student: str, drill: str, given: Mapping[str, str], at: int) -> Drill:
    """Keep answers, beside those kept before; an empty one takes an answer back. Returns the drill as it is then.

    What comes after the end, or after it was handed in, changes nothing.

    Raises:
        DrillError: there is no such drill.
    """
    with store.write() as connection:
        before = _get(connection, student, drill)
        places = {str(place) for place in range(len(before.items))}
        merged = {**before.given, **{place: text for place, text in given.items() if place in places}}
        if before.handed_in is not None or at > before.ends + GRACE_MS or merged == before.given:
            return before
        connection.execute(
            "UPDATE drills SET given = ?, changed = max(?, changed + 1) WHERE student = ? AND id = ?",
            (json.dumps(merged), at, student, drill),
        )
        return _get(connection, student, drill)


def close(connection: sqlite3.Connection, student: str, drill: str, report: Mapping[str, Any], at: int) -> None:
    """Note that a drill was handed in, with its report, inside a transaction that is under way."""
    connection.execute(
        "UPDATE drills SET handed_in = ?, report = ?, changed = max(?, changed + 1) WHERE student = ? AND id = ?",
        (at, json.dumps(report), at, student, drill),
    )


def _elapsed() -> int:
    # Unlike the monotonic clock, this one goes on while the computer sleeps.
    source = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(source) // 1_000_000


def _open(connection: sqlite3.Connection, student: str, course: str) -> Drill | None:
    row = connection.execute(
        "SELECT * FROM drills WHERE student = ? AND course = ? AND handed_in IS NULL ORDER BY begun DESC LIMIT 1",
        (student, course),
    ).fetchone()
    return _drill(row) if row else None


def _get(connection: sqlite3.Connection, student: str, drill: str) -> Drill:
    row = connection.execute("SELECT * FROM drills WHERE student = ? AND id = ?", (student, drill)).fetchone()
    if row is None:
        raise DrillError("This drill is not there any more. Begin a new one.")
    return _drill(row)


def _drill(row: sqlite3.Row) -> Drill:
    return Drill(
        row["id"],
        row["course"],
        row["begun"],
        row["ends"],
        row["handed_in"],
        tuple(json.loads(row["items"])),
        json.loads(row["given"]),
        json.loads(row["report"]),
    )
