"""A student's plan for a course, in the store: made anew as often as asked, with what was done in it kept."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date, time
from typing import Any

from iris.errors import PlanError
from iris.store import Store
from iris.study.plan import LeftOut, Plan, Session, Shortened

PLANNED, DONE, GONE = "planned", "done", "gone"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a student asked for. ``topics`` gives the confidence in each chosen topic, 0 to 1.

    ``weekdays_off`` counts Monday as 0; ``begin`` is when a day of study begins, for the calendar.
    """

    exam: date
    hours: float
    topics: Mapping[str, float]
    days_off: tuple[date, ...] = ()
    weekdays_off: tuple[int, ...] = ()
    begin: time = time(17)


@dataclass(frozen=True, slots=True)
class Kept:
    """A plan in the store. ``gone`` are sessions of earlier revisions that are not planned any more."""

    id: str
    course: str
    revision: int
    changed: int
    asked: Asked
    plan: Plan
    gone: tuple[Session, ...] = ()
    tips: str = ""


def load(store: Store, student: str, course: str) -> Kept | None:
    """The student's plan for a course, or None."""
    with store.read() as connection:
        return _load(connection, student, course)


def courses(store: Store, student: str) -> list[str]:
    """Ids of the courses for which there is a plan."""
    with store.read() as connection:
        rows = connection.execute("SELECT course FROM plans WHERE student = ? ORDER BY course", (student,))
        return [row["course"] for row in rows]


def save(store: Store, student: str, course: str, asked: Asked, plan: Plan, at: int) -> Kept:
    """Keep a plan in place of the one before. Its id stays, and what is not planned any more is remembered as gone."""
    facts = {
        **{name: getattr(plan, name) for name in ("has_mock", "needed", "reviews", "available", "assumed")},
        "recall": dict(plan.recall),
        "left_out": [asdict(entry) for entry in plan.left_out],
        "shortened": [asdict(entry) for entry in plan.shortened],
    }
    with store.write() as connection:
        before = _load(connection, student, course)
        name = before.id if before else secrets.token_hex(8)
        revision = before.revision + 1 if before else 0
        at = max(at, before.changed + 1) if before else at
        connection.execute(
            "INSERT INTO plans (student, course, id, revision, created, changed, asked, facts, tips) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, '') ON CONFLICT (student, course) DO UPDATE SET "
            "revision = excluded.revision, changed = excluded.changed, asked = excluded.asked, facts = excluded.facts, "
            "tips = ''",
            (student, course, name, revision, at, at, json.dumps(_asked_as_json(asked)), json.dumps(facts)),
        )
        connection.execute(
            "UPDATE plan_sessions SET state = ? WHERE student = ? AND course = ?", (GONE, student, course)
        )
        connection.executemany(
            "INSERT OR REPLACE INTO plan_sessions (student, course, id, place, day, kind, topic, minutes, state) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    student,
                    course,
                    s.id,
                    place,
                    s.day.isoformat(),
                    s.kind,
                    s.topic,
                    s.minutes,
                    DONE if s.done else PLANNED,
                )
                for place, s in enumerate(plan.sessions)
            ],
        )
        kept = _load(connection, student, course)
        assert kept is not None, "it was written a moment ago"
        return kept


def tick(store: Store, student: str, course: str, done: Mapping[date, bool], at: int) -> Kept:
    """Tick days off (True) or take it back (False): all their sessions at once.

    Raises:
        PlanError: there is no plan.
    """
    with store.write() as connection:
        connection.executemany(
            "UPDATE plan_sessions SET state = ? WHERE student = ? AND course = ? AND day = ? AND state <> ?",
            [(DONE if yes else PLANNED, student, course, day.isoformat(), GONE) for day, yes in done.items()],
        )
        connection.execute(
            "UPDATE plans SET changed = max(?, changed + 1) WHERE student = ? AND course = ?", (at, student, course)
        )
        kept = _load(connection, student, course)
    if kept is None:
        raise no_plan()
    return kept


def keep_tips(store: Store, student: str, course: str, revision: int, tips: str) -> None:
    """Keep the tips for a plan, unless it was made anew meanwhile."""
    with store.write() as connection:
        connection.execute(
            "UPDATE plans SET tips = ? WHERE student = ? AND course = ? AND revision = ?",
            (tips, student, course, revision),
        )


def delete(store: Store, student: str, course: str) -> None:
    """Forget the plan; nothing happens where there is none."""
    with store.write() as connection:
        connection.execute("DELETE FROM plans WHERE student = ? AND course = ?", (student, course))


def no_plan() -> PlanError:
    return PlanError("There is no plan for this course yet. Make one first.")


def _load(connection: sqlite3.Connection, student: str, course: str) -> Kept | None:
    row = connection.execute("SELECT * FROM plans WHERE student = ? AND course = ?", (student, course)).fetchone()
    if row is None:
        return None
    sessions: list[Session] = []
    gone: list[Session] = []
    for entry in connection.execute(
        "SELECT id, day, kind, topic, minutes, state FROM plan_sessions WHERE student = ? AND course = ? "
        "ORDER BY day, place, id",
        (student, course),
    ):
        session = Session(
            entry["id"], date.fromisoformat(entry["day"]), entry["kind"], entry["topic"], entry["minutes"]
        )
        if entry["state"] == GONE:
            gone.append(session)
        else:
            sessions.append(replace(session, done=entry["state"] == DONE))
    asked = _asked_from_json(json.loads(row["asked"]))
    facts = json.loads(row["facts"])
    plan = Plan(
        exam=asked.exam,
        sessions=tuple(sessions),
        left_out=tuple(LeftOut(**entry) for entry in facts["left_out"]),
        shortened=tuple(Shortened(**entry) for entry in facts["shortened"]),
        has_mock=facts["has_mock"],
        needed=facts["needed"],
        reviews=facts["reviews"],
        available=facts["available"],
        recall=facts["recall"],
        assumed=tuple(facts["assumed"]),
    )
    return Kept(row["id"], course, row["revision"], row["changed"], asked, plan, tuple(gone), row["tips"])


def _asked_as_json(asked: Asked) -> dict[str, Any]:
    return {
        "exam": asked.exam.isoformat(),
        "hours": asked.hours,
        "topics": dict(asked.topics),
        "days_off": [day.isoformat() for day in asked.days_off],
        "weekdays_off": list(asked.weekdays_off),
        "begin": asked.begin.isoformat(timespec="minutes"),
    }


def _asked_from_json(row: Mapping[str, Any]) -> Asked:
    return Asked(
        exam=date.fromisoformat(row["exam"]),
        hours=float(row["hours"]),
        topics={str(name): float(known) for name, known in row["topics"].items()},
        days_off=tuple(date.fromisoformat(day) for day in row["days_off"]),
        weekdays_off=tuple(int(day) for day in row["weekdays_off"]),
        begin=time.fromisoformat(row["begin"]),
    )
