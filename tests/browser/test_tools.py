"""Quiz, Feedback and Cheat Sheet as a student uses them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.apps import App, served, wait_until
from tests.browser.conftest import NewStudent
from tests.browser.student import PATIENCE_MS, Student
from tests.browser.test_page import problems
from tests.scripted_engine import Script, serve
from tests.unit import tiny_course

HOSTILE = "<script>window.harmed = 1</script><img src=x onerror='window.harmed = 2'> What is $x^2$ here?"


@pytest.fixture(scope="module")
def bakery(tmp_path_factory: pytest.TempPathFactory, script: Script) -> Iterator[App]:
    """The app with a second course that has few items, one of them with HTML in it, over the scripted engine."""
    home = tmp_path_factory.mktemp("iris-home")
    folder = tiny_course.write(home / "courses" / "bread")
    row = {"id": "steam-q99", "topic": "steam", "kind": "definition", "question": HOSTILE, "answer": f"It is {HOSTILE}"}
    with (folder / "qa" / "all.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    rows = (folder / "qa" / "all.jsonl").read_text("utf-8").splitlines()
    kept = [line for line in rows if '"topic": "steam"' not in line or "steam-q99" in line]
    (folder / "qa" / "all.jsonl").write_text("\n".join(kept), encoding="utf-8")
    with (
        serve(script) as url,
        served(home, engine_url=url, model="scripted", course="bread") as app,
    ):
        yield app


def tab(student: Student, name: str) -> None:
    student.tab(name)


def choose(student: Student, where: str, *titles: str) -> None:
    box = student.page.locator(f"{where} input")
    for title in titles:
        box.click()
        box.fill(title)
        student.page.get_by_role("option", name=title, exact=True).click()
    student.page.keyboard.press("Escape")


def form(student: Student) -> Locator:
    return student.page.locator("form.iris-item")


def status(student: Student, tool: str) -> Locator:
    return student.page.locator(f"#iris-{tool}-status")


def answer(student: Student, text: str = "1") -> str:
    """Answer whatever is asked, and give the verdict's words."""
    here = form(student)
    if here.locator(".iris-option").count():
        here.locator(".iris-option").first.click()
    else:
        here.get_by_role("textbox").fill(text)
    here.get_by_role("button", name="Check").click()
    word = here.locator(".iris-word")
    expect(word).to_be_visible(timeout=PATIENCE_MS)
    return str(word.inner_text())


def onward(student: Student) -> None:
    before = form(student).get_attribute("data-key")
    form(student).locator("[data-action]").click()
    expect(form(student)).not_to_have_attribute("data-key", before or "", timeout=PATIENCE_MS)


def test_a_quiz_from_the_example_to_the_result_and_the_wrong_ones_again(student: Student) -> None:
    tab(student, "Quiz")
    student.button("Show me an example").locator("visible=true").click()
    expect(form(student)).to_be_visible(timeout=PATIENCE_MS)
    expect(status(student, "quiz")).to_contain_text("3 questions.")
    expect(form(student)).to_contain_text("Question 1 of 3")
    form(student).get_by_role("button", name="Check").click()
    expect(status(student, "quiz")).to_contain_text("There is no answer yet")
    verdicts = []
    for place in range(3):
        verdicts.append(answer(student, "nonsense"))
        expect(form(student).locator(".iris-word")).to_be_focused()
        expect(form(student)).to_contain_text("Source:")
        if place == 0:  # another tab and back: all is as it was
            tab(student, "Study Chat")
            tab(student, "Quiz")
            expect(form(student).locator(".iris-word")).to_have_text(verdicts[0])
        onward(student)
    expect(form(student)).to_contain_text(re.compile(r"Result: [\d.]+ of 3"))
    expect(form(student).locator(".iris-reviewed > li")).to_have_count(3)
    wrong = sum("Wrong" in verdict or "Partly" in verdict for verdict in verdicts)
    form(student).locator("[data-action=again]").click()
    expect(form(student)).to_contain_text(f"Question 1 of {wrong or 3} · round 2", timeout=PATIENCE_MS)
    assert not form(student).locator("input:checked").count()


