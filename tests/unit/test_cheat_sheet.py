"""The cheat sheet: word for word from the notes, on one page, whatever the topics."""

from __future__ import annotations

import io
import re
import zlib
from pathlib import Path

import pytest

from iris import courses
from iris.courses import Course
from iris.errors import CourseError, RequestError
from iris.notes import Document, library
from iris.store import Store
from iris.tools import cheat_sheet, passages, quiz, sheet_pdf
from iris.tools.cheat_sheet import Line, Sheet
from tests.unit import tiny_course


@pytest.fixture(scope="module")
def course() -> Course:
    return courses.load(courses.folders()[1] / "id2223")


def test_every_line_stands_in_the_notes_and_the_budget_holds(course: Course) -> None:
    for start in range(0, len(course.topics), 3):
        topics = [topic.id for topic in course.topics[start : start + 3]]
        sheet = cheat_sheet.compose(course, topics)
        assert sheet.tokens <= cheat_sheet.BUDGET
        assert {line.topic for line in sheet.lines} == set(topics)
        for line in sheet.lines:
            note = course.note(line.topic)
            assert note
            assert line.text in note.text
        assert all(sheet.of(part) for part in ("definition", "formula", "pitfall"))


def test_more_topics_than_a_page_holds_are_named(course: Course) -> None:
    sheet = cheat_sheet.compose(course, [topic.id for topic in course.topics])
    assert sheet.tokens <= cheat_sheet.BUDGET
    shown = {line.title for line in sheet.lines}
    assert shown | set(sheet.left_out) == {topic.title for topic in course.topics}
    assert sheet.of("formula")
    assert sheet.of("pitfall")


def test_a_course_without_formulas_and_topics_without_notes(tmp_path: Path) -> None:
    folder = tiny_course.write(tmp_path / "bread")
    (folder / "notes" / "steam.md").unlink()
    bread = courses.load(folder)
    sheet = cheat_sheet.compose(bread, ["hydration", "steam"])
    assert sheet.without_notes == ("Steam",)
    assert {line.part for line in sheet.lines} == {"definition", "pitfall", "result"}
    with pytest.raises(RequestError, match="no notes on these topics"):
        cheat_sheet.compose(bread, ["steam"])
    with pytest.raises(RequestError, match="No topics are chosen"):
        cheat_sheet.compose(bread, [])


def pages(data: bytes) -> int:
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", data))


def text_size(data: bytes) -> int:
    """Bytes of what is drawn."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", data, re.S)
    return max(len(zlib.decompress(stream)) for stream in streams if stream[:1] == b"x")


@pytest.mark.parametrize("number", [1, 4, 59])
def test_the_pdf_is_one_page(course: Course, number: int) -> None:
    data = sheet_pdf.pdf(cheat_sheet.compose(course, [topic.id for topic in course.topics[:number]]))
    assert data.startswith(b"%PDF-")
    assert pages(data) == 1
    assert text_size(data) > 5_000
    assert len(data) < 400_000


@pytest.mark.parametrize(
    "text",
    [
        "A formula that is broken: $\\frac{1}{$ and $\\nosuchcommand{x}$ and $$",
        "<script>alert(1)</script> & <b>bold</b> **unclosed",
        "W" * 500,
        "Emoji 🥐, Turkish ğüşiöç, Greek αβγ, Chinese 面包, and `code $x$`",
        "$" + "x" * 400 + "$",
    ],
)
def test_no_text_breaks_the_pdf(text: str) -> None:
    line = Line("definition", "t", "Title " * 20, text, "source")
    lines = (line, Line("result", "t", "T", text, ""), Line("formula", "t", "T", f"$${text}$$", ""))
    data = sheet_pdf.pdf(Sheet("A title " * 40, lines))
    assert pages(data) == 1
    assert io.BytesIO(data).read(5) == b"%PDF-"


def test_the_same_formula_of_another_kind_and_a_table_cell_with_a_bar() -> None:
    lines = (Line("result", "t", "a|b", "Then $|x| = 2$ holds", "s"), Line("own", "t", "T", "An own line.", "s"))
    shown = cheat_sheet.markdown(Sheet("S", lines))
    assert "| a\\|b | Then $\\|x\\| = 2$ holds |" in shown
    assert cheat_sheet.OWN_NOTE in shown
    assert "- ✎ **T.** An own line." in shown


def test_a_students_own_note_is_as_good_as_a_topic(tmp_path: Path) -> None:
    bread = courses.load(tiny_course.write(tmp_path / "bread"))
    store = Store(tmp_path / "iris.db")
    store.student("a")
    store.student("b")
    text = "# Rye\n\n## Idea\n\nRye is a grain whose dough is held together by pentosans, not by gluten.\n\n"
    text += "## Mistakes\n\nKneading it long is a mistake that only makes the dough sticky."
    number = library.add(store, "a", "bread", Document("Rye", "markdown", (text,)))
    own = passages.own_notes(store, "a", bread)
    name = f"{passages.OWN}{number}"
    assert own == {name: "Rye"}
    evidence = passages.of_student(bread, store, "a", own)
    sheet = cheat_sheet.compose(bread, [name, "hydration"], evidence=evidence, own=own)
    assert {line.title for line in sheet.lines} == {"Rye", "Hydration"}
    assert all(line.text in text for line in sheet.lines if line.topic == name)
    assert quiz.checked(bread, [name], 3, ["choice"], "any", own).topics == (name,)
    # Another student has no such note, by whatever name it is asked for.
    assert passages.own_notes(store, "b", bread) == {}
    with pytest.raises(CourseError, match="has no topic"):
        cheat_sheet.compose(bread, [name], evidence=passages.of_student(bread, store, "b", {}), own={})
    with pytest.raises(CourseError, match="has no topic"):
        quiz.checked(bread, [name], 3, ["choice"], "any", {})
    store.close()
