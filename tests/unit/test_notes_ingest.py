"""Files become notes or a clear sentence: what students really have, and what somebody may have made on purpose."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from iris.errors import NoteError
from iris.notes import Document, ingest, pdf
from tests.unit import tiny_pdf

PAGE = "Plants turn light into sugar.\nThis is called photosynthesis."


def read(path: Path, name: str = "") -> Document:
    """The document, without its progress."""
    reading = ingest.read(path, name)
    while True:
        try:
            next(reading)
        except StopIteration as done:
            document: Document = done.value
            return document


def test_a_pdf_gives_its_pages(tmp_path: Path) -> None:
    data = tiny_pdf.pdf([PAGE, "", "Second text."], outline=["Light", "", "Chemistry"])
    document = read(tiny_pdf.write(tmp_path / "Biology 1.pdf", data))
    assert (document.title, document.kind) == ("Biology 1", "pdf")
    assert document.pages == (PAGE, "", "Second text.")
    assert document.headings == ("Light", "Light", "Chemistry")
    assert document.empty_pages == 1


@pytest.mark.slow
def test_five_hundred_pages_are_read_and_progress_is_told(tmp_path: Path) -> None:
    pages = [f"Page {number} is about topic {number}.\n" + f"{PAGE}\n" * 20 for number in range(500)]
    reading = ingest.read(tiny_pdf.write(tmp_path / "book.pdf", tiny_pdf.pdf(pages)))
    told = []
    while True:
        try:
            told.append(next(reading))
        except StopIteration as done:
            document = done.value
            break
    assert len(document.pages) == 500
    assert document.pages[321].startswith("Page 321 is about topic 321.")
    assert told == sorted(told)
    assert told[-1] == (500, 500)
    assert len({done for done, _ in told}) == 501  # each page


def test_reading_can_be_stopped_and_leaves_no_process(tmp_path: Path) -> None:
    reading = ingest.read(tiny_pdf.write(tmp_path / "a.pdf", tiny_pdf.pdf([PAGE] * 50)))
    next(reading)
    reading.close()  # waits for the process, or the test run would end with its warning


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("scan.pdf", tiny_pdf.pdf(["", "", ""]), "its 3 pages are pictures"),
        ("secret.pdf", tiny_pdf.encrypted([PAGE], "password"), "encrypted, and Iris has no password"),
        ("cut.pdf", b"%PDF-1.4\n" + b"\x00garbage" * 50, "is broken: it cannot be read as a PDF"),
        ("half.pdf", tiny_pdf.pdf([PAGE])[:300], "is broken: it cannot be read as a PDF"),
        ("letter.pdf", b"Dear all,", "is not a PDF, only called one"),
        ("empty.txt", b"", "is empty"),
        ("blank.md", b" \n\n \t", "has no text in it"),
        ("program.txt", bytes(range(256)) * 20, "is not text"),
        ("song.mp3", b"ID3", r"is no PDF, Markdown or text file (.pdf, .md, .markdown, .txt)"),
        ("noend", b"text", "is no PDF, Markdown or text file"),
    ],
)
def test_what_cannot_be_a_note_is_said(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    with pytest.raises(NoteError, match=re.escape(message)) as error:
        read(tiny_pdf.write(tmp_path / name, data))
    assert str(error.value).startswith(name)


def test_an_empty_password_opens(tmp_path: Path) -> None:
    data = tiny_pdf.encrypted([PAGE], "")
    assert read(tiny_pdf.write(tmp_path / "print-locked.pdf", data)).pages == (PAGE,)


def test_a_hundred_megabytes_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "film.pdf"
    with path.open("wb") as file:
        file.write(b"%PDF-1.4\n")
        file.truncate(100_000_000)
    with pytest.raises(NoteError, match=r"film\.pdf has 100 MB, and notes may have at most 20 MB"):
        next(ingest.read(path))


def test_a_bomb_is_found_and_costs_no_memory_here(tmp_path: Path) -> None:
    data = tiny_pdf.bomb()
    assert len(data) < 50_000
    with pytest.raises(NoteError, match="unpacks to far more than a document of its size"):
        read(tiny_pdf.write(tmp_path / "bomb.pdf", data))


def test_the_memory_limit_holds_where_the_parser_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that takes too much memory is ended, and only it."""
    package = tmp_path / "evil" / "pypdf"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("held = [bytearray(1 << 28) for _ in range(64)]", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{package.parent}:{Path.cwd()}")
    with pytest.raises(NoteError, match="unpacks to far more"):
        read(tiny_pdf.write(tmp_path / "a.pdf", tiny_pdf.pdf([PAGE])))


def test_a_reader_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "evil" / "pypdf"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import time; time.sleep(600)", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{package.parent}:{Path.cwd()}")
    monkeypatch.setattr(pdf, "WALL_S", 0.5)
    with pytest.raises(NoteError, match="takes too long to read"):
        read(tiny_pdf.write(tmp_path / "a.pdf", tiny_pdf.pdf([PAGE])))


def test_too_many_pages_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny_pdf.write(tmp_path / "many.pdf", tiny_pdf.pdf(["x"] * (pdf.MAX_PAGES + 1)))
    with pytest.raises(NoteError, match=r"has 2,001 pages, and a note may have at most 2,000"):
        read(path)


def test_a_name_is_only_a_name(tmp_path: Path) -> None:
    path = tiny_pdf.write(tmp_path / "x.md", b"# T\n\ntext")
    document = read(path, "../../<img src=x onerror=alert(1)>\u202egnp.md")
    assert document.title == "<img src=x onerror=alert(1)>gnp"  # as text; it is the page that escapes
    assert read(path, "a" * 300 + ".md").title == "a" * 117


@given(st.text(max_size=400))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_text_loses_nothing_that_can_be_seen(tmp_path: Path, text: str) -> None:
    path = tmp_path / "n.txt"
    path.write_bytes(text.encode("utf-8"))
    try:
        cleaned = read(path).pages[0]
    except NoteError as refused:
        event(str(refused))
        return
    assert ingest.clean(cleaned) == cleaned

    def visible(text: str) -> list[str]:
        return [c for c in text if not c.isspace() and unicodedata.category(c) not in ("Cc", "Cs", "Zs")]

    assert visible(cleaned) == visible(text.removeprefix("\ufeff"))


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_document_or_a_sentence(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "n.txt"
    path.write_bytes(data.replace(b"%PDF-", b""))
    try:
        read(path).pages[0].encode("utf-8")
    except NoteError as refused:
        event(str(refused))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("\ufeffpå".encode(), "på"),
        ("på svenska".encode("utf-16"), "på svenska"),
        ("på svenska – så".encode("cp1252"), "på svenska – så"),
        (b"one\r\ntwo\rthree", "one\ntwo\nthree"),
    ],
)
def test_encodings(tmp_path: Path, data: bytes, text: str) -> None:
    assert read(tiny_pdf.write(tmp_path / "n.txt", data)).pages == (text,)
