"""Study Planner: a plan by code from dates, hours and topics; the model only phrases tips for following it."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

from iris import prompts
from iris.courses import Course
from iris.engine import Engine, GenerationRequest
from iris.errors import PlanError
from iris.store import Store
from iris.study import calendar, cards, plan_check, plans, progress, schedule
from iris.study.calendar import Entry
from iris.study.days import day_of
from iris.study.mastery import Mastery, known
from iris.study.plan import Plan, Request, Session, Topic
from iris.study.plans import Asked, Kept

TIPS_DAYS = 5
"""Days of the plan that the model is told of."""
TIPS_TOPICS = 6
"""Topics named to the model: the weakest, and those left out."""


def make(store: Store, student: str, course: Course, asked: Asked, at: int, where: ZoneInfo) -> Kept:
    """Make a plan and keep it in place of the one before, whose finished sessions stay and count.

    Args:
        asked: dates, hours and topics as the student wants them.
        at: now, in milliseconds since 1970.
        where: where the student lives: decides which day today is.

    Raises:
        PlanError: no plan can be made of this; the plan before stays.
        CourseError: there is no such topic.
    """
    before = plans.load(store, student, course.id)
    done = [session for session in before.plan.sessions if session.done] if before else []
    mastery = progress.by_topic(store, student, course.id, at)
    recall = cards.recall_by_topic(store, student, course.id, at)
    plan = schedule.plan(request(course, asked, day_of(at, where), mastery, recall), done)
    return plans.save(store, student, course.id, asked, plan, at)


def replan(store: Store, student: str, course: Course, at: int, where: ZoneInfo) -> Kept:
    """Plan anew from today, after missed days or with better knowledge of what is mastered.

    Raises:
        PlanError: there is no plan, or no new one can be made; the plan before stays.
    """
    before = plans.load(store, student, course.id)
    if before is None:
        raise plans.no_plan()
    there = {topic.id for topic in course.topics}
    still = {name: confidence for name, confidence in before.asked.topics.items() if name in there}
    return make(store, student, course, replace(before.asked, topics=still), at, where)


def preview(course: Course, asked: Asked, today: date) -> Plan:
    """A plan for nobody in particular: nothing is kept. Raises as ``make`` does."""
    return schedule.plan(request(course, asked, today, {}, {}))


def request(
    course: Course,
    asked: Asked,
    today: date,
    mastery: Mapping[str, Mastery],
    recall: Mapping[str, cards.TopicRecall],
) -> Request:
    """What the scheduler is asked for: confidence and mastery of each topic as one number, with what its cards show."""
    topics = []
    for topic in course.topics:
        if topic.id not in asked.topics:
            continue
        shown = recall.get(topic.id)
        topics.append(
            Topic(
                id=topic.id,
                title=topic.title,
                chapter=topic.chapter,
                prerequisites=topic.prerequisites,
                known=known(_share(asked.topics[topic.id], topic.title), mastery.get(topic.id)),
                stability=shown.stability if shown else None,
                recall=shown.recall if shown else 1.0,
            )
        )
    for name in asked.topics:
        course.topic(name)  # raises for an unknown one
    return Request(
        today=today,
        exam=asked.exam,
        hours=asked.hours,
        topics=tuple(topics),
        days_off=frozenset(asked.days_off),
        weekdays_off=frozenset(asked.weekdays_off),
    )


def missed(plan: Plan, today: date) -> list[date]:
    """Days before today with something planned that was not done."""
    return [day for day, todo in plan.days().items() if day < today and not all(session.done for session in todo)]


def tips(engine: Engine, course: Course, plan: Plan, today: date, language: str = "en") -> Generator[str, None, None]:
    """The model's tips for following the plan, growing. Raises what ``Engine.stream`` raises."""
    messages = prompts.study_tips(outline(course, plan, today), language)
    text = ""
    with engine.stream(GenerationRequest(messages, prompts.STUDY_TIPS_SAMPLING)) as chunks:
        for chunk in chunks:
            if chunk.text:
                text += chunk.text
                yield text


