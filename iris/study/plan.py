"""What a study plan is made of: the request, the dated sessions, and what there was no time for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

SLOT = 15
"""Minutes: all times of a plan are multiples of it."""

LEARN, REVIEW, MOCK = "learn", "review", "mock"
KINDS = (LEARN, REVIEW, MOCK)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic to be planned.

    Attributes:
        id, title: as in the course.
        chapter: topics of different chapters are mixed.
        prerequisites: ids of topics to learn first.
        known: how well it is known, 0 to 1: what the student says, and what answers show.
        stability: mean stability (days) of its cards as FSRS sees it, None without reviewed cards.
        recall: mean predicted recall of these cards today, 0 to 1.
    """

    id: str
    title: str
    chapter: str = ""
    prerequisites: tuple[str, ...] = ()
    known: float = 0.5
    stability: float | None = None
    recall: float = 1.0


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be planned: from ``today`` to the day before ``exam``, ``hours`` on each day that is not off.

    ``weekdays_off`` counts Monday as 0.
    """

    today: date
    exam: date
    hours: float
    topics: tuple[Topic, ...]
    days_off: frozenset[date] = frozenset()
    weekdays_off: frozenset[int] = frozenset()

    def off(self, day: date) -> bool:
        return day in self.days_off or day.weekday() in self.weekdays_off


@dataclass(frozen=True, slots=True)
class Session:
    """Some minutes of one day for one topic (``learn``, ``review``) or for the mock exam (``mock``, no topic).

    ``id`` is unique in the plan and stays with a session when replanning moves it to another day.
    """

    id: str
    day: date
    kind: str
    topic: str
    minutes: int
    done: bool = False


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A topic for which there is no time, the minutes it takes, and a left-out prerequisite that it needs, if any."""

    topic: str
    minutes: int
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Shortened:
    """A topic that gets less time than it needs."""

    topic: str
    minutes: int
    needed: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The sessions in order of their days, and within a day in the order of work. Times in minutes.

    Attributes:
        exam: the day of the exam.
        sessions: all of them, also those done before.
        left_out, shortened: what there was no time for.
        has_mock: whether there is a mock exam; with very little time there is none.
        needed: learning time that all topics take.
        reviews: review time that predicted recall calls for.
        available: time on all study days, mock exam and work done taken off.
        recall: predicted recall by topic on the day of the exam, 0 to 1, if the plan is followed.
        assumed: prerequisites that were not chosen and are taken as known.
    """

    exam: date
    sessions: tuple[Session, ...]
    left_out: tuple[LeftOut, ...]
    shortened: tuple[Shortened, ...]
    has_mock: bool
    needed: int
    reviews: int
    available: int
    recall: Mapping[str, float]
    assumed: tuple[str, ...] = ()

    def days(self) -> dict[date, list[Session]]:
        """The sessions by day."""
        days: dict[date, list[Session]] = {}
        for session in self.sessions:
            days.setdefault(session.day, []).append(session)
        return days


def session_id(kind: str, topic: str, part: int) -> str:
    """The name of the ``part``-th session (from 1) of a kind for a topic."""
    return ".".join(filter(None, [kind, topic, str(part)]))
