"""Passages: along headings and pages, nothing lost, nothing crossing."""

from __future__ import annotations

from itertools import groupby, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from iris import courses
from iris.notes import Document, chunk
from iris.notes.sentences import sentences

MARKDOWN = st.lists(
    st.sampled_from(
        ["# ", "## A\n", "### B ##\n", "```\n", "\n", "\n\n", "- ", "$x. y$ ", "$$", "A sentence. ", "word " * 40, "é"]
    ),
    max_size=60,
).map("".join)


@given(st.lists(MARKDOWN | st.text(max_size=3_000), max_size=4), st.sampled_from(["pdf", "markdown", "text"]))
@settings(max_examples=300, deadline=None)
def test_no_character_is_lost_and_no_passage_is_too_long(pages: list[str], kind: str) -> None:
    document = Document("T", kind, tuple(pages))  # type: ignore[arg-type]
    found = chunk.pieces(document)
    by_page = {page: list(group) for page, group in groupby(found, lambda piece: piece.page)}
    for number, text in enumerate(pages):
        pieces = by_page.get(number, [])
        if not text.strip():
            assert not pieces
            continue
        assert "".join(text[piece.start : piece.end] for piece in pieces) == text
        assert all(one.end == two.start for one, two in pairwise(pieces))
        assert all(0 < piece.end - piece.start <= chunk.LONGEST for piece in pieces)


def test_headings_begin_passages_and_code_has_none() -> None:
    text = "# Title\n\n## One\n\nFirst.\n\n```\n## no heading\n```\n\n## Two ##\n\nSecond.\n"
    document = Document("T", "markdown", (text,))
    found = [(piece.heading, text[piece.start : piece.end]) for piece in chunk.pieces(document)]
    assert [heading for heading, _ in found] == ["One", "Two"]
    assert found[0][1].startswith("# Title")
    assert "## no heading" in found[0][1]
    assert found[1][1].startswith("## Two")


def test_pages_are_not_crossed_and_bear_the_contents_titles() -> None:
    document = Document("T", "pdf", ("One. " * 300, "Two. " * 300), ("Start", "End"))
    found = chunk.pieces(document)
    assert {(piece.page, piece.heading) for piece in found} == {(0, "Start"), (1, "End")}
    assert len(found) >= 4


def test_a_long_section_is_cut_between_paragraphs_or_sentences() -> None:
    paragraph = "This is a sentence of middling length, with a number 3.5 in it. " * 9
    for text in (f"{paragraph}\n\n{paragraph}\n\n{paragraph}", paragraph * 3):
        found = chunk.pieces(Document("T", "text", (text,)))
        assert len(found) > 1
        for piece in found[1:]:
            assert text[piece.start : piece.end].startswith("This is")


def test_a_course_section_is_a_passage() -> None:
    course = courses.find("id2223")
    for note in course.notes:
        pieces = chunk.pieces(Document(note.title, "markdown", (note.text,)))
        assert {piece.heading for piece in pieces} == {section.heading for section in note.sections}


@given(MARKDOWN | st.text(max_size=500))
@settings(max_examples=300, deadline=None)
def test_sentences_are_in_order_and_leave_out_only_space(text: str) -> None:
    at = 0
    for part in sentences(text):
        assert not text[at : part.start].strip()
        assert part.start < part.end
        assert text[part.start : part.end] == text[part.start : part.end].strip()
        at = part.end
    assert not text[at:].strip()


def test_sentences_end_where_a_reader_says() -> None:
    text = (
        "Adam, e.g. with $\\beta_1 = 0.9. x$, works. It has 3.5 steps! See Fig. 2 there.\n"
        "Still the\nsame sentence.\n\n- An item. With two.\n- Another\n\n# A heading\n\n| a. b | c. d |\n\n"
        "```\nx = 1. \ny\n```\nEnd"
    )
    assert [(text[part.start : part.end], part.prose) for part in sentences(text)] == [
        ("Adam, e.g. with $\\beta_1 = 0.9. x$, works.", True),
        ("It has 3.5 steps!", True),
        ("See Fig. 2 there.", True),
        ("Still the\nsame sentence.", True),
        ("- An item.", True),
        ("With two.", True),
        ("- Another", True),
        ("# A heading", False),
        ("| a. b | c. d |", False),
        ("```\nx = 1. \ny\n```", False),
        ("End", True),
    ]
