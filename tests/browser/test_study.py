"""Planner, Review and Drill as a student uses them."""

from __future__ import annotations

import json
import re
import sqlite3
import zipfile
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from ics import Calendar
from playwright.sync_api import Download, Locator, expect

from iris import courses
from iris.store import now
from iris.study.days import DAY_MS
from tests.apps import App, wait_until
from tests.browser.conftest import NewStudent
from tests.browser.student import Student
from tests.browser.test_page import problems
from tests.scripted_engine import Script

SLOW_MS = 60_000


def tab(student: Student, name: str) -> None:
    student.tab(name)


def box(student: Student, label: str) -> Locator:
    return student.page.get_by_role("textbox", name=label)


def saved(student: Student, button: str) -> Download:
    with student.page.expect_download(timeout=SLOW_MS) as download:
        student.button(button).click()
    return download.value


def rows(app: App, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """What the store holds, looked at from outside."""
    connection = sqlite3.connect(f"file:{app.home / 'iris.db'}?mode=ro", uri=True)
    try:
        return connection.execute(sql, values).fetchall()
    finally:
        connection.close()


def write_card(student: Student, front: str, back: str) -> None:
    if not box(student, "Front: the question").is_visible():
        student.page.get_by_role("button", name="Write a card").click()
    box(student, "Front: the question").fill(front)
    box(student, "Back: the answer").fill(back)
    student.button("Keep as a new card").click()
    expect(student.page.locator("#iris-review-status")).to_contain_text("The card is kept.")
    expect(box(student, "Front: the question")).to_have_value("")  # the line above may speak of the card before


@pytest.fixture
def planner(reader: Student) -> Student:
    tab(reader, "Planner")
    expect(reader.page.locator("#iris-plan-exam input[type=date]")).to_be_visible()
    return reader


def make_plan(student: Student, *, days: int, hours: float = 2) -> date:
    exam = date.today() + timedelta(days=days)
    student.page.get_by_label("Day of the exam").first.fill(exam.isoformat())
    student.page.locator("#iris-plan-hours input").fill(str(hours))
    student.button("Make the plan").click()
    return exam


def test_a_plan_is_made_ticked_off_and_still_there_after_a_reload(planner: Student, script: Script) -> None:
    exam = make_plan(planner, days=21)
    page = planner.page
    expect(page.locator("#iris-plan-status")).to_contain_text("days of study", timeout=SLOW_MS)
    expect(page.locator("#iris-plan tr.exam")).to_contain_text(exam.isoformat())
    first = page.locator("#iris-plan-ticks label").first
    expect(page.locator("#iris-plan-chart svg g")).to_have_count(page.locator("#iris-plan-ticks label").count())
    first.locator("input").check()
    expect(page.locator("#iris-plan tbody tr").first).to_have_class("done")
    planner.reload()
    tab(planner, "Planner")
    expect(page.locator("#iris-plan tbody tr").first).to_have_class("done")
    expect(first.locator("input")).to_be_checked()
    script.pieces = ["- Recall LoRA ", "before rereading.\n", "- Rest."]
    planner.button("Tips for this plan").click()
    expect(page.locator("#iris-plan-advice li")).to_have_text(["Recall LoRA before rereading.", "Rest."])
    asked = script.asked[-1][-1]["content"]
    assert exam.isoformat()[:4] in asked
    assert "Write the tips in English" in asked


def test_the_calendar_file_is_read_by_calendars_and_updates(planner: Student) -> None:
    make_plan(planner, days=14, hours=1)
    expect(planner.button("Save for my calendar (.ics)")).to_be_visible(timeout=SLOW_MS)
    before = Calendar(saved(planner, "Save for my calendar (.ics)").path().read_text()).events
    planner.page.locator("#iris-plan-ticks label input").first.check()
    expect(planner.page.locator("#iris-plan tbody tr").first).to_have_class("done")
    planner.button("Plan anew from today").click()
    expect(planner.page.locator("#iris-plan-status")).to_contain_text("days of study")
    after = Calendar(saved(planner, "Save for my calendar (.ics)").path().read_text()).events
    assert len(before) > 10
    assert {event.uid for event in before} & {event.uid for event in after}
    assert all(event.uid.endswith("@iris-study-plan") for event in before)


@pytest.mark.parametrize(
    ("days", "hours", "complaint"),
    [
        (0, 2, "is today"),
        (-3, 2, "is in the past"),
        (10, 0, "0 hours a day cannot be planned"),
        (10, 25, "a day has 24"),
    ],
)
def test_what_cannot_be_planned_is_said_and_the_plan_stays(
    planner: Student, days: int, hours: float, complaint: str
) -> None:
    make_plan(planner, days=10)
    status = planner.page.locator("#iris-plan-status")
    expect(status).to_contain_text("days of study", timeout=SLOW_MS)
    number = planner.page.locator("#iris-plan tbody tr").count()
    make_plan(planner, days=days, hours=hours)
    expect(status.locator(".problem")).to_contain_text(complaint)
    expect(planner.page.locator("#iris-plan tbody tr")).to_have_count(number)


def test_cards_are_written_reviewed_by_keyboard_and_come_back(reader: Student, scripted_app: App) -> None:
    page = reader.page
    tab(reader, "Review")
    expect(page.locator("#iris-review-counts")).to_contain_text("0 to review now")
    write_card(reader, "What is $r$ in LoRA? <b>x</b>", "The *rank*")
    write_card(reader, "Second", "Two")
    front, back = page.locator("#iris-card-front"), page.locator("#iris-card-back")
    expect(front).to_contain_text("What is")
    expect(front.locator(".katex")).to_have_count(1)
    expect(back).not_to_be_visible()
    page.locator("#iris-review-counts").click()  # out of the text boxes
    page.keyboard.press("3")  # not while the answer is hidden
    page.keyboard.press(" ")
    expect(back).to_contain_text("The rank")
    expect(page.locator("#iris-grade-3")).to_contain_text("10 min")
    page.keyboard.press("3")
    expect(front).to_contain_text("Second")
    expect(page.locator("#iris-review-status")).to_contain_text("comes back in 10 min")
    reader.reload()
    tab(reader, "Review")
    expect(front).to_contain_text("Second")
    page.locator("#iris-review-counts").click()
    page.keyboard.press("Enter")
    expect(back).to_contain_text("Two")
    page.keyboard.press("4")
    expect(page.locator("#iris-review-counts")).to_contain_text("0 to review now")
    found = rows(scripted_app, "SELECT rating FROM reviews WHERE at > ? ORDER BY at", now() - DAY_MS // 24)
    assert [rating for (rating,) in found][-2:] == [3, 4]
    expect(page.locator("#iris-mastery")).to_contain_text("Nothing has been answered yet")  # cards without a topic


def test_typing_a_number_in_a_card_grades_nothing(reader: Student) -> None:
    tab(reader, "Review")
    write_card(reader, "One", "1")
    reader.button("Show the answer").click()
    field = box(reader, "Front: the question")
    field.fill("")
    field.press_sequentially("1 2 3 4")
    expect(field).to_have_value("1 2 3 4")
    expect(reader.page.locator("#iris-card-back")).to_be_visible()


def test_a_card_is_changed_and_deleted(reader: Student) -> None:
    tab(reader, "Review")
    write_card(reader, "Old", "text")
    reader.button("Change this card").click()
    expect(box(reader, "Front: the question")).to_have_value("Old")
    box(reader, "Front: the question").fill("New")
    reader.button("Change the shown card").click()
    expect(reader.page.locator("#iris-card-front")).to_contain_text("New")
    reader.button("Delete this card").click()
    expect(reader.page.locator("#iris-review-counts")).to_contain_text("0 cards in all")


def test_a_card_is_made_of_an_answer_in_the_chat(reader: Student, script: Script) -> None:
    script.pieces = ["A **low-rank** update, $BA$."]
    reader.ask_and_wait("What is LoRA?")
    reader.button("Make a card of this").click()
    reader.says("The latest answer is a card now")
    reader.button("Make a card of this").click()
    reader.says("That card is there already")
    tab(reader, "Review")
    expect(reader.page.locator("#iris-card-front")).to_contain_text("What is LoRA?")
    reader.button("Show the answer").click()
    expect(reader.page.locator("#iris-card-back strong")).to_have_text("low-rank")


def answer_drill(student: Student, texts: dict[int, str]) -> None:
    """Answer some of the questions, by their place: a text or, where there are options, the first of them."""
    page = student.page
    for place, text in texts.items():
        page.locator("#iris-drill-number label").nth(place).click()
        expect(page.locator("#iris-drill-asked")).to_contain_text(f"Question {place + 1} of")
        if page.locator("#iris-drill-choice").is_visible():
            page.locator("#iris-drill-choice label").first.click()
        else:
            box = page.locator("#iris-drill-words textarea")
            box.fill("")
            box.press_sequentially(text, delay=120)  # as a student types; what was there comes with the question
        expect(page.locator("#iris-drill-number label").nth(place)).to_contain_text("✓")


def begin_drill(student: Student, *, count: int = 4, minutes: float = 20) -> None:
    tab(student, "Drill")
    expect(student.page.locator("#iris-drill-kinds label")).to_have_count(4)
    student.page.get_by_label("Questions", exact=True).fill(str(count))
    student.page.get_by_label("Minutes", exact=True).fill(str(minutes))
    student.button("Begin").click()
    expect(student.page.locator("#iris-clock")).to_be_visible(timeout=SLOW_MS)


def seconds(student: Student) -> int:
    minutes, _, rest = student.page.locator("#iris-clock").inner_text().partition(":")
    return int(minutes) * 60 + int(rest)


def test_a_drill_survives_a_reload_and_is_graded(reader: Student, scripted_app: App) -> None:
    page = reader.page
    begin_drill(reader)
    begun = seconds(reader)
    assert 1100 < begun <= 1200
    wait_until(lambda: seconds(reader) < begun, "the clock to run")
    answer_drill(reader, {0: "12", 2: "a sentence about it"})
    left = seconds(reader)
    reader.reload()
    tab(reader, "Drill")
    expect(page.locator("#iris-clock")).to_be_visible()
    assert left - 120 < seconds(reader) <= left
    expect(page.locator("#iris-drill-number label", has_text="✓")).to_have_count(2)
    expect(page.locator("#iris-drill-asked")).to_contain_text("Question 2 of 4")
    answer_drill(reader, {1: "7"})
    reader.button("Hand in").click()
    expect(page.locator("#iris-drill-sure")).to_contain_text("Not answered yet: 1")
    reader.button("Go on").click()
    expect(page.locator("#iris-drill-sure")).not_to_be_visible()
    reader.button("Hand in").click()
    reader.button("Yes, hand in").click()
    expect(page.locator("#iris-drill-status")).to_contain_text("of 4 points")
    expect(page.locator("#iris-drill-report tbody tr").first).to_be_visible()
    page.get_by_role("button", name="All questions and answers").click()
    expect(page.locator("#iris-drill-lines")).to_contain_text("Right answer:")
    expect(page.locator("#iris-drill-lines")).to_contain_text("not answered")
    (made,) = rows(scripted_app, "SELECT json_extract(report, '$.cards') FROM drills ORDER BY begun DESC LIMIT 1")
    tab(reader, "Review")
    expect(page.locator("#iris-review-counts")).to_contain_text(f"{made[0]} cards in all")


def test_answers_that_a_dead_connection_swallowed_come_after_the_reload(reader: Student) -> None:
    page = reader.page
    begin_drill(reader)
    page.context.set_offline(True)
    try:
        if page.locator("#iris-drill-choice").is_visible():
            page.locator("#iris-drill-choice label").first.click()
        else:
            page.locator("#iris-drill-words textarea").fill("12")
        wait_until(
            lambda: page.evaluate("(localStorage.getItem('iris-drill') || '').length > 20"), "the browser's own copy"
        )
        page.wait_for_timeout(500)
    finally:
        page.context.set_offline(False)
    reader.reload()
    tab(reader, "Drill")
    expect(page.locator("#iris-drill-number label", has_text="✓")).to_have_count(1)


def test_a_drill_is_handed_in_by_itself(reader: Student, scripted_app: App) -> None:
    begin_drill(reader, minutes=1)
    answer_drill(reader, {0: "12"})
    expect(reader.page.locator("#iris-drill-status")).to_contain_text("The time is over", timeout=2 * SLOW_MS)
    expect(reader.page.locator("#iris-clock")).to_have_count(0)
    (row,) = rows(
        scripted_app, "SELECT handed_in - ends, json_array_length(items) FROM drills ORDER BY begun DESC LIMIT 1"
    )
    assert -2000 <= row[0] <= 0
    assert row[1] == 4


def test_everything_is_taken_to_another_browser(reader: Student, new_student: NewStudent, tmp_path: Path) -> None:
    tab(reader, "Review")
    write_card(reader, "Taken $x < y$", "along <script>")
    with zipfile.ZipFile(saved(reader, "Save for Anki (.apkg)").path()) as archive:
        archive.extract("collection.anki2", tmp_path)
    connection = sqlite3.connect(tmp_path / "collection.anki2")
    (fields,) = connection.execute("SELECT flds FROM notes").fetchone()
    connection.close()
    assert fields.split("\x1f")[:2] == ["Taken \\(x &lt; y\\)", "along &lt;script&gt;"]
    assert "Taken $x < y$" in saved(reader, "Save as a table (.csv)").path().read_text("utf-8-sig")
    tab(reader, "My data")
    path = tmp_path / "learner.json"
    saved(reader, "Save my learner file").save_as(path)
    assert json.loads(path.read_text())["format"] == "iris-learner"
    other = new_student(reader.app, seat=1)
    tab(other, "My data")
    status = other.page.locator("#iris-take-status")

    def give(file: Path) -> None:
        with other.page.expect_file_chooser() as chooser:
            other.button("Read a learner file").click()
        chooser.value.set_files(file)

    for text in ("1 entries are new", "0 entries are new"):
        give(path)
        expect(status).to_contain_text(text)
    tab(other, "Review")
    expect(other.page.locator("#iris-card-front")).to_contain_text("Taken")
    tab(other, "My data")
    broken = tmp_path / "broken.json"
    broken.write_text(path.read_text()[:-20])
    give(broken)
    expect(status.locator(".problem")).to_contain_text("not a whole learner file")


def test_the_page_speaks_swedish(browser: Any, scripted_app: App, script: Script) -> None:
    script.pieces, script.pause_s = ["LoRA fryser vikterna."], 0.0
    context = browser.new_context(locale="sv-SE", viewport={"width": 390, "height": 800})
    page = context.new_page()
    page.goto(scripted_app.url)
    expect(page.get_by_text("Vad pluggar du?")).to_be_visible()
    expect(page.locator("#iris-brand")).to_contain_text("Din kurshandledare")
    status = page.locator("#iris-status")
    expect(status).to_have_text("Retur skickar, Skift + Retur börjar en ny rad.")
    page.get_by_placeholder("Ställ en fråga …").fill("Vad är LoRA?")
    page.keyboard.press("Enter")
    expect(status).to_contain_text("första ordet efter")
    page.get_by_role("button", name="Ny chatt").click()
    expect(status).to_have_text("Retur skickar, Skift + Retur börjar en ny rad.")
    page.get_by_role("tab", name="Planering").click()
    page.get_by_role("button", name="Gör planen").click()
    expect(page.locator("#iris-plan-status")).to_contain_text("studiedagar", timeout=SLOW_MS)
    expect(page.locator("#iris-plan")).to_contain_text(re.compile("mån|tis|ons|tor|fre"))
    context.close()
    assert courses.find("id2223").topics


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_no_serious_barrier(
    new_student: NewStudent, scripted_app: App, script: Script, scheme: str, width: int
) -> None:
    student = new_student(scripted_app, scheme=scheme, width=width)
    page = student.page

    def barriers() -> list[str]:
        wide = page.evaluate("document.scrollingElement.scrollWidth > innerWidth")
        return [*problems(student), *(["the page is wider than the window"] if wide else [])]

    tab(student, "Planner")
    expect(page.locator("#iris-plan-exam input[type=date]")).to_be_visible()
    assert barriers() == []
    make_plan(student, days=21)
    expect(page.locator("#iris-plan-status")).to_contain_text("days of study", timeout=SLOW_MS)
    assert barriers() == []
    tab(student, "Review")
    assert barriers() == []
    write_card(student, "What is $r$ in LoRA? " + "wide" * 60, "The *rank*")
    student.button("Show the answer").click()
    expect(page.locator("#iris-grade-3")).to_be_visible()
    assert barriers() == []
    tab(student, "Drill")
    assert barriers() == []
    begin_drill(student)
    assert barriers() == []
    student.button("Hand in").click()
    expect(page.locator("#iris-drill-sure")).to_be_visible()
    assert barriers() == []
    page.locator("#iris-drill-sure").get_by_role("button").first.click()
    expect(page.locator("#iris-drill-report")).to_be_visible(timeout=SLOW_MS)
    assert barriers() == []
    for name in ("Compare", "My data"):
        tab(student, name)
        assert barriers() == []
