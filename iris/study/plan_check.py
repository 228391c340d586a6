"""Can this be planned at all? Dates, hours, and prerequisites without a circle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, time, timedelta
from graphlib import CycleError, TopologicalSorter

from iris.errors import PlanError
from iris.study.plan import SLOT, Request, Topic

MAX_DAYS = 731


def checked(request: Request) -> Request:
    """The request as it was.

    Raises:
        PlanError: no plan can be made of it; the message says why and what to change.
    """
    days = (request.exam - request.today).days
    if days == 0:
        raise PlanError(
            f"The exam, {request.exam}, is today: there is no day left to plan. Choose a later day, or take a drill."
        )
    if days < 0:
        raise PlanError(f"The exam, {request.exam}, is in the past (today is {request.today}). Choose a later day.")
    if days > MAX_DAYS:
        raise PlanError(f"The exam, {request.exam}, is {days:,} days away. Iris plans at most two years ahead.")
    if not math.isfinite(request.hours) or not 0 < request.hours <= 24:
        raise PlanError(f"{request.hours:g} hours a day cannot be planned: a day has 24. Give more than 0, up to 24.")
    if request.hours * 60 < SLOT:
        raise PlanError(f"{request.hours:g} hours a day are less than a quarter of an hour, the shortest session.")
    if all(request.off(request.today + timedelta(days=ahead)) for ahead in range(days)):
        raise PlanError(
            f"Every day from today to the exam on {request.exam} is a day off: no time is left to study. "
            "Take some of them back."
        )
    if not request.topics:
        raise PlanError("No topic is chosen. Choose at least one.")
    for topic in request.topics:
        if not 0 <= topic.known <= 1:
            raise PlanError(f"The confidence in {topic.title} must be between 0 and 1, not {topic.known:g}.")
    order(request.topics)
    return request


def order(topics: Sequence[Topic]) -> list[Topic]:
    """The topics, each after its prerequisites, otherwise as given. Prerequisites that are not among them are dropped.

    Raises:
        PlanError: some topics need each other in a circle, or one is given twice.
    """
    known = {topic.id: topic for topic in topics}
    if len(known) < len(topics):
        twice = next(topic for place, topic in enumerate(topics) if topic in topics[:place] or known[topic.id] != topic)
        raise PlanError(f"The topic {twice.title} is chosen twice.")
    graph = {name: [earlier for earlier in topic.prerequisites if earlier in known] for name, topic in known.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = " → ".join(known[name].title for name in reversed(error.args[1]))
        raise PlanError(
            f"These topics need each other in a circle, so none of them can come first: {circle}. "
            "Leave one of them out, or correct the prerequisites in course.toml."
        ) from None
    placed: dict[str, Topic] = {}
    stack = [(name, False) for name in reversed(list(known))]
    while stack:
        name, ready = stack.pop()
        if name in placed:
            continue
        if ready:
            placed[name] = replace(known[name], prerequisites=tuple(graph[name]))
        else:
            stack.append((name, True))
            stack.extend((earlier, False) for earlier in reversed(graph[name]))
    return list(placed.values())


def day(text: str, what: str) -> date:
    """A date written as YYYY-MM-DD.

    Raises:
        PlanError: it is none.
    """
    try:
        return date.fromisoformat(text.strip()[:10])
    except ValueError:
        raise PlanError(f"{what} {text!r} is no date. Write it as 2027-01-31: year, month, day.") from None


def weekday(text: str) -> int | None:
    """The weekday of that English name, Monday as 0; None for anything else."""
    names = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    name = text.strip().lower().removesuffix("s")
    return next((place for place, full in enumerate(names) if len(name) >= 3 and full.startswith(name)), None)


def clock(text: str) -> time:
    """A time of day written as HH:MM.

    Raises:
        PlanError: it is none.
    """
    try:
        return time.fromisoformat(text.strip())
    except ValueError:
        raise PlanError(f"{text!r} is no time of day. Write it as 17:00.") from None
