"""The planner over the store: answers count, done work stays, missed days move, and days are the student's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from ics import Calendar

from iris import courses
from iris.courses import Course
from iris.errors import CourseError, PlanError
from iris.store import Store
from iris.study import answers, cards, days, mastery, plans, progress
from iris.study.answers import Answered
from iris.study.days import DAY_MS
from iris.study.mastery import Mastery
from iris.study.plan import LEARN
from iris.study.plans import Asked
from iris.tools import item_cards, planner, quiz_taking
from iris.tools.quiz_items import Item

STOCKHOLM = ZoneInfo("Europe/Stockholm")
TODAY = date(2026, 11, 26)
NOW = days.milliseconds(datetime(2026, 11, 26, 9, tzinfo=STOCKHOLM))
TOPICS = {"lora": 0.5, "qlora": 0.5, "drift": 0.5}


@pytest.fixture(scope="module")
def course() -> Course:
    return courses.find("id2223")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "iris.db")
    opened.student("ada")
    yield opened
    opened.close()


def asked(length: int = 10, hours: float = 1) -> Asked:
    return Asked(TODAY + timedelta(days=length), hours, TOPICS)


def test_what_answers_show_counts_as_well_as_what_the_student_says(store: Store, course: Course) -> None:
    before = planner.make(store, "ada", course, asked(), NOW, STOCKHOLM)
    for number in range(20):
        answers.record(store, "ada", Answered(course.id, "lora", f"i{number}", "choice", 1.0, "drill", NOW))
        answers.record(store, "ada", Answered(course.id, "qlora", f"i{number}", "choice", 0.0, "drill", NOW))
    after = planner.replan(store, "ada", course, NOW, STOCKHOLM)

    def minutes(kept: plans.Kept, topic: str) -> int:
        return sum(s.minutes for s in kept.plan.sessions if s.kind == LEARN and s.topic == topic)

    assert minutes(after, "lora") < minutes(before, "lora")
    assert minutes(after, "qlora") > minutes(before, "qlora")
    assert minutes(after, "drift") == minutes(before, "drift")


def test_missed_days_move_done_days_stay_and_the_calendar_follows(store: Store, course: Course) -> None:
    first = planner.make(store, "ada", course, asked(), NOW, STOCKHOLM)
    done, missed = list(first.plan.days())[:2]
    plans.tick(store, "ada", course.id, {done: True}, NOW + 1)
    later = NOW + 3 * DAY_MS
    kept = plans.load(store, "ada", course.id)
    assert kept is not None
    assert planner.missed(kept.plan, TODAY + timedelta(days=3))[0] == missed
    second = planner.replan(store, "ada", course, later, STOCKHOLM)
    assert second.id == first.id
    assert second.revision == first.revision + 1
    assert [replace(s, done=True) for s in first.plan.days()[done]] == [s for s in second.plan.sessions if s.done]
    assert all(s.day >= TODAY + timedelta(days=3) for s in second.plan.sessions if not s.done)
    names = {"learn": "Learn", "review": "Review", "mock": "Mock exam"}
    files = [planner.ics(kept, course, names, "Exam", NOW, STOCKHOLM) for kept in (first, second)]
    before, after = ({event.uid: event for event in Calendar(data.decode()).events} for data in files)
    assert set(before) <= set(after), "what an earlier import made is updated or cancelled"
    cancelled = {uid for uid, event in after.items() if event.status == "CANCELLED"}
    assert cancelled == {f"{session.id}.{first.id}@iris-study-plan" for session in second.gone}
    assert any(event.name == "Learn: LoRA: low-rank adaptation" for event in after.values())


def test_taking_a_tick_back(store: Store, course: Course) -> None:
    kept = planner.make(store, "ada", course, asked(), NOW, STOCKHOLM)
    day = next(iter(kept.plan.days()))
    assert all(s.done for s in plans.tick(store, "ada", course.id, {day: True}, NOW + 1).plan.days()[day])
    assert not any(s.done for s in plans.tick(store, "ada", course.id, {day: False}, NOW + 2).plan.sessions)
    with pytest.raises(PlanError, match="no plan for this course"):
        plans.tick(store, "ada", "physics", {day: True}, NOW)


def test_today_is_the_students(store: Store, course: Course) -> None:
    late = days.milliseconds(datetime(2026, 11, 26, 23, 30, tzinfo=ZoneInfo("UTC")))
    tomorrow = Asked(date(2026, 11, 27), 1, TOPICS)
    assert planner.make(store, "ada", course, tomorrow, late, ZoneInfo("UTC")).plan.sessions
    with pytest.raises(PlanError, match="is today"):
        planner.make(store, "ada", course, tomorrow, late, STOCKHOLM)
    kept = plans.load(store, "ada", course.id)
    assert kept is not None, "the plan before stays"
    assert kept.revision == 0


def test_a_plan_that_cannot_be_made_leaves_the_one_before(store: Store, course: Course) -> None:
    before = planner.make(store, "ada", course, asked(), NOW, STOCKHOLM)
    for wrong in (replace(asked(), hours=25), replace(asked(), topics={}), replace(asked(), topics={"lora": 1.5})):
        with pytest.raises(PlanError):
            planner.make(store, "ada", course, wrong, NOW, STOCKHOLM)
    with pytest.raises(CourseError, match="alchemy"):
        planner.make(store, "ada", course, replace(asked(), topics={"alchemy": 0.5}), NOW, STOCKHOLM)
    assert plans.load(store, "ada", course.id) == before
    with pytest.raises(PlanError, match="no plan for this course"):
        planner.replan(store, "bo", course, NOW, STOCKHOLM)


def test_tips_are_kept_only_for_the_plan_they_were_written_for(store: Store, course: Course) -> None:
    kept = planner.make(store, "ada", course, asked(), NOW, STOCKHOLM)
    planner.replan(store, "ada", course, NOW + 1, STOCKHOLM)
    plans.keep_tips(store, "ada", course.id, kept.revision, "- old")
    again = plans.load(store, "ada", course.id)
    assert again is not None
    assert again.tips == ""
    plans.keep_tips(store, "ada", course.id, again.revision, "- new")
    again = plans.load(store, "ada", course.id)
    assert again is not None
    assert again.tips == "- new"


def test_words_become_a_wish(course: Course) -> None:
    wish = planner.from_words("2026-12-24", 1.5, {"lora": 0.2}, ["Sundays", "wed", "2026-12-01"], course, "08:30")
    assert wish == Asked(date(2026, 12, 24), 1.5, {"lora": 0.2}, (date(2026, 12, 1),), (2, 6), time(8, 30))
    assert len(planner.from_words("2026-12-24", 1, None, [], course).topics) == len(course.topics)


def test_mastery_follows_its_formula_and_forgets() -> None:
    fresh = [("lora", NOW, 1.0), ("lora", NOW, 0.0), ("lora", NOW, 1.0)]
    assert mastery.estimate(fresh, {}, NOW) == {"lora": Mastery((0.5 + 2) / (1 + 3), 3.0)}
    old = mastery.estimate(fresh, {}, NOW + 30 * DAY_MS)["lora"]
    assert old.evidence == pytest.approx(1.5)
    recall = {"drift": cards.TopicRecall(0.8, 50, 10.0)}
    assert mastery.estimate((), recall, NOW)["drift"] == Mastery((0.5 + 8) / 11, 10)
    assert mastery.known(0.2, None) == 0.2
    assert mastery.known(0.2, Mastery(1.0, mastery.SURE)) == pytest.approx(0.6)


def test_the_latest_answers_of_every_topic_are_looked_at(store: Store, course: Course) -> None:
    with store.write():
        for topic, right in (("lora", 1.0), ("drift", 0.0), ("", 1.0)):
            for number in range(60):
                at = NOW - (60 - number) * 1000
                worth = right if number >= 10 else 1 - right
                answers.record(store, "ada", Answered(course.id, topic, f"i{number}", "choice", worth, "quiz", at))
    found = progress.by_topic(store, "ada", course.id, NOW)
    assert found["lora"].level > 0.95
    assert found["drift"].level < 0.05
    assert found["lora"].evidence == pytest.approx(progress.LATEST, abs=0.1)


def test_a_wrong_quiz_answer_becomes_a_card_and_a_right_one_does_not(store: Store, course: Course) -> None:
    row = course.bank_of("lora")[0]
    item = Item(
        row.id, "lora", "choice", row.difficulty, row.question, row.answer, (row.answer, *row.distractors),
        row.explanation,
    )  # fmt: skip
    for given in (row.answer, row.distractors[0], row.distractors[1]):
        taking = quiz_taking.answer(quiz_taking.begin(course, [item]), given, course)
        quiz_taking.keep_answer(store, "ada", course, taking.now)
        assert len(cards.every(store, "ada")) == (given != row.answer)
    (card,) = cards.every(store, "ada", course.id)
    assert (card.topic, card.source) == ("lora", "quiz")
    assert row.question in card.front
    assert row.answer in card.back
    assert len(answers.listed(store, "ada", course.id)) == 3


def test_a_chat_answer_makes_a_card(store: Store) -> None:
    card = item_cards.of_chat("id2223", "What is LoRA?", "A low-rank update.", NOW)
    assert (card.front, card.back, card.source) == ("What is LoRA?", "A low-rank update.", "chat")
