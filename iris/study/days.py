"""A student's days: the store counts milliseconds in UTC, people count days where they live."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAY_MS = 86_400_000


def zone(name: str | None) -> ZoneInfo:
    """The time zone of that name (``Europe/Stockholm``), as browsers give it; UTC for none or an unknown one."""
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def moment(ms: int) -> datetime:
    """Milliseconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def milliseconds(at: datetime) -> int:
    """A time with a zone as milliseconds since 1970."""
    return round(at.timestamp() * 1000)


def day_of(ms: int, where: ZoneInfo) -> date:
    """The date on the student's calendar at that time."""
    return moment(ms).astimezone(where).date()


def start_of(day: date, where: ZoneInfo) -> int:
    """When a day begins there, in milliseconds. A day is 23 or 25 hours long when the clocks change."""
    return milliseconds(datetime.combine(day, time(), where))


def end_of(day: date, where: ZoneInfo) -> int:
    """When the next day begins there, in milliseconds."""
    return start_of(day + timedelta(days=1), where)