def test_the_right_answer_is_told_from_wrong_ones(student: Student) -> None:
    from iris import courses

    course = courses.load(courses.folders()[1] / "id2223")
    tab(student, "Quiz")
    choose(student, "#iris-quiz-topics", "LoRA: low-rank adaptation")
    for kind in ("True or false", "Short answer", "Number"):
        student.page.locator("#iris-quiz-kinds").get_by_label(kind).uncheck()
    student.page.locator("#iris-quiz-count input").fill("2")

    def words(text: str) -> set[str]:
        return set(re.findall(r"[a-z]{3,}", text.lower()))

    for _ in range(20):
        student.page.locator("#iris-quiz-make").click()
        expect(form(student)).to_be_visible(timeout=PATIENCE_MS)
        expect(form(student).locator(".iris-option")).to_have_count(4)
        asked = words(form(student).locator(".iris-asked-item").inner_text())
        shown = [text.strip() for text in form(student).locator(".iris-option").all_inner_texts()]
        row = max(course.bank_of("lora"), key=lambda row: len(words(row.question) & asked) / len(words(row.question)))
        if row.answer in shown:  # formulas are shown in other letters; then ask for another quiz
            right = shown.index(row.answer)
            break
        student.page.wait_for_timeout(1000)
    else:
        pytest.fail("none of 20 quizzes has the answer of the bank among its options")
    form(student).locator(".iris-option").nth(right).click()
    form(student).get_by_role("button", name="Check").click()
    expect(form(student).locator(".iris-word")).to_contain_text("Right")
    expect(form(student).locator(".iris-option.right")).to_have_count(1)
    expect(form(student).locator(".iris-option.wrong")).to_have_count(0)


def test_no_topics_is_said_and_nothing_is_lost(student: Student) -> None:
    tab(student, "Quiz")
    student.page.locator("#iris-quiz-count input").fill("7")
    student.page.locator("#iris-quiz-make").click()
    expect(status(student, "quiz")).to_contain_text("No topics are chosen")
    expect(student.page.locator("#iris-quiz-count input")).to_have_value("7")
    tab(student, "Cheat Sheet")
    student.page.locator("#iris-sheet-make").click()
    expect(status(student, "sheet")).to_contain_text("No topics are chosen")


def test_the_model_writes_what_is_missing_and_can_be_stopped(
    new_student: NewStudent, bakery: App, script: Script
) -> None:
    student = new_student(bakery)
    script.pieces, script.pause_s, script.reply = ['{"evidence": '] * 200, 0.05, None
    tab(student, "Quiz")
    choose(student, "#iris-quiz-topics", "Hydration")
    for kind in ("True or false", "Short answer", "Number"):
        student.page.locator("#iris-quiz-kinds").get_by_label(kind).uncheck()
    student.page.locator("#iris-quiz-make").click()
    expect(status(student, "quiz")).to_contain_text("The course has 2 of 5 questions", timeout=PATIENCE_MS)
    student.page.locator("#iris-quiz-stop").click()
    expect(form(student)).to_contain_text("Question 1 of 2", timeout=PATIENCE_MS)
    expect(status(student, "quiz")).to_contain_text("Stopped. Only 2 of 5 questions")
    expect(student.page.locator("#iris-quiz-stop")).to_be_hidden()
    wait_until(script.left.is_set, "the engine to be left alone", 20)


def test_refused_items_are_counted_and_none_is_shown(new_student: NewStudent, bakery: App, script: Script) -> None:
    student = new_student(bakery)
    script.pieces, script.pause_s, script.reply = ['{"question": "broken"}'], 0.0, None
    tab(student, "Quiz")
    choose(student, "#iris-quiz-topics", "Hydration")
    for kind in ("True or false", "Short answer", "Number"):
        student.page.locator("#iris-quiz-kinds").get_by_label(kind).uncheck()
    student.page.locator("#iris-quiz-make").click()
    expect(status(student, "quiz")).to_contain_text("Only 2 of 5 questions", timeout=PATIENCE_MS)
    expect(status(student, "quiz")).to_contain_text("the checks refused 6 of them (100%)")
    assert "broken" not in form(student).inner_text()


def test_html_in_a_question_is_text_and_formulas_are_set(new_student: NewStudent, bakery: App, script: Script) -> None:
    student = new_student(bakery)
    tab(student, "Quiz")
    choose(student, "#iris-quiz-topics", "Steam")
    for kind in ("Multiple choice", "True or false", "Number"):
        student.page.locator("#iris-quiz-kinds").get_by_label(kind).uncheck()
    student.page.locator("#iris-quiz-count input").fill("1")
    student.page.locator("#iris-quiz-make").click()
    expect(form(student)).to_contain_text("<script>window.harmed = 1</script>", timeout=PATIENCE_MS)
    expect(form(student).locator("math msup").first).to_be_visible()
    answer(student, "<img src=x onerror='window.harmed = 3'> {{constructor}} ${1}")
    onward(student)
    form(student).locator("summary").click()
    expect(form(student)).to_contain_text("<img src=x onerror='window.harmed = 3'> {{constructor}} ${1}")
    assert student.page.evaluate("window.harmed") is None


