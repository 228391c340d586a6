"""A course's notes and a student's own: read, cut into passages, searched, and cited only where that is true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["pdf", "markdown", "text"]
Owner = Literal["course", "student"]


@dataclass(frozen=True, slots=True)
class Document:
    """A file as text. ``pages`` are the texts of a PDF's pages in order; other kinds have a single one.

    ``headings`` are a PDF's table of contents: for each page the entry it stands under, or nothing.
    """

    title: str
    kind: Kind
    pages: tuple[str, ...]
    headings: tuple[str, ...] = ()

    @property
    def empty_pages(self) -> int:
        """How many pages carry no text: pictures, mostly."""
        return sum(not page.strip() for page in self.pages)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a document: characters ``start`` to ``end`` of page ``page`` (counted from 0), under ``heading``."""

    page: int
    start: int
    end: int
    heading: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece as it stands in the store.

    ``owner`` and ``id`` name it; ``note`` is the id of the note it is part of, ``number`` its place in there. ``page``
    counts from 1 and is 0 where the note has no pages.
    """

    owner: Owner
    id: int
    note: int
    number: int
    title: str
    heading: str
    page: int
    text: str

    @property
    def label(self) -> str:
        """Where it is from, in a few words: title, heading, page."""
        parts = [self.title, *([self.heading] if self.heading not in ("", self.title) else [])]
        return " › ".join(parts) + (f", p. {self.page}" if self.page else "")
