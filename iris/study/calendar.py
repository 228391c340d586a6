"""A plan as an iCalendar file (RFC 5545). Its events keep their ids, so that a second import updates the first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from icalendar import Calendar, Event

from iris.study.days import moment
from iris.study.plan import Session

DOMAIN = "iris-study-plan"


@dataclass(frozen=True, slots=True)
class Entry:
    """One event: the session, and its name in the student's language."""

    session: Session
    title: str


def calendar(
    plan: str,
    entries: Iterable[Entry],
    gone: Iterable[Entry],
    *,
    name: str,
    exam: tuple[date, str],
    revision: int,
    made: int,
    begin: time,
    where: ZoneInfo,
    notes: Mapping[str, str] | None = None,
) -> bytes:
    """The file.

    Args:
        plan: the plan's id; with a session's own it makes the id of the event.
        entries: sessions in the order of work. Those of one day follow each other from ``begin`` on.
        gone: sessions of earlier versions that are not planned any more: cancelled, so that calendars remove them.
        name: the calendar's name.
        exam: day and title of the exam, an event of the whole day.
        revision: how often the plan was made anew; calendars take over what has the higher number.
        made: when this version was made, milliseconds since 1970.
        begin: when a day of study begins where the student lives.
        where: where that is. Times are written in UTC: every calendar shows them right, also when the clocks change.
        notes: a description by topic.
    """
    file = Calendar()
    file.add("prodid", "-//Iris//Study plan//EN")
    file.add("version", "2.0")
    file.add("method", "PUBLISH")
    file.add("x-wr-calname", name)
    stamp = moment(made).replace(microsecond=0)
    days: dict[date, list[Entry]] = {}
    for entry in entries:
        days.setdefault(entry.session.day, []).append(entry)
    for day, todo in days.items():
        at = _begin(day, begin, sum(entry.session.minutes for entry in todo), where)
        for entry in todo:
            event = _event(plan, entry, at, stamp, revision)
            event.add("status", "CONFIRMED")
            if notes and notes.get(entry.session.topic):
                event.add("description", notes[entry.session.topic])
            file.add_component(event)
            at += timedelta(minutes=entry.session.minutes)
    for entry in gone:
        at = _begin(entry.session.day, begin, entry.session.minutes, where)
        event = _event(plan, entry, at, stamp, revision)
        event.add("status", "CANCELLED")
        file.add_component(event)
    day_of_exam, title = exam
    event = Event()
    event.add("uid", f"exam.{plan}@{DOMAIN}")
    event.add("dtstamp", stamp)
    event.add("dtstart", day_of_exam)
    event.add("dtend", day_of_exam + timedelta(days=1))
    event.add("summary", title)
    event.add("sequence", revision)
    event.add("transp", "TRANSPARENT")
    file.add_component(event)
    return bytes(file.to_ical())


def _event(plan: str, entry: Entry, at: datetime, stamp: datetime, revision: int) -> Event:
    event = Event()
    event.add("uid", f"{entry.session.id}.{plan}@{DOMAIN}")
    event.add("dtstamp", stamp)
    event.add("dtstart", at)
    event.add("dtend", at + timedelta(minutes=entry.session.minutes))
    event.add("summary", entry.title)
    event.add("sequence", revision)
    event.add("categories", [entry.session.kind])
    return event


def _begin(day: date, begin: time, minutes: int, where: ZoneInfo) -> datetime:
    """When to begin on a day, in UTC: earlier than asked where the work would otherwise run past midnight."""
    asked = datetime.combine(day, begin, where).astimezone(UTC)
    midnight = datetime.combine(day + timedelta(days=1), time(), where).astimezone(UTC)
    return min(asked, midnight - timedelta(minutes=minutes))
