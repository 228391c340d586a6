"""The list of chats and My data, as students meet them: real app, real browsers, two of them at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Download, Locator, expect

from tests.apps import App, wait_until
from tests.browser.conftest import NewStudent
from tests.browser.student import LONG, PATIENCE_MS, Student
from tests.browser.test_page import problems
from tests.scripted_engine import Script


def chats(student: Student) -> Locator:
    return student.page.locator("#iris-chats-list label")


def show(student: Student) -> None:
    student.button("Chats").click()
    expect(student.page.get_by_role("heading", name="Your chats")).to_be_visible()


def choose(student: Student, title: str) -> None:
    student.page.get_by_role("radio", name=title).click()
    expect(student.button("Open")).to_be_visible()


def saved(download: Download) -> str:
    return Path(download.path()).read_text(encoding="utf-8")


def test_chats_are_listed_searched_and_opened(reader: Student, script: Script) -> None:
    reader.ask_and_wait("What is a feature store?")
    script.pieces = ["It is **slow**."]
    reader.ask_and_wait("And batch inference?")
    reader.button("New chat").click()
    expect(reader.questions).to_have_count(0)
    reader.ask_and_wait("Second chat?")
    show(reader)
    expect(chats(reader)).to_have_text(["Second chat?", "What is a feature store?"])
    expect(reader.box).to_be_hidden()
    reader.page.get_by_role("textbox", name="Search your chats").press_sequentially("SLÖW batch", delay=80)
    expect(chats(reader)).to_have_text(["What is a feature store?"])
    reader.page.get_by_role("textbox", name="Search your chats").fill("nowhere")
    expect(reader.page.get_by_text("No chat has these words.")).to_be_visible()
    reader.page.get_by_role("textbox", name="Search your chats").fill("")
    choose(reader, "What is a feature store?")
    reader.button("Open").click()
    expect(reader.questions).to_have_text(["What is a feature store?", "And batch inference?"])
    expect(reader.answers).to_have_text(["An answer.", "It is slow."])
    expect(reader.box).to_be_focused()

    # It goes on where it was, and it is still one chat; also after a reload.
    reader.reload()
    expect(reader.questions).to_have_count(2)
    reader.ask_and_wait("Third?")
    assert [m["content"] for m in script.asked[-1] if m["role"] == "user"][-3:] == [
        "What is a feature store?",
        "And batch inference?",
        "Third?",
    ]
    show(reader)
    expect(chats(reader)).to_have_text(["What is a feature store?", "Second chat?"])
    reader.button("Back").click()
    expect(reader.questions).to_have_count(3)


def test_a_chat_is_renamed_taken_along_and_deleted(reader: Student) -> None:
    reader.ask_and_wait("Why <b>?")
    show(reader)
    choose(reader, "Why <b>?")
    title = reader.page.get_by_role("textbox", name="Title", exact=True)
    expect(title).to_have_value("Why <b>?")
    title.fill("Gradients <i>")
    reader.button("Rename").click()
    expect(chats(reader)).to_have_text(["Gradients <i>"])
    expect(reader.page.get_by_text("Renamed.")).to_be_visible()
    with reader.page.expect_download() as waiting:
        reader.button("Save as Markdown").click()
    assert waiting.value.suggested_filename == "Gradients i.md"
    assert "> Why <b>?\n\nAn answer.\n" in saved(waiting.value)
    with reader.page.expect_download() as waiting:
        reader.button("Save as JSON").click()
    (chat,) = json.loads(saved(waiting.value))["chats"]
    assert chat["title"] == "Gradients <i>"
    assert [m["content"] for m in chat["messages"]] == ["Why <b>?", "An answer."]

    reader.button("Delete").click()
    reader.button("Keep it").click()
    expect(chats(reader)).to_have_count(1)
    reader.button("Delete").click()
    reader.button("Yes, delete it").click()
    expect(chats(reader)).to_have_count(0)
    expect(reader.page.get_by_text("There are no chats yet.")).to_be_visible()
    reader.button("Back").click()
    expect(reader.questions).to_have_count(0)  # it was the open one
    reader.reload()
    expect(reader.page.get_by_text("What are you studying?")).to_be_visible()


def test_opening_a_chat_ends_an_answer_and_no_word_of_it_follows(
    new_student: NewStudent, scripted_app: App, script: Script
) -> None:
    student = new_student(scripted_app)
    script.pieces, script.pause_s = ["An answer."], 0.0
    student.ask_and_wait("The first?")
    student.button("New chat").click()
    expect(student.questions).to_have_count(0)
    script.pieces, script.pause_s = ["late "] * 200, 0.1
    student.ask("The second?")
    student.wait_for_words()
    show(student)
    choose(student, "The first?")
    student.button("Open").click()
    expect(student.questions).to_have_text(["The first?"])
    student.page.wait_for_timeout(1000)
    expect(student.answers).to_have_text(["An answer."])
    assert script.left.wait(10)
    show(student)  # and what was written before is not lost
    choose(student, "The second?")
    student.button("Open").click()
    expect(student.questions).to_have_text(["The second?"])
    assert student.newest_answer().startswith("late late")


def test_a_reload_in_the_middle_is_in_the_list_too(student: Student, app: App) -> None:
    student.ask(LONG)
    student.wait_for_words(40)
    student.reload()
    wait_until(app.idle, "the engine to stop for a page that was reloaded", 15)
    wait_until(lambda: len(student.newest_answer()) >= 20, "the answer so far to be shown again", PATIENCE_MS / 1000)
    written = student.newest_answer()
    student.button("New chat").click()
    expect(student.questions).to_have_count(0)
    show(student)
    choose(student, LONG[:30])
    student.button("Open").click()
    expect(student.questions).to_have_text([LONG])
    assert student.newest_answer().startswith(written)
    assert student.ask_and_wait("Say hello.")
    show(student)
    expect(chats(student)).to_have_count(1)


def test_two_browsers_never_see_each_others_chats(new_student: NewStudent, scripted_app: App, script: Script) -> None:
    script.pieces, script.pause_s = ["word "] * 10, 0.05
    anna, bo = new_student(scripted_app), new_student(scripted_app, seat=1)
    anna.ask("Anna's question?")
    bo.ask("Bo's question?")
    for student in (anna, bo):
        student.says("tokens")
        student.wait_for_end()
    for student, mine in ((anna, "Anna's question?"), (bo, "Bo's question?")):
        show(student)
        expect(chats(student)).to_have_text([mine])
        student.button("Back").click()
    # Bo takes all that Anna's browser keeps, but not her id: it is of no use to him.
    kept = anna.page.evaluate("Object.fromEntries(['iris-chat', 'iris-study-chat'].map((k) => [k, localStorage[k]]))")
    bo.page.evaluate("(kept) => Object.assign(localStorage, kept)", kept)
    bo.reload()
    expect(bo.page.get_by_text("What are you studying?")).to_be_visible()
    bo.page.wait_for_timeout(500)
    expect(bo.questions).to_have_count(0)
    # Anna deletes her data; his stay.
    forget(anna)
    show(bo)
    expect(chats(bo)).to_have_text(["Bo's question?"])


def forget(student: Student) -> None:
    student.tab("My data")
    student.button("Delete my data").click()
    with student.page.expect_event("load", timeout=PATIENCE_MS):  # the page begins anew
        student.button("Delete everything for good").click()
    student.box.wait_for(timeout=PATIENCE_MS)


def test_my_data_is_counted_taken_along_and_deleted(reader: Student) -> None:
    page = reader.page
    reader.ask_and_wait("What is kept?")
    before = page.evaluate("localStorage['iris-student']")
    reader.tab("My data")
    expect(page.get_by_text("You are known by a random id in this browser.")).to_be_visible()
    expect(page.get_by_text("Chats: 1")).to_be_visible()
    with page.expect_download() as waiting:
        reader.button("Save all chats as JSON").click()
    assert [chat["title"] for chat in json.loads(saved(waiting.value))["chats"]] == ["What is kept?"]
    assert problems(reader) == []
    reader.button("Delete my data").click()
    expect(page.get_by_text("This cannot be undone.")).to_be_visible()
    assert problems(reader) == []
    reader.button("Keep my data").click()
    expect(page.get_by_text("This cannot be undone.")).to_be_hidden()
    reader.tab("Study Chat")
    expect(reader.questions).to_have_count(1)
    forget(reader)
    expect(page.get_by_text("What are you studying?")).to_be_visible()
    wait_until(lambda: page.evaluate("localStorage['iris-student'] || ''") not in ("", before), "another id")
    show(reader)
    expect(page.get_by_text("There are no chats yet.")).to_be_visible()


def test_a_second_window_of_a_forgotten_student_says_so(
    new_student: NewStudent, scripted_app: App, script: Script
) -> None:
    script.pieces, script.pause_s = ["An answer."], 0.0
    one = new_student(scripted_app)
    one.ask_and_wait("Kept?")
    other = Student(one.page.context.new_page(), scripted_app)
    other.open()
    expect(other.questions).to_have_text(["Kept?"])
    forget(one)
    other.ask("Still?")
    other.says("Everything of this student's was deleted. Reload the page")
    expect(other.box).to_have_value("Still?")
    other.reload()
    expect(other.page.get_by_text("What are you studying?")).to_be_visible()
    other.ask_and_wait("Anew?")
    other.page.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_no_serious_barrier_in_the_list(
    new_student: NewStudent, scripted_app: App, script: Script, scheme: str, width: int
) -> None:
    student = new_student(scripted_app, scheme=scheme, width=width)
    script.pieces, script.pause_s = ["An answer."], 0.0
    student.ask_and_wait("Wide " * 60 + "W" * 400)
    show(student)
    assert problems(student) == []
    choose(student, "Wide")
    student.button("Delete").click()
    expect(student.button("Yes, delete it")).to_be_visible()
    assert problems(student) == []
    assert not student.page.evaluate("document.scrollingElement.scrollWidth > innerWidth")
