"""The plan as a calendar file: read back by another library, with the times a student would see."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from ics import Calendar

from iris.study.calendar import Entry, calendar
from iris.study.plan import Session

MADE = 1_795_000_000_000
STOCKHOLM = ZoneInfo("Europe/Stockholm")


def file(entries: list[Entry], gone: tuple[Entry, ...] = (), *, revision: int = 0, begin: time = time(17)) -> bytes:
    return calendar(
        "abc", entries, gone, name="Plan", exam=(date(2027, 4, 1), "Exam"), revision=revision, made=MADE, begin=begin,
        where=STOCKHOLM, notes={"lora": "Line one\nline, two; three"},
    )  # fmt: skip


def entry(part: int, day: date, minutes: int = 30, title: str = "LoRA") -> Entry:
    return Entry(Session(f"learn.lora.{part}", day, "learn", "lora", minutes), title)


def events(data: bytes) -> dict[str, object]:
    return {event.uid: event for event in Calendar(data.decode()).events}


def test_sessions_follow_each_other_from_the_hour_asked() -> None:
    day = date(2026, 12, 1)
    found = {
        event.uid: (event.begin.datetime, event.duration)
        for event in Calendar(file([entry(1, day), entry(2, day, 45)]).decode()).events
    }
    begin = datetime(2026, 12, 1, 17, tzinfo=STOCKHOLM)
    assert found["learn.lora.1.abc@iris-study-plan"] == (begin, timedelta(minutes=30))
    assert found["learn.lora.2.abc@iris-study-plan"] == (begin + timedelta(minutes=30), timedelta(minutes=45))
    assert found["exam.abc@iris-study-plan"][0].date() == date(2027, 4, 1)


@pytest.mark.parametrize(
    ("day", "offset"),
    [(date(2027, 3, 27), 1), (date(2027, 3, 28), 2), (date(2026, 10, 24), 2), (date(2026, 10, 25), 1)],
)
def test_the_hour_is_the_students_when_the_clocks_change(day: date, offset: int) -> None:
    (event,) = [e for e in Calendar(file([entry(1, day)]).decode()).events if e.uid.startswith("learn")]
    assert event.begin.datetime == datetime(day.year, day.month, day.day, 17 - offset, tzinfo=UTC)
    assert event.begin.datetime.astimezone(STOCKHOLM).hour == 17


def test_a_long_day_begins_earlier_instead_of_running_past_midnight() -> None:
    day = date(2026, 12, 1)
    long = [entry(part, day, 60) for part in range(1, 11)]
    found = [e for e in Calendar(file(long).decode()).events if e.uid.startswith("learn")]
    ends = {e.begin.datetime.astimezone(STOCKHOLM).date() for e in found}
    assert ends == {day}
    assert min(e.begin.datetime for e in found) == datetime(2026, 12, 1, 14, tzinfo=STOCKHOLM)


def test_a_second_import_updates_the_first() -> None:
    first = [entry(1, date(2026, 12, 1)), entry(2, date(2026, 12, 2)), entry(3, date(2026, 12, 3))]
    moved = [first[0], Entry(replace(first[1].session, day=date(2026, 12, 5)), "LoRA")]
    before, after = (
        {e.uid: e for e in Calendar(data.decode()).events}
        for data in (file(first), file(moved, (first[2],), revision=1))
    )
    assert set(before) == set(after)
    assert after["learn.lora.2.abc@iris-study-plan"].begin.date() == date(2026, 12, 5)
    statuses = {uid: event.status for uid, event in after.items()}
    assert statuses["learn.lora.3.abc@iris-study-plan"] == "CANCELLED"
    assert statuses["learn.lora.1.abc@iris-study-plan"] == "CONFIRMED"
    text = file(moved, (first[2],), revision=1).decode()
    assert text.count("SEQUENCE:1") == 4
    assert "METHOD:PUBLISH" in text


@given(title=st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=200))
@hypothesis_settings(max_examples=60, deadline=None)
def test_any_title_arrives_as_it_is(title: str) -> None:
    data = file([entry(1, date(2026, 12, 1), title=title)])
    assert all(len(line) <= 75 for line in data.split(b"\r\n"))
    (event,) = [e for e in Calendar(data.decode()).events if e.uid.startswith("learn")]
    assert event.name.strip() == title.strip()
    assert event.description == "Line one\nline, two; three"