def test_feedback_of_the_example_and_of_ones_own(new_student: NewStudent, scripted_app: App, script: Script) -> None:
    student = new_student(scripted_app)
    script.pieces, script.pause_s, script.reply = ["No use at all."], 0.0, None
    tab(student, "Feedback")
    student.page.locator("#iris-feedback-example").click()
    shown = student.page.locator("#iris-feedback-shown")
    expect(shown).to_contain_text(re.compile(r"Score: \d+ of 100"), timeout=PATIENCE_MS)
    expect(status(student, "feedback")).to_have_text("Done.", timeout=PATIENCE_MS)
    expect(shown).to_contain_text("Missing")
    expect(shown).to_contain_text("what the model wrote did not pass the check")
    assert "No use at all" not in shown.inner_text()
    student.page.locator("#iris-feedback-question textarea").fill("What is a shadow deployment?")
    student.page.locator("#iris-feedback-answer textarea").fill("")
    student.page.locator("#iris-feedback-check").click()
    expect(shown).to_contain_text("The answer is empty", timeout=PATIENCE_MS)
    expect(shown).to_contain_text("Score: 0 of 100")
    student.page.locator("#iris-feedback-question textarea").fill("")
    student.page.locator("#iris-feedback-check").click()
    expect(status(student, "feedback")).to_contain_text("There is no question")
    tab(student, "Quiz")
    tab(student, "Feedback")
    expect(shown).to_contain_text("The answer is empty")


def test_a_better_answer_under_way_can_be_stopped(new_student: NewStudent, scripted_app: App, script: Script) -> None:
    student = new_student(scripted_app)
    script.pieces, script.pause_s, script.reply = ["word "] * 400, 0.05, None
    script.left.clear()
    tab(student, "Feedback")
    student.page.locator("#iris-feedback-example").click()
    expect(status(student, "feedback")).to_contain_text("words so far", timeout=PATIENCE_MS)
    student.page.locator("#iris-feedback-stop").click()
    expect(status(student, "feedback")).to_have_text("Stopped.")
    expect(student.page.locator("#iris-feedback-shown")).to_contain_text("Score:")
    wait_until(script.left.is_set, "the engine to be left alone", 20)


def test_a_cheat_sheet_is_shown_and_taken_along(student: Student, tmp_path: Path) -> None:
    tab(student, "Cheat Sheet")
    choose(student, "#iris-sheet-topics", "Self-attention")
    student.page.locator("#iris-sheet-make").click()
    sheet = student.page.get_by_role("article", name="Preview")
    expect(sheet).to_contain_text("Definitions", timeout=PATIENCE_MS)
    expect(sheet.locator("math[display=block]").first).to_be_visible()
    expect(sheet.locator("table")).to_be_visible()
    expect(status(student, "sheet")).to_contain_text("tokens.")
    for label, ending, beginning in (("PDF", ".pdf", b"%PDF-"), ("Markdown", ".md", b"# Self-attention")):
        with student.page.expect_download() as saved:
            student.page.get_by_role("link", name=f"Download as {label}").click()
        assert saved.value.suggested_filename == f"Self-attention{ending}"
        assert Path(saved.value.path()).read_bytes().startswith(beginning)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_no_serious_barrier_in_the_tools(
    new_student: NewStudent, scripted_app: App, script: Script, scheme: str, width: int
) -> None:
    student = new_student(scripted_app, scheme=scheme, width=width)
    script.pieces, script.pause_s, script.reply = ["No use at all."], 0.0, None
    for name, tool, there in (
        ("Quiz", "quiz", "form.iris-item"),
        ("Feedback", "feedback", "#iris-feedback-shown h3"),
        ("Cheat Sheet", "sheet", ".iris-sheet"),
    ):
        tab(student, name)
        assert problems(student) == []
        student.page.locator(f"#iris-{tool}-example").click()
        student.page.locator(there).wait_for(timeout=PATIENCE_MS)
        student.page.wait_for_timeout(500)
        assert problems(student) == []
        if tool == "quiz":
            answer(student, "nonsense")
            assert problems(student) == []
        assert student.page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")


def test_a_quiz_by_keyboard(student: Student) -> None:
    page = student.page
    tab(student, "Quiz")
    page.locator("#iris-quiz-example").focus()
    page.keyboard.press("Enter")
    expect(form(student).locator("[data-focus]")).to_be_focused(timeout=PATIENCE_MS)
    for _ in range(3):
        page.keyboard.press("Tab")
        if form(student).locator(".iris-option").count():
            page.keyboard.press("Space")
            page.keyboard.press("Enter")
        else:
            page.keyboard.type("3.5")
            page.keyboard.press("Tab")
            page.keyboard.press("Enter")
        expect(form(student).locator(".iris-word")).to_be_focused(timeout=PATIENCE_MS)
        before = form(student).get_attribute("data-key") or ""
        form(student).locator("[data-action=next]").focus()
        page.keyboard.press("Enter")
        expect(form(student)).not_to_have_attribute("data-key", before, timeout=PATIENCE_MS)
    expect(form(student).locator("h3")).to_be_focused()