def outline(course: Course, plan: Plan, today: date) -> str:
    """The plan in a few lines, for the model."""
    days = [(day, todo) for day, todo in plan.days().items() if day >= today][:TIPS_DAYS]
    lines = [f"Exam on {plan.exam:%A, %d %B %Y}, in {(plan.exam - today).days} days."]
    for day, todo in days:
        parts = [" ".join(filter(None, [s.kind, title(course, s.topic), f"({s.minutes} min)"])) for s in todo]
        lines.append(f"{day:%A %d %B}: {', '.join(parts)}")
    weakest = sorted(plan.recall, key=lambda name: plan.recall[name])[:TIPS_TOPICS]
    if weakest:
        named = ", ".join(f"{title(course, name)} ({plan.recall[name]:.0%})" for name in weakest)
        lines.append(f"Predicted recall on the exam day is lowest for: {named}.")
    if plan.left_out:
        named = ", ".join(title(course, entry.topic) for entry in plan.left_out[:TIPS_TOPICS])
        lines.append(f"There is no time for: {named}{' and more' if len(plan.left_out) > TIPS_TOPICS else ''}.")
    return "\n".join(lines)


def title(course: Course, topic: str) -> str:
    """A topic's title; its id where the course has it no more."""
    return next((known.title for known in course.topics if known.id == topic), topic)


def ics(kept: Kept, course: Course, kinds: Mapping[str, str], exam: str, made: int, where: ZoneInfo) -> bytes:
    """The plan as a calendar file; ``kinds`` and ``exam`` are what sessions and the exam are called."""

    def entry(session: Session) -> Entry:
        return Entry(session, ": ".join(filter(None, [kinds[session.kind], title(course, session.topic)])))

    return calendar.calendar(
        kept.id,
        [entry(session) for session in kept.plan.sessions],
        [entry(session) for session in kept.gone],
        name=f"Iris: {course.title}",
        exam=(kept.asked.exam, f"{exam}: {course.title}"),
        revision=kept.revision,
        made=made,
        begin=kept.asked.begin,
        where=where,
    )


def as_json(course: Course, plan: Plan) -> dict[str, Any]:
    """A plan as plain values."""
    return {
        "course": course.id,
        "exam": plan.exam.isoformat(),
        "minutes_needed": plan.needed,
        "minutes_for_reviews": plan.reviews,
        "minutes_available": plan.available,
        "days": [
            {
                "date": day.isoformat(),
                "minutes": sum(session.minutes for session in todo),
                "sessions": [
                    {
                        "id": session.id,
                        "kind": session.kind,
                        "topic": session.topic,
                        "title": title(course, session.topic),
                        "minutes": session.minutes,
                    }
                    for session in todo
                ],
            }
            for day, todo in plan.days().items()
        ],
        "left_out": [
            {
                "topic": entry.topic,
                "minutes": entry.minutes,
                "reason": f"It needs {title(course, entry.missing)}, which is left out."
                if entry.missing
                else "There is no time for it.",
            }
            for entry in plan.left_out
        ],
        "shortened": [
            {"topic": entry.topic, "minutes": entry.minutes, "minutes_needed": entry.needed} for entry in plan.shortened
        ],
        "assumed_known": list(plan.assumed),
        "recall": {topic: round(recall, 3) for topic, recall in plan.recall.items()},
    }


def from_words(
    exam: str,
    hours: float,
    topics: Mapping[str, float] | Sequence[str] | None,
    days_off: Sequence[str],
    course: Course,
    begin: str = "17:00",
) -> Asked:
    """What was asked for in words: dates as YYYY-MM-DD, days off as dates or weekdays, confidence from 0 to 1.

    Topics without a confidence have 0.5; no topics are all topics of the course.

    Raises:
        PlanError: something cannot be read; the message says what.
    """
    chosen: dict[str, float] = {}
    if isinstance(topics, Mapping):
        chosen = {str(name): _number(value, f"The confidence in {name}") for name, value in topics.items()}
    elif topics:
        chosen = {str(name): 0.5 for name in topics}
    else:
        chosen = {topic.id: 0.5 for topic in course.topics}
    weekdays = {found for text in days_off if (found := plan_check.weekday(text)) is not None}
    return Asked(
        exam=plan_check.day(exam, "The day of the exam"),
        hours=_number(hours, "Hours a day"),
        topics=chosen,
        days_off=tuple(
            sorted({plan_check.day(text, "The day off") for text in days_off if plan_check.weekday(text) is None})
        ),
        weekdays_off=tuple(sorted(weekdays)),
        begin=plan_check.clock(begin),
    )


def _number(value: object, what: str) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise PlanError(f"{what} must be a number, not {value!r}.") from None


def _share(confidence: float, title: str) -> float:
    if not 0 <= confidence <= 1:
        raise PlanError(f"The confidence in {title} must be between 0 and 1, not {confidence:g}.")
    return confidence
