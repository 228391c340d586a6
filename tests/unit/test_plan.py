"""The study planner: what must hold of every plan, whatever is asked for."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from iris import courses
from iris.errors import PlanError
from iris.study import schedule, selection
from iris.study.plan import LEARN, MOCK, REVIEW, SLOT, Plan, Request, Session, Topic
from iris.study.selection import Need

TODAY = date(2026, 11, 26)


@st.composite
def topics(draw: st.DrawFn, most: int = 12) -> tuple[Topic, ...]:
    """Topics whose prerequisites point backwards, given in any order; some prerequisites are not among them."""
    number = draw(st.integers(1, most))
    made = []
    for place in range(number):
        earlier = draw(st.sets(st.integers(0, place - 1), max_size=3)) if place else set()
        outside = draw(st.sampled_from([(), (), ("elsewhere",)]))
        stability = draw(st.none() | st.floats(0.01, 1000))
        made.append(
            Topic(
                id=f"t{place}",
                title=f"Topic {place}",
                chapter=f"c{draw(st.integers(0, 2))}",
                prerequisites=(*(f"t{number}" for number in sorted(earlier)), *outside),
                known=draw(st.floats(0, 1)),
                stability=stability,
                recall=draw(st.floats(0, 1)),
            )
        )
    return tuple(draw(st.permutations(made)))


@st.composite
def requests(draw: st.DrawFn) -> Request:
    length = draw(st.integers(1, 40))
    request = Request(
        today=TODAY,
        exam=TODAY + timedelta(days=length),
        hours=draw(st.floats(0.25, 24) | st.sampled_from([0.25, 1.0, 2.0, 24.0])),
        topics=draw(topics()),
        days_off=frozenset(TODAY + timedelta(days=day) for day in draw(st.sets(st.integers(0, length), max_size=5))),
        weekdays_off=frozenset(draw(st.sets(st.integers(0, 6), max_size=4))),
    )
    days = [TODAY + timedelta(days=ahead) for ahead in range(length)]
    if all(request.off(day) for day in days):
        request = replace(request, days_off=frozenset(), weekdays_off=frozenset())
    return request


def holds(request: Request, plan: Plan, done: Iterable[Session] = ()) -> None:
    """Everything that is promised of a plan."""
    finished = {session.id for session in done}
    fresh = [session for session in plan.sessions if session.id not in finished]
    ids = [session.id for session in plan.sessions]
    assert len(set(ids)) == len(ids)
    # Never over the hours; only on study days from today to the day before the exam; whole quarters of an hour.
    for day, sessions in plan.days().items():
        if any(session.id not in finished for session in sessions):
            assert request.today <= day < request.exam
            assert not request.off(day)
            assert sum(session.minutes for session in sessions) <= request.hours * 60
    assert all(session.minutes > 0 and session.minutes % SLOT == 0 for session in fresh)
    # What was done stays.
    assert [replace(session, done=True) for session in sorted(done, key=lambda s: (s.day, s.id))] == sorted(
        (session for session in plan.sessions if session.id in finished), key=lambda s: (s.day, s.id)
    )
    # Prerequisites first, in full as far as they are planned at all; reviews only of what was learned or has cards.
    asked = {topic.id: topic for topic in request.topics}
    learned = {session.topic for session in plan.sessions if session.kind == LEARN}
    left_out = {entry.topic for entry in plan.left_out}
    last = {s.topic: place for place, s in enumerate(plan.sessions) if s.kind == LEARN and s.id not in finished}
    first = {s.topic: place for place, s in reversed([*enumerate(plan.sessions)]) if s.kind == LEARN}
    for name in learned & set(asked):
        for earlier in asked[name].prerequisites:
            if earlier in last and name in first and plan.sessions[first[name]].id not in finished:
                assert last[earlier] < first[name], (earlier, name)
            if earlier in asked and not finished:
                assert earlier not in left_out
    if not finished:
        for place, session in enumerate(plan.sessions):
            if session.kind == REVIEW:
                assert asked[session.topic].stability or last.get(session.topic, place) < place
    # Every topic is covered, or named as left out or shortened.
    short = {entry.topic: entry for entry in plan.shortened}
    for name, topic in asked.items():
        minutes = sum(s.minutes for s in plan.sessions if s.kind == LEARN and s.topic == name)
        needed = schedule.learning_slots(topic.known) * SLOT
        if name in left_out:
            assert minutes < needed
            assert all(s.id in finished for s in plan.sessions if s.kind == LEARN and s.topic == name)
        elif name in short:
            assert minutes == short[name].minutes < short[name].needed == needed
        elif not finished:
            assert minutes == needed
        else:
            assert minutes >= needed
    if not finished:
        assert bool(left_out or short) <= (plan.needed + plan.reviews > plan.available)
    # At most one mock exam is added, on one of the last three study days.
    days = [request.today + timedelta(days=ahead) for ahead in range((request.exam - request.today).days)]
    study_days = [day for day in days if not request.off(day)]
    mocks = [session for session in plan.sessions if session.kind == MOCK]
    assert len(mocks) == plan.has_mock
    if not finished:
        assert all(session.day in study_days[-3:] for session in mocks)
        if len(study_days) * int(request.hours * 4) >= schedule.MOCK_FROM and request.hours >= 0.5:
            assert mocks
    assert all(0 <= recall <= 1 for recall in plan.recall.values())


@given(request=requests())
@hypothesis_settings(max_examples=150, deadline=None)
def test_every_plan_keeps_its_promises(request: Request) -> None:
    plan = schedule.plan(request)
    holds(request, plan)
    assert schedule.plan(request) == plan, "the same request gives the same plan"


@given(request=requests(), data=st.data())
@hypothesis_settings(max_examples=100, deadline=None)
def test_replanning_keeps_what_was_done_and_counts_it(request: Request, data: st.DataObject) -> None:
    before = schedule.plan(request)
    missed = data.draw(st.integers(0, (request.exam - request.today).days - 1), label="days later")
    done = [session for session in before.sessions if data.draw(st.booleans(), label=session.id)]
    later = replace(
        request,
        today=request.today + timedelta(days=missed),
        hours=data.draw(st.floats(0.25, 24), label="hours"),
        days_off=frozenset(),
        weekdays_off=frozenset(),
    )
    plan = schedule.plan(later, done)
    holds(later, plan, done)
    again = schedule.plan(later, [session for session in plan.sessions if session.done])
    assert again == plan


@st.composite
def needs(draw: st.DrawFn) -> dict[str, Need]:
    made: dict[str, Need] = {}
    for place in range(draw(st.integers(1, 7))):
        total = draw(st.integers(1, 6))
        half = (total + 1) // 2
        made[f"t{place}"] = Need(
            total=total,
            short=half,
            rest=total - half,
            worth=draw(st.floats(0.05, 1.5)),
            prerequisites=tuple(draw(st.sets(st.sampled_from(sorted(made)), max_size=2)) if made else ()),
        )
    return made


@given(needs=needs(), room=st.integers(0, 30))
@hypothesis_settings(max_examples=100, deadline=None)
def test_what_is_chosen_is_worth_most(needs: dict[str, Need], room: int) -> None:
    def worth(forms: tuple[int, ...]) -> float | None:
        taken = dict(zip(needs, forms, strict=True))
        slots = 0
        value = 0.0
        for name, form in taken.items():
            need = needs[name]
            if form and any(not taken[earlier] for earlier in need.prerequisites):
                return None
            slots += (0, need.short, need.short + need.rest)[form]
            value += need.worth * (0.0, selection.SHORT_WORTH, 1.0)[form]
        return value if slots <= room else None

    chosen = selection.choose(needs, room)
    forms = tuple(
        0 if slots is None else 2 if slots == needs[name].short + needs[name].rest else 1
        for name, slots in chosen.items()
    )
    values = map(worth, itertools.product((0, 1, 2), repeat=len(needs)))
    best = max(value for value in values if value is not None)
    found = worth(forms)
    assert found is not None
    assert found == pytest.approx(best)


def course_topics(known: float = 0.4) -> tuple[Topic, ...]:
    course = courses.find("id2223")
    return tuple(Topic(t.id, t.title, t.chapter, t.prerequisites, known) for t in course.topics)


def test_a_whole_course_in_eight_weeks() -> None:
    request = Request(TODAY, TODAY + timedelta(days=56), 2, course_topics(), weekdays_off=frozenset({6}))
    plan = schedule.plan(request)
    holds(request, plan)
    assert not plan.left_out
    assert not plan.shortened
    assert min(plan.recall.values()) > 0.85
    mixed = [day for day in plan.days().values() if len({s.topic for s in day if s.kind != MOCK}) > 1]
    assert len(mixed) >= 0.9 * len(plan.days())


def test_too_little_time_is_said_and_used() -> None:
    request = Request(TODAY, TODAY + timedelta(days=4), 2, course_topics())
    plan = schedule.plan(request)
    holds(request, plan)
    assert plan.left_out
    assert plan.needed > plan.available
    named = {entry.topic: entry for entry in plan.left_out}
    assert any(entry.missing for entry in named.values())
    assert all(entry.missing in named for entry in named.values() if entry.missing)
    assert sum(session.minutes for session in plan.sessions) >= 0.95 * 4 * 120


def test_what_is_recalled_badly_is_reviewed_first() -> None:
    weak = Topic("weak", "Weak", known=1.0, stability=5.0, recall=0.5)
    fair = Topic("fair", "Fair", known=1.0, stability=5.0, recall=0.8)
    sure = Topic("sure", "Sure", known=1.0, stability=500.0, recall=0.99)
    plan = schedule.plan(Request(TODAY, TODAY + timedelta(days=30), 0.5, (sure, fair, weak)))
    reviews = [session for session in plan.sessions if session.kind == REVIEW]
    count = {name: sum(session.topic == name for session in reviews) for name in ("weak", "fair", "sure")}
    assert [session.topic for session in reviews][:2] == ["weak", "fair"]
    assert count["weak"] >= 2 > count["sure"]


def test_unchosen_prerequisites_are_named() -> None:
    plan = schedule.plan(Request(TODAY, TODAY + timedelta(days=3), 1, (Topic("b", "B", prerequisites=("a",)),)))
    assert plan.assumed == ("a",)


GOOD = Request(TODAY, TODAY + timedelta(days=7), 1.0, (Topic("a", "Alpha"), Topic("b", "Beta", prerequisites=("a",))))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"exam": TODAY}, "is today"),
        ({"exam": TODAY - timedelta(days=1)}, "in the past"),
        ({"exam": TODAY + timedelta(days=1000)}, "at most two years"),
        ({"hours": 0.0}, "0 hours a day cannot be planned"),
        ({"hours": -1.0}, "-1 hours a day"),
        ({"hours": 25.0}, "25 hours a day cannot be planned: a day has 24"),
        ({"hours": float("nan")}, "nan hours"),
        ({"hours": 0.1}, "less than a quarter of an hour"),
        ({"weekdays_off": frozenset(range(7))}, "Every day from today to the exam on 2026-12-03 is a day off"),
        ({"days_off": frozenset(TODAY + timedelta(days=day) for day in range(7))}, "Take some of them back"),
        ({"topics": ()}, "No topic is chosen"),
        ({"topics": (Topic("a", "Alpha", known=1.5),)}, "confidence in Alpha must be between 0 and 1"),
        ({"topics": (Topic("a", "Alpha"), Topic("a", "Alpha"))}, "Alpha is chosen twice"),
        (
            {"topics": (Topic("a", "Alpha", prerequisites=("b",)), Topic("b", "Beta", prerequisites=("a",)))},
            "in a circle",
        ),
        ({"topics": (Topic("a", "Alpha", prerequisites=("a",)),)}, "Alpha → Alpha"),
    ],
)
def test_what_cannot_be_planned_is_said(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(PlanError, match=complaint):
        schedule.plan(replace(GOOD, **change))  # type: ignore[arg-type]


def test_a_long_circle_is_named_in_its_direction() -> None:
    topics = tuple(Topic(f"t{n}", f"T{n}", prerequisites=(f"t{(n + 1) % 3}",)) for n in range(3))
    with pytest.raises(PlanError, match=r"T(\d) → T(\d) → T(\d) → T\1"):
        schedule.plan(replace(GOOD, topics=topics))


def test_a_thousand_topics_in_a_chain() -> None:
    topics = tuple(Topic(f"t{n}", f"T{n}", prerequisites=(f"t{n - 1}",) if n else ()) for n in range(1000))
    request = Request(TODAY, TODAY + timedelta(days=30), 3, tuple(reversed(topics)))
    holds(request, schedule.plan(request))
