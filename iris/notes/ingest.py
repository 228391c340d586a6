"""From a file to text: PDF, Markdown, plain text. Nothing in a file is ever more than text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Generator
from itertools import islice
from pathlib import Path

from iris.errors import NoteError
from iris.notes import Document, Kind, pdf

MAX_BYTES = 20_000_000
MAX_CHARACTERS = pdf.MAX_CHARACTERS
SUFFIXES: dict[str, Kind] = {".pdf": "pdf", ".md": "markdown", ".markdown": "markdown", ".txt": "text"}

FEWEST_LETTERS = 40
"""A PDF with fewer is a scan: its pages are pictures."""


# As patterns: a book has millions of characters, and students are being answered meanwhile.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_STRANGE = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\ufffd]")
_LETTER = re.compile(r"[^\W_]")


def read(path: Path, name: str = "") -> Generator[tuple[int, int], None, Document]:
    """Read the file at ``path``, which a student calls ``name``; yields (pages read, pages) and returns the document.

    Raises:
        NoteError: it is too large, of another kind, empty, broken, encrypted, a scan without text, or a trap.
    """
    name = tidy_name(name or path.name)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise NoteError(f"{name} could not be read ({error.strerror or error}). Add it again.") from error
    kind = SUFFIXES.get(Path(name).suffix.lower())
    if kind is None:
        raise NoteError(f"{name} is no PDF, Markdown or text file ({', '.join(SUFFIXES)}). Save it as one of these.")
    if size > MAX_BYTES:
        raise NoteError(
            f"{name} has {size / 1e6:.0f} MB, and notes may have at most {MAX_BYTES // 1_000_000} MB. Split it, or "
            "save it with smaller pictures."
        )
    if size == 0:
        raise NoteError(f"{name} is empty.")
    with path.open("rb") as file:
        is_pdf = b"%PDF-" in file.read(1024)
    title = Path(name).stem or name
    if kind == "pdf" or is_pdf:
        if not is_pdf:
            raise NoteError(f"{name} is not a PDF, only called one. Save it again as a PDF.")
        document = yield from _pdf(path, name, title)
        return document
    text = clean(decoded(path.read_bytes(), name))
    if not text.strip():
        raise NoteError(f"{name} has no text in it.")
    if len(text) > MAX_CHARACTERS:
        raise NoteError(
            f"{name} has {len(text):,} characters, and a note may have at most {MAX_CHARACTERS:,}. Split it."
        )
    yield 1, 1
    return Document(title, kind, (text,))


def _pdf(path: Path, name: str, title: str) -> Generator[tuple[int, int], None, Document]:
    found = yield from pdf.read(path)
    if "error" in found:
        raise NoteError(
            {
                "encrypted": f"{name} is encrypted, and Iris has no password for it. Open it, print it to a new PDF, "
                "and add that one.",
                "pages": f"{name} has {found.get('count', 0):,} pages, and a note may have at most {pdf.MAX_PAGES:,}. "
                "Split it.",
                "text": f"{name} has more than {MAX_CHARACTERS:,} characters of text. Split it.",
                "unpacks": f"{name} unpacks to far more than a document of its size should, and was not read on. "
                "Print it to a new PDF, and add that one.",
                "slow": f"{name} takes too long to read, and was given up. Print it to a new PDF, or split it.",
            }.get(found["error"], f"{name} is broken: it cannot be read as a PDF. Save or download it again.")
        )
    pages = tuple(clean(page) for page in found["pages"])
    letters = (letter for page in pages for letter in _LETTER.finditer(page))
    if sum(1 for _ in islice(letters, FEWEST_LETTERS)) < FEWEST_LETTERS:
        raise NoteError(
            f"{name} has no text in it: its {len(pages)} pages are pictures, as from a scanner. Run it through text "
            "recognition (OCR) and add the result."
        )
    return Document(title, "pdf", pages, tuple(clean(heading).strip() for heading in found["headings"]))


def decoded(data: bytes, name: str) -> str:
    """Text from bytes: UTF-8, UTF-16 with its mark, or what Windows wrote in Western Europe.

    Raises:
        NoteError: it is no text.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
    strange = sum((unicodedata.category(c) == "Cc" and c not in "\n\r\t\f") or c == "\ufffd" for c in text)
    if strange > len(text) // 50:
        raise NoteError(f"{name} is not text: it seems to be a program's or a picture's data. Save it as text or PDF.")
    return text


def clean(text: str) -> str:
    """Text without control characters and half characters; one kind of line end; no more than two empty lines."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n").replace("\u00a0", " ")
    text = _CONTROL.sub("", text)
    return re.sub(r"\n[ \t]*(?:\n[ \t]*){2,}\n", "\n\n\n", text).strip("\n")


def tidy_name(name: str) -> str:
    """A file's name to show: without folders, control characters and what turns the writing direction round."""
    name = re.split(r"[/\\]", name)[-1]
    name = "".join(c for c in name if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp")).strip()
    if len(name) > 120:
        suffix = Path(name).suffix[:12]
        name = name[: 120 - len(suffix)] + suffix
    return name or "note"
